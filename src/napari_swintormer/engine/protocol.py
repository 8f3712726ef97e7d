"""What the parts of the engine agree on: tiles, those who restore them, and the record of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from napari_swintormer.events import Notice
    from napari_swintormer.models.prior.noise import TileOrigin

    Change = NDArray[np.float32]


class Tile(NamedTuple):
    """A tile and where it lies.

    Attributes
    ----------
    pixels
        (V * C, h, w) float32 in unit intensities: the V views of the scene one after the other.
        The margin around the tile is part of it, mirrored where the plane ends.
    origin
        Plane and first pixel of the tile, without its margin.
    margin
        Pixels on each side that belong to the margin.
    """

    pixels: NDArray[np.float32]
    origin: TileOrigin
    margin: int = 0


class Steps(NamedTuple):
    """Progress of one batch: steps of its restorer, done and in total, and number of tiles."""

    done: int
    total: int
    tiles: int


class Runner(Protocol):
    """Restores tiles on one device or on several.

    Attributes
    ----------
    batch_size
        Tiles in one forward pass.
    steps
        Progress of the batch when `changes` last gave an empty list.
    """

    batch_size: int
    steps: Steps

    @property
    def n_taken(self) -> int:
        """Tiles that were taken over from a preview so far."""

    def changes(self, groups: Iterable[list[Tile]]) -> Iterator[list[Change]]:
        """Restore tiles and give the change that the restorer makes to each, batch by batch.

        Parameters
        ----------
        groups
            Tiles of one size. No batch mixes groups, so that a resumed run makes the same batches.
            A group is taken when all tiles before it have been started.

        Yields
        ------
        list of NDArray
            (C, h, w) float32 each, in the order of the tiles. With uncertainty (N * C, h, w): the
            contrasts of the samples after the change. An empty list stands for a step of a batch:
            the caller can stop there, and read `steps`.

        Raises
        ------
        SettingsError
            The restorer returns values that are not finite, or memory is too small for one tile.
        """

    def take_notices(self) -> list[Notice]:
        """Return what is to be told of precision and memory since the last call."""

    def close(self) -> None:
        """Release the restorer and the memory of its device."""


class RunJournal(Protocol):
    """Remembers the finished chunks of a run as (plane, row, column)."""

    @property
    def batch_size(self) -> int | None:
        """Batch size when the run began; None before.

        A resumed run takes the same: batches of another size can differ in the last bits on a GPU.
        """

    @batch_size.setter
    def batch_size(self, n_tiles: int) -> None: ...

    def finished(self) -> Collection[tuple[int, int, int]]:
        """Return the chunks that are stored for good."""

    def mark(self, plane: int, row: int, column: int) -> None:
        """Note that a chunk has been written."""
