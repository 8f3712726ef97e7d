"""Convolution of stacks with a point-spread function, few planes or rows at a time.

The object has the planes of the image, then some above it, then some below it. A stack is
transformed plane by plane, then filtered along Z for some rows of frequencies at a time, then
transformed back plane by plane. Such small parts stay in the cache of the processor. Frequencies
that the PSF does not pass are left out.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from scipy.fft import next_fast_len, rfftn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    Volume = NDArray[np.float32]
    Parts = Iterable[tuple[slice, Tensor]]

_CACHED = 2**17  # values that a core of a processor transforms at once: they stay in its cache
_AT_ONCE = 2**25  # values that a GPU transforms at once
_LEAST_TRANSFER = 3e-4  # frequencies that keep less of their contrast are left out


class _Filter(NamedTuple):
    """What some rows of frequencies are multiplied by.

    Attributes
    ----------
    rows
        Along Y.
    columns
        Frequencies along X that the PSF passes: the first ones.
    transfer
        ``(rows, columns, period)`` complex. If it is real: ``(rows, columns, period, 2)`` with
        every number twice, because such a product is several times faster.
    """

    rows: slice
    columns: int
    transfer: Tensor

    def apply(self, spectrum: Tensor, *, adjoint: bool) -> None:
        """Filter a spectrum ``(rows, columns, period)`` in place."""
        if self.transfer.ndim == 4:
            torch.view_as_real(spectrum).mul_(self.transfer)
        else:
            spectrum.mul_(self.transfer.conj() if adjoint else self.transfer)


class StackConvolution:
    """Blurs objects ``(depth, h, w)`` into images, and projects images back.

    Parameters
    ----------
    psf
        ``(Z, Y, X)``, odd; its middle voxel is the origin.
    planes, depth
        Planes of the image and of the object.
    region
        ``(h, w)`` of the object.
    image
        The part of the region along Y and X that the image covers.
    device
        Where the work is done.
    """

    def __init__(
        self,
        psf: Volume,
        planes: int,
        depth: int,
        region: tuple[int, int],
        image: tuple[slice, slice],
        device: torch.device,
    ) -> None:
        self.planes, self.depth, self.region, self.image = planes, depth, region, image
        self.device = device
        self._below = (depth - planes) // 2
        # Light that leaves at one end comes back at the other: there must be room for it. Where
        # the image ends before the object, less room is enough.
        self._period = fast_length(max(planes + psf.shape[0] // 2, depth))
        height, width = (
            fast_length(max(n + side // 2 - part.start, n, side))
            for n, part, side in zip(region, image, psf.shape[1:], strict=True)
        )
        self._size = height, width
        self._filters = self._make_filters(_transfer_of(psf, (self._period, *self._size)))
        columns = max(each.columns for each in self._filters)
        self._spectrum = torch.empty(
            (depth, self._size[0], columns), dtype=torch.complex64, device=device
        )
        at_once = _batches((depth, *self._size), device)[0]
        self._padded = [torch.zeros((at_once.stop, *self._size), device=device) for _ in range(2)]

    def _make_filters(self, transfer: NDArray[np.complex64]) -> list[_Filter]:
        """Divide the frequencies into rows that are filtered at once."""
        period, rows, columns = transfer.shape
        light = abs(transfer[0, 0, 0])
        passed = np.zeros((rows, columns), bool)
        for plane in transfer:  # plane by plane: memory stays small
            passed |= np.abs(plane) > _LEAST_TRANSFER * light
        is_real = all(np.abs(plane.imag).max() < 1e-6 * light for plane in transfer)
        last = (passed * np.arange(1, columns + 1)).max(1)
        filters = []
        for place in _batches((rows, period, 2 * columns), self.device):
            count = max(1, int(last[place].max()))
            part = transfer[:, place, :count].transpose(1, 2, 0)
            if is_real:
                part = np.repeat(part.real[..., None], 2, axis=-1)
            filter_ = torch.from_numpy(np.ascontiguousarray(part)).to(self.device)
            filters.append(_Filter(place, count, filter_))
        return filters

    def blurred(self, parts: Parts) -> Iterator[tuple[slice, Tensor]]:
        """Blur an object; yield some planes of the image at a time.

        `parts` are the planes of the object in the steps of `batches`.
        """
        everything = slice(0, self.region[0]), slice(0, self.region[1])
        self._transform(parts, self._padded[0], everything)
        self._filter(self.depth, self.planes, adjoint=False)
        yield from self._back(self.planes, self.image)

    def correlated(self, parts: Parts) -> Iterator[tuple[slice, Tensor]]:
        """Project an image back; yield some planes of the object at a time.

        `parts` are planes of the image, which may be made of what `blurred` yields meanwhile.
        """
        everything = slice(0, self.region[0]), slice(0, self.region[1])
        self._transform(parts, self._padded[1], self.image)
        self._filter(self.planes, self.depth, adjoint=True)
        yield from self._back(self.depth, everything)

    def batches(self, count: int) -> list[slice]:
        """Divide `count` planes into those that are transformed at once."""
        return _batches((count, *self._size), self.device)

    def _transform(self, parts: Parts, padded: Tensor, part: tuple[slice, slice]) -> None:
        """Transform every plane."""
        columns = self._spectrum.shape[2]
        for place, values in parts:
            count = place.stop - place.start
            padded[:count, part[0], part[1]] = values
            self._spectrum[place] = torch.fft.rfft2(padded[:count])[..., :columns]

    def _filter(self, known: int, wanted: int, *, adjoint: bool) -> None:
        """Filter the spectrum, whose first `known` planes are filled; make the `wanted` first."""
        above, period = self.depth - self._below, self._period
        for each in self._filters:
            rows, count = each.rows, each.columns
            given = self._spectrum[:known, rows, :count]
            if known > above:  # the planes below the image are the last ones of a period
                between = given.new_zeros((period - known, *given.shape[1:]))
                given = torch.cat((given[:above], between, given[above:]))
            filtered = torch.fft.fft(given, period, dim=0).permute(1, 2, 0)
            each.apply(filtered, adjoint=adjoint)
            filtered = torch.fft.ifft(filtered).permute(2, 0, 1)
            self._spectrum[: min(wanted, above), rows, :count] = filtered[: min(wanted, above)]
            if wanted > above:
                self._spectrum[above:wanted, rows, :count] = filtered[period - self._below :]
            self._spectrum[:wanted, rows, count:] = 0

    def _back(self, wanted: int, part: tuple[slice, slice]) -> Iterator[tuple[slice, Tensor]]:
        """Transform the first planes of the spectrum back; yield some planes at a time."""
        for place in self.batches(wanted):
            rows = torch.fft.ifft(self._spectrum[place], dim=1)[:, part[0]]
            yield place, torch.fft.irfft(rows, self._size[1])[:, :, part[1]]


def _transfer_of(psf: Volume, sides: tuple[int, int, int]) -> NDArray[np.complex64]:
    """Fourier transform of a PSF, whose middle voxel is the origin."""
    kernel = np.zeros(sides, np.float32)
    places = ((np.arange(n) - n // 2) % side for n, side in zip(psf.shape, sides, strict=True))
    np.add.at(kernel, np.ix_(*places), psf)  # the ends may overlap along Z
    transfer: NDArray[np.complex64] = rfftn(kernel, overwrite_x=True)
    return transfer


def fast_length(least: int) -> int:
    """Give a length of at least `least` that Fourier transforms are fast for.

    It is a multiple of 8 without prime factors above 7.
    """
    eighth = -(-least // 8)
    while int(next_fast_len(eighth)) != eighth or eighth % 11 == 0:  # scipy allows 11, too
        eighth += 1
    return 8 * eighth


def _batches(shape: Sequence[int], device: torch.device) -> list[slice]:
    """Divide the first axis of an array so that parts fit into the cache of a processor."""
    at_once = _CACHED * torch.get_num_threads() if device.type == "cpu" else _AT_ONCE
    count = max(1, at_once // max(1, prod(shape[1:])))
    return [slice(start, min(start + count, shape[0])) for start in range(0, shape[0], count)]
