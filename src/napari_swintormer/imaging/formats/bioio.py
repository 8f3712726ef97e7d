"""Files of microscopes, through bioio and its plugins."""

from __future__ import annotations

import logging
import re
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from napari_swintormer.errors import FileError, SwintormerError, one_line
from napari_swintormer.imaging.axes import resolve_axes
from napari_swintormer.imaging.carried import Carried, Channel
from napari_swintormer.imaging.formats.extra import import_extra
from napari_swintormer.imaging.formats.format import Format
from napari_swintormer.imaging.formats.ome_xml import OME, OmeXml, read_ome
from napari_swintormer.imaging.formats.picture import check_number
from napari_swintormer.imaging.image import Image, unreadable
from napari_swintormer.imaging.views import LazyArray, expand_index

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_PLUGINS = {
    ".czi": "bioio-czi",
    ".nd2": "bioio-nd2",
    ".lif": "bioio-lif",
    ".dv": "bioio-dv",
    ".r3d": "bioio-dv",
    ".sldy": "bioio-sldy",
    ".ims": "bioio-bioformats",
    ".vsi": "bioio-bioformats",
    ".oib": "bioio-bioformats",
    ".oif": "bioio-bioformats",
    ".oir": "bioio-bioformats",
    ".lof": "bioio-lif",
    ".xlef": "bioio-lif",
}
"""The plugin of bioio that reads a suffix."""


class BioIo(Format):
    """CZI, ND2, LIF and others. Pixels are read when they are asked for; results are TIFF."""

    name = "CZI, ND2, LIF"
    suffixes = ()
    read_suffixes = tuple(_PLUGINS)
    result_suffix: ClassVar[str | None] = ".tif"

    def detect(self, path: Path, start: bytes) -> bool:
        """Say whether a file has the suffix of a microscope's files."""
        return path.suffix.lower() in _PLUGINS and path.is_file()

    def open(self, path: Path, axes: str | None, image: int | None = None) -> Image:
        """Open a scene of a file; None takes the one of most pixels."""
        what = f"a microscope's file {path.suffix}"
        bioio = import_extra("bioio", "bioio", path, what)
        reader = _reader(path, what)
        logging.getLogger("bioio").setLevel(logging.CRITICAL)  # the error says the same
        try:
            opened = bioio.BioImage(path, reader=reader)
            number = _largest(opened) if image is None else image
            check_number(path, number, len(opened.scenes))
            opened.set_scene(number - 1)
            return _image(path, opened, axes, number)
        except (SwintormerError, FileNotFoundError, PermissionError, MemoryError):
            raise
        except Exception as error:  # each plugin has errors of its own
            plugin = _PLUGINS[path.suffix.lower()]
            if "Unsupported" not in type(error).__name__:
                problem = f"cannot be read by bioio ({one_line(error)})."
            else:
                problem = f"is damaged, or of a form that {plugin} does not read."
            raise FileError(f"{path} {problem}") from error

    def write(self, file: Path, image: Image, compression: str | None) -> None:
        """Do nothing: results have another format."""
        raise NotImplementedError(f"{self.name} is not written")


@dataclass(frozen=True, eq=False)
class _DaskPixels(LazyArray):
    """Pixels of a dask array, computed when they are asked for, without axes of size 1."""

    array: Any
    path: Path
    left: tuple[int, ...]  # dimensions of the array that are dimensions here

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the dimensions that are left."""
        return tuple(int(self.array.shape[i]) for i in self.left)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the array."""
        dtype: np.dtype[Any] = np.dtype(self.array.dtype)
        return dtype

    def __getitem__(self, index: Any) -> NDArray[Any]:
        inner: list[int | slice] = [0] * self.array.ndim
        for dimension, wanted in zip(self.left, expand_index(index, self.ndim), strict=True):
            inner[dimension] = wanted
        try:
            # The threads of a run read at once; dask needs none of its own.
            return np.asarray(self.array[tuple(inner)].compute(scheduler="synchronous"))
        except OSError as error:
            raise unreadable(self.path, error.strerror or error) from error
        except Exception as error:  # of a plugin
            raise FileError(
                f"{self.path} is damaged: its pixels do not decode ({one_line(error)})."
            ) from error


def _reader(path: Path, what: str) -> Any:
    """Import the reader for a suffix: bioio would take any plugin, and say nothing."""
    plugin = _PLUGINS[path.suffix.lower()]
    try:
        return import_module(plugin.replace("-", "_")).Reader
    except ImportError as error:
        raise FileError(
            f"{path} is {what}, for which bioio has no plugin here. To read it: pip install "
            f"{plugin}"
        ) from error


def _largest(opened: Any) -> int:
    """Return the number, from 1, of the first scene with the most pixels."""
    sizes = []
    for scene in range(len(opened.scenes)):
        opened.set_scene(scene)
        sizes.append(np.prod(opened.shape, dtype=float))
    return 1 + int(np.argmax(sizes))


def _image(path: Path, opened: Any, axes: str | None, number: int) -> Image:
    array, order = opened.dask_data, str(opened.dims.order)
    left = tuple(i for i, axis in enumerate(order) if axis in "YXS" or array.shape[i] > 1)
    pixels = _DaskPixels(array, path, left)
    told = "".join(order[i] for i in left)
    names = tuple(str(scene) for scene in opened.scenes)
    sizes, units = _pixel_sizes(opened)
    letters = resolve_axes(pixels.shape, pixels.dtype, axes or told)
    left_out: list[str] = []
    carried = _carried(opened, number, names, left_out)
    return Image(
        pixels,
        letters,
        path,
        {a: size for a, size in sizes.items() if a in letters},
        {a: unit for a, unit in units.items() if a in letters},
        carried=carried,
        images=names if len(names) > 1 else (),
        number=number,
        left_out=tuple(f"{path.name} has {what}" for what in left_out),
    )


def _pixel_sizes(opened: Any) -> tuple[dict[str, float], dict[str, str]]:
    """Read voxel sizes in micrometres and the time step in seconds, as far as they are known."""
    known = {a: getattr(opened.physical_pixel_sizes, a, None) for a in "ZYX"}
    with suppress(Exception):  # not every plugin knows time
        step = opened.time_interval
        known["T"] = step.total_seconds() if hasattr(step, "total_seconds") else step
    sizes = {a: float(n) for a, n in known.items() if n is not None and 0 < n < np.inf}
    return sizes, {a: "second" if a == "T" else "micrometer" for a in sizes}


def _carried(opened: Any, number: int, names: tuple[str, ...], left_out: list[str]) -> Carried:
    """Read names, colours and wavelengths of channels; OME-XML where the plugin makes it."""
    try:
        xml = opened.ome_metadata.to_xml()
        return Carried(**read_ome(xml, number - 1), native={OME: OmeXml(xml, number - 1)})
    except NotImplementedError:  # many plugins make none
        pass
    except Exception as error:  # of a plugin or of a parser
        left_out.append(f"metadata that cannot be read, left out here ({one_line(error)}).")
    channels = tuple(Channel(name=str(name)) for name in opened.channel_names or ())
    given = not re.fullmatch(r"Image:?\d*", names[number - 1])  # else by the library
    return Carried(name=names[number - 1] if given else "", channels=channels)
