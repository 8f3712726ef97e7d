"""The restorer: a network with its prior, tiles in, tiles out."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_swintormer.models.padding import pad_to_multiple
from napari_swintormer.models.prior.compact import PriorSwintormer, build_network
from napari_swintormer.models.prior.noise import TileNoise, TileOrigin
from napari_swintormer.models.prior.prior_settings import CompactPriorSettings, LdmPriorSettings
from napari_swintormer.models.stepwise import Stepwise, run_to_end
from napari_swintormer.models.tile_restorer import TileRestorer
from napari_swintormer.optics.inverse_filter import ImagePower, unknown_maps

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_swintormer.models.files.card import ModelCard
    from napari_swintormer.models.prior.sampling import Prior


@dataclass(frozen=True)
class PriorUse:
    """How a restorer samples its prior; without effect for a model without prior.

    Attributes
    ----------
    seed
        Seed of the noise; not negative.
    num_inference_steps
        Steps of the sampling, or None for the model's default.
    source
        ``"off"`` for a prior of zero, or the source of the paper's prior as in
        `napari_swintormer.models.prior.ldm.load_prior`; None for the model's default.
    samples
        Number of priors drawn for a tile; the restored tiles are averaged.
    uncertainty
        Whether the restorer also returns how the samples differ; needs two or more.
    """

    seed: int = 0
    num_inference_steps: int | None = None
    source: str | None = None
    samples: int = 1
    uncertainty: bool = False

    @property
    def depth(self) -> int:
        """Number of images that the restorer returns for one."""
        return self.samples if self.uncertainty else 1


class Filtered(NamedTuple):
    """What a network for a known blur continues from.

    Attributes
    ----------
    tiles
        The tiles after the filter, ``(B, C, H, W)``.
    maps
        ``(B, BLUR_MAPS, H, W)``.
    unclear
        Whether the blur is not known. The network then filters the tiles by itself.
    radius
        Size of the blur, which decides whether the prior is sampled.
    """

    tiles: Tensor
    maps: Tensor
    unclear: bool
    radius: float


class Restorer(TileRestorer):
    """A trained network that restores a batch of tiles of any size.

    Parameters
    ----------
    card
        Description of the model and its network.
    state_dict
        Parameters of that network.
    sha256
        SHA-256 of the weights file; empty for weights that come from no file.

    Attributes
    ----------
    prior
        The prior; None if the model has none, or it is not loaded yet.
    use
        How the prior is sampled.

    Examples
    --------
    >>> from napari_swintormer import load_model  # doctest: +SKIP
    >>> load_model()(torch.rand(1, 3, 100, 50)).shape  # doctest: +SKIP
    torch.Size([1, 3, 100, 50])
    """

    card: ModelCard
    thread_safe = True

    def __init__(self, card: ModelCard, state_dict: Mapping[str, Tensor], sha256: str = "") -> None:
        super().__init__()
        card.check_described()
        self.card = card
        self.sha256 = sha256
        self.channels = card.network.channels
        self.views = card.network.views
        self.multiple = card.network.multiple
        self.network = build_network(card.network, card.prior)
        self.network.load_state_dict(dict(state_dict))
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.use = PriorUse()
        self.prior: Prior | None = None
        if isinstance(self.network, PriorSwintormer):
            self.prior = self.network.prior
        self.eval().requires_grad_(False)

    @property
    def needs_origins(self) -> bool:
        """Whether the result depends on the origins of tiles, which choose the prior's noise."""
        return self.card.prior is not None and self.use.source != "off"

    @property
    def prior_sha256(self) -> str:
        """SHA-256 of the paper's prior, whose parameters have a file of their own."""
        return self.prior.sha256 if self.prior is not None else ""

    @property
    def memory_key(self) -> str:
        """Name that differs where the memory for a tile differs; empty if unknown."""
        if not self.sha256 or not self.needs_origins:
            return self.sha256
        return f"{self.sha256} prior {self.use.depth}"

    def count_steps(self, height: int, width: int) -> int:
        """Count the calls of denoiser and network for tiles of this size."""
        alone = self.card.network.known_blur and not self.samples_prior(0, unclear=True)
        return 1 if alone else self.count_told(height, width)

    def count_told(self, height: int, width: int) -> int:
        """Count the calls where the prior is sampled, as for a wide blur that is told."""
        if not self.needs_origins:
            return 1
        assert self.prior is not None
        padded = [n + -n % self.multiple for n in (height, width)]
        calls = self.prior.count_calls(padded[0], padded[1], self._steps)
        return self.use.samples * (calls + 1)

    def with_prior(self, use: PriorUse) -> Restorer:
        """Return a restorer that shares the parameters and samples the prior as in `use`.

        Loads the paper's prior, unless it is off; raises `FileError` or `WeightsError`.
        """
        other = copy.copy(self)
        other.use = use
        settings = self.card.prior
        reload = self.prior is None or use.source not in (None, self.use.source)
        if isinstance(settings, LdmPriorSettings) and use.source != "off" and reload:
            from napari_swintormer.models.prior.ldm import load_prior

            other._modules = dict(
                self._modules
            )  # the copy must not change the modules of the original
            other.prior = load_prior(use.source or settings.source, settings)
        return other

    def forward(self, tiles: Tensor, origins: Sequence[TileOrigin] | None = None) -> Tensor:
        """Restore a batch of tiles.

        Parameters
        ----------
        tiles
            ``(B, C, H, W)`` float32 in unit intensities, on the device of the network; ``H`` and
            ``W`` are at least 1 and ``C`` is `channels` or 1, times `views`. The network gets the
            tiles clipped to [0, 1]; the clipped part is added to its result.
        origins
            Origin of each tile; None if all begin at (0, 0) of plane 0.

        Returns
        -------
        Tensor
            The restored first view of each tile, float32, the mean of the samples; with uncertainty
            ``(B, N * C, H, W)``, the mean and the contrasts of N samples. Not finite if half
            precision overflowed.
        """
        return run_to_end(self.in_steps(tiles, origins))

    def in_steps(
        self,
        tiles: Tensor,
        origins: Sequence[TileOrigin] | None = None,
        filtered: Filtered | None = None,
    ) -> Stepwise[Tensor]:
        """Restore a batch as `forward` does, and yield after each call of denoiser and network.

        A network for a known blur continues from `filtered`, or finds the blur by itself. A second
        network does so if the model has one. Steps are fewer without prior.
        """
        channels, known = self.channels * self.views, (self.views, self.channels * self.views)
        if tiles.ndim != 4 or tiles.shape[1] not in known or 0 in tiles.shape:
            raise ValueError(
                f"tiles must have the shape (B, C, H, W) with C = {channels} or {self.views} "
                f"and no empty side (got {tuple(tiles.shape)})"
            )
        unit = tiles.clamp(0, 1)
        grey = tiles.shape[1] < channels
        if filtered is None and self.card.network.known_blur:
            filtered = _unfiltered(unit)
        seen = [unit] if filtered is None else [unit, filtered.tiles]
        views = [t.repeat_interleave(self.channels, dim=1) if grey else t for t in seen]
        described = [] if filtered is None else [filtered.maps]
        padded = pad_to_multiple(torch.cat([*views, *described], dim=1), self.multiple)
        network, sizes = self.network, self.card.network
        unclear = filtered is not None and filtered.unclear
        if unclear:
            network, sizes = network.for_unclear, sizes.for_unclear if sizes.unclear else sizes
            padded = network.filtered(padded)
        prior = padded.new_zeros((len(padded), sizes.prior_channels, *padded.shape[2:]))
        origins = origins or [TileOrigin(0, 0, 0)] * len(tiles)
        sampled = self.samples_prior(None if filtered is None else filtered.radius, unclear=unclear)
        begin = self.network.begins_with(padded) if filtered is not None else padded
        features = self._prior_features(begin, origins) if sampled else None
        samples = _Samples(self.use.depth)
        for number in range(self.use.samples if sampled else 1):
            if sampled:
                numbered = [origin._replace(sample=number) for origin in origins]
                prior = yield from self._sample(features, numbered)
            inputs = torch.cat([padded, prior], dim=1)
            restored: Tensor = network(inputs.contiguous(memory_format=torch.channels_last))
            restored = restored[..., : tiles.shape[2], : tiles.shape[3]].to(torch.float32)
            if grey:
                restored = restored.mean(dim=1, keepdim=True)
            samples.add(restored.clamp(0, 1) if self.card.clip_output else restored)
            yield
        first = slice(0, restored.shape[1])
        return samples.join(tiles[:, first] - unit[:, first])

    def samples_prior(self, radius: float | None, *, unclear: bool = False) -> bool:
        """Tell whether the prior is sampled, for a known blur of this size in pixels.

        It is for every known blur if several samples are asked for, and for wide blur else. A
        second network for unclear blur has no prior.
        """
        if unclear and self.card.network.unclear:
            return False
        if not self.needs_origins or radius is None or self.use.samples > 1:
            return self.needs_origins
        prior = self.card.prior
        return not isinstance(prior, CompactPriorSettings) or radius >= prior.from_radius

    @property
    def _steps(self) -> int:
        """Steps of the prior's sampling."""
        assert self.card.prior is not None
        return self.use.num_inference_steps or self.card.prior.num_inference_steps

    def _prior_features(self, images: Tensor, origins: Sequence[TileOrigin]) -> Any:
        """Compute the features that all samples of padded tiles share.

        The prior's latent lies on one grid over the whole plane. A tile off the grid loses the
        pixels before the next grid line, and is mirrored at its end by as many: so its sides still
        divide by the grid. Each tile moves by its own origin, whatever the others in the batch.
        """
        assert self.prior is not None
        moved = [
            F.pad(image[None, :, y:, x:], (0, x, 0, y), mode="reflect")
            for image, (y, x) in zip(images, self._to_grid(origins), strict=True)
        ]
        return self.prior.forward_features(torch.cat(moved))

    def _sample(self, features: Any, origins: Sequence[TileOrigin]) -> Stepwise[Tensor]:
        """Sample the prior of padded tiles, ``(B, prior_channels, H, W)``.

        The pixels that a tile lost get the prior beside them, mirrored.
        """
        assert self.prior is not None
        lost = self._to_grid(origins)
        moved = [
            origin._replace(y=origin.y + y, x=origin.x + x)
            for origin, (y, x) in zip(origins, lost, strict=True)
        ]
        noise = TileNoise(self.use.seed, moved, self.prior.factor)
        prior = yield from self.prior.sampling(features, noise, self._steps)
        height, width = prior.shape[2:]
        back = [
            F.pad(own[None], (x, 0, y, 0), mode="reflect")[..., :height, :width]
            for own, (y, x) in zip(prior, lost, strict=True)
        ]
        return torch.cat(back)

    def _to_grid(self, origins: Sequence[TileOrigin]) -> list[tuple[int, int]]:
        """Count the rows and columns from each origin to the next line of the prior's grid."""
        assert self.prior is not None
        grid = self.prior.alignment
        return [(-origin.y % grid, -origin.x % grid) for origin in origins]


def _unfiltered(tiles: Tensor) -> Filtered:
    """Leave the filter to the network, for tiles whose blur and noise nobody tells.

    They count as micrographs, because the filters of photos harm micrographs more than these harm
    photos.
    """
    constants = torch.from_numpy(unknown_maps(ImagePower(0, 0), photo=False)).to(tiles)
    maps = constants[:, None, None].expand(len(tiles), -1, *tiles.shape[2:])
    return Filtered(tiles, maps, unclear=True, radius=0.0)


class _Samples:
    """The mean of several samples, and with uncertainty their contrasts.

    The contrasts of N samples are ``d_k = (s_1 + … + s_k - k * s_{k+1}) / √(k * (k + 1))``, with k
    from 1 to N - 1. The sum of their squares is that of the samples' distances from the mean.
    Contrasts are weighted sums of samples, so those of blended tiles are those of blended samples.
    """

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._count, self._total = 0, torch.zeros(())
        self._contrasts: list[Tensor] = []

    def add(self, restored: Tensor) -> None:
        """Add a sample, ``(B, C, H, W)``."""
        k = self._count
        if k and self._depth > 1:
            self._contrasts.append((self._total - k * restored) / sqrt(k * (k + 1)))
        self._total = self._total + restored if k else restored
        self._count += 1

    def join(self, clipped: Tensor) -> Tensor:
        """Return the mean plus `clipped`, then the contrasts, ``(B, N * C, H, W)``."""
        return deepened(self._total / self._count + clipped, self._depth, self._contrasts)


def deepened(mean: Tensor, depth: int, contrasts: Sequence[Tensor] = ()) -> Tensor:
    """Put the contrasts of samples behind their mean; they are 0 where nothing was sampled."""
    zeros = [torch.zeros_like(mean)] * (depth - 1 - len(contrasts))
    return torch.cat([mean, *contrasts, *zeros], dim=1) if depth > 1 else mean


class IdentityRestorer(TileRestorer):
    """Returns every tile unchanged, to measure the cost of everything but the network."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, tiles: Tensor) -> Tensor:
        """Return `tiles`."""
        return tiles
