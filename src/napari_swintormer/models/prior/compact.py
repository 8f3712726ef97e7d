"""The compact prior: a small diffusion model of the detail that a blurred image misses.

A linear autoencoder turns the difference between sharp and blurred image into a small latent map at
1/4 of the resolution. An encoder reads the blurred image at 1/2 and 1/4 of its size and makes a
first guess of that map. The denoiser predicts the latent from a noised one and from the guesses.
The latent of a sharp image is zero. So sampling starts from zero, noised halfway, and takes a few
deterministic steps. Training noises latents so that they end at the same start.

A pixel depends on its surroundings only, never on statistics of the whole tile, so that
neighbouring tiles agree. Images are NHWC inside the layers.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_swintormer.models.network.swintormer import Swintormer
from napari_swintormer.models.padding import pad_to_multiple
from napari_swintormer.models.prior.prior_settings import CompactPriorSettings
from napari_swintormer.models.prior.sampling import SamplingPlan, Schedule, sample
from napari_swintormer.models.transfer import send

if TYPE_CHECKING:
    from napari_swintormer.models.network.network_settings import SwintormerSettings
    from napari_swintormer.models.prior.prior_settings import PriorSettings
    from napari_swintormer.models.prior.sampling import NoiseSource
    from napari_swintormer.models.stepwise import Stepwise

ENCODER_SCALES = (2, 4)
"""The encoder reads the blurred image at 1/2 and at 1/4 of its size."""

_TIME_FREQUENCIES = 16
# The detail that blurred images miss has a root mean square of 0.04, images in [-1, 1] of 0.4.
_PRIOR_GAIN = 8


class BlurredFeatures(NamedTuple):
    """What the denoiser knows about a batch of blurred images."""

    maps: Tensor  # (B, H/4, W/4, 4 * dim)
    guesses: Tensor  # (B, 2, latent_channels, H/4, W/4) float32, latents guessed at both scales


class GatedBlock(nn.Module):
    """Gated depthwise convolution, modulated by the diffusion step, and gated feed-forward."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.expand1, self.expand2 = nn.Linear(dim, 2 * dim), nn.Linear(dim, 2 * dim)
        self.depthwise = nn.Conv2d(2 * dim, 2 * dim, 3, padding=1, groups=2 * dim)
        self.project1, self.project2 = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.time = nn.Linear(2 * _TIME_FREQUENCIES, 2 * dim)
        for projection in (self.project1, self.project2):
            nn.init.zeros_(projection.bias)
            nn.init.trunc_normal_(projection.weight, std=0.02)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Transform ``(B, H, W, C)``; `time` is ``(B, 32)``."""
        scale, shift = self.time(time)[:, None, None].chunk(2, dim=-1)
        y = self.norm1(x) * (1 + scale) + shift
        y = self.depthwise(self.expand1(y).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        left, right = y.chunk(2, dim=-1)
        x = x + self.project1(left * right)
        left, right = self.expand2(self.norm2(x)).chunk(2, dim=-1)
        residual: Tensor = self.project2(left * right)
        return x + residual


class BlurredEncoder(nn.Module):
    """Reads the blurred image once for all steps, with a Swintormer at 1/2 and 1/4 of its size.

    In a smaller image blur is narrower and windows reach farther. Both scales together take a third
    of the time of the full size.
    """

    def __init__(self, settings: CompactPriorSettings) -> None:
        super().__init__()
        self.body = Swintormer(settings.encoder)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Encode ``(B, C, H, W)`` in unit intensities; H and W are multiples of 8.

        Returns
        -------
        maps, residuals
            Features ``(B, H/4, W/4, 4 * dim)``, and the residual that each scale adds to the image,
            at full size, ``(2, B, C, H, W)`` float32.
        """
        maps, residuals = [], []
        for factor in ENCODER_SCALES:
            small = F.avg_pool2d(images, factor)
            height, width = small.shape[2:]
            padded = pad_to_multiple(small, self.body.settings.multiple)
            features, residual = self.body.forward_features(padded)
            residuals.append(_upsample(residual[..., :height, :width], factor))
            features = features[:, : height // 2, : width // 2].permute(0, 3, 1, 2)
            maps.append(_upsample(features, factor // 2).permute(0, 2, 3, 1))
        return torch.cat(maps, dim=-1), torch.stack(residuals)


def _upsample(x: Tensor, factor: int) -> Tensor:
    if factor == 1:
        return x
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


class CompactDenoiser(nn.Module):
    """Predicts the clean latent from a noised latent and the features of the blurred image."""

    def __init__(self, settings: CompactPriorSettings) -> None:
        super().__init__()
        latent, width = settings.latent_channels, 2 * settings.encoder.dim
        scales = len(ENCODER_SCALES)
        self.embed = nn.Linear((1 + scales) * latent + scales * width, width)
        self.blocks = nn.ModuleList(GatedBlock(width) for _ in range(settings.denoiser_blocks))
        self.out = nn.Linear(width, (1 + scales) * latent)
        # an untrained denoiser ignores the noised latent and returns the first guess
        nn.init.zeros_(self.embed.weight[:, :latent])
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        with torch.no_grad():
            self.out.bias[latent : 2 * latent] = 1

    def forward(self, z: Tensor, t: Tensor, features: BlurredFeatures) -> Tensor:
        """Predict ``(B, C, h, w)`` float32.

        `t` is ``(B,)`` on the CPU, the step in (0, 1] of all steps.
        """
        maps, guesses = features
        latents = torch.cat([z[:, None], guesses], dim=1).flatten(1, 2).permute(0, 2, 3, 1)
        x = self.embed(torch.cat([latents, maps], dim=-1))
        time = send(_time_features(t), x.device).to(x.dtype)
        for block in self.blocks:
            x = block(x, time)
        out = self.out(x).float().permute(0, 3, 1, 2)
        residual, gains = out.tensor_split([z.shape[1]], dim=1)
        clean: Tensor = residual + (gains.view_as(guesses) * guesses).sum(dim=1)
        return clean


def _time_features(t: Tensor) -> Tensor:
    """Waves of 16 frequencies over `t` ``(B,)`` in [0, 1]: sines, then cosines, ``(B, 32)``.

    `t` is on the CPU: other devices compute powers with other last bits.
    """
    frequencies = torch.logspace(0, 2.5, _TIME_FREQUENCIES)
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class CompactPrior(nn.Module):
    """A small `Prior` whose parameters lie in the weights file of the network."""

    scale: Tensor
    sha256 = ""
    factor = 4
    alignment = 2 * max(ENCODER_SCALES)
    schedule = Schedule.make()

    def __init__(self, settings: CompactPriorSettings) -> None:
        super().__init__()
        self.settings = settings
        latent, block = settings.latent_channels, settings.channels * self.factor**2
        # linear, without bias: zero stays zero, and the mean of latents decodes to a mean of images
        self.encoder = nn.Conv2d(block, latent, 3, padding=1, bias=False)
        self.decoder = nn.Conv2d(latent, block, 3, padding=1, bias=False)
        self.blurred_encoder = BlurredEncoder(settings)
        self.denoiser = CompactDenoiser(settings)
        # divides latents to variance 1; measured when the autoencoder is trained
        self.register_buffer("scale", torch.ones(latent))

    def encode(self, residual: Tensor) -> Tensor:
        """Encode sharp minus blurred image, ``(B, C, H, W)``, as a latent ``(B, c, h, w)``."""
        latent: Tensor = self.encoder(F.pixel_unshuffle(residual, self.factor))
        return latent.float() / self.scale[:, None, None]

    def decode(self, z: Tensor) -> Tensor:
        """Decode a latent to sharp minus blurred image, ``(B, C, H, W)`` float32."""
        residual: Tensor = self.decoder(z * self.scale[:, None, None])
        return F.pixel_shuffle(residual, self.factor).float()

    def forward_features(self, images: Tensor) -> BlurredFeatures:
        """Compute what all samples of `images` share."""
        maps, residuals = self.blurred_encoder(images)
        guesses = torch.stack([self.encode(residual) for residual in residuals], dim=1)
        return BlurredFeatures(maps, guesses)

    def denoise(self, z: Tensor, t: Tensor, features: BlurredFeatures) -> Tensor:
        """Predict the clean latent of `z`, ``(B, c, h, w)``, at steps `t`, ``(B,)`` on the CPU."""
        clean: Tensor = self.denoiser(z, (t + 1) / len(self.schedule.betas), features)
        return clean

    def diffuse(self, clean: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Noise a clean latent so that its noisiest form holds nothing of it.

        Deterministic samplers follow ``z_t = √ᾱ·z0 + √(1−ᾱ)·ε`` with one ``ε`` for all steps. They
        start from the noised latent zero. Here ``ε`` is the noise minus the multiple of ``z0`` that
        leads to this start, so the denoiser learns from the latents that sampling shows it.
        """
        alpha_bar = self.schedule.alpha_bar(self.settings.start - 1)
        return self.schedule.diffuse(clean, t, noise - sqrt(alpha_bar / (1 - alpha_bar)) * clean)

    def sampling(
        self, features: BlurredFeatures, noise: NoiseSource, steps: int
    ) -> Stepwise[Tensor]:
        """Sample the residual of the blurred images, see `Prior`."""
        settings = self.settings
        plan = SamplingPlan.trailing(
            self.schedule, settings.start, steps, prediction="clean", solver=settings.solver
        )

        def denoiser(z: Tensor, t: int) -> Stepwise[Tensor]:
            clean = self.denoise(z, torch.full((len(z),), t, device="cpu"), features)
            yield
            return clean

        zero = torch.zeros_like(features.guesses[:, 0])
        z = self.schedule.diffuse(zero, plan.times[0], noise(0, zero))
        return self.decode((yield from sample(denoiser, z, plan, noise)))

    def count_calls(self, height: int, width: int, steps: int) -> int:
        """Count the calls of the denoiser: one per step."""
        return steps


class PriorSwintormer(Swintormer):
    """A Swintormer and its compact prior in one set of parameters.

    The network reads the prior beside the image and restores the image, so a wrong prior loses
    nothing of the image. For a known blur the prior is what the filtered image misses; a prior of
    zero gives what the network gives without prior.
    """

    def __init__(self, network: SwintormerSettings, prior: CompactPriorSettings) -> None:
        super().__init__(network)
        self.prior: CompactPrior = CompactPrior(prior)

    def forward(self, x: Tensor) -> Tensor:
        """Restore the image in `x`, and bring the prior behind it to the range of images."""
        if self.settings.known_blur:  # the prior is added to the filtered image
            return super().forward(x)
        self._check(x)
        images, prior = x.tensor_split([x.shape[1] - self.settings.prior_channels], dim=1)
        # the network maps [0, 1] to [-1, 1], so 0.5 stands for a prior of zero
        return super().forward(torch.cat([images, 0.5 + _PRIOR_GAIN / 2 * prior], dim=1))


def build_network(network: SwintormerSettings, prior: PriorSettings | None) -> Swintormer:
    """Build the network of a weights file, with random parameters."""
    if isinstance(prior, CompactPriorSettings):
        return PriorSwintormer(network, prior)
    return Swintormer(network)
