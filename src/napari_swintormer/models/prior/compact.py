"""The compact prior: a small diffusion model of what a blurred image misses.

A linear autoencoder makes of the difference between sharp and blurred image a small map, the
latent, at 1/4 of the resolution. An encoder sees the blurred image at half and at a quarter of its
size and guesses what is missing; the denoiser predicts, step by step, the latent from a noised one
and from that. Of an image that misses nothing the latent is zero, so sampling starts from zero,
noised half-way, and takes a few deterministic steps; training noises latents so that they end
there.

Nothing here looks at a tile as a whole (no statistics over all pixels): what a pixel gets depends
on its surroundings alone, so that neighbouring tiles agree. Images are NHWC inside.
"""

from __future__ import annotations

from functools import cached_property
from math import sqrt
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_swintormer.models.network.swintormer import Swintormer
from napari_swintormer.models.padding import pad_to_multiple
from napari_swintormer.models.prior.prior_settings import CompactPriorSettings
from napari_swintormer.models.prior.sampling import Noise, SamplingPlan, Schedule, sample
from napari_swintormer.models.stepwise import Stepwise, finished

if TYPE_CHECKING:
    from napari_swintormer.models.network.network_settings import SwintormerSettings
    from napari_swintormer.models.prior.prior_settings import PriorSettings

_TIME_FREQUENCIES = 16

# What blurred images miss has a root mean square of 0.04, images in [-1, 1] of about 0.4.
_PRIOR_GAIN = 8

SEEN_AT = (2, 4)
"""How much smaller the blurred image is seen."""


class Prior(Protocol):
    """What a restorer asks of a prior.

    Attributes
    ----------
    alignment
        Where images begin in the plane, and their sides, are multiples of this.
    factor
        Pixels of the image per pixel of the latent.
    """

    alignment: int
    factor: int

    def see(self, images: Tensor) -> Any:
        """Make of `images`, ``(B, C, H, W)`` in unit intensities, what all their samples share."""

    def sampling(self, seen: Any, noise: Noise, steps: int) -> Stepwise[Tensor]:
        """Sample what the network gets beside images, given what `see` makes of them.

        Yields after every call of the denoiser; returns ``(B, prior_channels, H, W)`` float32.
        """

    def count_calls(self, height: int, width: int, steps: int) -> int:
        """Count the calls of the denoiser for images of this size."""


class GatedBlock(nn.Module):
    """Depthwise convolution, told the step, and feed-forward: both gated, each added to its input.

    Parameters
    ----------
    dim
        Channels.
    """

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
        added: Tensor = self.project2(left * right)
        return x + added


class Seen(NamedTuple):
    """What the denoiser is told of a batch of blurred images."""

    features: Tensor  # (B, H/4, W/4, 4 * dim)
    guesses: Tensor  # (B, 2, latent_channels, H/4, W/4) float32: the latent, as far as it is plain


class BlurredEncoder(nn.Module):
    """Sees the blurred image: once for all steps.

    A network like the one that restores works on the image at half and at a quarter of its size.
    There blur is as much narrower, the windows reach as much farther, and both looks together take
    a third of the time.
    """

    def __init__(self, settings: CompactPriorSettings) -> None:
        super().__init__()
        self.body = Swintormer(settings.encoder)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See ``(B, C, H, W)`` in unit intensities; H and W are multiples of 8.

        Returns
        -------
        features, missing
            ``(B, H/4, W/4, 4 * dim)``, and what it adds to the image at both sizes, enlarged,
            ``(2, B, C, H, W)`` float32.
        """
        features, missing = [], []
        for factor in SEEN_AT:
            small = F.avg_pool2d(images, factor)
            height, width = small.shape[2:]
            seen, change = self.body.look(pad_to_multiple(small, self.body.settings.multiple))
            missing.append(_enlarge(change[..., :height, :width], factor))
            own = seen[:, : height // 2, : width // 2].permute(0, 3, 1, 2)
            features.append(_enlarge(own, factor // 2).permute(0, 2, 3, 1))
        return torch.cat(features, dim=-1), torch.stack(missing)


def _enlarge(x: Tensor, factor: int) -> Tensor:
    if factor == 1:
        return x
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


class CompactDenoiser(nn.Module):
    """Predicts the clean latent from a noised one and from what is known of the blurred image."""

    def __init__(self, settings: CompactPriorSettings) -> None:
        super().__init__()
        latent, width = settings.latent_channels, 2 * settings.encoder.dim
        looks = len(SEEN_AT)
        self.embed = nn.Linear((1 + looks) * latent + looks * width, width)
        self.blocks = nn.ModuleList(GatedBlock(width) for _ in range(settings.denoiser_blocks))
        self.out = nn.Linear(width, (1 + looks) * latent)
        # untrained, it takes no notice of the noise, and answers the first guess
        nn.init.zeros_(self.embed.weight[:, :latent])
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        with torch.no_grad():
            self.out.bias[latent : 2 * latent] = 1

    def forward(self, z: Tensor, t: Tensor, seen: Seen) -> Tensor:
        """Predict ``(B, C, h, w)`` float32; `t` is ``(B,)``, the step as a share of the process."""
        known = torch.cat([z[:, None], seen.guesses], dim=1).flatten(1, 2).permute(0, 2, 3, 1)
        x = self.embed(torch.cat([known, seen.features], dim=-1))
        time = time_features(t).to(x.dtype)
        for block in self.blocks:
            x = block(x, time)
        change, gains = (
            self.out(x)
            .float()
            .permute(0, 3, 1, 2)
            .split([z.shape[1], seen.guesses.shape[1] * z.shape[1]], dim=1)
        )
        clean: Tensor = change + (gains.view_as(seen.guesses) * seen.guesses).sum(dim=1)
        return clean


class CompactPrior(nn.Module):
    """A small prior whose parameters lie beside those of the network.

    Parameters
    ----------
    settings
        Sizes and steps.
    """

    scale: Tensor
    factor = 4
    alignment = 2 * max(SEEN_AT)

    def __init__(self, settings: CompactPriorSettings) -> None:
        super().__init__()
        self.settings = settings
        latent, block = settings.latent_channels, settings.channels * self.factor**2
        # linear and without bias: nothing missing is zero, and a mean of latents is one of images
        self.encoder = nn.Conv2d(block, latent, 3, padding=1, bias=False)
        self.decoder = nn.Conv2d(latent, block, 3, padding=1, bias=False)
        self.blurred_encoder = BlurredEncoder(settings)
        self.denoiser = CompactDenoiser(settings)
        # brings the latent to variance 1; measured when the autoencoder is trained
        self.register_buffer("scale", torch.ones(latent))

    @cached_property
    def schedule(self) -> Schedule:
        """Of the diffusion that the prior is trained on."""
        return Schedule.make()

    def encode(self, missing: Tensor) -> Tensor:
        """Make a latent of what an image misses.

        Parameters
        ----------
        missing
            Sharp image minus blurred image, ``(B, C, H, W)``.

        Returns
        -------
        Tensor
            ``(B, latent_channels, h, w)`` float32.
        """
        latent: Tensor = self.encoder(F.pixel_unshuffle(missing, self.factor))
        return latent.float() / self.scale[:, None, None]

    def decode(self, z: Tensor) -> Tensor:
        """Make of a latent what the image misses, ``(B, C, H, W)`` float32."""
        missing: Tensor = self.decoder(z * self.scale[:, None, None])
        return F.pixel_shuffle(missing, self.factor).float()

    def see(self, images: Tensor) -> Seen:
        """See `Prior`."""
        features, missing = self.blurred_encoder(images)
        return Seen(features, torch.stack([self.encode(guess) for guess in missing], dim=1))

    def denoise(self, z: Tensor, t: Tensor, seen: Seen) -> Tensor:
        """Predict the clean latent; latents are ``(B, C, h, w)``, `t` is ``(B,)`` steps."""
        share = (t + 1) / len(self.schedule.kept)
        clean: Tensor = self.denoiser(z, share, seen)
        return clean

    def diffuse(self, clean: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Noise a clean latent so that nothing of it is left in its noisiest form.

        The deterministic samplers follow ``z_t = √ᾱ·z0 + √(1−ᾱ)·ε`` with one ``ε`` for all steps.
        Here it holds, beside the noise, as much of ``−z0`` as makes ``z_start`` the noised latent
        of the blurred image, which is zero. So the denoiser learns from just what sampling will
        show it.
        """
        kept = float(self.schedule.kept[self.settings.start - 1])
        return self.schedule.diffuse(clean, t, noise - sqrt(kept / (1 - kept)) * clean)

    def sampling(self, seen: Seen, noise: Noise, steps: int) -> Stepwise[Tensor]:
        """See `Prior`."""
        plan = SamplingPlan.trailing(
            self.schedule,
            self.settings.start,
            steps,
            prediction="clean",
            solver=self.settings.solver,
        )

        def denoiser(z: Tensor, t: int) -> Stepwise[Tensor]:
            clean = self.denoise(z, torch.full((len(z),), t, device=z.device), seen)
            yield
            return clean

        nothing = torch.zeros_like(seen.guesses[:, 0])
        z = self.schedule.diffuse(nothing, plan.times[0], noise(0, nothing))
        return self.decode((yield from sample(denoiser, z, plan, noise)))

    def sample(self, images: Tensor, noise: Noise, steps: int) -> Tensor:
        """Sample all at once, see `Prior.sampling`."""
        return finished(self.sampling(self.see(images), noise, steps))

    def count_calls(self, height: int, width: int, steps: int) -> int:
        """See `Prior`."""
        return steps


class PriorSwintormer(Swintormer):
    """A Swintormer with its compact prior beside it: one set of parameters for both.

    The prior says what the image misses. The network sees it beside the image, and restores from
    the image: however wrong the prior, nothing of the image is lost.
    """

    def __init__(self, network: SwintormerSettings, prior: CompactPriorSettings) -> None:
        super().__init__(network)
        self.prior: CompactPrior = CompactPrior(prior)

    def forward(self, x: Tensor) -> Tensor:
        """See `Swintormer`; the prior, a small difference, is brought to the range of images."""
        self._check(x)
        images, prior = x.tensor_split([x.shape[1] - self.settings.prior_channels], dim=1)
        # the network takes [0, 1] for [-1, 1]: half of it is zero, for nothing missing
        return super().forward(torch.cat([images, 0.5 + _PRIOR_GAIN / 2 * prior], dim=1))


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
