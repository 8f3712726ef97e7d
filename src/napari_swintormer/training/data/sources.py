"""Sources of training images: a file, or an array such as the data of a layer."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_swintormer.errors import SwintormerError, TrainingError
from napari_swintormer.imaging.axes import resolve_axes
from napari_swintormer.imaging.carried import SampleMeaning
from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.imaging.planes import Planes

if TYPE_CHECKING:
    from collections.abc import Iterator


_PLAIN = SampleMeaning()


@dataclass(frozen=True, eq=False)
class ArrayImage:
    """An array, in memory or lazy, that is used as an image."""

    name: str  # for people, such as the name of the layer
    data: Any  # has `shape`, `dtype` and slicing; several threads read it at the same time
    axes: str | None = None  # one letter of TCZYXS per dimension; None guesses them
    meaning: SampleMeaning = _PLAIN  # of the numbers, such as a value for no data

    def __str__(self) -> str:
        return self.name


Source = Path | ArrayImage


@contextmanager
def open_source(source: Source) -> Iterator[tuple[Any, str, SampleMeaning]]:
    """Open an image lazily and yield array, axes and meaning of numbers; errors name the image."""
    try:
        if isinstance(source, ArrayImage):
            data = source.data
            yield data, resolve_axes(data.shape, data.dtype, source.axes), source.meaning
        else:
            with open_image(source) as image:
                yield image.data, image.axes, image.carried.meaning
    except TrainingError:
        raise
    except SwintormerError as error:
        raise TrainingError(f"Training cannot use {source}: {error}") from error


@contextmanager
def open_planes(source: Source, channels: int) -> Iterator[Planes]:
    """Open an image as planes for a network of `channels` channels; errors name the image."""
    with open_source(source) as (data, axes, meaning):
        yield Planes(data, axes, channels, meaning=meaning)
