"""Priors of training images, sampled once and kept in files.

Sampling the paper's prior costs a thousand times as much as a step of the network. So the latent
``z0`` of every blurred image is sampled before training, and patches are cut out of it.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_swintormer.errors import OutputError
from napari_swintormer.imaging.sample import identify
from napari_swintormer.training.data.sources import open_planes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from napari_swintormer.imaging.intensity import IntensityConvention
    from napari_swintormer.training.data.pairs import PlanePair

CHANNELS = 3
_BYTES = 2  # float16: finer than the noise that the last step leaves


class PriorCache:
    """Files of one latent each, ``(3, Y, X)`` float16, named by all that it depends on.

    Parameters
    ----------
    folder
        Folder of the files; several trainings may share it.
    recipe
        How the latents are sampled: weights of the prior, steps and seed, as text.
    convention
        How the network brings intensities to the unit range.
    """

    def __init__(self, folder: Path, recipe: str, convention: IntensityConvention) -> None:
        self.folder = folder
        self._recipe = f"{recipe} {convention.model_dump_json()}"
        self._names: dict[tuple[object, int], str] = {}

    def name_of(self, pair: PlanePair) -> str:
        """Return the name of the latent of a blurred plane; equal images have equal names."""
        known = (pair.blurred, pair.plane)
        if known not in self._names:
            digest = hashlib.sha256(f"{self._recipe} {pair.plane}".encode())
            for view in (pair.blurred, pair.second):
                if view is not None:
                    with open_planes(view, CHANNELS) as planes:
                        digest.update(identify(planes).encode())
            self._names[known] = digest.hexdigest()[:32]
        return self._names[known]

    def path_of(self, pair: PlanePair) -> Path:
        """Return the file of the latent of a blurred plane."""
        return self.folder / f"{self.name_of(pair)}.npy"

    def holds(self, pair: PlanePair) -> bool:
        """Whether the latent of a blurred plane is there."""
        return self.path_of(pair).is_file()

    def write(self, pair: PlanePair, latent: NDArray[np.float32]) -> None:
        """Keep the latent of a plane; a crash leaves no half file under its name."""
        partial = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(
                dir=self.folder, suffix=".partial", delete=False
            ) as file:
                partial = Path(file.name)
                np.save(file, latent.astype(np.float16))
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.path_of(pair))
        except OSError as error:
            raise OutputError(
                f"A sampled prior cannot be written to {self.folder} ({error.strerror}). Free some "
                "disk space, then resume the training."
            ) from error
        finally:
            if partial is not None:
                partial.unlink(missing_ok=True)

    def read(self, pair: PlanePair, y: slice, x: slice) -> NDArray[np.float32]:
        """Cut a region ``(3, h, w)`` out of the latent of a plane."""
        latent = np.load(self.path_of(pair), mmap_mode="r")
        return np.asarray(latent[:, y, x], np.float32)


def cache_bytes(shapes: Iterable[tuple[int, int]]) -> int:
    """Return the size on disk of the latents of planes."""
    return sum(CHANNELS * height * width * _BYTES for height, width in shapes)
