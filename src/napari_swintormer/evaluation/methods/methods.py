"""What is compared: models at any tiles, steps, samples and orientations; classical methods.

A method is named in a line, on the command line as in tables::

    swintormer-small
    swintormer-small:tile_size=512,overlap=292,blend=uniform
    own.safetensors:num_inference_steps=4,samples=3,ensemble=8
    richardson-lucy:sigma=1.6,iterations=10
    richardson-lucy-psf
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_swintormer.errors import SettingsError
from napari_swintormer.evaluation.methods import classical
from napari_swintormer.evaluation.metrics.scoring import Scale, score

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_swintormer.evaluation.data.pair_images import PairImages
    from napari_swintormer.settings.deblur_settings import DeblurSettings

BLURRED = "blurred"
BEST_SIGMA = {f"{name}-best": name for name in ("richardson-lucy", "wiener")}
"""Classical methods that are told how wide the blur is, by what they are without."""

_SETTINGS = {
    "tile_size": int,
    "overlap": int,
    "blend": str,
    "num_inference_steps": int,
    "prior": str,
    "samples": int,
    "seed": int,
    "strength": float,
    "scale": int,
}


class Method(Protocol):
    """Something that restores the images of a scene.

    Attributes
    ----------
    name
        In tables.
    identity
        Tells its results from those of any other: name, settings and the weights' SHA-256.
    """

    @property
    def name(self) -> str:
        """In tables."""

    @property
    def identity(self) -> str:
        """Name, settings and weights."""

    def restore(self, pictures: PairImages) -> Any | None:
        """Restore; None where the method cannot work on these images."""


@dataclass(frozen=True)
class Unchanged:
    """The blurred images themselves, which every method is measured against."""

    name: str = BLURRED
    identity: str = BLURRED

    def restore(self, pictures: PairImages) -> Any:
        """Return the blurred image."""
        return pictures.blurred


@dataclass(frozen=True)
class ClassicalMethod:
    """A method of `napari_swintormer.evaluation.methods.classical`.

    Attributes
    ----------
    name
        As the user wrote it.
    function
        ``function(image, axes)``, or with a third argument: the point-spread function.
    with_psf
        Whether it is told the point-spread function: no user can know it so well.
    """

    name: str
    function: Callable[..., NDArray[Any]]
    with_psf: bool = False

    @property
    def identity(self) -> str:
        """Name and options; the code is that of the package's version."""
        return self.name

    def restore(self, pictures: PairImages) -> NDArray[Any] | None:
        """Restore; None without a point-spread function for a method that needs it."""
        image = np.asarray(pictures.blurred)
        if not self.with_psf:
            return self.function(image, pictures.axes)
        if pictures.psf is None:
            return None
        return self.function(image, pictures.axes, pictures.psf, gamma=pictures.gamma)


@dataclass(frozen=True)
class BestSigma:
    """A classical method with the σ of `classical.ORACLE_SIGMAS` that is best on this very image.

    No user can choose so well: it bounds what the method could give.

    Attributes
    ----------
    name
        Of `BEST_SIGMA`.
    """

    name: str

    @property
    def identity(self) -> str:
        """The name; the code is that of the package's version."""
        return self.name

    def restore(self, pictures: PairImages) -> NDArray[Any]:
        """Restore with every σ and keep the result of the highest PSNR."""
        image, scale = np.asarray(pictures.blurred), Scale.of(pictures.sharp, pictures.protocol)

        def psnr(restored: NDArray[Any]) -> float:
            return score(pictures.protocol, restored, pictures.sharp, scale, ())["psnr"]

        method: Callable[..., NDArray[Any]] = classical.BASELINES[BEST_SIGMA[self.name]]
        candidates = [
            method(image, pictures.axes, sigma=sigma) for sigma in classical.ORACLE_SIGMAS
        ]
        return max(candidates, key=psnr)


@dataclass(frozen=True)
class ModelMethod:
    """A model of the catalogue or a file, through the tile engine.

    Attributes
    ----------
    name
        As the user wrote it.
    settings
        Model, tiles, prior, device.
    ensemble
        1, or 8: the average over all flips and quarter turns of the image.
    restorer
        The loaded model.
    """

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

    def restore(self, pictures: PairImages) -> Any | None:
        """Restore; None for a network of several views where there are none."""
        from napari_swintormer.evaluation.methods.evaluator import restore

        return restore(pictures, self.settings, self.restorer, self.ensemble)

    def macs_per_pixel(self, pictures: PairImages) -> float | None:
        """Multiply-accumulates for a pixel of these images; None where they cannot be counted."""
        from napari_swintormer.evaluation.methods.cost import macs_per_pixel

        return macs_per_pixel(pictures, self.settings, self.restorer, self.ensemble)


def parse_method(text: str, settings: DeblurSettings) -> Method:
    """Make a method from a line such as ``swintormer-small:tile_size=256,overlap=36``.

    Models are loaded at once: what is wrong with them is said before anything is computed.

    Parameters
    ----------
    text
        `BLURRED`, a classical method or a model, and its options.
    settings
        Device, precision and what else holds for every model that does not say otherwise.

    Raises
    ------
    SettingsError
        There is no such option, or its value does not fit.
    ModelNotFoundError, FileError, WeightsError
        The model cannot be had.
    """
    name, options = _split(text)
    if name == BLURRED and not options:
        return Unchanged()
    if name in classical.BASELINES:
        known = {"sigma": float, "iterations": int}
        chosen = _options(text, options, known if name == "richardson-lucy" else {"sigma": float})
        return ClassicalMethod(text, partial(classical.BASELINES[name], **chosen))
    if text in BEST_SIGMA:
        return BestSigma(text)
    if name in classical.WITH_PSF:
        known = {"iterations": int} if name.startswith("rich") else {"balance": float}
        chosen = _options(text, options, known)
        return ClassicalMethod(text, partial(classical.WITH_PSF[name], **chosen), with_psf=True)
    chosen = _options(text, options, _SETTINGS | {"ensemble": int})
    ensemble = chosen.pop("ensemble", 1)
    if ensemble not in (1, 8):
        raise SettingsError(f"ensemble must be 1 or 8 (got ensemble={ensemble} in {text!r}).")
    from napari_swintormer.models.catalogue import load_model

    restorer = load_model(name)
    if ensemble > 1 and restorer.card.second_view is not None:
        raise SettingsError(
            f"No camera sees two views turned or mirrored (got ensemble={ensemble} in {text!r}). "
            "Leave ensemble out for a model of two views."
        )
    return ModelMethod(text, replace(settings, model=name, **chosen), ensemble, restorer)


ABLATION_TILES = (
    "tile_size=16384,overlap=0",
    "tile_size=256,overlap=36",
    "tile_size=512,overlap=292",
    "tile_size=512,overlap=128",
)
"""The whole image, and the paper's tiles of 256/220, 512/220 and 512/384 (size/stride)."""

ABLATION_STEPS = {"compact": (1, 2, 4, 8), "ldm_sr": (5, 10, 20, 50)}
"""Steps of a prior, by its kind."""


def ablation(text: str) -> list[str]:
    """Name what the paper's ablation varies for one model: its tiles, and the steps of its prior.

    Parameters
    ----------
    text
        A model, with options that hold for all.

    Raises
    ------
    ModelNotFoundError, FileError, WeightsError
        The model cannot be had.
    """
    from napari_swintormer.models.catalogue import describe_model

    name, options = _split(text)
    card = describe_model(name).card
    varied = [(options, f"{tiles},blend=uniform") for tiles in ABLATION_TILES]
    if card is not None and card.prior is not None:
        once = ",".join(o for o in options.split(",") if not o.startswith("samples="))
        varied.append((once, "prior=off"))  # without a prior all samples are the same
        steps = ABLATION_STEPS[card.prior.kind]
        varied += [(options, f"num_inference_steps={t}") for t in steps]
    return [f"{name}:" + ",".join(filter(None, pair)) for pair in varied]


def _split(text: str) -> tuple[str, str]:
    """Cut a line into name and options; a colon in a path is none before options."""
    name, colon, options = text.rpartition(":")
    return (name, options) if colon and "=" in options else (text, "")


def _options(text: str, options: str, known: dict[str, type]) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for part in filter(None, options.split(",")):
        key, _, value = part.partition("=")
        if key not in known:
            raise SettingsError(
                f"There is no option {key!r} (got {text!r}). Use "
                f"{', '.join(known) or 'none with this method'}."
            )
        try:
            chosen[key] = known[key](value)
        except ValueError as error:
            raise SettingsError(f"{key} must be a number (got {value!r} in {text!r}).") from error
    return chosen
