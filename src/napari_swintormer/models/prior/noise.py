"""Noise that depends on seed, plane, sample, step and position, never on the order of work.

A counter-based generator (Philox 4 × 32, 10 rounds; Salmon et al., SC 2011) computes each value
from its position. So tiles share their noise where they overlap, for any order of tiles, batch size
and number of workers. A GPU computes the same bits itself, and the same noise to about 1e-4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from napari_swintormer.models.transfer import send

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_LOW_INT = 0xFFFFFFFF
_LOW = np.uint64(_LOW_INT)
_HALF = np.uint64(32)
_STEPS = 2**16  # more than any sampling takes; the other 16 bits of the number count samples


class TileOrigin(NamedTuple):
    """The first row and column of a tile in its plane, in pixels, and the number of the sample."""

    plane: int
    y: int
    x: int
    sample: int = 0


@dataclass(frozen=True)
class TileNoise:
    """Draws the noise of a batch of tiles.

    Attributes
    ----------
    seed
        Not negative.
    origins
        One per tile; equal origins get equal noise.
    factor
        Pixels of the image per pixel of the noise; divides the origins.
    """

    seed: int
    origins: Sequence[TileOrigin]
    factor: int = 1

    def __call__(self, step: int, like: torch.Tensor) -> torch.Tensor:
        """Draw the noise of a step, with the shape ``(B, C, h, w)`` and the device of `like`."""
        shape = (like.shape[1], like.shape[2], like.shape[3])
        if like.device.type == "cuda":  # nothing that the CPU would have to wait for
            return self._on_device(step, shape, like.device)
        noise = [
            gaussian_noise(
                self.seed, plane, step, shape, (y // self.factor, x // self.factor), sample
            )
            for plane, y, x, sample in self.origins
        ]
        return torch.from_numpy(np.stack(noise)).to(like.device)

    def _on_device(
        self, step: int, shape: tuple[int, int, int], device: torch.device
    ) -> torch.Tensor:
        """Draw the noise of all tiles with operations of the device, as few as can be."""
        channels, height, width = shape
        numbers = [
            (
                *_round_keys(self.seed, plane),
                *(x // self.factor, 0, y // self.factor, step + _STEPS * sample),
                *map(int, _MULTIPLIERS),
            )
            for plane, y, x, sample in self.origins
        ]
        given = torch.tensor(numbers, dtype=torch.int64).T.reshape(-1, 2, len(numbers), 1, 1, 1)
        sent = send(given, device)  # pairs of what is computed alike
        grid = np.indices((-(-channels // 4), height, width))
        # counters 0 and 2 are the column and the group, 1 and 3 the row and the step
        places = np.stack([grid[2], grid[0], grid[1], 0 * grid[0]])[:, None]
        even = send(torch.from_numpy(places), device)
        even, odd = even[:2] + sent[10], even[2:] + sent[11]
        even, odd = _philox_on_device(even, odd, sent[:10], sent[12])
        radius = ((even + 1) * 2.0**-32).log().mul_(-2).sqrt_()
        normal = torch.view_as_real(torch.polar(radius, odd * (2 * np.pi * 2.0**-32)))
        # (2, B, groups, h, w, 2): a pair of counters gives two channels
        normal = normal.permute(1, 2, 5, 0, 3, 4).reshape(len(numbers), -1, height, width)
        return normal[:, :channels]


def gaussian_noise(
    seed: int,
    plane: int,
    step: int,
    shape: tuple[int, int, int],
    origin: tuple[int, int] = (0, 0),
    sample: int = 0,
) -> NDArray[np.float32]:
    """Cut a region out of an endless image of standard normal noise.

    Parameters
    ----------
    seed, plane, step, sample
        Choose the endless image; not negative, `sample` less than 2**16.
    shape
        ``(C, h, w)`` of the region.
    origin
        First row and column of the region, not negative.

    Examples
    --------
    >>> whole = gaussian_noise(0, 0, 0, (3, 8, 8))
    >>> part = gaussian_noise(0, 0, 0, (3, 2, 5), origin=(4, 3))
    >>> bool((part == whole[:, 4:6, 3:8]).all())
    True
    """
    channels, height, width = shape
    groups = -(-channels // 4)  # one counter gives four channels of a pixel
    counter = np.zeros((4, groups, height, width), np.uint64)
    counter[0] = origin[1] + np.arange(width, dtype=np.uint64)
    counter[1] = (origin[0] + np.arange(height, dtype=np.uint64))[:, None]
    counter[2] = np.arange(groups, dtype=np.uint64)[:, None, None]
    counter[3] = step + _STEPS * sample
    bits = philox(counter, _key(seed, plane))
    # two uniform numbers give two normal numbers (Box and Muller); the first is never 0
    radius = np.sqrt(-2 * np.log((bits[0::2] + 1.0) * 2.0**-32))
    angle = bits[1::2] * (2 * np.pi * 2.0**-32)
    normal = np.stack([radius * np.cos(angle), radius * np.sin(angle)])  # (2, 2, groups, h, w)
    normal = normal.transpose(2, 0, 1, 3, 4).reshape(4 * groups, height, width)
    return normal[:channels].astype(np.float32)


def _key(seed: int, plane: int) -> tuple[int, int]:
    key = np.random.SeedSequence((seed, plane)).generate_state(2, np.uint32)
    return int(key[0]), int(key[1])


def _round_keys(seed: int, plane: int) -> tuple[int, ...]:
    """Return the keys of the ten rounds, two of each."""
    key = _key(seed, plane)
    pairs = zip(key, _KEY_STEPS, strict=True)
    rounds = [[(k + number * s) & _LOW_INT for number in range(10)] for k, s in pairs]
    return tuple(k for pair in zip(*rounds, strict=True) for k in pair)


def _philox_on_device(
    even: torch.Tensor, odd: torch.Tensor, keys: torch.Tensor, multipliers: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute `philox` with int64 tensors, whose products keep the lower 64 bits.

    `even` holds the counters 0 and 2, `odd` the counters 1 and 3, along the first axis.
    """
    for key in keys:
        products = (even * multipliers).flip(0)
        even = ((products >> 32) ^ odd ^ key) & _LOW_INT
        odd = products  # its upper half is cut off with that of the result
    return even, odd & _LOW_INT


def philox(counter: NDArray[np.uint64], key: tuple[int, int]) -> NDArray[np.uint64]:
    """Turn counters ``(4, ...)`` of 32-bit numbers into random 32-bit numbers of the same shape."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c2 = (p1 >> _HALF) ^ c1 ^ np.uint64(k0), (p0 >> _HALF) ^ c3 ^ np.uint64(k1)
        c1, c3 = p1 & _LOW, p0 & _LOW
        k0, k1 = (k0 + _KEY_STEPS[0]) & 0xFFFFFFFF, (k1 + _KEY_STEPS[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3])
