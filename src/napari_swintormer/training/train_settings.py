# ruff: noqa: RUF009, TC001, TC003 (`option` makes a field, and `options_of` reads the types)
"""The options of a training: each one is spelled here, and nowhere else."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from napari_swintormer.models.files.card import TrainingData
from napari_swintormer.models.network.network_settings import (
    DeconvolutionSettings,
    SwintormerSettings,
)
from napari_swintormer.models.prior.prior_settings import (
    LDM_SOURCE,
    CompactPriorSettings,
    LdmPriorSettings,
)
from napari_swintormer.settings.deblur_settings import DeblurSettings, Device, Precision
from napari_swintormer.settings.options import about, option, options_of
from napari_swintormer.training.settings_check import (
    TOLD,
    DegradeOn,
    Keep,
    Kind,
    Parameters,
    StageName,
    Synthesis,
    check_train_settings,
)

if TYPE_CHECKING:
    from napari_swintormer.training.data.pairs import ImagePair

_DEBLUR = options_of(DeblurSettings)

# The result does not depend on these, or the fingerprint of the pairs covers them.
_FREE_ON_RESUME = (
    *("out", "resume", "device", "validate_every", "checkpoint_every", "workers"),
    "worker_processes",
    *("patience", "keep", "pairs", "annotations", "register", "match_intensity", "skip_bad"),
    *("title", "summary", "licence", "training_data", "vgg19", "tensorboard", "prior_cache"),
)
# Checkpoints of older versions lack these, which change nothing where they are not set.
_NEW_OPTIONS = ("larger_patches", "prior_source", "num_inference_steps", "pair_share")


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """How a network is trained."""

    sharp: tuple[Path, ...] = option(
        (),
        "Folder of sharp images; may be repeated.",
        "Training draws from each folder equally often.",
    )
    out: Path = field(
        metadata=about(
            "Weights file to write, ending in .safetensors.",
            "Checkpoint and log lie beside it, in a folder of the same name ending in .run.",
        )
    )
    blurred: Path | None = option(
        None,
        "Folder with the blurred partner of every sharp image.",
        "Partners have the same name; the suffix may differ. With a blur to synthesize they are "
        "the partners of the first folder of sharp images, and the other folders get that blur.",
    )
    dual_pixel: Path | None = option(
        None,
        "Folder of a dual-pixel camera with inputL, inputR and target.",
        "It takes the place of sharp and blurred images. The network takes both views, the right "
        "one first.",
    )
    annotations: Path | None = option(
        None,
        "Folder of masks of equal names: 1 where patches are taken, 2 left out.",
        "If a mask has no 1, patches are taken everywhere.",
    )
    pairs: tuple[ImagePair, ...] = ()
    """Pairs of files or arrays, instead of the folders."""
    register: bool = option(
        False,
        "Move sharp images back by the shift that the pair check finds.",
        label="Register pairs",
    )
    match_intensity: bool = option(
        False,
        "Bring sharp images to the intensities of the blurred ones.",
        label="Match intensities",
    )
    skip_bad: bool = option(
        False,
        "Leave bad pairs out instead of refusing to train.",
        "A notice names each of them.",
        label="Skip bad pairs",
    )
    synthesize: Synthesis | None = option(
        None,
        "Synthesize the blurred images: defocus, optics, motion, all or known.",
        "defocus is simple moderate blur. optics is the blur of lenses, cameras and microscopes. "
        "motion is camera shake and moving objects. all is optics, and motion for some photos. "
        "known trains a network that is told the blur.",
    )
    pair_share: float | None = option(
        None,
        "Share of the patches from pairs, where the others get a synthesized blur.",
        "By default each folder has an equal share.",
    )
    degrade_on: DegradeOn = option(
        "cpu",
        "Where blur is synthesized: cpu, or device for a GPU that processes cannot feed.",
        "The device does it for defocus and known, with other noise than the CPU.",
    )
    kinds: tuple[Kind, ...] = option(
        ("auto",),
        "Kind of the sharp images: auto, photo or microscopy; once, or once per folder.",
        "auto takes 8-bit colour images for photos. Blur is synthesized in linear light, and "
        "photos are not linear.",
        flags=("--kind",),
    )
    steps: int = option(10_000, "Number of training steps.", label="Steps", low=1, high=10**7)
    batch_size: int = option(
        8, "Number of patches in a step.", label="Batch size", low=1, high=1024
    )
    patch_size: int = option(
        128, "Side of the square patches, in pixels.", label="Patch size", low=16, high=4096
    )
    larger_patches: tuple[int, ...] = option(
        (),
        "Side of the patches in a later part of the training; may be repeated, growing.",
        "The steps are divided equally among all sides. Larger patches mean fewer patches per "
        "step.",
    )
    loss: str = option(
        "l1",
        "Loss: l1, charbonnier, frequency, decibel, perceptual, or 'l1 + 0.1 * frequency'.",
        "l1 is the loss of the paper. Sums may be weighted. perceptual fetches the parameters of "
        "VGG19 once (548 MB).",
        label="Loss",
        choices={
            "l1": "Mean difference (L1)",
            "charbonnier": "Charbonnier",
            "charbonnier + 0.1 * frequency": "Charbonnier and frequencies",
            "decibel": "Decibels",
            "l1 + 0.01 * perceptual": "L1 and VGG19 features",
        },
    )
    vgg19: Path | None = option(
        None, "File with the parameters of VGG19; the default fetches them once."
    )
    parameters: Parameters = option(
        "all",
        "Parameters to train: all, deconvolution, decoder or output.",
        "Fewer parameters train faster and forget less. decoder includes everything after it. "
        "output is the last layer. deconvolution is trained on grey images without the network, "
        "in a tenth of the time.",
        label="Train",
        choices={
            "all": "Everything",
            "deconvolution": "Deconvolution",
            "decoder": "Decoder",
            "output": "Last layer",
        },
    )
    learning_rate: float = option(
        3e-4,
        "Learning rate at its peak.",
        "It rises during warmup, then falls to 1e-6 along a cosine. A lower rate changes the model "
        "less; a high one may destroy it.",
        label="Learning rate",
        low=1e-7,
        high=0.1,
        flags=("--lr",),
    )
    warmup: int = option(200, "Number of steps until the peak of the learning rate.")
    weight_decay: float = option(1e-4, "Weight decay of AdamW.")
    clip: float = option(0.01, "Largest norm of the gradient; a larger one is scaled down.")
    ema: float = option(
        0.999,
        "Decay of the moving average of the parameters.",
        "The average is what gets written. The first steps have a smaller decay.",
    )
    network: SwintormerSettings | None = option(
        None, "Sizes of a network to train from nothing; the default is the small one."
    )
    from_model: str | None = option(
        None,
        "Name or path of the model to start from.",
        "Without it, training starts from nothing.",
        label="Start from",
        flags=("--from",),
    )
    deconvolution: DeconvolutionSettings | None = option(
        None, "Sizes of a deconvolution to add to the network of from_model."
    )
    stage: StageName = option(
        "network",
        "What is trained: network; of a prior autoencoder, denoiser, network, joint or prior.",
        "prior runs all stages of a prior in a row. The paper's prior has the stages denoiser and "
        "network.",
    )
    prior: CompactPriorSettings | LdmPriorSettings | None = option(
        None,
        "Prior to train with: ldm, that of the paper.",
        "In Python also the sizes of a compact prior, which the stage autoencoder adds to a model.",
    )
    prior_source: str | None = option(
        None,
        "Weights of the paper's prior: hub id, folder, .ckpt, denoiser.safetensors or nothing.",
        f"The default is {LDM_SOURCE}. With nothing, a small denoiser is trained from random "
        "weights, whose latent is the image itself.",
    )
    num_inference_steps: int | None = option(
        None,
        "Steps in which the paper's prior of the training images is sampled.",
        "5, 10, 20 or 50 in the paper; the default is 20.",
    )
    prior_cache: Path | None = option(
        None,
        "Folder of the sampled priors of the training images; the default is in the .run folder.",
        "Trainings with the same prior, steps and seed can share it.",
    )
    resume: bool = option(False, "Continue the interrupted training of the same out and settings.")
    held_out: float = option(0.05, "Share of the images that is held out for validation.")
    seed: int = option(
        0,
        "Seed of all random numbers.",
        "The same seed gives the same model, on one device and in one precision.",
        label="Seed",
        low=0,
        high=2**31 - 1,
    )
    device: Device = field(default="auto", metadata={"option": _DEBLUR["device"]})
    precision: Precision = field(default="auto", metadata={"option": _DEBLUR["precision"]})
    validate_every: int = option(500, "Number of steps between two validations.")
    checkpoint_every: int = option(100, "Number of steps between two checkpoints.")
    workers: int = option(2, "Number of threads, or processes, that prepare patches.")
    worker_processes: bool = option(
        False,
        "Prepare patches in processes instead of threads, which cannot feed a GPU.",
        "They change nothing in the result. A script that trains needs a main guard then.",
    )
    patience: int | None = option(
        None, "Number of validations without a new best one that end the training."
    )
    keep: Keep = option(
        "last",
        "Weights to write at the end: last or best.",
        "best takes those of the best validation; the model to start from counts as one.",
    )
    tensorboard: bool = option(False, "Also write a log for TensorBoard.")
    title: str = option("", "Title of the model, for its card.")
    summary: str = option("", "What the model is good for, for its card.")
    licence: str = option("", "Licence of the weights, for the card.")
    training_data: tuple[TrainingData, ...] = option(
        (), "Sources of the training images, for the card."
    )

    def __post_init__(self) -> None:
        if self.from_model is not None:  # a path is a name too
            object.__setattr__(self, "from_model", os.fspath(self.from_model))
        check_train_settings(self)

    @property
    def run_folder(self) -> Path:
        """Folder of the checkpoint and the log, beside the weights file."""
        return self.out.with_suffix(".run")

    @property
    def latents(self) -> Path:
        """Folder of the sampled priors of the training images."""
        return self.prior_cache or self.run_folder / "priors"

    @property
    def has_pairs(self) -> bool:
        """Whether any sharp image has a blurred partner."""
        partners = (pair.blurred for pair in self.pairs)
        return any(one is not None for one in (self.blurred, self.dual_pixel, *partners))

    @property
    def tells_blur(self) -> bool:
        """Whether the network is told the synthesized blur."""
        return self.synthesize in TOLD

    @property
    def sides(self) -> tuple[int, ...]:
        """Sides of the patches in the parts of the training, in pixels."""
        return (self.patch_size, *self.larger_patches)

    @property
    def largest_patch(self) -> int:
        """Side of the largest patches, in pixels."""
        return max(self.sides)

    def size_of_step(self, step: int) -> tuple[int, int]:
        """Return the side and the number of the patches of a step, counted from 0."""
        side = self.sides[min(step * len(self.sides) // self.steps, len(self.sides) - 1)]
        return side, max(1, round(self.batch_size * (self.patch_size / side) ** 2))

    def resume_key(self) -> dict[str, Any]:
        """Return the settings that must not change on resume, as plain JSON values.

        Images, network, stage and prior are compared elsewhere, by their content.
        """
        left_out = {*_FREE_ON_RESUME, "sharp", "blurred", "dual_pixel", "stage", "prior"}
        left_out |= {"network", "deconvolution"}
        if self.degrade_on == "cpu":
            left_out.add("degrade_on")
        left_out |= {name for name in _NEW_OPTIONS if not getattr(self, name)}
        names = (f.name for f in fields(self) if f.name not in left_out)
        return {name: getattr(self, name) for name in names} | {"kinds": list(self.kinds)}


class TrainOptions(TypedDict, total=False):
    """The keywords of `train` that are fields of `TrainSettings`, for type checkers."""

    register: bool
    match_intensity: bool
    skip_bad: bool
    synthesize: Synthesis | None
    pair_share: float | None
    degrade_on: DegradeOn
    steps: int
    batch_size: int
    patch_size: int
    larger_patches: tuple[int, ...]
    loss: str
    parameters: Parameters
    learning_rate: float
    warmup: int
    weight_decay: float
    clip: float
    ema: float
    from_model: str | None
    deconvolution: DeconvolutionSettings | None
    stage: StageName
    prior_source: str | None
    num_inference_steps: int | None
    resume: bool
    held_out: float
    seed: int
    device: Device
    precision: Precision
    validate_every: int
    checkpoint_every: int
    workers: int
    worker_processes: bool
    patience: int | None
    keep: Keep
    tensorboard: bool
    title: str
    summary: str
    licence: str
    training_data: tuple[TrainingData, ...]
