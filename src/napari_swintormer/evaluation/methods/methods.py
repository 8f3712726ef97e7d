"""The methods that an evaluation compares: models with any settings, and classical methods.

A line names a method, on the command line and in tables::

    swintormer
    swintormer:tile_size=512,overlap=292,blend=uniform
    own.safetensors:num_inference_steps=4,samples=3,ensemble=8
    richardson-lucy:sigma=1.6,iterations=10
    blur-told:size=1.2
    volume:iterations=20
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.errors import SettingsError
from napari_swintormer.evaluation.methods import classical, told_blur, volumetric
from napari_swintormer.evaluation.metrics.scoring import Scale, score_pair

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_swintormer.evaluation.data.pair_images import PairImages
    from napari_swintormer.settings.deblur_settings import DeblurSettings

BLURRED = "blurred"
BEST_SIGMA = {"richardson-lucy-best": "richardson-lucy", "wiener-best": "wiener"}
"""Methods with the best σ for each image, by the classical method that they use."""
BEST_ITERATIONS = {
    "richardson-lucy-3d-best": "richardson-lucy-3d",
    "redlionfish-best": "redlionfish",
}
"""Methods with the best number of iterations for each stack, by the method that they use."""

ABLATION_TILES = (
    "tile_size=16384,overlap=0",
    "tile_size=256,overlap=36",
    "tile_size=512,overlap=292",
    "tile_size=512,overlap=128",
)
"""The whole image, and the paper's tiles of 256/220, 512/220 and 512/384 (size/stride)."""

ABLATION_STEPS = {"compact": (1, 2, 4, 8), "ldm_sr": (5, 10, 20, 50)}
"""Numbers of inference steps, by the kind of the prior."""

_MODEL_OPTIONS: dict[str, type] = {
    "tile_size": int,
    "overlap": int,
    "blend": str,
    "num_inference_steps": int,
    "prior": str,
    "blur": str,
    "samples": int,
    "seed": int,
    "strength": float,
    "scale": int,
}


@dataclass(frozen=True)
class ClassicalMethod:
    """A method without a model; `function` restores a pair."""

    name: str
    function: Callable[[PairImages], Any | None]

    @property
    def identity(self) -> str:
        """The name, which holds all options; the package's version stands for the code."""
        return self.name

    def restore(self, pair: PairImages) -> Any | None:
        """Restore; None if the method needs a point-spread function and the pair has none.

        A method that finds something gives a `told_blur.Restored`.
        """
        return self.function(pair)


UNCHANGED = ClassicalMethod(BLURRED, lambda pair: pair.blurred)
"""The blurred images themselves, which every method is measured against."""


@dataclass(frozen=True)
class ModelMethod:
    """A loaded model with settings; `ensemble` is 1, or 8 to average all flips and turns."""

    name: str
    settings: DeblurSettings
    ensemble: int = 1
    restorer: Any = field(default=None, repr=False)

    @property
    def identity(self) -> str:
        """Name, weights and all settings."""
        chosen = replace(self.settings, model=None, batch_size=None)
        weights = "" if self.restorer is None else self.restorer.sha256
        return f"{self.name} {weights} {chosen} {self.ensemble}"

    def restore(self, pair: PairImages) -> Any | None:
        """Restore; None if the network needs two views and the pair has only one."""
        from napari_swintormer.evaluation.methods.evaluator import restore

        return restore(pair, self.settings, self.restorer, self.ensemble)

    def macs_per_pixel(self, pair: PairImages) -> float | None:
        """Multiply-accumulates per pixel of these images; None if they cannot be counted."""
        from napari_swintormer.evaluation.methods.cost import macs_per_pixel

        return macs_per_pixel(pair, self.settings, self.restorer, self.ensemble)


Method = ClassicalMethod | ModelMethod
"""Restores a pair. Its `identity` changes with everything that changes the results."""


def parse_method(text: str, settings: DeblurSettings) -> Method:
    """Make a method from a line such as ``swintormer:tile_size=256,overlap=36``.

    The line names `BLURRED`, a classical method, a method for volumes or a model. `settings` are
    those of a model or of `volume` that the line does not change. Models are loaded at once, so
    that errors show before anything runs.
    """
    name, options = _split(text)
    if name == BLURRED and not options:
        return UNCHANGED
    if text in BEST_SIGMA:
        baseline = classical.BASELINES[BEST_SIGMA[text]]
        return ClassicalMethod(text, partial(_with_best_sigma, baseline))
    for methods, restore in ((classical.BASELINES, _blind), (classical.WITH_PSF, _with_psf)):
        if name in methods:
            chosen = _options(text, options, classical.OPTIONS[name])
            return ClassicalMethod(text, partial(restore, partial(methods[name], **chosen)))
    if name in told_blur.OPTIONS:
        chosen = _options(text, options, told_blur.OPTIONS[name])
        return ClassicalMethod(text, told_blur.method(name, settings, chosen))
    if name in volumetric.METHODS:
        chosen = _options(text, options, volumetric.OPTIONS[name])
        return ClassicalMethod(text, volumetric.method(name, settings, chosen))
    if text in BEST_ITERATIONS:
        function = volumetric.method(BEST_ITERATIONS[text], settings, {})
        return ClassicalMethod(text, partial(_with_best_iterations, function))
    return _parse_model(text, name, options, settings)


def _parse_model(text: str, name: str, options: str, settings: DeblurSettings) -> ModelMethod:
    from napari_swintormer.models.catalogue import load_model

    chosen = _options(text, options, _MODEL_OPTIONS | {"ensemble": int})
    ensemble = chosen.pop("ensemble", 1)
    if ensemble not in (1, 8):
        raise SettingsError(f"ensemble must be 1 or 8 (got ensemble={ensemble} in {text!r}).")
    restorer = load_model(name)
    if ensemble > 1 and restorer.card.second_view is not None:
        raise SettingsError(
            f"Two views of a camera cannot be turned or mirrored (got ensemble={ensemble} in "
            f"{text!r}). Leave ensemble out for a model of two views."
        )
    return ModelMethod(text, replace(settings, model=name, **chosen), ensemble, restorer)


def _blind(function: Callable[..., Any], pair: PairImages) -> Any:
    if pair.protocol.volumes:  # plane by plane
        return np.stack([function(plane, "YX") for plane in np.asarray(pair.blurred)])
    return function(np.asarray(pair.blurred), pair.axes)


def _with_psf(function: Callable[..., Any], pair: PairImages) -> Any | None:
    if pair.psf is None or pair.protocol.volumes:
        return None
    return function(np.asarray(pair.blurred), pair.axes, pair.psf, gamma=pair.gamma)


def _with_best_sigma(function: Callable[..., Any], pair: PairImages) -> Any:
    """Restore with every σ and keep the result of the highest PSNR, which no user can know."""
    candidates = [_blind(partial(function, sigma=s), pair) for s in classical.ORACLE_SIGMAS]
    return _best(candidates, pair)


def _with_best_iterations(function: Callable[..., Any], pair: PairImages) -> Any | None:
    """Restore with several numbers of iterations, and keep the result of the highest PSNR."""
    if not pair.protocol.volumes:
        return None
    numbers = volumetric.ORACLE_ITERATIONS
    return _best([function(pair, iterations=number) for number in numbers], pair)


def _best(candidates: list[Any], pair: PairImages) -> Any:
    scale = Scale.of(pair.sharp, pair.protocol)
    return max(candidates, key=lambda x: score_pair(pair, x, scale, ())["psnr"])


def ablation(text: str) -> list[str]:
    """List the methods of the paper's ablation for one model: its tiles, and the prior's steps.

    `text` names the model; its options hold for all methods.
    """
    from napari_swintormer.models.catalogue import describe_model

    name, options = _split(text)
    card = describe_model(name).card
    varied = [(options, f"{tiles},blend=uniform") for tiles in ABLATION_TILES]
    if card is not None and card.prior is not None:
        # without a prior all samples are the same
        one_sample = ",".join(o for o in options.split(",") if not o.startswith("samples="))
        varied.append((one_sample, "prior=off"))
        steps = ABLATION_STEPS[card.prior.kind]
        varied += [(options, f"num_inference_steps={t}") for t in steps]
    return [f"{name}:" + ",".join(filter(None, pair)) for pair in varied]


def _split(text: str) -> tuple[str, str]:
    """Split a line into name and options; a colon of a path does not start options."""
    name, colon, options = text.rpartition(":")
    return (name, options) if colon and "=" in options else (text, "")


def _options(text: str, options: str, known: dict[str, type]) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for part in filter(None, options.split(",")):
        key, _, value = part.partition("=")
        if key not in known:
            raise SettingsError(
                f"There is no option {key!r} (got {text!r}). Use {', '.join(known)}."
            )
        try:
            chosen[key] = known[key](value)
        except ValueError as error:
            raise SettingsError(f"{key} must be a number (got {value!r} in {text!r}).") from error
    return chosen
