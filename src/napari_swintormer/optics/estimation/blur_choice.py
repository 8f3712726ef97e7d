"""Whether a motion, a defocus, or nothing is undone: how likely it is that each of them helps.

An image blurred by motion looks defocused to an estimator of defocus, and the other way round. Two
logistic regressions weigh what the estimators say of both, and how well each blur fits the image's
spectrum. Where a motion may be, a third one weighs how well several kernels agree. They were fitted
on sharp images that were blurred by either or by nothing, and then restored with both estimates
(``recipes/blur_choice.py``).
"""

from __future__ import annotations

import math
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_swintormer.optics.blur import Blur
from napari_swintormer.optics.estimation.motion_signs import NAMES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_swintormer.optics.estimation.defocus_posterior import DefocusPosterior, Field
    from napari_swintormer.optics.estimation.motion_kernel import MotionTrial
    from napari_swintormer.optics.plane_power import PlanePower
    from napari_swintormer.optics.sharp_spectrum import Content

    Floats = NDArray[np.float64]

CLIP = 3.0  # standard deviations of the training images; nothing beyond was seen
CONTENTS: dict[Field, Content] = {"photo": "photo_light", "micrograph": "micrograph"}
_ROUND = (
    *(Blur.disk(float(radius)) for radius in np.geomspace(0.7, 12, 9)),
    *(Blur.gaussian(float(sigma)) for sigma in np.geomspace(0.4, 6, 9)),
)
_LARGEST_MISFIT = 30.0
_LEAST = 1e-3  # of probabilities


class Chances(NamedTuple):
    """How likely it is that undoing a blur makes the image better."""

    motion: float
    defocus: float


class SpectralFit:
    """How well blurs fit the spectrum of an image's light."""

    def __init__(self, power: PlanePower, field: Field) -> None:
        self._power, self._content = power, CONTENTS[field]
        self.none = self.misfit(Blur.none())
        self.round = min(self.misfit(blur) for blur in _ROUND)

    def misfit(self, blur: Blur) -> float:
        """Minus the logarithm of how probable the spectrum is with a blur, up to a constant."""
        return self._power.sharp(blur, self._content, 2).misfit


def features(
    trial: MotionTrial, posterior: DefocusPosterior, fit: SpectralFit, field: Field
) -> Floats:
    """Describe what is known of an image's blur, for `chances` and for its training."""
    motion = fit.misfit(Blur.kernel(trial.kernel))
    return np.array(
        [
            *(trial.signs[name] for name in NAMES),
            float(np.clip(fit.round - motion, -_LARGEST_MISFIT, _LARGEST_MISFIT)),
            float(np.clip(fit.none - min(motion, fit.round), -_LARGEST_MISFIT, _LARGEST_MISFIT)),
            _logit(posterior.none),
            _logit(posterior.certainty),
            math.log(posterior.radius),
            float(field == "photo"),
        ]
    )


def chances(described: Floats) -> Chances:
    """Rate what `features` describes."""
    stored = _weights()
    values = np.clip((described - stored["mean"]) / stored["deviation"], -CLIP, CLIP)
    return Chances(
        *(
            1 / (1 + math.exp(-float(stored[name][0] + values @ stored[name][1:])))
            for name in Chances._fields
        )
    )


def confirmed(chance: float, agreement: float, field: Field) -> float:
    """Rate a motion again, knowing how well several kernels of it agree."""
    inputs = agreement_inputs(chance, agreement, field == "photo")
    return 1 / (1 + math.exp(-float(_weights()["agreed"] @ inputs)))


def agreement_inputs(chance: float, agreement: float, photo: bool) -> Floats:
    """Give what `confirmed` weighs, and 1 for the constant."""
    return np.array([1.0, _logit(chance), 10 * (agreement - 0.9), float(photo)])


def _logit(probability: float) -> float:
    within = min(max(probability, _LEAST), 1 - _LEAST)
    return math.log(within / (1 - within))


@lru_cache
def _weights() -> dict[str, Floats]:
    source = files("napari_swintormer.optics.estimation").joinpath("blur_choice.npz")
    with source.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        return {name: stored[name].astype(np.float64) for name in stored.files}
