"""Annotations: masks that say where patches come from and what is left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.errors import TrainingError
from napari_swintormer.training.data.sources import open_planes

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_swintormer.imaging.planes import Planes
    from napari_swintormer.training.data.pairs import PlanePair

TAKE, LEAVE_OUT = 1, 2
"""Labels of a mask. If any pixel is `TAKE`, patches are centred on such pixels only. Pixels with
`LEAVE_OUT` never count in the loss, and no patch is centred there. Other labels mean nothing."""

_CELL = 32  # side of the squares that eligible pixels are counted in, in pixels


def check_mask(name: str, mask: Planes, n_planes: int, shape: tuple[int, int]) -> None:
    """Refuse a mask that is not made of whole numbers, or that differs in size from its image."""
    if mask.dtype.kind not in "ui" or mask.channels != 1:
        raise TrainingError(
            f"The annotations {name} must be one channel of whole numbers (got {mask.dtype}). "
            f"Use {TAKE} where patches are to be taken and {LEAVE_OUT} for what to leave out."
        )
    if mask.shape != shape or n_planes % len(mask):
        raise TrainingError(
            f"The annotations {name} must have the size of the image (got {len(mask)} plane(s) of "
            f"{mask.shape[0]} x {mask.shape[1]} pixels for {n_planes} of {shape[0]} x {shape[1]})."
        )


def read_marks(pair: PlanePair, channels: int) -> Marks:
    """Read where patches of an annotated pair may be centred."""
    assert pair.annotations is not None
    with open_planes(pair.sharp, channels) as planes:
        n_planes = len(planes)
    with open_planes(pair.annotations, 1) as mask:
        plane = pair.plane * len(mask) // n_planes  # one plane of a mask may serve several
        return Marks(mask, plane, *(slice(*ends) for ends in pair.bounds))


class Marks:
    """Where patches of a plane may be centred.

    The mask is read once, in strips; only counts are kept, so a huge mask takes little memory.
    `total` is the number of eligible pixels; nothing can be drawn if it is 0.
    """

    def __init__(self, mask: Planes, plane: int, y: slice, x: slice) -> None:
        self.plane = plane
        self._rows, self._columns = _cells(y), _cells(x)
        strips = [self._count(mask.read(plane, rows, x)[0]) for rows in self._rows]
        taken, not_left_out = np.array(strips).swapaxes(0, 1)
        self._only_taken = bool(taken.any())
        self._cumulative = np.cumsum(taken if self._only_taken else not_left_out)
        self.total = int(self._cumulative[-1])

    def draw(
        self, rng: np.random.Generator, read: Callable[[slice, slice], NDArray[Any]]
    ) -> tuple[int, int]:
        """Draw an eligible pixel ``(y, x)``, each with equal probability.

        `read` returns a region ``(Y, X)`` of the same plane of the mask.
        """
        k = int(rng.integers(self.total))
        cell = int(np.searchsorted(self._cumulative, k, "right"))
        before = int(self._cumulative[cell - 1]) if cell else 0
        row, column = divmod(cell, len(self._columns))
        y, x = self._rows[row], self._columns[column]
        labels = read(y, x)
        eligible = labels == TAKE if self._only_taken else labels != LEAVE_OUT
        down, across = divmod(int(np.flatnonzero(eligible)[k - before]), x.stop - x.start)
        return y.start + down, x.start + across

    def _count(self, strip: NDArray[Any]) -> list[NDArray[np.int_]]:
        """Count the pixels to take, and those not left out, in every cell of a strip."""
        starts = [column.start - self._columns[0].start for column in self._columns]
        masks = (strip == TAKE, strip != LEAVE_OUT)
        return [np.add.reduceat(np.count_nonzero(mask, axis=0), starts) for mask in masks]


def _cells(side: slice) -> list[slice]:
    return [
        slice(start, min(start + _CELL, side.stop)) for start in range(side.start, side.stop, _CELL)
    ]
