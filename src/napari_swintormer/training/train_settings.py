"""What a training is told: one frozen set of settings, checked before anything runs."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from napari_swintormer.errors import TrainingError
from napari_swintormer.models.network.network_settings import (
    DeconvolutionSettings,
    SwintormerSettings,
)

if TYPE_CHECKING:
    from pathlib import Path

    from napari_swintormer.models.catalogue import ImageKind
    from napari_swintormer.models.files.card import TrainingData
    from napari_swintormer.models.prior.prior_settings import CompactPriorSettings
    from napari_swintormer.settings.deblur_settings import Precision
    from napari_swintormer.training.data.pairs import ImagePair

NETWORKS = {
    # Two blocks on every level: of one alone, the windows would never shift and their borders show.
    "small": SwintormerSettings(
        dim=16,
        num_blocks=(2, 2, 2, 2),
        num_refinement_blocks=0,
        ffn_expansion=2.5,
        window_size=8,
        deconvolution=DeconvolutionSettings(),
    ),
    "paper": SwintormerSettings(),
}
"""Networks to train from scratch: 1.3 M parameters for any computer, 25.2 M for a GPU."""

StageName = Literal["network", "autoencoder", "denoiser", "joint", "prior"]

Synthesis = Literal["defocus", "optics", "motion", "all"]

LOSSES = ("l1", "charbonnier", "frequency", "decibel", "perceptual")
PARAMETERS = ("all", "deconvolution", "decoder", "output")

PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"steps": 300, "learning_rate": 3e-4, "warmup": 20, "validate_every": 25},
    "thorough": {"steps": 3000, "learning_rate": 3e-4, "warmup": 100, "validate_every": 100},
    "from scratch": {"steps": 10_000, "learning_rate": 1e-3, "warmup": 200, "validate_every": 250},
}
"""Fields for usual trainings: minutes and an hour to train a model further, hours from nothing."""

# What the result does not depend on, or what the fingerprint of the pairs covers.
_FREE_ON_RESUME = (
    *("out", "resume", "device", "validate_every", "checkpoint_every", "workers"),
    *("patience", "keep", "pairs", "annotations", "register", "match_intensity", "skip_bad"),
    *("title", "summary", "licence", "training_data", "vgg19", "tensorboard"),
)


@dataclass(frozen=True)
class TrainSettings:
    """How a network is trained.

    Attributes
    ----------
    sharp
        Folders of sharp images; each is drawn from equally often.
    out
        Weights file to write, ending in ``.safetensors``. Checkpoint and log lie beside it, in a
        folder of the same name ending in ``.run``.
    blurred
        Folder with the blurred partner of every sharp image, of the same name.
    dual_pixel
        Instead of both, a folder of what a dual-pixel camera sees: ``inputL`` and ``inputR`` are
        the two views, ``target`` the sharp images. The network then takes both views, the right one
        first.
    annotations
        Folder with masks of the same names, for some or all images, see
        `napari_swintormer.training.data.annotations`.
    pairs
        Pairs of files or arrays, instead of the three folders.
    register, match_intensity
        Move sharp images back by the shift that the pair check finds, and bring them to the
        intensities of the blurred ones.
    skip_bad
        Leave out pairs that the check finds bad, each with a notice; otherwise they are refused.
    synthesize
        Makes the blurred images from the sharp ones instead: ``"defocus"`` by simple moderate
        blur, ``"optics"`` as lenses and cameras, or microscopes, make them, ``"motion"`` as camera
        shake and moving things do, ``"all"`` as optics and motion do.
    kinds
        One per folder in `sharp`, or a single one for all: ``"photo"``, ``"microscopy"``, or
        ``"auto"`` for photos where an image has 8-bit colours. Synthetic blur happens in linear
        light, and a photo does not store it.
    steps
        Training steps, of `batch_size` patches each.
    batch_size, patch_size
        Patches in a step, and their side in pixels.
    larger_patches
        Sides of the patches in the later parts of the training: the steps are divided equally among
        `patch_size` and these, and a step of larger patches has as many fewer of them.
    loss
        ``"l1"`` as in the paper, ``"charbonnier"``, ``"frequency"``, ``"decibel"``,
        ``"perceptual"`` or a weighted sum of them, such as ``"charbonnier + 0.05 * frequency"``.
    vgg19
        File with VGG19's parameters for the perceptual loss; None fetches them once (548 MB).
    parameters
        What is trained: ``"all"``, the ``"decoder"`` with all that comes after it, the last layer,
        the ``"output"``, or the ``"deconvolution"`` alone, on grey images and without the network,
        which takes a tenth of the time.
    learning_rate
        At its peak: rises for `warmup` steps, then falls to 1e-6 as a cosine.
    warmup
        Steps until the peak.
    weight_decay, clip
        Of AdamW, and the norm that gradients are cut to, as in the paper.
    ema
        Decay of the moving average of the parameters, which is what gets written; smaller in the
        first steps.
    network
        Sizes of the network, or None for those of `from_model`.
    from_model
        Name or path of the model to start from.
    deconvolution
        Given to the network of `from_model` if it has none; None leaves that as it is.
    stage
        ``"network"``, or one of a training with prior, see `prior_stages`; ``"prior"`` for all of
        them, one after the other.
    prior
        Sizes of the compact prior that the stage ``"autoencoder"`` gives to a model without one;
        None for the default.
    resume
        Go on from the checkpoint of an interrupted training with the same settings.
    held_out
        Share of the images that is kept for validation.
    seed
        Of everything random.
    device, precision
        See `settings.deblur_settings.DeblurSettings`. In fp16, for GPUs without bf16, the loss is
        scaled so that small gradients are not lost.
    validate_every, checkpoint_every
        Steps between two validations and between two checkpoints.
    workers
        Threads that prepare patches.
    patience
        Validations in a row without a better one after which training ends; None for no such end.
    keep
        What `out` becomes in the end: the ``"last"`` weights, or those of the ``"best"``
        validation, the model that training started from among them.
    tensorboard
        Whether to log for TensorBoard, too (needs the extra ``tensorboard``).
    title, summary, licence, training_data
        For the model card.
    """

    sharp: tuple[Path, ...]
    out: Path
    blurred: Path | None = None
    dual_pixel: Path | None = None
    annotations: Path | None = None
    pairs: tuple[ImagePair, ...] = ()
    register: bool = False
    match_intensity: bool = False
    skip_bad: bool = False
    synthesize: Synthesis | None = None
    kinds: tuple[ImageKind | Literal["auto"], ...] = ("auto",)
    steps: int = 10_000
    batch_size: int = 8
    patch_size: int = 128
    larger_patches: tuple[int, ...] = ()
    loss: str = "l1"
    vgg19: Path | None = None
    parameters: Literal["all", "deconvolution", "decoder", "output"] = "all"
    learning_rate: float = 3e-4
    warmup: int = 200
    weight_decay: float = 1e-4
    clip: float = 0.01
    ema: float = 0.999
    network: SwintormerSettings | None = None
    from_model: str | None = None
    deconvolution: DeconvolutionSettings | None = None
    stage: StageName = "network"
    prior: CompactPriorSettings | None = None
    resume: bool = False
    held_out: float = 0.05
    seed: int = 0
    device: str = "auto"
    precision: Precision = "auto"
    validate_every: int = 500
    checkpoint_every: int = 100
    workers: int = 2
    patience: int | None = None
    keep: Literal["last", "best"] = "last"
    tensorboard: bool = False
    title: str = ""
    summary: str = ""
    licence: str = ""
    training_data: tuple[TrainingData, ...] = ()

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "validate_every", "checkpoint_every", "workers"):
            if getattr(self, name) < 1:
                raise TrainingError(f"{name} must be at least 1 (got {getattr(self, name)}).")
        if self.learning_rate <= 0:
            raise TrainingError(
                f"learning_rate must be positive (got {self.learning_rate}). The paper's is 3e-4."
            )
        if not 0 <= self.held_out < 1 or not 0 <= self.ema < 1:
            raise TrainingError(
                f"held_out and ema must be at least 0 and less than 1 "
                f"(got held_out={self.held_out}, ema={self.ema})."
            )
        if self.out.suffix != ".safetensors":
            raise TrainingError(f"The weights file must end in .safetensors (got {self.out.name}).")
        sides = (self.patch_size, *self.larger_patches)
        if list(sides) != sorted(set(sides)):
            raise TrainingError(
                f"larger_patches must grow from patch_size on (got patch_size={self.patch_size}, "
                f"larger_patches={self.larger_patches})."
            )
        if self.stage not in get_args(StageName):
            raise TrainingError(
                f"There is no such stage (got stage={self.stage!r}). "
                f"Use one of {', '.join(map(repr, get_args(StageName)))}."
            )
        if self.deconvolution is not None and self.from_model is None:
            raise TrainingError(
                "A deconvolution can be given to a trained model alone (got no from_model). For a "
                "new network with one, set it in network."
            )
        if self.patience is not None and self.patience < 1:
            raise TrainingError(f"patience must be at least 1 (got {self.patience}).")
        for name, known in (("parameters", PARAMETERS), ("keep", ("last", "best"))):
            if getattr(self, name) not in known:
                raise TrainingError(
                    f"{name} must be one of {', '.join(map(repr, known))} (got "
                    f"{name}={getattr(self, name)!r})."
                )
        parse_loss(self.loss)
        self._check_data()

    def _check_data(self) -> None:
        if self.pairs:
            self._check_pairs()
            return
        if self.dual_pixel is not None:
            if self.sharp or self.blurred or self.synthesize:
                raise TrainingError(
                    "A folder of dual-pixel images has the sharp images, too: give no others."
                )
            return
        if not self.sharp:
            raise TrainingError("Training needs sharp images. Give a folder of them with --sharp.")
        if self.synthesize not in (None, *get_args(Synthesis)):
            raise TrainingError(
                f"This blur cannot be synthesized (got synthesize={self.synthesize!r}). "
                f"Use one of {', '.join(map(repr, get_args(Synthesis)))}."
            )
        if (self.blurred is None) == (self.synthesize is None):
            given = "neither" if self.blurred is None else "both"
            raise TrainingError(
                f"Training needs either a folder of blurred images or a blur to synthesize (got "
                f"{given}). Use --blurred DIR or --synthesize defocus."
            )
        if self.blurred is not None and len(self.sharp) != 1:
            raise TrainingError(
                f"A folder of blurred images goes with one folder of sharp ones (got "
                f"{len(self.sharp)})."
            )
        if len(self.kinds) not in (1, len(self.sharp)):
            raise TrainingError(
                f"Give one kind for all folders of sharp images or one for each (got "
                f"{len(self.kinds)} kinds for {len(self.sharp)} folders)."
            )
        for kind in self.kinds:
            if kind not in ("auto", "photo", "microscopy"):
                raise TrainingError(
                    f"There is no such kind of image (got kind={kind!r}). Use 'photo', "
                    "'microscopy' or 'auto'."
                )

    def _check_pairs(self) -> None:
        if self.sharp or self.blurred or self.annotations or self.dual_pixel:
            raise TrainingError("Training takes either pairs or folders (got both).")
        with_blurred = [pair for pair in self.pairs if pair.blurred is not None]
        if (self.synthesize is None) != (len(with_blurred) == len(self.pairs)) or (
            self.synthesize is not None and with_blurred
        ):
            raise TrainingError(
                f"Either every pair has a blurred image or the blur of all is synthesized (got "
                f"{len(with_blurred)} blurred images for {len(self.pairs)} sharp ones, "
                f"synthesize={self.synthesize!r})."
            )

    @property
    def kind_of_folder(self) -> tuple[ImageKind | Literal["auto"], ...]:
        """`kinds`, one per folder in `sharp`."""
        return self.kinds * len(self.sharp) if len(self.kinds) == 1 else self.kinds

    @property
    def run_folder(self) -> Path:
        """Folder of the checkpoint and the log, beside the weights file."""
        return self.out.with_suffix(".run")

    @property
    def largest_patch(self) -> int:
        """Side of the largest patches."""
        return max((self.patch_size, *self.larger_patches))

    def size_of_step(self, step: int) -> tuple[int, int]:
        """Side of the patches of a step, counted from 0, and how many they are."""
        sides = (self.patch_size, *self.larger_patches)
        side = sides[min(step * len(sides) // self.steps, len(sides) - 1)]
        return side, max(1, round(self.batch_size * (self.patch_size / side) ** 2))

    def decisive(self) -> dict[str, Any]:
        """Return the settings that the result depends on, as plain JSON values.

        Folders are left out: training compares what is in them; so are what the network is made
        of, which it compares, too, and the stage and its prior, which the stages compare.
        """
        left_out = {*_FREE_ON_RESUME, "sharp", "blurred", "dual_pixel", "stage", "prior"}
        left_out |= {"network", "deconvolution"}
        if not self.larger_patches:  # as before there were any
            left_out.add("larger_patches")
        fields = (f.name for f in dataclasses.fields(self))
        values = {name: getattr(self, name) for name in fields if name not in left_out}
        return values | {"kinds": list(self.kinds)}


def parse_loss(text: str) -> list[tuple[float, str]]:
    """Read a weighted sum of losses.

    Raises
    ------
    TrainingError
        It is none.

    Examples
    --------
    >>> parse_loss("charbonnier + 0.05 * frequency")
    [(1.0, 'charbonnier'), (0.05, 'frequency')]
    """
    terms = []
    for term in text.split("+"):
        found = re.fullmatch(r"\s*(?:(\d*\.?\d+)\s*\*\s*)?(\w+)\s*", term)
        if found is None or found[2] not in LOSSES:
            raise TrainingError(
                f"There is no such loss (got loss={text!r}). Use one of {', '.join(LOSSES)}, or a "
                "weighted sum such as 'charbonnier + 0.05 * frequency'."
            )
        terms.append((float(found[1] or 1), found[2]))
    return terms
