"""Where errors of files become sentences: while a file is opened, read or written.

Libraries raise whatever they like about a file that they cannot handle. Here every such error
becomes a `FileError` or an `OutputError` that names the file and tells the kind of trouble. The
error of the library stays its cause, for `swintormer --debug`.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.errors import FileError, OutputError, SwintormerError, one_line
from napari_swintormer.imaging.hidden_names import name_bytes
from napari_swintormer.imaging.image import unreadable
from napari_swintormer.imaging.views import LazyArray
from napari_swintormer.imaging.web_path import WebPath

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

# No room on the disk, or in the quota where the system has one.
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
# How tifffile, imagecodecs, zarr and Pillow say that they know a form, and cannot read it.
_UNSUPPORTED = re.compile(
    r"not supported|unsupported|not implemented|cannot (?:decode|decompress)|codec.*not available"
    r"|requires? the '?\w+'? package",
    re.IGNORECASE,
)
_CODEC = re.compile(r"COMPRESSION\.(\w+)")
_INTERNAL = (LookupError, TypeError, AttributeError, AssertionError, UnicodeError)
"""Errors that a damaged file causes inside a library; their words tell the user nothing."""
_LIBRARY = re.compile(r"\w+_\w+ returned [A-Z_]+|\w+\(\) arg ")


@contextmanager
def read_errors(path: Path, kind: str = "", *, opened: bool = False) -> Iterator[None]:
    """Turn what stops the reading of a file into a `FileError` of one sentence.

    `kind` is the name of the format. `opened` says that the file could be read before: a missing
    file then is a disk that has gone.
    """
    try:
        yield
    except SwintormerError:
        raise
    except OSError as error:
        if error.errno is None:
            raise _not_readable(path, kind, error) from error
        if opened and error.errno not in (errno.EACCES, errno.EPERM):
            raise unreadable(path, error.strerror or error) from error
        raise FileError(_system_sentence(path, error, "read")) from error
    except MemoryError as error:
        raise FileError(
            f"{path} needs more memory than is free ({one_line(error) or 'out of memory'}). Close "
            "other programs, or convert it to a tiled TIFF or OME-Zarr first."
        ) from error
    except Exception as error:
        raise _not_readable(path, kind, error) from error


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what stops the writing of a file into an `OutputError` of one sentence."""
    try:
        yield
    except SwintormerError:
        raise
    except OSError as error:
        if error.errno in _FULL:
            free = shutil.disk_usage(path.absolute().parent).free
            raise OutputError(
                f"The disk is full: {path} cannot be written ({free / 1e9:.1f} GB are free)."
            ) from error
        raise OutputError(_system_sentence(path, error, "written")) from error
    except Exception as error:
        raise OutputError(f"{path} cannot be written ({_said(error)}).") from error


def check_readable(path: Path) -> None:
    """Refuse what has no bytes that can be read in any order, with a `FileError`."""
    if isinstance(path, WebPath):
        return
    with read_errors(path):
        if not path.exists():
            raise FileError(f"{path} does not exist.")
        if not path.is_file() and not path.is_dir():
            raise FileError(
                f"{path} is a pipe or a device, and an image is read in any order. Save its "
                "content to a file first, and give that file."
            )


def check_name(path: Path) -> None:
    """Refuse a name that the file system cannot hold, with an `OutputError`."""
    limit = name_bytes(path.parent)
    length = len(os.fsencode(path.name))
    if length > limit:
        raise OutputError(
            f"The name {path.name[:40]}... is too long: it has {length} bytes, and the file system "
            f"allows {limit}. Choose a shorter name."
        )


@dataclass(frozen=True, eq=False)
class GuardedArray(LazyArray):
    """The pixels of a file; reading them raises a `FileError` and nothing else."""

    data: Any
    path: Path
    kind: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the image."""
        return tuple(self.data.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the pixels."""
        dtype: np.dtype[Any] = np.dtype(self.data.dtype)
        return dtype

    def __getitem__(self, index: Any) -> NDArray[Any]:
        with read_errors(self.path, self.kind, opened=True):
            return np.asarray(self.data[index])


def _system_sentence(path: Path, error: OSError, done: str) -> str:
    """Make a sentence from an error of the operating system."""
    if error.errno == errno.ENAMETOOLONG:
        return f"The name of {path} is too long for the file system. Choose a shorter name."
    if done == "read" and error.errno == errno.ENOENT:
        return f"{path} does not exist."
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{path} may not be {done}: you lack the permission."
    return f"{path} cannot be {done} ({error.strerror or _said(error)})."


def _not_readable(path: Path, kind: str, error: Exception) -> FileError:
    """Tell unsupported files from damaged ones."""
    said = _said(error)
    if found := _CODEC.search(said):
        return FileError(unsupported_compression(path, found.group(1)))
    if isinstance(error, NotImplementedError | ImportError) or _UNSUPPORTED.search(said):
        return FileError(
            f"{path} has a form that is not supported ({said}). Save it in another form, such as "
            "an uncompressed TIFF, first."
        )
    reason = "" if isinstance(error, _INTERNAL) or _LIBRARY.search(said) else f" ({said})"
    return FileError(f"{path} is a damaged or truncated {kind or 'image'} file{reason}.")


def unsupported_compression(path: Path, codec: str) -> str:
    """Say that a file is compressed in a way that no library here decodes."""
    return (
        f"{path} is compressed with {codec}, which is not supported. Save it without compression, "
        "or with LZW or Deflate, first."
    )


def _said(error: Exception) -> str:
    """Return the words of an error; its kind where the words alone say nothing."""
    words = one_line(error)
    if isinstance(error, KeyError | IndexError | AttributeError | TypeError) or not words:
        return f"{type(error).__name__}: {words}".rstrip(": ")
    return words
