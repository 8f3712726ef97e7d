"""What zarr opens: a folder, or an address on the web."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_swintormer.errors import FileError
from napari_swintormer.imaging.formats.extra import import_extra
from napari_swintormer.imaging.web_path import WebPath

if TYPE_CHECKING:
    from pathlib import Path

_LIBRARIES = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}  # of fsspec


def zarr_store(path: Path) -> Any:
    """Return a path as it is, and a store that reads chunk by chunk for an address."""
    if not isinstance(path, WebPath):
        return path
    address = str(path)
    library = _LIBRARIES.get(address.partition(":")[0])
    if library is None:
        import_extra("aiohttp", "remote", path, "on the web")
    from zarr.storage import FsspecStore

    try:
        return FsspecStore.from_url(address, read_only=True)
    except ImportError as error:
        raise FileError(
            f'{path} is on the web. To read it: pip install "napari-swintormer[remote]" {library}'
        ) from error
