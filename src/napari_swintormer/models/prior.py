"""The compact prior: a small diffusion model of the sharp image's latent.

An autoencoder makes of an image a small map, at 1/4 or 1/8 of its resolution. The denoiser predicts
the map of the sharp image from a noised one and from what a second encoder sees in the blurred
image. Sampling starts from the blurred image's own map, noised half-way, and takes a few
deterministic steps; training noises maps of sharp images so that they end there.

Nothing here looks at a tile as a whole (no pooling, no statistics over pixels): what a pixel gets
depends on its surroundings alone, so that neighbouring tiles agree. Images are NHWC inside.
"""

from __future__ import annotations

from functools import cached_property
from math import sqrt
from typing import TYPE_CHECKING, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_swintormer.models.prior_settings import CompactPriorSettings
from napari_swintormer.models.sampling import Noise, SamplingPlan, Schedule, sample
from napari_swintormer.models.stepwise import Stepwise, finished
from napari_swintormer.models.swintormer import Swintormer

if TYPE_CHECKING:
    from napari_swintormer.models.prior_settings import PriorSettings
    from napari_swintormer.models.settings import SwintormerSettings

_COARSE = 2  # resolution of the denoiser's finer level by that of its coarser one
_TIME_FREQUENCIES = 16


class Prior(Protocol):
    """What a restorer asks of a prior.

    Attributes
    ----------
    alignment
        Where images begin in the plane, and their sides, are multiples of this; 32 is one.
    factor
        Pixels of the image per pixel of the latent.
    """

    alignment: int
    factor: int

    def sampling(self, images: Tensor, noise: Noise, steps: int) -> Stepwise[Tensor]:
        """Sample what the network gets beside `images`, ``(B, C, H, W)`` in unit intensities.

        Yields after every call of the denoiser; returns ``(B, prior_channels, H, W)`` float32.
        """

    def count_calls(self, height: int, width: int, steps: int) -> int:
        """Count the calls of the denoiser for images of this size."""


class GatedBlock(nn.Module):
    """Depthwise convolution and feed-forward, both gated, each added to its input.

    Parameters
    ----------
    dim
        Channels.
    timed
        Whether the block is told the step of the diffusion.
    """

    def __init__(self, dim: int, *, timed: bool = False) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.expand1, self.expand2 = nn.Linear(dim, 2 * dim), nn.Linear(dim, 2 * dim)
        self.depthwise = nn.Conv2d(2 * dim, 2 * dim, 3, padding=1, groups=2 * dim)
        self.project1, self.project2 = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.time = nn.Linear(2 * _TIME_FREQUENCIES, 2 * dim) if timed else None
        for projection in (self.project1, self.project2):
            nn.init.zeros_(projection.bias)
            nn.init.trunc_normal_(projection.weight, std=0.02)

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        """Transform ``(B, H, W, C)``; `time` is ``(B, 32)``."""
        y = self.norm1(x)
        if self.time is not None:
            scale, shift = self.time(time)[:, None, None].chunk(2, dim=-1)
            y = y * (1 + scale) + shift
        y = self.depthwise(self.expand1(y).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        left, right = y.chunk(2, dim=-1)
        x = x + self.project1(left * right)
        left, right = self.expand2(self.norm2(x)).chunk(2, dim=-1)
        added: Tensor = self.project2(left * right)
        return x + added


class Encoder(nn.Module):
    """From an image ``(B, C, H, W)`` to a map ``(B, H/f, W/f, out)``."""

    def __init__(self, settings: CompactPriorSettings, out_channels: int) -> None:
        super().__init__()
        self.factor = settings.factor
        self.embed = nn.Linear(settings.channels * self.factor**2, settings.width)
        self.blocks = nn.ModuleList(
            GatedBlock(settings.width) for _ in range(settings.encoder_blocks)
        )
        self.out = nn.Linear(settings.width, out_channels)

    def forward(self, images: Tensor) -> Tensor:
        """Encode images in unit intensities; their sides are multiples of the factor."""
        x = self.embed(F.pixel_unshuffle(2 * images - 1, self.factor).permute(0, 2, 3, 1))
        for block in self.blocks:
            x = block(x)
        y: Tensor = self.out(x)
        return y


class Decoder(nn.Module):
    """From a map ``(B, H/f, W/f, latent_channels)`` back to the image ``(B, C, H, W)``."""

    def __init__(self, settings: CompactPriorSettings) -> None:
        super().__init__()
        self.factor = settings.factor
        self.embed = nn.Linear(settings.latent_channels, settings.width)
        # twice as many as the encoder has: it works in training only
        self.blocks = nn.ModuleList(
            GatedBlock(settings.width) for _ in range(2 * settings.encoder_blocks)
        )
        self.out = nn.Linear(settings.width, settings.channels * self.factor**2)

    def forward(self, latent: Tensor) -> Tensor:
        """Decode into unit intensities."""
        x = self.embed(latent)
        for block in self.blocks:
            x = block(x)
        image = F.pixel_shuffle(self.out(x).permute(0, 3, 1, 2), self.factor)
        return (image.float() + 1) / 2


class CompactDenoiser(nn.Module):
    """Predicts the clean map from a noised one: a U-Net of two levels."""

    def __init__(self, settings: CompactPriorSettings) -> None:
        super().__init__()
        latent, width = settings.latent_channels, settings.width
        fine, coarse = settings.num_blocks
        # the noised map, the map of the blurred image, and what its encoder saw beside
        self.embed = nn.Linear(2 * latent + width, width)
        self.before = nn.ModuleList(GatedBlock(width, timed=True) for _ in range(fine))
        self.down = nn.Linear(_COARSE**2 * width, _COARSE * width)
        self.coarse = nn.ModuleList(GatedBlock(_COARSE * width, timed=True) for _ in range(coarse))
        self.up = nn.Linear(_COARSE * width, _COARSE**2 * width)
        self.behind = nn.ModuleList(GatedBlock(width, timed=True) for _ in range(fine))
        self.out = nn.Linear(width, latent)
        # untrained, it answers that the blurred image's map is the clean one
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, z: Tensor, t: Tensor, blurred: Tensor, seen: Tensor) -> Tensor:
        """Predict ``(B, h, w, latent)``; `t` is ``(B,)``, the step as a share of the process."""
        time = time_features(t).to(z.dtype)
        x = self.embed(torch.cat([z, blurred, seen], dim=-1))
        for block in self.before:
            x = block(x, time)
        y = self.down(F.pixel_unshuffle(x.permute(0, 3, 1, 2), _COARSE).permute(0, 2, 3, 1))
        for block in self.coarse:
            y = block(y, time)
        x = x + F.pixel_shuffle(self.up(y).permute(0, 3, 1, 2), _COARSE).permute(0, 2, 3, 1)
        for block in self.behind:
            x = block(x, time)
        change: Tensor = self.out(x)
        return blurred + change


class CompactPrior(nn.Module):
    """A small prior whose parameters lie beside those of the network.

    Parameters
    ----------
    settings
        Sizes and steps.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, settings: CompactPriorSettings) -> None:
        super().__init__()
        self.settings = settings
        self.factor: int = settings.factor
        self.alignment = settings.factor * _COARSE
        latent, own = settings.latent_channels, settings.prior_channels
        self.encoder = Encoder(settings, latent)
        self.decoder = Decoder(settings)
        self.blurred_encoder = Encoder(settings, settings.width)
        self.denoiser = CompactDenoiser(settings)
        self.upsampling = nn.Conv2d(latent, own * self.factor**2, 3, padding=1)
        # brings the latent to mean 0 and variance 1; measured when the autoencoder is trained
        self.register_buffer("shift", torch.zeros(latent))
        self.register_buffer("scale", torch.ones(latent))

    @cached_property
    def schedule(self) -> Schedule:
        """Of the diffusion that the prior is trained on."""
        return Schedule.make()

    def encode(self, images: Tensor) -> Tensor:
        """Make of images ``(B, C, H, W)`` their latent, ``(B, latent_channels, h, w)`` float32."""
        latent: Tensor = self.encoder(images)
        return ((latent.float() - self.shift) / self.scale).permute(0, 3, 1, 2)

    def decode(self, z: Tensor) -> Tensor:
        """Make of a latent the image again, in unit intensities."""
        image: Tensor = self.decoder(z.permute(0, 2, 3, 1) * self.scale + self.shift)
        return image

    def denoise(self, z: Tensor, t: Tensor, blurred: Tensor, seen: Tensor) -> Tensor:
        """Predict the clean latent; maps are ``(B, C, h, w)``, `t` is ``(B,)`` steps."""
        inputs = (part.permute(0, 2, 3, 1) for part in (blurred, seen))
        share = (t + 1) / len(self.schedule.kept)
        clean: Tensor = self.denoiser(z.permute(0, 2, 3, 1), share, *inputs)
        return clean.float().permute(0, 3, 1, 2)

    def diffuse(self, clean: Tensor, blurred: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Noise a clean latent so that its noisiest form is that of the blurred one.

        The deterministic samplers follow ``z_t = √ᾱ·z0 + √(1−ᾱ)·ε`` with one ``ε`` for all steps.
        Here it holds the difference of the two latents beside the noise, as much of it as makes
        ``z_start`` the noised latent of the blurred image. So the denoiser learns from just what
        sampling will show it.
        """
        kept = float(self.schedule.kept[self.settings.start - 1])
        shift = sqrt(kept / (1 - kept)) * (blurred - clean)
        return self.schedule.diffuse(clean, t, noise + shift)

    def see(self, images: Tensor) -> Tensor:
        """Encode blurred images ``(B, C, H, W)`` for the denoiser, ``(B, width, h, w)``."""
        seen: Tensor = self.blurred_encoder(images)
        return seen.permute(0, 3, 1, 2)

    def sample_latent(self, images: Tensor, noise: Noise, steps: int) -> Tensor:
        """Sample the latent of the sharp image that belongs to blurred `images`."""
        return finished(self._sampling_latent(images, noise, steps))

    def _sampling_latent(self, images: Tensor, noise: Noise, steps: int) -> Stepwise[Tensor]:
        blurred, seen = self.encode(images), self.see(images)
        plan = SamplingPlan.trailing(
            self.schedule,
            self.settings.start,
            steps,
            prediction="clean",
            solver=self.settings.solver,
        )

        def denoiser(z: Tensor, t: int) -> Stepwise[Tensor]:
            clean = self.denoise(z, torch.full((len(z),), t, device=z.device), blurred, seen)
            yield
            return clean

        z = self.schedule.diffuse(blurred, plan.times[0], noise(0, blurred))
        return (yield from sample(denoiser, z, plan, noise))

    def upsample(self, z: Tensor) -> Tensor:
        """Bring a latent to the network's input, ``(B, prior_channels, H, W)`` float32."""
        return F.pixel_shuffle(self.upsampling(z), self.factor).float()

    def sample(self, images: Tensor, noise: Noise, steps: int) -> Tensor:
        """Sample all at once, see `Prior.sampling`."""
        return finished(self.sampling(images, noise, steps))

    def sampling(self, images: Tensor, noise: Noise, steps: int) -> Stepwise[Tensor]:
        """See `Prior`."""
        return self.upsample((yield from self._sampling_latent(images, noise, steps)))

    def count_calls(self, height: int, width: int, steps: int) -> int:
        """See `Prior`."""
        return steps


class PriorSwintormer(Swintormer):
    """A Swintormer with its compact prior beside it: one set of parameters for both."""

    def __init__(self, network: SwintormerSettings, prior: CompactPriorSettings) -> None:
        super().__init__(network)
        self.prior: CompactPrior = CompactPrior(prior)


def build_network(network: SwintormerSettings, prior: PriorSettings | None) -> Swintormer:
    """Build what a weights file holds the parameters of, with random ones."""
    if isinstance(prior, CompactPriorSettings):
        return PriorSwintormer(network, prior)
    return Swintormer(network)


def time_features(t: Tensor) -> Tensor:
    """Waves of 16 frequencies over `t` ``(B,)`` in [0, 1]: sines, then cosines, ``(B, 32)``."""
    frequencies = torch.logspace(0, 2.5, _TIME_FREQUENCIES, device=t.device)
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
