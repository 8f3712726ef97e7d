"""Where the result of a run in the viewer is kept: in memory, or on disk while its layer lives."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Generator
from math import prod
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import psutil
from napari.layers import Image

from napari_swintormer.config import cache_folder
from napari_swintormer.events import Progress
from napari_swintormer.imaging.ome_zarr import disk_order
from napari_swintormer.imaging.store import ResultStore
from napari_swintormer.job import Job

# Above the texture size of the graphics card napari allocates the whole image again, in pieces.
# This size is what practically every card takes.
LARGEST_TEXTURE = 8192
# A result may take this share of the free memory; a larger one goes to disk.
_SHARE_OF_MEMORY = 0.25


class Result:
    """Room for a result, which a run fills: in memory where it fits comfortably, else on disk.

    What lies on disk goes with this object, or with the layer that `keep_while` names.

    Parameters
    ----------
    job
        The planned run.
    shape
        Of the image.

    Attributes
    ----------
    array
        What the run writes.

    Raises
    ------
    OutputError
        If the result is too large for memory and the disk cannot be written.
    """

    def __init__(self, job: Job, shape: tuple[int, ...]) -> None:
        self._axes, dtype = job.planes.axes, job.planes.dtype
        self._store: ResultStore | None = None
        fits = prod(shape) * dtype.itemsize <= _SHARE_OF_MEMORY * psutil.virtual_memory().available
        if fits and max(job.planes.shape) <= LARGEST_TEXTURE:
            self.array: Any = np.zeros(shape, dtype)
            return
        cache_folder().mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix="result-", dir=cache_folder()))
        self._remove = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._store = ResultStore.create(
            self._folder / "result.zarr", shape, dtype, self._axes, job.plan.grid.block_size, {}
        )
        self.array = self._store.array

    def finishing(self) -> Generator[Progress, None, None]:
        """Complete the result after the run: make the coarser levels of what lies on disk.

        Closing the generator stops after the chunk at hand.
        """
        if self._store is not None:
            yield from self._store.finishing()

    @property
    def shown(self) -> Any:
        """What a layer shows when all is finished: the image, or its levels, finest first.

        Levels are there for large planes: napari would read the whole image on the GUI thread to
        make its own.
        """
        if self._store is None:
            return self.array
        import zarr

        group = zarr.open_group(self._store.destination, mode="r")
        order = disk_order(self._axes)
        levels = [
            da.from_array(group[str(level)], name=False).transpose(
                [order.index(axis) for axis in self._axes]
            )
            for level in range(len(list(group.array_keys())))
        ]
        return levels if len(levels) > 1 else levels[0]

    def keep_while(self, layer: Image) -> None:
        """Remove what lies on disk when the layer is gone."""
        if self._store is not None:
            self._remove.detach()
            weakref.finalize(layer, shutil.rmtree, self._folder, ignore_errors=True)
