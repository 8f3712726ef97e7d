"""Annotations: marks of the user that say where patches come from and what is left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_swintormer.imaging.planes import Planes

TAKE, LEAVE_OUT = 1, 2
"""Labels: where there is any `TAKE`, the centres of the patches lie in it; the network is never
told what stands under `LEAVE_OUT`, and no patch is centred there. Other labels mean nothing."""

_CELL = 32  # pixels, side of the squares that eligible pixels are counted in


def plane_of_mask(mask: Planes, plane: int, n_planes: int) -> int:
    """Plane of the mask that belongs to a plane of the image: its own, or one for many."""
    return plane * len(mask) // n_planes


def check_mask(name: str, mask: Planes, n_planes: int, shape: tuple[int, int]) -> None:
    """Refuse a mask that does not lie on its image.

    Raises
    ------
    TrainingError
        It is not a mask, or has another size than the image.
    """
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


class Marks:
    """Where the patches of a plane may be centred.

    Reads the mask once, in strips, and keeps counts only: the mask of a huge image is no burden.

    Parameters
    ----------
    mask
        The annotations, labels as above.
    plane
        Plane of the mask.
    y, x
        Region of the plane that counts, in pixels.

    Attributes
    ----------
    total
        Number of eligible pixels; with none there is nothing to draw.
    """

    def __init__(self, mask: Planes, plane: int, y: slice, x: slice) -> None:
        self._rows, self._columns = _cut_up(y), _cut_up(x)
        taken, not_left_out = (
            np.array(counts)
            for counts in zip(
                *(self._count(mask.read(plane, r, x)[0]) for r in self._rows), strict=True
            )
        )
        self._only_taken = bool(taken.any())
        self._cumulative = np.cumsum(taken if self._only_taken else not_left_out)
        self.total = int(self._cumulative[-1])

    def draw(
        self, rng: np.random.Generator, read: Callable[[slice, slice], NDArray[Any]]
    ) -> tuple[int, int]:
        """Draw an eligible pixel, each equally likely.

        Parameters
        ----------
        rng
            Where the chance comes from.
        read
            Gives a region ``(Y, X)`` of the same plane of the mask.

        Returns
        -------
        y, x
            In pixels of the plane.
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

    def _count(self, strip: NDArray[Any]) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
        starts = [column.start - self._columns[0].start for column in self._columns]
        return (
            np.add.reduceat(np.count_nonzero(strip == TAKE, axis=0), starts),
            np.add.reduceat(np.count_nonzero(strip != LEAVE_OUT, axis=0), starts),
        )


def _cut_up(side: slice) -> list[slice]:
    return [
        slice(start, min(start + _CELL, side.stop)) for start in range(side.start, side.stop, _CELL)
    ]
