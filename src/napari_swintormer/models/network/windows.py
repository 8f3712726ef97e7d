"""Windows of an image: cut, joined, and shifted cyclically by half their size.

Images are NHWC, windows ``(n, p, C)`` with ``p`` pixels. A shift brings pixels of opposite borders
of the image into one window. Masks keep them apart.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from napari_swintormer.models.network.constants import on_cpu

if TYPE_CHECKING:
    from collections.abc import Iterator

_MASKED = -100.0


def partition_windows(x: Tensor, window_size: int) -> Tensor:
    """Cut ``(B, H, W, C)`` into windows ``(n, w*w, C)``, row by row of windows."""
    pattern = "b (ny wy) (nx wx) c -> (b ny nx) (wy wx) c"
    return rearrange(x, pattern, wy=window_size, wx=window_size)


def merge_windows(windows: Tensor, height: int, width: int) -> Tensor:
    """Join windows ``(n, w*w, C)`` to ``(B, H, W, C)``."""
    size = math.isqrt(windows.shape[1])
    pattern = "(b ny nx) (wy wx) c -> b (ny wy) (nx wx) c"
    return rearrange(windows, pattern, ny=height // size, nx=width // size, wy=size)


class BorderWindows(NamedTuple):
    """The windows that join pixels of opposite borders, among those of a shifted partition."""

    numbers: Tensor  # which windows they are
    kinds: Tensor  # index of each into `shift_masks`


@lru_cache(maxsize=64)
def border_windows(
    batch: int, rows: range, columns: int, last_row: int, device: torch.device
) -> BorderWindows:
    """Find the border windows in rows of windows of a batch of images; cached by size.

    `last_row` is the last row of windows of an image, `columns` the number of its columns.
    """
    kinds = np.zeros((batch, len(rows), columns), np.int64)
    kinds[:, :, -1] += 1
    kinds[:, [row == last_row for row in rows]] += 2
    # found by numpy: a GPU would have to stop and tell how many such windows there are
    index = np.flatnonzero(kinds)
    with torch.inference_mode(False):  # training may use the cached tensors later
        found = (torch.from_numpy(a).to(device) for a in (index, kinds.ravel()[index]))
        return BorderWindows(*found)


@on_cpu
def shift_masks(window_size: int) -> Tensor:
    """Make the masks that separate pixels which only the cyclic shift brought into one window.

    ``(4, w*w, w*w)``, added to the logits of windows inside, in the last column, in the last row,
    and in the corner: 0 between pixels from the same side of the image, -100 between others.
    """
    wrapped = torch.arange(window_size) >= window_size // 2
    inside = torch.zeros_like(wrapped)
    masks = []
    for y, x in ((inside, inside), (inside, wrapped), (wrapped, inside), (wrapped, wrapped)):
        side = (2 * y[:, None] + x).flatten()
        masks.append((side[:, None] != side) * _MASKED)
    return torch.stack(masks)


class Strip(NamedTuple):
    """Rows of windows of one image of a batch."""

    image: int
    rows: range


def cut_strips(batch: int, rows: int, rows_at_once: int) -> Iterator[Strip]:
    """Cut the rows of windows of each image into strips."""
    for image in range(batch):
        for first in range(0, rows, rows_at_once):
            yield Strip(image, range(first, min(first + rows_at_once, rows)))


def read_strip(x: Tensor, strip: Strip, window_size: int, shift: int) -> Tensor:
    """Copy the windows of a strip from ``(B, H, W, C)``, contiguous, shifted cyclically."""
    _, _, width, channels = x.shape
    n_windows = len(strip.rows) * (width // window_size)
    windows = x.new_empty(n_windows, window_size * window_size, channels)
    for part, pixels in _places(windows, x, strip, shift):
        part.copy_(pixels)
    return windows


def write_strip(x: Tensor, strip: Strip, windows: Tensor, shift: int) -> None:
    """Put the windows of a strip to where `read_strip` takes them from."""
    for part, pixels in _places(windows, x, strip, shift):
        pixels.copy_(part)


def _places(
    windows: Tensor, x: Tensor, strip: Strip, shift: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """View parts of windows, and the pixels of the image that belong there.

    A shift by half a window pairs the lower half of a row of windows with the upper half of the
    next row of the image's own windows, and likewise for columns.
    """
    size, (height, width, channels) = math.isqrt(windows.shape[1]), x.shape[1:]
    n_rows, n_columns, first = height // size, width // size, strip.rows[0]
    if not shift:
        image = x[strip.image].view(n_rows, size, n_columns, size, channels)
        of_strip = windows.view(-1, n_columns, size, size, channels).transpose(1, 2)
        yield of_strip, image[first : first + len(strip.rows)]
        return
    # (rows, upper or lower, y, columns, left or right, x, C)
    image = x[strip.image].view(n_rows, 2, shift, n_columns, 2, shift, channels)
    of_strip = windows.view(-1, n_columns, 2, shift, 2, shift, channels).permute(
        0, 2, 3, 1, 4, 5, 6
    )
    for row, half_row, image_row, image_half_row in _shifted(first, len(strip.rows), n_rows):
        for column, half, image_column, image_half in _shifted(0, n_columns, n_columns):
            part = of_strip[row, half_row, :, column, half]
            yield part, image[image_row, image_half_row, :, image_column, image_half]


def _shifted(first: int, count: int, whole: int) -> list[tuple[slice, int, slice, int]]:
    """Pair halves of `count` shifted windows with halves of windows of the image, on one axis."""
    inside = min(count, whole - 1 - first)  # the last window of the axis ends at its beginning
    pairs = [(slice(0, count), 0, slice(first, first + count), 1)]
    if inside:
        pairs.append((slice(0, inside), 1, slice(first + 1, first + 1 + inside), 0))
    if inside < count:
        pairs.append((slice(count - 1, count), 1, slice(0, 1), 0))
    return pairs
