"""Stacks: regions agree with the whole, a stopped run goes on, what is not known stays."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.signal import fftconvolve

from napari_swintormer.engine.richardson_lucy import NoiseModel
from napari_swintormer.engine.stack_work import StackFit
from napari_swintormer.engine.volume import fit_stack, run, sample_stack, stacks_of
from napari_swintormer.events import ChunkFinished, Notice
from napari_swintormer.imaging.intensity import IntensityRange
from napari_swintormer.imaging.planes import Planes
from napari_swintormer.optics.stack_optics import StackOptics
from napari_swintormer.optics.stack_psf import psf_shape, stack_psf
from napari_swintormer.tiling import stack_regions
from napari_swintormer.tiling.grid import TileGrid

CPU = torch.device("cpu")
OPTICS = StackOptics(na=0.8, emission=0.5, pixel_size=0.3, z_step=0.8, immersion_index=1.0)
PLANES = 7
PSF = stack_psf(OPTICS, (11, 13, 13))
FIT = StackFit(offset=100.0, noise=NoiseModel(1.0, 4.0), iterations=6, start=60.0, flux=1.0)


@pytest.fixture(scope="module")
def scene():
    """Points and a bar in haze: the object, and the counts of it as uint16."""
    rng = np.random.default_rng(3)
    thing = np.zeros((PLANES, 60, 72))
    thing[rng.integers(0, PLANES, 40), rng.integers(0, 60, 40), rng.integers(0, 72, 40)] = 4e4
    thing[3, 20:40, 30:33] = 6000
    blurred = fftconvolve(thing, PSF, mode="same").clip(0)
    return thing, (rng.poisson(blurred + 20) + 100).astype(np.uint16)


def ranges_of(planes, **changes):
    plain = IntensityRange(0.0, 1.0, 0.0, float("inf"))
    return [replace(plain, **changes)] * len(planes)


def restore(image, axes="ZYX", fit=FIT, psf=PSF, out=None, **options):
    planes = Planes(image, axes, 1)
    out = np.zeros_like(image) if out is None else out
    changes = options.pop("changes", {})
    events = list(
        run(
            TileGrid(planes.shape, 64, 0, 64),
            planes,
            ranges_of(planes, **changes),
            dict.fromkeys(range(3), psf),
            CPU,
            out,
            fits=dict.fromkeys(range(3), fit),
            **options,
        )
    )
    return out, events


def fit_of(planes):
    return fit_stack(sample_stack(planes, stacks_of(planes)[0], ranges_of(planes)[0]), PSF, CPU)


def similarity(one, other):
    return np.corrcoef(one.ravel(), other.ravel())[0, 1]


def test_a_stack_comes_closer_to_its_object(scene):
    thing, image = scene
    planes = Planes(image, "ZYX", 1)
    fit = fit_of(planes)
    restored, _ = restore(image, fit=fit)
    assert similarity(restored, thing) > similarity(image, thing) + 0.2
    assert 90 < fit.offset < 130
    assert fit.noise.gain == pytest.approx(1, rel=0.4)
    counts, before = (a.astype(float).sum() - fit.offset * a.size for a in (restored, image))
    assert counts == pytest.approx(before, rel=0.01)


def test_regions_agree_with_the_whole(scene, monkeypatch):
    _, image = scene
    whole, _ = restore(image.astype(np.float32))
    monkeypatch.setattr(stack_regions, "REGION_BYTES", 1)
    monkeypatch.setattr(stack_regions, "SMALLEST_SIDE", 24)
    parts, events = restore(image.astype(np.float32))
    assert max(e.total for e in events if hasattr(e, "total")) == 6 * 12
    np.testing.assert_allclose(parts, whole, atol=1e-5 * whole.max())


@pytest.mark.parametrize("region", [1, 10**9])
def test_the_flux_of_uneven_content_stays(scene, monkeypatch, region):
    """The factor that was measured on one part does not hold for all of it."""
    _, image = scene
    monkeypatch.setattr(stack_regions, "REGION_BYTES", region)
    monkeypatch.setattr(stack_regions, "SMALLEST_SIDE", 40)
    light = np.linspace(0, 2, image.shape[2]) ** 2
    uneven = (100 + (image - 100.0) * light).astype(np.float32)
    restored, _ = restore(uneven, fit=replace(FIT, flux=1.3))
    before, after = (float((a - 100).sum(dtype=np.float64)) for a in (uneven, restored))
    assert after == pytest.approx(before, rel=0.01)


def test_a_stopped_run_goes_on_to_the_same_bits(scene, monkeypatch, tmp_path):
    _, image = scene
    monkeypatch.setattr(stack_regions, "REGION_BYTES", 1)
    monkeypatch.setattr(stack_regions, "SMALLEST_SIDE", 40)
    expected, all_events = restore(image)
    planes, out = Planes(image, "ZYX", 1), np.zeros_like(image)
    grid, psfs = TileGrid(planes.shape, 64, 0, 64), {0: PSF}
    work = run(grid, planes, ranges_of(planes), psfs, CPU, out, fits={0: FIT}, scratch=tmp_path)
    with closing(work) as events:
        for _ in range(11):
            next(events)
    again, events = restore(image, scratch=tmp_path)
    assert len(events) < len(all_events)
    np.testing.assert_array_equal(again, expected)
    assert not any(tmp_path.iterdir())
    other = replace(FIT, iterations=7)  # another run does not take over these estimates
    np.testing.assert_array_equal(
        restore(image, fit=other, scratch=tmp_path)[0], restore(image, fit=other)[0]
    )


def test_saturated_voxels_stay_and_do_not_spread(scene):
    _, image = scene
    saturated = image.copy()
    saturated[3, 25:28, 31] = 4095
    restored, _ = restore(saturated, changes={"saturation": 4095})
    np.testing.assert_array_equal(restored[saturated == 4095], 4095)
    without, _ = restore(image)
    far = restored[:, :12].astype(float) - without[:, :12]
    assert np.abs(far).max() <= 0.02 * without.max()


def test_nan_stays_where_it_is(scene):
    _, image = scene
    holes = image.astype(np.float32)
    holes[2:4, 10:14, 10:20] = np.nan
    restored, _ = restore(holes)
    np.testing.assert_array_equal(np.isnan(restored), np.isnan(holes))


def test_at_strength_zero_nothing_changes(scene):
    _, image = scene
    np.testing.assert_array_equal(restore(image, changes={"strength": 0.0})[0], image)


def test_times_and_channels_are_volumes_of_their_own(scene):
    _, image = scene
    several = np.stack([np.stack([image, image[:, ::-1]])] * 2)
    restored, events = restore(several, "TCZYX")
    alone, _ = restore(image)
    flipped, _ = restore(np.ascontiguousarray(image[:, ::-1]))
    np.testing.assert_array_equal(restored[1, 0], alone)
    np.testing.assert_array_equal(restored[0, 1], flipped)
    chunks = [event for event in events if isinstance(event, ChunkFinished)]
    assert len(chunks) == 4 * PLANES * 2


def test_values_beyond_the_data_type_are_told(scene):
    _, image = scene
    bright = (image // 12).clip(0, 250).astype(np.uint8)
    _, events = restore(bright, fit=replace(FIT, offset=9.0, start=5.0))
    (notice,) = (event for event in events if isinstance(event, Notice))
    assert "brighter than uint8 holds" in notice.message


def test_empty_and_flat_stacks_stay():
    for value in (0, 700):
        flat = np.full((PLANES, 40, 40), value, np.uint16)
        planes = Planes(flat, "ZYX", 1)
        fit = fit_of(planes)
        np.testing.assert_array_equal(restore(flat, fit=fit)[0], flat)


def test_noise_on_a_flat_background_is_not_amplified():
    rng = np.random.default_rng(0)
    image = (rng.poisson(20, (PLANES, 64, 64)) + 100).astype(np.float32)
    planes = Planes(image, "ZYX", 1)
    fit = fit_of(planes)
    restored, _ = restore(image, fit=fit)
    inside = np.s_[1:-1, 8:-8, 8:-8]
    assert restored[inside].std() < 1.05 * image[inside].std()
    assert restored[inside].mean() == pytest.approx(image[inside].mean(), rel=0.01)


def test_the_shape_of_a_psf_fits_the_stack():
    assert stack_psf(OPTICS, psf_shape(OPTICS, PLANES)).shape[0] == 2 * PLANES - 1
