"""Where an image of a training comes from: a file, or an array such as the data of a layer."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_swintormer.errors import SwintormerError, TrainingError
from napari_swintormer.imaging.axes import resolve_axes
from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.imaging.planes import Planes
from napari_swintormer.imaging.sample import identify

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, eq=False)
class ArrayImage:
    """An image in memory, or a lazy array of one.

    Attributes
    ----------
    name
        What people call it: the name of the layer.
    data
        Array-like with `shape`, `dtype` and slicing by integers and slices; threads read at the
        same time.
    axes
        One letter of ``TCZYXS`` per dimension, None to guess them.
    """

    name: str
    data: Any
    axes: str | None = None

    def __str__(self) -> str:
        return self.name


Source = Path | ArrayImage


@contextmanager
def open_source(source: Source) -> Iterator[tuple[Any, str]]:
    """Open an image lazily; gives the array and its axes.

    Raises
    ------
    TrainingError
        The image cannot be read, or its axes are not known.
    """
    try:
        if isinstance(source, ArrayImage):
            data = source.data
            yield data, resolve_axes(data.shape, data.dtype, source.axes)
        else:
            with open_image(source) as image:
                yield image.data, image.axes
    except TrainingError:
        raise
    except SwintormerError as error:
        raise TrainingError(f"Training cannot use {source}: {error}") from error


@contextmanager
def open_planes(source: Source, channels: int) -> Iterator[Planes]:
    """Open an image as the planes that a network of `channels` channels sees.

    Raises
    ------
    TrainingError
        As `open_source`.
    """
    with open_source(source) as (data, axes):
        yield Planes(data, axes, channels)


def content_id(source: Source) -> str:
    """Tell images apart by what is in them, wherever they are stored; reads a sample."""
    with open_planes(source, 3) as planes:
        return identify(planes)
