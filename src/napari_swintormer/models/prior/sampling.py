"""The diffusion process: adding noise, and removing it again in a few steps.

The equations are those of the paper (arXiv 2401.05907). ``z0`` is clean, ``z_t`` is noised for
``t + 1`` steps, ``ᾱ`` is `Schedule.alphas_cumprod`. All randomness comes in as an argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch

from napari_swintormer.models.transfer import send

if TYPE_CHECKING:
    from torch import Tensor

    from napari_swintormer.models.prior.prior_settings import Solver
    from napari_swintormer.models.stepwise import Stepwise

Prediction = Literal["noise", "clean"]


class NoiseSource(Protocol):
    """Draws standard normal noise."""

    def __call__(self, step: int, like: Tensor, /) -> Tensor:
        """Draw the noise of a step in the shape of `like`; step 0 is the start of the sampling."""


class Denoiser(Protocol):
    """Predicts the noise, or the clean latent, from a latent that is noised for ``t + 1`` steps."""

    def __call__(self, z: Tensor, t: int, /) -> Stepwise[Tensor]:
        """Predict from ``(B, C, h, w)`` the same shape; yields where the work can be stopped."""


class Prior(Protocol):
    """What a restorer asks of a prior.

    Attributes
    ----------
    alignment
        The origin and the sides of images must be multiples of this many pixels.
    factor
        Pixels of the image per pixel of the latent.
    sha256
        SHA-256 of the prior's own file; empty if its parameters lie in the weights file.
    """

    alignment: int
    factor: int
    sha256: str

    def forward_features(self, images: Tensor) -> Any:
        """Compute what all samples of `images` share; ``(B, C, H, W)`` in unit intensities."""

    def sampling(self, features: Any, noise: NoiseSource, steps: int) -> Stepwise[Tensor]:
        """Sample the network's prior input from the result of `forward_features`.

        Yields after every call of the denoiser; returns ``(B, prior_channels, H, W)`` float32.
        """

    def count_calls(self, height: int, width: int, steps: int) -> int:
        """Count the calls of the denoiser for images of this size."""


@dataclass(frozen=True, eq=False)
class Schedule:
    """The noise schedule: shares of the variance, float64 ``(steps,)``."""

    betas: Tensor  # replaced by noise in each step
    alphas_cumprod: Tensor  # of the signal after each step, the paper's ᾱ

    @classmethod
    def make(
        cls, steps: int = 1000, beta_start: float = 0.0015, beta_end: float = 0.0155
    ) -> Schedule:
        """Make a schedule whose √β grows linearly; the defaults are the paper's."""
        betas = torch.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=torch.float64).square()
        return cls(betas, torch.cumprod(1 - betas, dim=0))

    def alpha_bar(self, t: int) -> float:
        """Return the share of the signal that is left after step `t`."""
        return float(self.alphas_cumprod.tolist()[t])

    def diffuse(self, z0: Tensor, t: Tensor | int, noise: Tensor) -> Tensor:
        """Noise ``z0``, ``(B, C, h, w)``, to ``z_t`` (eq. 9 and 10); `t` may be ``(B,)``."""
        alpha_bar = self.alphas_cumprod[torch.as_tensor(t).cpu()].to(z0.dtype)
        factors = torch.stack([alpha_bar.sqrt(), (1 - alpha_bar).sqrt()])
        factors = send(factors, z0.device).reshape(2, -1, 1, 1, 1)
        return factors[0] * z0 + factors[1] * noise


@dataclass(frozen=True, eq=False)
class SamplingPlan:
    """The steps of a sampling; made by `leading` or `trailing`."""

    schedule: Schedule
    times: tuple[int, ...]  # steps at which the denoiser is called, the noisiest first
    final_alpha_cumprod: float  # ᾱ after the last step
    prediction: Prediction
    solver: Solver = "ddim"
    eta: float = 0.0

    @classmethod
    def leading(cls, schedule: Schedule, steps: int, **more: Any) -> SamplingPlan:
        """Take every (1000 / T)-th step beginning with 1, as the released script does."""
        stride = len(schedule.betas) // steps
        times = tuple(1 + stride * i for i in reversed(range(steps)))
        return cls(schedule, times, schedule.alpha_bar(0), **more)

    @classmethod
    def trailing(cls, schedule: Schedule, start: int, steps: int, **more: Any) -> SamplingPlan:
        """Take `steps` even steps from ``start - 1`` down to the clean latent."""
        times = tuple(round((start - 1) * (steps - i) / steps) for i in range(steps))
        return cls(schedule, times, 1.0, **more)


def sample(
    denoiser: Denoiser, z: Tensor, plan: SamplingPlan, noise: NoiseSource
) -> Stepwise[Tensor]:
    """Remove the noise from `z` step by step, and return the sample ``z0``, ``(B, C, h, w)``.

    `z` is float32, noised for ``plan.times[0]`` steps. The denoiser is called once per step; this
    function yields whenever it yields. Step i, counted from 1, adds ``noise(i, z)``.
    """
    if plan.solver in ("dpm++", "unipc"):
        return (yield from _sample_multistep(denoiser, z, plan))
    alpha_bars = [plan.schedule.alpha_bar(t) for t in plan.times]
    alpha_bars.append(plan.final_alpha_cumprod)
    for i, t in enumerate(plan.times):
        predicted = (yield from denoiser(z, t)).float()
        clean, epsilon = _split(z, predicted, alpha_bars[i], plan.prediction)
        if plan.solver == "ddim":
            z, sigma = _ddim_step(clean, epsilon, alpha_bars[i], alpha_bars[i + 1], plan.eta)
        else:
            z, sigma = _ancestral_step(z, epsilon, alpha_bars[i], alpha_bars[i + 1])
        if sigma:
            z = z + sigma * noise(i + 1, z)
    return z


def _split(
    z: Tensor, predicted: Tensor, alpha_bar: float, prediction: Prediction
) -> tuple[Tensor, Tensor]:
    """Split ``z_t = √ᾱ·z0 + √(1−ᾱ)·ε`` into ``z0`` and ``ε``; one of them is predicted."""
    signal, rest = sqrt(alpha_bar), sqrt(1 - alpha_bar)
    if prediction == "noise":
        return (z - rest * predicted) / signal, predicted
    return predicted, (z - signal * predicted) / rest


def _ddim_step(
    clean: Tensor, epsilon: Tensor, alpha_bar: float, alpha_bar_next: float, eta: float
) -> tuple[Tensor, float]:
    """Return ``z`` and σ after a step of DDIM (arXiv 2010.02502, eq. 12 and 16).

    With `eta` 0 the step is deterministic, with 1 it is ancestral.
    """
    sigma = eta * sqrt((1 - alpha_bar_next) / (1 - alpha_bar) * (1 - alpha_bar / alpha_bar_next))
    rest = sqrt(max(1 - alpha_bar_next - sigma**2, 0.0))
    return sqrt(alpha_bar_next) * clean + rest * epsilon, sigma


def _ancestral_step(
    z: Tensor, epsilon: Tensor, alpha_bar: float, alpha_bar_next: float
) -> tuple[Tensor, float]:
    """Return ``z`` and σ after a step of the paper (eq. 16), with ``α = ᾱ_t / ᾱ_{t-1}``.

    The last step, to the clean latent, adds no noise.
    """
    alpha = alpha_bar / alpha_bar_next
    z = (z - (1 - alpha) / sqrt(1 - alpha_bar) * epsilon) / sqrt(alpha)
    return z, sqrt(1 - alpha) if alpha_bar_next < 1 else 0.0


def _sample_multistep(denoiser: Denoiser, z: Tensor, plan: SamplingPlan) -> Stepwise[Tensor]:
    """Sample with DPM-Solver++ or UniPC of diffusers: second order, deterministic."""
    from diffusers import DPMSolverMultistepScheduler, UniPCMultistepScheduler

    solver: Any = DPMSolverMultistepScheduler if plan.solver == "dpm++" else UniPCMultistepScheduler
    # diffusers starts at the end of its schedule: give it the part up to our start
    betas = plan.schedule.betas[: plan.times[0] + 1]
    scheduler = solver(
        num_train_timesteps=len(betas),
        trained_betas=betas.tolist(),
        prediction_type="epsilon" if plan.prediction == "noise" else "sample",
        timestep_spacing="linspace",  # the steps of `SamplingPlan.trailing`
    )
    scheduler.set_timesteps(len(plan.times))
    for t in scheduler.timesteps:
        predicted = (yield from denoiser(z, int(t))).float()
        z = scheduler.step(predicted, t, z, return_dict=False)[0]
    return z
