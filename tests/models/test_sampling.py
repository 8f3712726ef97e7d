"""The diffusion process against diffusers, and against a known distribution."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from napari_swintormer.models.prior.sampling import SamplingPlan, Schedule, sample
from napari_swintormer.models.stepwise import run_to_end

SCHEDULE = Schedule.make()
BETAS = {"beta_start": 0.0015, "beta_end": 0.0155, "beta_schedule": "scaled_linear"}
# the distribution: independent pixels of this mean and deviation
MEAN, DEVIATION = 0.7, 0.4


def seeded(step, like):
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(step))


def best_denoiser(prediction):
    """Return the best possible denoiser for the known distribution."""

    def denoiser(z, t):
        alpha_bar = float(SCHEDULE.alphas_cumprod[t])
        gain = alpha_bar**0.5 * DEVIATION**2 / (alpha_bar * DEVIATION**2 + 1 - alpha_bar)
        clean = MEAN + gain * (z - alpha_bar**0.5 * MEAN)
        yield
        noise = (z - alpha_bar**0.5 * clean) / (1 - alpha_bar) ** 0.5
        return clean if prediction == "clean" else noise

    return denoiser


def exact(z, t):
    """Return the clean value that the deterministic flow reaches from `z` at step `t`."""
    alpha_bar = float(SCHEDULE.alphas_cumprod[t])
    spread = (alpha_bar * DEVIATION**2 + 1 - alpha_bar) ** 0.5
    return MEAN + DEVIATION * (z - alpha_bar**0.5 * MEAN) / spread


def test_noising_step_by_step_and_at_once_agree():
    z0 = torch.randn(1, 2, 3, 3)
    z, variance = z0, 0.0
    for t in range(400):
        beta = float(SCHEDULE.betas[t])
        z = (1 - beta) ** 0.5 * z  # eq. 8 of the paper, without its noise
        variance = variance * (1 - beta) + beta
    torch.testing.assert_close(z, SCHEDULE.diffuse(z0, 399, torch.zeros_like(z0)))
    assert variance == pytest.approx(1 - float(SCHEDULE.alphas_cumprod[399]))
    noise = torch.randn(2, 2, 3, 3)
    both = SCHEDULE.diffuse(z0.expand(2, -1, -1, -1), torch.tensor([3, 900]), noise)
    for i, t in enumerate((3, 900)):
        torch.testing.assert_close(both[i : i + 1], SCHEDULE.diffuse(z0, t, noise[i : i + 1]))


def test_the_schedule_equals_that_of_diffusers():
    alpha_bar = DDIMScheduler(**BETAS).alphas_cumprod
    torch.testing.assert_close(SCHEDULE.alphas_cumprod.float(), alpha_bar, rtol=1e-5, atol=0)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("steps", [5, 20])
def test_ddim_equals_that_of_diffusers(eta, steps):
    theirs = DDIMScheduler(**BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    theirs.set_timesteps(steps)
    plan = SamplingPlan.leading(SCHEDULE, steps, prediction="noise", eta=eta)
    assert plan.times == tuple(theirs.timesteps.tolist())
    denoiser = best_denoiser("noise")
    z = wanted = torch.randn(1, 2, 8, 8)
    for i, t in enumerate(theirs.timesteps):
        noise = seeded(i + 1, z) if eta else None
        wanted = theirs.step(run_to_end(denoiser(wanted, t)), t, wanted, eta, variance_noise=noise)[
            0
        ]
    torch.testing.assert_close(run_to_end(sample(denoiser, z, plan, seeded)), wanted)


def test_the_ancestral_step_equals_that_of_diffusers():
    theirs = DDPMScheduler(**BETAS, clip_sample=False, variance_type="fixed_large")
    plan = SamplingPlan.trailing(SCHEDULE, 1000, 999, prediction="noise", solver="ancestral")
    best, asked, z = best_denoiser("noise"), [], torch.randn(1, 2, 8, 8)

    def denoiser(z, t):
        asked.append(z)
        return best(z, t)

    run_to_end(sample(denoiser, z, plan, seeded))
    for i, t in enumerate(plan.times[:5]):
        torch.testing.assert_close(asked[i], z)
        generator = torch.Generator().manual_seed(i + 1)
        z = theirs.step(run_to_end(best(z, t)), t, z, generator=generator).prev_sample


@pytest.mark.parametrize("prediction", ["noise", "clean"])
@pytest.mark.parametrize(
    ("solver", "steps", "error"), [("ddim", 799, 0.015), ("dpm++", 200, 0.02), ("unipc", 200, 0.02)]
)
def test_solvers_follow_the_flow_to_its_end(prediction, solver, steps, error):
    start = 800
    plan = SamplingPlan.trailing(SCHEDULE, start, steps, prediction=prediction, solver=solver)
    z = torch.linspace(-2, 2, 64).reshape(1, 1, 8, 8)
    sampled = run_to_end(sample(best_denoiser(prediction), z, plan, seeded))
    assert (sampled - exact(z, start - 1)).abs().max() < error


@pytest.mark.parametrize(("solver", "eta"), [("ddim", 1.0), ("ancestral", 0.0)])
def test_random_solvers_sample_the_distribution(solver, eta):
    plan = SamplingPlan.trailing(SCHEDULE, 1000, 500, prediction="noise", solver=solver, eta=eta)
    z = torch.randn(1, 1, 100, 100)
    sampled = run_to_end(sample(best_denoiser("noise"), z, plan, seeded))
    assert float(sampled.mean()) == pytest.approx(MEAN, abs=0.02)
    assert float(sampled.std()) == pytest.approx(DEVIATION, abs=0.02)
    # the sample does not depend on the start
    assert abs(float(torch.corrcoef(torch.stack([z.flatten(), sampled.flatten()]))[0, 1])) < 0.1
