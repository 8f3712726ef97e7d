"""Values that the options of a training may have, and their checks before anything runs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, get_args

from napari_swintormer.errors import TrainingError
from napari_swintormer.models.prior.prior_settings import STEPS_MAX

if TYPE_CHECKING:
    from napari_swintormer.training.train_settings import TrainSettings

Keep = Literal["last", "best"]
Kind = Literal["auto", "photo", "microscopy"]
DegradeOn = Literal["cpu", "device"]
Parameters = Literal["all", "deconvolution", "decoder", "output"]
StageName = Literal["network", "autoencoder", "denoiser", "joint", "prior"]
Synthesis = Literal["defocus", "optics", "motion", "all", "known", "wide"]

ON_DEVICE = ("defocus", "known")
"""Kinds of synthetic blur that are one or two kernels for a patch."""
TOLD = ("known", "wide")
"""Kinds of synthetic blur that the network is told."""
LOSSES = ("l1", "charbonnier", "frequency", "decibel", "perceptual")
_COUNTS = (
    *("steps", "batch_size", "validate_every", "checkpoint_every", "workers", "patience"),
    "num_inference_steps",
)


def check_train_settings(settings: TrainSettings) -> None:
    """Raise a `TrainingError` for options that are impossible or do not fit together."""
    for name in _COUNTS:
        if (count := getattr(settings, name)) is not None and count < 1:
            raise TrainingError(f"{name} must be at least 1 (got {count}).")
    if settings.learning_rate <= 0:
        raise TrainingError(
            f"learning_rate must be positive (got {settings.learning_rate}). The paper's is 3e-4."
        )
    if not 0 <= settings.held_out < 1 or not 0 <= settings.ema < 1:
        raise TrainingError(
            f"held_out and ema must be at least 0 and less than 1 "
            f"(got held_out={settings.held_out}, ema={settings.ema})."
        )
    if settings.out.suffix != ".safetensors":
        raise TrainingError(f"The weights file must end in .safetensors (got {settings.out.name}).")
    if list(settings.sides) != sorted(set(settings.sides)):
        raise TrainingError(
            f"larger_patches must grow from patch_size on (got patch_size={settings.patch_size}, "
            f"larger_patches={settings.larger_patches})."
        )
    _check_choice("stage", settings.stage, StageName)
    _check_choice("parameters", settings.parameters, Parameters)
    _check_choice("keep", settings.keep, Keep)
    _check_choice("degrade_on", settings.degrade_on, DegradeOn)
    on_device = settings.degrade_on == "device"
    fits = settings.synthesize in ON_DEVICE and not settings.has_pairs
    if on_device and (settings.annotations or not fits):
        raise TrainingError(
            f"degrade_on='device' goes with synthesize='defocus' or 'known', without annotations "
            f"and without blurred images (got synthesize={settings.synthesize!r}). Use "
            "degrade_on='cpu'."
        )
    if settings.synthesize is not None:
        _check_choice("synthesize", settings.synthesize, Synthesis)
    for kind in settings.kinds:
        _check_choice("kind", kind, Kind)
    if settings.deconvolution is not None and settings.from_model is None:
        raise TrainingError(
            "deconvolution adds to a trained model only (got no from_model). For a new network, "
            "set the deconvolution in network."
        )
    parse_loss(settings.loss)
    _check_prior(settings)
    if settings.pairs:
        _check_pairs(settings)
    elif settings.dual_pixel is None:
        _check_folders(settings)
    elif settings.sharp or settings.blurred or settings.synthesize:
        raise TrainingError(
            "dual_pixel takes the place of sharp, blurred and synthesize. Leave those out."
        )
    _check_share(settings)


def _check_choice(name: str, value: Any, choices: Any) -> None:
    if value not in get_args(choices):
        known = ", ".join(map(repr, get_args(choices)))
        raise TrainingError(f"{name} must be one of {known} (got {name}={value!r}).")


def _check_prior(settings: TrainSettings) -> None:
    """Refuse options of the paper's prior for another training."""
    compact = settings.prior is not None and settings.prior.kind == "compact"
    none = settings.prior is None and settings.from_model is None
    for name in ("prior_source", "num_inference_steps", "prior_cache"):
        value = getattr(settings, name)
        if value is not None and (compact or none):
            raise TrainingError(
                f"{name} goes with the paper's prior (got {name}={str(value)!r}). Add prior='ldm', "
                "or leave it out."
            )
    steps = settings.num_inference_steps
    if steps is not None and steps >= STEPS_MAX:
        raise TrainingError(
            f"num_inference_steps must be less than {STEPS_MAX} (got {steps}). The paper takes 5 "
            "to 50."
        )


def _check_folders(settings: TrainSettings) -> None:
    if not settings.sharp:
        raise TrainingError("Training needs sharp images. Give a folder of them with --sharp.")
    if settings.blurred is None and settings.synthesize is None:
        raise TrainingError(
            "Training needs a folder of blurred images or a blur to synthesize (got neither). Use "
            "--blurred DIR or --synthesize defocus."
        )
    if settings.blurred is not None and settings.synthesize is None and len(settings.sharp) != 1:
        raise TrainingError(
            f"A folder of blurred images goes with one folder of sharp ones (got "
            f"{len(settings.sharp)}). Add --synthesize defocus to blur the other folders."
        )
    if settings.blurred is not None and settings.synthesize and len(settings.sharp) == 1:
        raise TrainingError(
            "Blurred images and a synthesized blur need two folders of sharp images: the partners, "
            "and the images to blur (got one folder). Add another --sharp DIR, or leave out "
            "--blurred or --synthesize."
        )
    if len(settings.kinds) not in (1, len(settings.sharp)):
        raise TrainingError(
            f"Give one kind for all folders of sharp images, or one for each folder (got "
            f"{len(settings.kinds)} kinds for {len(settings.sharp)} folders)."
        )


def _check_pairs(settings: TrainSettings) -> None:
    if settings.sharp or settings.blurred or settings.annotations or settings.dual_pixel:
        raise TrainingError("Training takes either pairs or folders (got both).")
    alone = sum(pair.blurred is None for pair in settings.pairs)
    if (alone > 0) != (settings.synthesize is not None):
        raise TrainingError(
            f"Give a blurred image for every sharp one, or a blur to synthesize for those without "
            f"(got {len(settings.pairs) - alone} blurred images for {len(settings.pairs)} sharp "
            f"ones, synthesize={settings.synthesize!r})."
        )
    if alone and any(pair.second is not None for pair in settings.pairs):
        raise TrainingError(
            "A blur cannot be synthesized beside pairs of two views. Leave synthesize out."
        )


def _check_share(settings: TrainSettings) -> None:
    share, mixed = settings.pair_share, settings.has_pairs and settings.synthesize is not None
    if share is not None and not (mixed and 0 < share < 1):
        raise TrainingError(
            f"pair_share is for pairs together with a synthesized blur, and between 0 and 1 (got "
            f"pair_share={share}). Give both, or leave it out."
        )


def parse_loss(text: str) -> list[tuple[float, str]]:
    """Split a weighted sum of losses into weights and names.

    Raises
    ------
    TrainingError
        The text is no such sum.

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
