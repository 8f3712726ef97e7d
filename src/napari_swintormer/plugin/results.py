"""Where the result of a run in the viewer is kept: in memory, or on disk while its layer lives."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from math import prod
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
import psutil
from napari.layers import Image

from napari_swintormer.config import cache_folder
from napari_swintormer.job import Job

# Above the texture size of the graphics card napari allocates the whole image again, in pieces.
# This size is what practically every card takes.
LARGEST_TEXTURE = 8192
# A result may take this share of the free memory; a larger one goes to disk.
_SHARE_OF_MEMORY = 0.25


@dataclass
class Result:
    """A result that a run fills.

    Attributes
    ----------
    array
        What the run writes: numpy, or zarr in a temporary folder that goes with this object.
    shown
        What the layer shows: the array, or its levels as dask arrays, finest first.
    """

    array: Any
    shown: Any
    _folder: TemporaryDirectory[str] | None = None

    @classmethod
    def for_job(cls, job: Job, shape: tuple[int, ...]) -> Self:
        """Make room for the result of a job, in memory where it fits comfortably.

        Parameters
        ----------
        job
            The planned run.
        shape
            Of the image.
        """
        n_bytes = prod(shape) * job.planes.dtype.itemsize
        fits = n_bytes <= _SHARE_OF_MEMORY * psutil.virtual_memory().available
        if fits and max(job.planes.shape) <= LARGEST_TEXTURE:
            array = np.zeros(shape, job.planes.dtype)
            return cls(array, array)
        raise NotImplementedError

    def finish(self) -> None:
        """Make the coarser levels of a large result."""

    def keep_while(self, layer: Image) -> None:
        """Delete the temporary folder when the layer is gone."""
        if self._folder is not None:
            weakref.finalize(layer, self._folder.cleanup)
