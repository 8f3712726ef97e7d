"""Every format of the registry keeps one contract; a new format joins these tests by its line."""

import numpy as np
import pytest

from helpers.store import begin, copy_chunks
from napari_swintormer.errors import FileError, OutputError
from napari_swintormer.imaging.formats.registry import (
    FORMATS,
    RESULT_SUFFIXES,
    SUFFIXES,
    detect_format,
    format_of,
)
from napari_swintormer.imaging.formats.writing import check_fits, write_image

GREY = np.add.outer(np.arange(40), np.arange(50)).astype(np.uint8)


def write(path, image=GREY):
    if path.suffix == ".zarr":
        store = begin(path, image)
        copy_chunks(image, "YX", store)
        store.finish()
    else:
        write_image(path, image, "YX")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_written_file_is_detected_by_its_content_and_reads_back(tmp_path, suffix):
    write(tmp_path / f"a{suffix}")
    (tmp_path / f"a{suffix}").rename(tmp_path / "renamed")
    form = detect_format(tmp_path / "renamed")
    assert form is format_of(tmp_path / f"a{suffix}")
    with form.open(tmp_path / "renamed", None) as image:
        grey = np.asarray(image.data[..., 0] if form.name == "WebP" else image.data[...])
        assert (grey.shape, grey.dtype) == ((40, 50), np.uint8)
        lossy = form.result_suffix is not None
        np.testing.assert_allclose(grey, GREY, atol=3 if lossy else 0)


def test_suffixes_belong_to_one_format_each():
    assert len(set(SUFFIXES)) == len(SUFFIXES)
    assert all(suffix == suffix.lower() and suffix[0] == "." for suffix in RESULT_SUFFIXES)
    results = {RESULT_SUFFIXES[result] for result in RESULT_SUFFIXES.values()}
    assert results == set(RESULT_SUFFIXES.values())  # the result of a result keeps its suffix


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_floats_are_held_as_the_format_says(form, tmp_path):
    path = tmp_path / f"a{form.suffixes[0]}"
    if form.holds_floats:
        check_fits(path, "YX", (4, 5), "float32")
    else:
        with pytest.raises(OutputError, match="not float32"):
            check_fits(path, "YX", (4, 5), "float32")


@pytest.mark.parametrize(("content", "problem"), [(b"", "is empty"), (b"GIF89a", "unknown format")])
def test_other_files_are_refused_with_the_formats_that_can_be_opened(tmp_path, content, problem):
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(FileError, match=f"{problem}; TIFF, .* can be opened"):
        detect_format(tmp_path / "a.tif")
