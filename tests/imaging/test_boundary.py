"""Errors of files end in sentences that name the file and the kind of trouble."""

from __future__ import annotations

import errno
import json
import os
import struct
from contextlib import suppress

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from napari_swintormer.errors import FileError, ImageError, OutputError, SwintormerError
from napari_swintormer.imaging.formats.boundary import disk_errors, read_errors
from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.imaging.formats.writing import check_output, write_image
from napari_swintormer.imaging.hidden_names import hidden_beside
from napari_swintormer.imaging.store.result import ResultStore, partial_folder

DAMAGED, UNSUPPORTED = "is a damaged or truncated TIFF file", "is not supported"


def pixels(*shape, dtype="uint8"):
    return np.random.default_rng(3).integers(0, 250, shape).astype(dtype)


@pytest.mark.parametrize(
    ("error", "read", "written"),
    [
        (OSError(errno.ENOENT, "No such file"), "does not exist", "cannot be written"),
        (PermissionError(errno.EACCES, "Denied"), "may not be read", "may not be written"),
        (OSError(errno.ENAMETOOLONG, "long"), "is too long", "is too long"),
        (OSError("unrecognized data stream"), DAMAGED, "cannot be written"),
        (MemoryError("7 TB"), "more memory than is free", r"cannot be written \(7 TB\)"),
        (KeyError(3), r"truncated TIFF file\.$", r"\(KeyError: 3\)"),
        (ValueError("max() arg is an empty sequence"), r"TIFF file\.$", "arg"),
        (RuntimeError("lzw_decode returned LZW_BAD"), r"TIFF file\.$", "LZW"),
        (ZeroDivisionError("division by zero"), DAMAGED, "division by zero"),
        (RecursionError(), "RecursionError", "RecursionError"),
        (NotImplementedError("planar"), "a form that is not supported", "planar"),
        (ValueError("unsupported bit depth 5"), "a form that is not supported", "bit depth"),
        (
            ValueError("<COMPRESSION.JBIG: 34661> requires the 'imagecodecs' package"),
            "compressed with JBIG, which is not supported",
            "JBIG",
        ),
    ],
)
def test_every_error_names_the_file_and_the_trouble(tmp_path, error, read, written):
    path = tmp_path / "a.tif"
    for guard, expected, words in (
        (read_errors(path, "TIFF"), FileError, read),
        (disk_errors(path), OutputError, written),
    ):
        with pytest.raises(expected, match=words) as caught, guard:
            raise error
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
        assert caught.value.__cause__ is error


def test_errors_with_a_sentence_pass_unchanged(tmp_path):
    for guard in (read_errors(tmp_path), disk_errors(tmp_path)):
        with pytest.raises(ImageError, match=r"^mine$"), guard:
            raise ImageError("mine")


def tags(data):
    """Positions of the entries of the first directory of a little-endian classic TIFF."""
    [start] = struct.unpack_from("<I", data, 4)
    [count] = struct.unpack_from("<H", data, start)
    return {
        struct.unpack_from("<H", data, start + 2 + 12 * i)[0]: start + 2 + 12 * i
        for i in range(count)
    }


def read_all(path):
    with open_image(path) as image:
        np.asarray(image.data[...])


NONSENSE = [(4, 1, 0), (3, 2, None), (2, 3, None), (12, 1, None), (99, 1, 1)]
"""Type, count and value of a tag; the value None is left as it is."""


@pytest.mark.parametrize("form", [{"tile": (32, 32)}, {"rowsperstrip": 16}])
def test_a_tag_of_nonsense_ends_in_a_sentence(tmp_path, form):
    good, path = tmp_path / "good.tif", tmp_path / "bad.tif"
    tifffile.imwrite(good, pixels(64, 48), metadata=None, **form)
    whole = good.read_bytes()
    for entry in tags(whole).values():
        for kind, count, value in NONSENSE:
            data = bytearray(whole)
            struct.pack_into("<HI", data, entry + 2, kind, count)
            if value is not None:
                struct.pack_into("<I", data, entry + 8, value)
            path.write_bytes(data)
            with suppress(SwintormerError):  # any other error fails
                read_all(path)


@pytest.mark.parametrize("code", [32809, 34661, 34676])
def test_an_unsupported_compression_is_named(tmp_path, code):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels(64, 48), metadata=None)
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, tags(data)[259] + 8, code)
    path.write_bytes(data)
    with pytest.raises(FileError, match=tifffile.COMPRESSION(code).name) as caught:
        read_all(path)
    assert "damaged" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.npy", "a.tif"])
def test_a_truncated_file_ends_in_a_sentence(tmp_path, name):
    path = tmp_path / name
    if name == "a.npy":
        np.save(path, pixels(64, 48))
    else:
        Image.fromarray(pixels(64, 48)).save(path)
    whole = path.read_bytes()
    for length in (0, 3, 9, 20, 60, 200, len(whole) // 2):
        path.write_bytes(whole[:length])
        with pytest.raises(FileError, match=r"a\.\w+"):
            read_all(path)


@pytest.mark.parametrize(
    "metadata", ["", "[]", "{", '{"zarr_format": 3}', '{"zarr_format": 9, "node_type": "array"}']
)
def test_damaged_zarr_metadata_ends_in_a_sentence(tmp_path, metadata):
    path = tmp_path / "a.zarr"
    zarr.create_array(path, data=pixels(64, 48))
    (path / "zarr.json").write_text(metadata)
    with pytest.raises(FileError, match=r"a\.zarr"):
        read_all(path)


def test_zarr_metadata_that_lies_ends_in_a_sentence(tmp_path):
    path = tmp_path / "a.zarr"
    zarr.create_array(path, data=pixels(64, 48), compressors=None)
    stored = json.loads((path / "zarr.json").read_text())
    stored["data_type"] = "uint16"
    (path / "zarr.json").write_text(json.dumps(stored))
    with pytest.raises(FileError, match=r"a\.zarr"):
        read_all(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="only Unix has pipes with names")
def test_a_pipe_is_refused_by_a_true_sentence(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileError, match="is a pipe or a device"):
        open_image(tmp_path / "pipe")


@pytest.mark.parametrize("letter", ["a", "é", "試", "🔬"])
@pytest.mark.parametrize("suffix", [".tif", ".npy", ".ome.zarr"])
def test_hidden_names_fit_wherever_the_name_of_the_result_fits(tmp_path, letter, suffix):
    stem = letter * ((255 - len(suffix)) // len(letter.encode()))
    path, other = tmp_path / f"{stem}{suffix}", tmp_path / f"{stem[:-1]}-{suffix}"
    hidden = [hidden_beside(p, w).name for p in (path, other) for w in ("partial", "writing")]
    assert len(set(hidden)) == 4
    assert all(name.startswith(".") and len(name.encode()) <= 255 for name in hidden)
    store = ResultStore.create(path, (64, 48), np.dtype("uint8"), "YX", 64, {})
    store.array[...] = pixels(64, 48)
    store.mark(0, 0, 0)
    store.finish()
    assert os.listdir(tmp_path) == [path.name]
    with open_image(path) as image:
        np.testing.assert_array_equal(image.data[...], pixels(64, 48))


def test_short_hidden_names_keep_the_whole_name(tmp_path):
    assert hidden_beside(tmp_path / "a.ome.tif", "partial").name == ".a.ome.tif.partial"


def test_a_name_that_is_too_long_is_refused(tmp_path):
    path = tmp_path / f"{'x' * 300}.tif"
    with pytest.raises(OutputError, match=r"is too long: it has 304 bytes.* allows 255"):
        check_output(path)
    with pytest.raises(FileError, match="is too long"):
        open_image(path)
    inside = tmp_path / ("x" * 300) / "a.tif"
    with pytest.raises(OutputError, match="does not exist; create it first"):
        check_output(inside)


class Torn:
    """An array whose pixels cannot be read."""

    shape, dtype, ndim = (64, 48), np.dtype("uint8"), 2

    def __getitem__(self, index):
        raise TypeError("torn")


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.npy"])
def test_a_failed_writing_leaves_no_file(tmp_path, name):
    with pytest.raises(OutputError, match=rf"{name} cannot be written \(TypeError: torn\)"):
        write_image(tmp_path / name, Torn(), "YX")
    assert not os.listdir(tmp_path)


def test_a_store_that_cannot_be_made_leaves_no_folder(tmp_path):
    path = tmp_path / "a.tif"
    with pytest.raises(OutputError, match=r"a\.tif cannot be written"):
        ResultStore.create(path, (64, 48), np.dtype("V7"), "YX", 64, {})
    assert not partial_folder(path).exists()
