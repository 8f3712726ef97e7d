"""Beads in noise give back the PSF that made them."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from napari_swintormer.cli import app
from napari_swintormer.errors import ImageError
from napari_swintormer.optics.beads import MeasuredPSF, measure_psf
from napari_swintormer.optics.stack_optics import StackOptics
from napari_swintormer.optics.stack_psf import stack_psf

OPTICS = StackOptics(na=0.8, emission=0.5, pixel_size=0.12, z_step=0.4, immersion_index=1.0)
SHAPE = (13, 21, 21)
PSF = stack_psf(OPTICS, SHAPE)


def stack_of(*centres, seed=0, saturate=False):
    """Noisy uint16 stack of 21 × 90 × 100 voxels with beads at these places."""
    image = np.full((21, 90, 100), 20.0)
    for z, y, x in centres:
        image[z - 6 : z + 7, y - 10 : y + 11, x - 10 : x + 11] += 2e5 * PSF
    counts = np.random.default_rng(seed).poisson(image) + 100
    return counts.clip(0, 900 if saturate else 65535).astype(np.uint16)


def test_the_mean_of_beads_is_the_psf():
    found = measure_psf(stack_of((10, 20, 20), (9, 60, 30), (11, 30, 70)), SHAPE)
    assert found.beads == 3
    assert found.psf.sum() == pytest.approx(1, abs=1e-4)
    assert np.unravel_index(found.psf.argmax(), SHAPE) == (6, 10, 10)
    assert np.corrcoef(found.psf.ravel(), PSF.ravel())[0, 1] > 0.995
    z, y = found.widths()
    assert y == pytest.approx(0.51 * 0.5 / 0.8 / 0.12, rel=0.15)  # FWHM of the Airy disk
    assert z == pytest.approx(MeasuredPSF(PSF, 1).widths()[0], rel=0.1)


def test_neighbours_and_border_are_left_out():
    alone, neighbour, border = (10, 20, 20), (10, 28, 20), (10, 12, 85)
    assert measure_psf(stack_of((10, 60, 60), border), SHAPE).beads == 2
    assert measure_psf(stack_of((10, 60, 60), alone, neighbour), SHAPE).beads == 1


@pytest.mark.parametrize(
    ("stack", "shape", "sentence"),
    [
        (np.zeros((5, 5), np.uint16), (3, 3, 3), "axes Z, Y and X"),
        (np.zeros((5, 9, 9), np.uint16), (7, 3, 3), "not larger than the stack"),
        (stack_of(), SHAPE, "no usable bead"),
    ],
)
def test_a_stack_without_beads_is_refused_in_a_sentence(stack, shape, sentence):
    with pytest.raises(ImageError, match=sentence):
        measure_psf(stack, shape)


def test_the_command_writes_a_psf_that_deblur_takes(tmp_path):
    tifffile.imwrite(tmp_path / "beads.tif", stack_of((10, 20, 20), (9, 60, 30)))
    out, beads = tmp_path / "psf.tif", str(tmp_path / "beads.tif")
    arguments = ["psf", beads, str(out), "--planes", "13", "--side", "21"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "2 beads" in done.output
    image = tmp_path / "image.tif"
    tifffile.imwrite(image, stack_of((10, 40, 40)))
    result = tmp_path / "sharp.tif"
    options = ["--psf", str(out), "--axes", "ZYX", "--iterations", "3", "--depth", "volume"]
    done = CliRunner().invoke(app, ["deblur", str(image), str(result), *options])
    assert done.exit_code == 0, done.output
    sharp = tifffile.imread(result)
    assert sharp[10, 40, 40] > 1.2 * tifffile.imread(image)[10, 40, 40]
