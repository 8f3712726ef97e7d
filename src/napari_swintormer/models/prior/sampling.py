"""The diffusion process: how noise is added, and how it is taken away again in a few steps.

The equations are those of the paper (arXiv 2401.05907). ``z0`` is clean, ``z_t`` has been noised
for ``t + 1`` steps, and all randomness comes in as an argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from napari_swintormer.models.prior.prior_settings import Solver
    from napari_swintormer.models.stepwise import Stepwise

Prediction = Literal["noise", "clean"]


class Denoiser(Protocol):
    """Predicts, from what is noised for `t` steps, either the noise or what is clean."""

    def __call__(self, z: Tensor, t: int, /) -> Stepwise[Tensor]:
        """Predict from ``(B, C, h, w)`` the same shape; yields wherever it can be stopped."""


class Noise(Protocol):
    """Gives standard normal noise."""

    def __call__(self, step: int, like: Tensor, /) -> Tensor:
        """Draw the noise of a step, in the shape of `like`; step 0 is that of the start."""


@dataclass(frozen=True, eq=False)
class Schedule:
    """How much of the signal is left after every step.

    Attributes
    ----------
    betas
        float64 ``(steps,)``, the share of the variance that each step replaces by noise.
    kept
        float64 ``(steps,)``, share of the signal's variance that is left after each step, the
        paper's ᾱ.
    """

    betas: Tensor
    kept: Tensor

    @classmethod
    def make(
        cls, steps: int = 1000, beta_start: float = 0.0015, beta_end: float = 0.0155
    ) -> Schedule:
        """Make the schedule whose √β grows linearly; the defaults are the paper's."""
        betas = torch.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=torch.float64) ** 2
        return cls(betas, torch.cumprod(1 - betas, dim=0))

    def diffuse_step(self, z: Tensor, t: int, noise: Tensor) -> Tensor:
        """Noise ``z_{t-1}`` by one step to ``z_t`` (eq. 8)."""
        beta = float(self.betas[t])
        return sqrt(1 - beta) * z + sqrt(beta) * noise

    def diffuse(self, z0: Tensor, t: Tensor | int, noise: Tensor) -> Tensor:
        """Noise ``z0`` to ``z_t`` at once (eq. 9 and 10).

        Parameters
        ----------
        z0, noise
            ``(B, C, h, w)``.
        t
            One step for all, or one for each of the batch, ``(B,)``.
        """
        kept = self.kept[torch.as_tensor(t).cpu()].to(z0).reshape(-1, 1, 1, 1)
        return kept.sqrt() * z0 + (1 - kept).sqrt() * noise


@dataclass(frozen=True, eq=False)
class SamplingPlan:
    """Which steps a sampling takes; made by `leading` or `trailing`.

    Attributes
    ----------
    schedule
        Of the whole process.
    times
        Where the denoiser is asked, from the noisiest on.
    last_kept
        ᾱ after the last step.
    prediction
        What the denoiser predicts.
    solver, eta
        See `napari_swintormer.models.prior.prior_settings`.
    """

    schedule: Schedule
    times: tuple[int, ...]
    last_kept: float
    prediction: Prediction
    solver: Solver = "ddim"
    eta: float = 0.0

    @classmethod
    def leading(cls, schedule: Schedule, steps: int, **more: Any) -> SamplingPlan:
        """Take every (1000 / T)-th step beginning with 1, as the released script does."""
        stride = len(schedule.kept) // steps
        times = tuple(1 + stride * i for i in reversed(range(steps)))
        return cls(schedule, times, float(schedule.kept[0]), **more)

    @classmethod
    def trailing(cls, schedule: Schedule, start: int, steps: int, **more: Any) -> SamplingPlan:
        """Take fewer than `start` even steps from ``start - 1`` down to what is wholly clean."""
        times = tuple(round((start - 1) * (steps - i) / steps) for i in range(steps))
        return cls(schedule, times, 1.0, **more)


def sample(denoiser: Denoiser, z: Tensor, plan: SamplingPlan, noise: Noise) -> Stepwise[Tensor]:
    """Take the noise away step by step.

    Parameters
    ----------
    denoiser
        Asked once per step; this yields when it does.
    z
        The start, ``(B, C, h, w)`` float32, noised for ``plan.times[0]`` steps.
    plan
        Steps and solver.
    noise
        Where steps add noise: the i-th of them, from 1 on, asks for the noise of step i.

    Returns
    -------
    Tensor
        ``(B, C, h, w)``, the sample ``z0``.
    """
    if plan.solver in ("dpm++", "unipc"):
        return (yield from _sample_multistep(denoiser, z, plan))
    kept = [float(plan.schedule.kept[t]) for t in plan.times] + [plan.last_kept]
    for i, t in enumerate(plan.times):
        predicted = (yield from denoiser(z, t)).float()
        clean, noise_in_z = _split(z, predicted, kept[i], plan.prediction)
        if plan.solver == "ddim":
            z = _ddim_step(clean, noise_in_z, kept[i], kept[i + 1], plan.eta, noise, i)
        else:
            z = _ancestral_step(z, noise_in_z, kept[i], kept[i + 1], noise, i)
    return z


def _split(
    z: Tensor, predicted: Tensor, kept: float, prediction: Prediction
) -> tuple[Tensor, Tensor]:
    """Split ``z_t = √ᾱ·z0 + √(1−ᾱ)·ε`` into ``z0`` and ``ε``, one of which is predicted."""
    signal, rest = sqrt(kept), sqrt(1 - kept)
    if prediction == "noise":
        return (z - rest * predicted) / signal, predicted
    return predicted, (z - signal * predicted) / rest


def _ddim_step(
    clean: Tensor,
    noise_in_z: Tensor,
    kept: float,
    kept_next: float,
    eta: float,
    noise: Noise,
    i: int,
) -> Tensor:
    """Step of DDIM (arXiv 2010.02502, eq. 12 and 16); `eta` 0 is deterministic, 1 ancestral."""
    sigma = eta * sqrt((1 - kept_next) / (1 - kept) * (1 - kept / kept_next))
    rest = sqrt(max(1 - kept_next - sigma**2, 0.0))
    z = sqrt(kept_next) * clean + rest * noise_in_z
    return z + sigma * noise(i + 1, z) if sigma else z


def _ancestral_step(
    z: Tensor, noise_in_z: Tensor, kept: float, kept_next: float, noise: Noise, i: int
) -> Tensor:
    """Step of the paper (eq. 16), with ``α = ᾱ_t / ᾱ_{t-1}`` also where steps are left out.

    The last step, to what is clean, adds no noise.
    """
    alpha = kept / kept_next
    z = (z - (1 - alpha) / sqrt(1 - kept) * noise_in_z) / sqrt(alpha)
    return z + sqrt(1 - alpha) * noise(i + 1, z) if kept_next < 1 else z


def _sample_multistep(denoiser: Denoiser, z: Tensor, plan: SamplingPlan) -> Stepwise[Tensor]:
    """Sample with DPM-Solver++ or UniPC of diffusers: second order, deterministic."""
    from diffusers import DPMSolverMultistepScheduler, UniPCMultistepScheduler

    solver: Any = DPMSolverMultistepScheduler if plan.solver == "dpm++" else UniPCMultistepScheduler
    # of the schedule no more than the part that the sampling begins in: its end is the start
    betas = plan.schedule.betas[: plan.times[0] + 1]
    scheduler = solver(
        num_train_timesteps=len(betas),
        trained_betas=betas.tolist(),
        prediction_type="epsilon" if plan.prediction == "noise" else "sample",
        timestep_spacing="linspace",  # those of `SamplingPlan.trailing`
    )
    scheduler.set_timesteps(len(plan.times))
    for t in scheduler.timesteps:
        predicted = (yield from denoiser(z, int(t))).float()
        z = scheduler.step(predicted, t, z, return_dict=False)[0]
    return z
