"""Images of any size are fitted, restored and scored."""

import gc
import math
import os
import tempfile
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from helpers.images import dots
from helpers.tiny import tiny_card
from napari_swintormer.evaluation.data.pair_images import PairImages
from napari_swintormer.evaluation.data.protocols import PROTOCOLS
from napari_swintormer.evaluation.methods import evaluator
from napari_swintormer.evaluation.metrics import scoring
from napari_swintormer.evaluation.metrics.scoring import Fit
from napari_swintormer.evaluation.metrics.similarity import psnr, ssim
from napari_swintormer.imaging import intensity
from napari_swintormer.imaging.views import expand_index
from napari_swintormer.models.restorer import IdentityRestorer
from napari_swintormer.settings.deblur_settings import DeblurSettings
from napari_swintormer.tiling import grid


def _image(shape=(40, 52), seed=0):
    return gaussian_filter(np.random.default_rng(seed).random(shape), 1.5)


def _fitted(image, sharp):
    return Fit.between(image, sharp)(image)


@given(gain=st.floats(0.1, 50), offset=st.floats(-1000, 1000))
def test_the_fit_undoes_gain_and_offset(gain, offset):
    sharp = _image()
    np.testing.assert_allclose(_fitted(gain * sharp + offset, sharp), sharp, atol=1e-9)


@given(st.floats(-0.2, 0.2), st.floats(-0.2, 0.2))
def test_no_other_gain_and_offset_fit_better(d_gain, d_offset):
    sharp = _image(seed=3)
    fitted = _fitted(np.random.default_rng(5).random(sharp.shape) + sharp, sharp)
    best = np.mean((fitted - sharp) ** 2)
    other = np.mean(((1 + d_gain) * fitted + d_offset - sharp) ** 2)
    assert other >= best - 1e-12


def test_a_constant_image_fits_as_the_mean():
    sharp = _image()
    np.testing.assert_allclose(_fitted(np.zeros_like(sharp), sharp), sharp.mean())


def test_large_images_are_scored_in_bands_to_the_same_figures(monkeypatch):
    sharp, image = dots(0, (211, 90)), gaussian_filter(dots(0, (211, 90)), 1)
    scale = scoring.Scale.of(sharp, PROTOCOLS["microscopy"])
    whole = scoring.score(PROTOCOLS["microscopy"], image, sharp, scale, ("frc",))
    monkeypatch.setattr(scoring, "_BAND", 30 * 90)
    monkeypatch.setattr(scoring, "_AT_ONCE", 1000)
    bands = scoring.score(PROTOCOLS["microscopy"], image, sharp, scale, ("frc",))
    assert math.isnan(bands.pop("frc"))
    assert bands == {name: pytest.approx(whole[name], rel=1e-9) for name in bands}
    fitted = scoring.Fit.between(image, sharp)(image)
    assert bands["psnr"] == pytest.approx(psnr(fitted, sharp, data_range=scale.span))
    assert bands["ssim"] == pytest.approx(ssim(fitted, sharp, data_range=scale.span))


class Textured:
    """A grey image of any size that is computed where it is read."""

    ndim, dtype = 2, np.dtype(np.uint16)

    def __init__(self, side, period):
        self.shape, self.period = (side, side), period

    def __getitem__(self, index):
        spans = expand_index(index, 2)
        y, x = (np.arange(*s.indices(self.shape[0])) / self.period for s in spans)
        return (3000 + 2000 * np.sin(y)[:, None] * np.cos(x)).astype(np.uint16)

    def __array__(self, *_, **__):
        return self[:, :]


class Darker(IdentityRestorer):
    """Changes the image at no cost."""

    card = tiny_card()

    def forward(self, tiles):
        return tiles * 0.9


@pytest.mark.slow("evaluation", "engine")
def test_large_images_are_restored_and_scored_from_disk(monkeypatch):
    """Only parts of the images and of the result are ever in memory."""
    side, settings = 1600, DeblurSettings(device="cpu", precision="fp32")
    whole = PairImages("YX", Textured(400, 9), Textured(400, 8), PROTOCOLS["folders"])
    for name in ("_SMALLEST_BLOCK", "_BLOCK_MULTIPLE"):
        monkeypatch.setattr(grid, name, 64)
    monkeypatch.setattr(intensity, "_REGIONS", 1)  # a sample of one size for all images
    in_memory = evaluator.restore(whole, settings, Darker(), 1)
    monkeypatch.setattr(evaluator, "_IN_MEMORY", 1000)
    monkeypatch.setattr(scoring, "_AT_ONCE", 1000)
    monkeypatch.setattr(scoring, "_BAND", 2**14)
    folder = tempfile.mkdtemp()
    monkeypatch.setattr(tempfile, "tempdir", folder)
    on_disk = evaluator.restore(whole, settings, Darker(), 1)
    assert not isinstance(on_disk, np.ndarray)
    np.testing.assert_array_equal(on_disk, in_memory)
    huge = replace(whole, blurred=Textured(side, 9), sharp=Textured(side, 8))
    scale = scoring.Scale.of(huge.sharp, huge.protocol)
    tracemalloc.start()
    restored = evaluator.restore(huge, settings, Darker(), 1)
    scores = scoring.score(huge.protocol, restored, huge.sharp, scale, ())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0 < scores["psnr"] < 40
    assert peak < 3 * side**2  # 5.6 MB were measured, and each of the images has 5.1 MB
    assert os.listdir(folder)
    del on_disk, restored
    gc.collect()
    assert not os.listdir(folder)  # the folder is deleted with the result
