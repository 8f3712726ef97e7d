"""Chosen planes of a stack get the same result as in a run over the whole stack."""

from __future__ import annotations

from dataclasses import replace

import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.tiny import random_network, tiny_prior_card
from napari_swintormer import deblur
from napari_swintormer.api import deblur_file
from napari_swintormer.errors import ImageError
from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.imaging.spans import format_planes, parse_planes
from napari_swintormer.imaging.views import Part
from napari_swintormer.models.files.weights import save_weights
from napari_swintormer.runs.planning import prepare
from napari_swintormer.settings.deblur_settings import DeblurSettings
from napari_swintormer.tiling.grid import Region


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("planes") / "with-prior.safetensors"
    card = tiny_prior_card()
    save_weights(path, random_network(card).state_dict(), card)
    return path


def test_chosen_planes_have_the_noise_and_the_intensities_of_the_whole_stack(file, tmp_path):
    # planes of different brightness: measured alone they would have other ranges
    levels = np.array([100, 3000, 500, 20_000]).reshape(2, 2, 1, 1)
    stack = np.random.default_rng(0).integers(0, levels, (2, 2, 50, 60)).astype("uint16")
    how = {"axes": "TZYX", "precision": "fp32"}
    whole = deblur(stack, file, **how)
    chosen = "Z=1, T=0:2"
    wanted = whole[:, 1:2]
    assert not np.array_equal(deblur(stack[:, 1:2], file, **how), wanted)
    np.testing.assert_array_equal(deblur(stack, file, planes=chosen, **how), wanted)
    lazy = deblur(da.from_array(stack, chunks=(1, 2, 30, 30)), file, planes=chosen, **how)
    np.testing.assert_array_equal(lazy, wanted)
    np.testing.assert_array_equal(
        deblur(zarr.array(stack, chunks=(1, 1, 50, 60)), file, planes=chosen, **how), wanted
    )
    np.save(tmp_path / "in.npy", stack)
    deblur_file(tmp_path / "in.npy", tmp_path / "out.ome.zarr", file, planes=chosen, **how)
    with open_image(tmp_path / "out.ome.zarr") as image:
        np.testing.assert_array_equal(image.data[...], wanted)


def test_a_preview_of_chosen_planes_has_the_pixels_of_the_whole_run(file):
    stack = np.random.default_rng(0).integers(0, 5000, (3, 50, 60)).astype("uint16")
    settings = DeblurSettings(str(file), "ZYX", precision="fp32", device="cpu")
    whole = deblur(stack, file, axes="ZYX", precision="fp32", device="cpu")
    job = prepare(stack, replace(settings, planes="Z=1:3"))
    restoring = job.preview({"Z": 1}, Region(10, 40, 5, 45))
    with pytest.raises(StopIteration) as end:
        exhaust(restoring)
    np.testing.assert_array_equal(end.value.value.at_strength(1.0)[0], whole[2, 10:40, 5:45])


def exhaust(events):
    while True:
        next(events)


@pytest.mark.parametrize(
    "text", ["", "Z", "Z=9", "Z=2:2", "Z=1:9", "C=0", "Z=-1", "Y=0:5", "Z=0,Z=1"]
)
def test_missing_planes_are_refused(text):
    with pytest.raises(ImageError, match="planes=") as caught:
        parse_planes(text, "TZYX", (2, 4, 50, 60))
    assert "\n" not in str(caught.value)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_chosen_planes_read_the_pixels_of_the_array(data):
    array = np.arange(5 * 6 * 7).reshape(5, 6, 7)
    spans = {}
    for axis, length in zip("TZ", array.shape, strict=False):
        start = data.draw(st.integers(0, length - 1))
        spans[axis] = (start, data.draw(st.integers(start + 1, length)))
    assert parse_planes(format_planes(spans), "TZX", array.shape) == spans
    wanted = array[tuple(slice(*spans[a]) if a in spans else slice(None) for a in "TZX")]
    part = Part(array, tuple(spans.get(a, (0,))[0] for a in "TZX"), wanted.shape)
    bound = st.one_of(st.none(), st.integers(-8, 8))
    index = tuple(
        data.draw(
            st.one_of(st.integers(-n, n - 1), st.builds(slice, bound, bound, st.integers(1, 3)))
        )
        for n in wanted.shape
    )
    np.testing.assert_array_equal(part[index], wanted[index])
    np.testing.assert_array_equal(np.asarray(part), wanted)
