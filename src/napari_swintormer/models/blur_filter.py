"""Restores planes whose blur is known: by a Wiener filter, and a network behind it if there is one.

A photo was blurred as light, and its noise is even in the intensities of the file. So there are two
filters, one for each. In the dark the filter of the light amplifies the noise, and the other one
counts; the brighter a place is, the more the light counts.

Near the border of the plane, and beside clipped pixels, the blurred image is not what the blur
makes of the sharp one. The change fades to nothing at the border, and keeps to the values around
it beside clipped pixels.
"""

from __future__ import annotations

import copy
import hashlib
from functools import cached_property, partial
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.fft import next_fast_len
from torch import Tensor
from torch.nn import functional as F

from napari_swintormer.models.prior.noise import TileOrigin
from napari_swintormer.models.restorer import Filtered, deepened
from napari_swintormer.models.stepwise import Stepwise, counted, run_to_end
from napari_swintormer.models.tile_restorer import TileRestorer
from napari_swintormer.optics.inverse_filter import REACH

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from napari_swintormer.models.restorer import PriorUse, Restorer
    from napari_swintormer.optics.plane_blur import PlaneBlur

# Brightness at which light and intensities count alike, and how fast one takes over.
_EVEN, _TAKEOVER = 0.2, 2.4
_KEPT = 12  # sets of kernels and spectra that stay: two planes with a field
_MAKING = Lock()  # held while filters are made: other threads need the same ones


class KnownBlurRestorer(TileRestorer):
    """Filters tiles with the known blur of their plane.

    Parameters
    ----------
    known
        The known blur of each plane, by its number in the whole image.
    shape
        Height and width of the planes, in pixels.
    channels
        Channels of a tile, 1 or 3.
    behind
        The restorer of a network for a known blur, which continues from the filter with the
        constants of `PlaneBlur.maps` as planes. None gives the filtered tiles.
    otherwise
        Restores planes without a known blur, or, with a restorer `behind`, only those whose blur is
        unclear. None leaves them as they are, unless the network finds an unclear blur by itself.
        Of a plane with a field it restores each place as far as that is blurred, instead of the
        filters. A second network behind the filter does that too.
    """

    def __init__(
        self,
        known: Mapping[int, PlaneBlur],
        shape: tuple[int, int],
        channels: int,
        behind: Restorer | None = None,
        otherwise: TileRestorer | None = None,
    ) -> None:
        super().__init__()
        self.known, self.shape, self.channels = dict(known), shape, channels
        self.margin = REACH
        self.behind, self.otherwise = behind, otherwise
        self.multiple = 1 if behind is None else behind.multiple
        self.depth = 1
        self.thread_safe = otherwise is None or otherwise.thread_safe
        self._ready: dict[object, Tensor] = {}

    @property
    def finds(self) -> bool:
        """Whether the network finds a blur that is unclear by itself."""
        return self.behind is not None and self.behind.card.finds_blur

    def restores_by_place(self, known: PlaneBlur) -> bool:
        """Tell whether something else than the filters restores a plane with a field."""
        second = self.behind is not None and self.behind.card.network.unclear
        return known.found.field is not None and (self.otherwise is not None or second)

    @property
    def name(self) -> str:
        """Name for people and for the metadata of results."""
        return "known blur"

    def __getstate__(self) -> dict[str, object]:
        """Leave what is ready out of pickles and copies."""
        return self.__dict__ | {"_ready": {}}

    def _apply(self, fn: Any, recurse: bool = True) -> KnownBlurRestorer:
        """Move the restorer, and drop what is ready, which would stay on the old device."""
        self._ready.clear()
        return super()._apply(fn, recurse)  # type: ignore[no-any-return, no-untyped-call]

    def trials(self) -> dict[str, int]:
        """Name the filter with the weights behind it, and what restores planes without one.

        The first plane of each kind stands for all, whatever its blur.
        """
        tried: dict[str, int] = {}
        for plane, known in reversed(self.known.items()):
            by_place = self.restores_by_place(known)
            if by_place and self.otherwise is not None:
                tried |= dict.fromkeys(self.otherwise.trials(), plane)
            elif by_place or (known.found.unclear and self.finds):
                tried["unclear blur"] = plane
            elif known.changes:
                tried["known blur"] = plane
            elif self.otherwise is not None and (self.behind is None or known.found.unclear):
                tried |= dict.fromkeys(self.otherwise.trials(), plane)
        if "known blur" in tried:  # a digest is made once, not for every plane
            tried[f"known blur {_digest(self.behind)}"] = tried.pop("known blur")
        return tried

    def plane_key(self, plane: int) -> str:
        """Name the known blur of a plane, the shape of planes, and their channels."""
        return f"{self.known[plane].digest}, {self.shape}, {self.channels}"

    def with_prior(self, use: PriorUse) -> KnownBlurRestorer:
        """Let the restorers behind the filter sample their prior as in `use`."""
        other = copy.copy(self)
        other._modules = dict(self._modules)
        for name in ("behind", "otherwise"):
            if (inner := getattr(self, name)) is not None:
                other._modules[name] = inner.with_prior(use)
        other.depth = use.depth
        other.__dict__.pop("_samples", None)
        return other

    @cached_property
    def _samples(self) -> bool:
        """Whether the restorer behind the filter samples its prior on any plane."""
        behind = self.behind
        return behind is not None and any(
            behind.samples_prior(
                known.radius, unclear=known.found.unclear or self.restores_by_place(known)
            )
            for known in self.known.values()
        )

    def count_steps(self, height: int, width: int) -> int:
        """Count the steps that `in_steps` makes for tiles of this size, margin included."""
        sides = height - 2 * self.margin, width - 2 * self.margin
        steps = 1 if self.otherwise is None else self.otherwise.count_steps(*sides)
        if self.behind is not None and self._samples:
            steps = max(steps, self.behind.count_told(*sides))
        return steps

    def forward(self, tiles: Tensor, origins: Sequence[TileOrigin] | None = None) -> Tensor:
        """Restore a batch of tiles."""
        return run_to_end(self.in_steps(tiles, origins))

    def in_steps(
        self, tiles: Tensor, origins: Sequence[TileOrigin] | None = None
    ) -> Stepwise[Tensor]:
        """Restore a batch; all its tiles are of one plane."""
        origins = origins or [TileOrigin(min(self.known), 0, 0)] * len(tiles)
        known, inner = self.known[origins[0].plane], _inside(tiles)
        steps = self.count_steps(*tiles.shape[2:])
        restored, made = inner, 0
        if self.restores_by_place(known):
            restored, made = yield from counted(self._restore_by_place(tiles, known, origins))
        elif known.changes or (known.found.unclear and self.finds):
            restored, made = yield from counted(self._restore(tiles, known, origins))
        elif self.otherwise is not None and (self.behind is None or known.found.unclear):
            restored, made = yield from counted(self.otherwise.in_steps(inner, origins))
        if known.found.unclear and known.found.share < 1:
            restored = _kept(restored, inner, known.found.share)
        for _ in range(made, steps):  # steps are counted alike for all planes
            yield
        alone = restored.shape[1] == inner.shape[1]
        return deepened(restored, self.depth) if alone else restored

    def _restore(
        self, tiles: Tensor, known: PlaneBlur, origins: Sequence[TileOrigin]
    ) -> Stepwise[Tensor]:
        """Filter tiles, and let the network continue."""
        inner = _inside(tiles)
        # long filters need float32, and cost little
        with torch.autocast(tiles.device.type, enabled=False):
            if self.behind is None:
                return inner + self._change(tiles.float(), known, origins)
            filtered, maps = self.described(tiles, known, origins)
        continued = Filtered(filtered, maps, known.found.unclear, known.radius)
        return (yield from self.behind.in_steps(inner, origins, continued))

    def described(
        self, tiles: Tensor, known: PlaneBlur, origins: Sequence[TileOrigin]
    ) -> tuple[Tensor, Tensor]:
        """Give what a network for a known blur sees of tiles: filtered without margin, and maps."""
        filtered = inner = _inside(tiles)
        if known.changes:
            unit = tiles.clamp(0, 1)
            filtered = self._by_place(known, origins, _inside(unit), partial(self.filtered, unit))
        return filtered, _stacked(
            [known.maps_at(o.y, o.x, *inner.shape[2:]) for o in origins], inner
        )

    def _restore_by_place(
        self, tiles: Tensor, known: PlaneBlur, origins: Sequence[TileOrigin]
    ) -> Stepwise[Tensor]:
        """Let something else restore tiles, and keep its change as far as a place is blurred."""
        inner = _inside(tiles)
        if self.otherwise is not None:
            restored = yield from self.otherwise.in_steps(inner, origins)
        else:
            restored = yield from self._restore(tiles, known.as_unclear, origins)
        field = known.found.field
        assert field is not None
        shares = [field.shares_at(o.y, o.x, *inner.shape[2:])[:1] for o in origins]
        return _kept(restored, inner, 1 - _stacked(shares, inner))

    def _change(self, tiles: Tensor, known: PlaneBlur, origins: Sequence[TileOrigin]) -> Tensor:
        """Give what the filters add to the tiles without their margin."""
        inner = _inside(tiles)

        def change(even: PlaneBlur) -> Tensor:
            return (self.filtered(tiles, even) - inner) * self._trust(even, origins, inner)

        return self._by_place(known, origins, torch.zeros_like(inner), change)

    def _by_place(
        self,
        known: PlaneBlur,
        origins: Sequence[TileOrigin],
        unblurred: Tensor,
        make: Callable[[PlaneBlur], Tensor],
    ) -> Tensor:
        """Make something with each blur of a field, and average it by how probable they are.

        `unblurred` is what places without blur get. Weights are functions of the pixel's place in
        the plane, so neighbouring tiles agree.
        """
        field = known.found.field
        if field is None:
            return make(known)
        size = unblurred.shape[2:]
        shares = _stacked([field.shares_at(o.y, o.x, *size) for o in origins], unblurred)
        averaged = shares[:, :1] * unblurred
        for k, part in enumerate(known.parts, start=1):
            share = shares[:, k : k + 1]
            if bool(share.any()):
                averaged = averaged + share * make(part)
        return averaged

    def filtered(self, tiles: Tensor, known: PlaneBlur) -> Tensor:
        """Filter tiles ``(B, C, H, W)`` with one blur, and cut their margin off."""
        gamma, kernels = known.power.gamma, self._ready_kernels(known, tiles)
        filtered = _convolve(tiles, kernels[0])
        if gamma != 1:
            light = _convolve(_power(tiles, gamma), kernels[1])
            bright = filtered.clamp(0, 1) ** _TAKEOVER
            share = bright / (bright + _EVEN**_TAKEOVER)
            filtered = filtered + share * (_power(light.clamp_min(0), 1 / gamma) - filtered)
        if known.clipped is not None:
            filtered = self._without_rings(filtered, tiles, known)
        return filtered

    def _without_rings(self, filtered: Tensor, tiles: Tensor, known: PlaneBlur) -> Tensor:
        """Keep what lies near clipped pixels between the extremes of the image around it.

        The blurred light that was clipped is missing, and the filter would make dark rings of that.
        """
        assert known.clipped is not None
        clipped = (tiles >= known.clipped).any(dim=1, keepdim=True)
        if not bool(clipped.any()):
            return filtered
        reach = known.blur.reach
        near = _inside(_largest_around(clipped.to(tiles.dtype), REACH))
        low, high = -_inside(_largest_around(-tiles, reach)), _inside(_largest_around(tiles, reach))
        return torch.where(near > 0, filtered.clamp(low, high), filtered)

    def _trust(self, known: PlaneBlur, origins: Sequence[TileOrigin], inner: Tensor) -> Tensor:
        """Weight of the change, ``(B, 1, H, W)``: small at the border of the plane."""
        (height, width), reach = inner.shape[2:], known.blur.reach // 2
        borders = [
            _from_ends(o.y, height, self.shape[0], reach, inner.device)[:, None]
            * _from_ends(o.x, width, self.shape[1], reach, inner.device)
            for o in origins
        ]
        return torch.stack(borders)[:, None]

    def _ready_kernels(self, known: PlaneBlur, tiles: Tensor) -> Tensor:
        """Transform the filters of a plane for the size and device of tiles; the last are kept.

        ``(1 or 2, H, W // 2 + 1)`` complex.
        """
        size, device = _fast(tiles), tiles.device
        key = (known.digest, *size, device)
        with _MAKING:
            ready = self._ready.get(key)
            if ready is None:
                ready = _transform(known.kernels(), size, device)
                while len(self._ready) >= _KEPT:
                    self._ready.pop(next(iter(self._ready)))
                self._ready[key] = ready
        return ready


def _kept(restored: Tensor, tiles: Tensor, share: Tensor | float) -> Tensor:
    """Keep a share of the change that restored tiles show.

    What follows the channels of the tiles are contrasts of samples, which are changes already.
    """
    channels = tiles.shape[1]
    change = torch.cat([restored[:, :channels] - tiles, restored[:, channels:]], dim=1) * share
    return torch.cat([tiles + change[:, :channels], change[:, channels:]], dim=1)


def _stacked(arrays: Sequence[NDArray[np.float32]], like: Tensor) -> Tensor:
    """Stack arrays on the device of a tensor."""
    return torch.from_numpy(np.stack(arrays)).to(like)


def _digest(behind: Restorer | None) -> str:
    """Tell the parameters of a restorer from others; empty without one."""
    if behind is None:
        return ""
    digest = hashlib.sha256()
    for name, values in behind.network.state_dict().items():
        digest.update(f"{name} {tuple(values.shape)}".encode() + values.cpu().numpy().tobytes())
    return digest.hexdigest()


def _convolve(tiles: Tensor, transform: Tensor) -> Tensor:
    """Convolve ``(B, C, H, W)`` and cut off the margin, where the convolution wraps around."""
    size = _fast(tiles)
    filtered = torch.fft.irfft2(torch.fft.rfft2(tiles, s=size) * transform, s=size)
    return _inside(filtered[..., : tiles.shape[2], : tiles.shape[3]])


def _largest_around(tiles: Tensor, reach: int) -> Tensor:
    """Give the largest value up to `reach` pixels away, along each axis."""
    padded = F.pad(tiles, (reach, reach, reach, reach), value=-torch.inf)
    return _largest_ahead(_largest_ahead(padded, 2 * reach + 1, 2), 2 * reach + 1, 3)


def _largest_ahead(tiles: Tensor, side: int, axis: int) -> Tensor:
    """Give the largest of `side` pixels from each on; the reach doubles with every comparison."""
    covered = 1
    while covered < side:
        step = min(covered, side - covered)
        length = tiles.shape[axis] - step
        tiles = torch.maximum(tiles.narrow(axis, 0, length), tiles.narrow(axis, step, length))
        covered += step
    return tiles


def _transform(kernels: NDArray[np.float32], size: list[int], device: torch.device) -> Tensor:
    """Transform kernels ``(K, 2r + 1, 2r + 1)`` whose middle is the origin."""
    side = kernels.shape[-1]
    given = torch.from_numpy(kernels.copy()).to(device)
    padded = F.pad(given, (0, size[1] - side, 0, size[0] - side))
    transform: Tensor = torch.fft.rfft2(padded.roll((-(side // 2), -(side // 2)), (1, 2)))
    return transform


def _fast(tiles: Tensor) -> list[int]:
    """Sizes that a Fourier transform is fast on."""
    return [next_fast_len(n, real=True) for n in tiles.shape[2:]]


def _inside(tiles: Tensor) -> Tensor:
    """Cut the margin off."""
    return tiles[..., REACH:-REACH, REACH:-REACH]


def _power(image: Tensor, exponent: float) -> Tensor:
    """Raise to a power; negative values keep their sign."""
    powered: Tensor = image.sign() * image.abs() ** exponent
    return powered


def _from_ends(start: int, length: int, whole: int, reach: int, device: torch.device) -> Tensor:
    """Weight that rises from 0 at the ends of an axis to 1 at a distance of `reach` pixels."""
    place = torch.arange(start, start + length, device=device, dtype=torch.float32) + 0.5
    nearest = torch.minimum(place, whole - place)
    return (nearest / max(reach, 1)).clamp(0, 1)
