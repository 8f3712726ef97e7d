"""Stacks as volumes through API, files and command line."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import dask.array as da
import numpy as np
import pytest
import tifffile
from scipy.signal import fftconvolve
from typer.testing import CliRunner

from napari_swintormer import deblur, deblur_file
from napari_swintormer.cli import app
from napari_swintormer.errors import SettingsError
from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.optics.file_optics import FileOptics, optics_of_text
from napari_swintormer.optics.stack_optics import StackOptics
from napari_swintormer.optics.stack_psf import stack_psf
from napari_swintormer.runs.file import FileRun
from napari_swintormer.runs.planning import prepare
from napari_swintormer.settings.deblur_settings import DeblurSettings
from napari_swintormer.tiling import stack_regions

NUMBERS = {"na": 0.8, "immersion": "air", "wavelength": 500, "pixel_size": 0.3, "z_step": 0.8}
FLAGS = ["--na", "0.8", "--immersion", "air", "--wavelength", "500"]


@pytest.fixture(scope="module")
def stack():
    """Seven planes of points and a bar in haze, uint16, and the object that they show."""
    psf = stack_psf(StackOptics(0.8, 0.5, 0.3, 0.8, immersion_index=1.0), (11, 13, 13))
    rng = np.random.default_rng(3)
    thing = np.zeros((7, 60, 72))
    thing[rng.integers(0, 7, 40), rng.integers(0, 60, 40), rng.integers(0, 72, 40)] = 4e4
    thing[3, 20:40, 30:33] = 6000
    blurred = fftconvolve(thing, psf, mode="same").clip(0)
    return (rng.poisson(blurred + 20) + 100).astype(np.uint16), thing


@pytest.fixture
def file(stack, tmp_path):
    path = tmp_path / "in.ome.tif"
    sizes = {"PhysicalSizeX": 0.3, "PhysicalSizeY": 0.3, "PhysicalSizeZ": 0.8}
    units = {f"{name}Unit": "µm" for name in sizes}
    tifffile.imwrite(path, stack[0], metadata={"axes": "ZYX"} | sizes | units)
    return path


def test_known_optics_make_a_volume_of_a_stack(stack):
    image, thing = stack
    restored = deblur(image, axes="ZYX", **NUMBERS)
    before, after = (np.corrcoef(a.ravel(), thing.ravel())[0, 1] for a in (image, restored))
    assert after > before + 0.2
    np.testing.assert_array_equal(restored, deblur(image, axes="ZYX", depth="volume", **NUMBERS))
    np.testing.assert_array_equal(deblur(image, axes="ZYX", strength=0, **NUMBERS), image)
    half = deblur(image, axes="ZYX", strength=0.5, **NUMBERS).astype(float)
    np.testing.assert_allclose(half, (image + restored.astype(float)) / 2, atol=1)


@pytest.mark.parametrize(
    ("changes", "volume"),
    [
        ({}, True),
        ({"model": "swintormer"}, False),  # who names a model wants it
        ({"depth": "planes"}, False),
        ({"na": None}, False),
        ({"axes": "TYX"}, False),
        ({"scale": 2}, False),
    ],
)
def test_automatic_takes_the_volume_where_everything_is_known(stack, changes, volume):
    settings = DeblurSettings(**({"axes": "ZYX"} | NUMBERS | changes))
    assert prepare(stack[0], settings).describe().startswith("Richardson-Lucy") is volume


@pytest.mark.parametrize(
    ("axes", "chosen", "region"),
    [
        ("CZYX", {}, 10**9),
        ("ZTYX", {"planes": "Z=1:6"}, 10**9),
        ("ZYXS", {"iterations": 3}, 1),  # too large for memory
    ],
)
def test_a_lazy_stack_is_restored_alike(stack, axes, chosen, region, monkeypatch):
    monkeypatch.setattr(stack_regions, "REGION_BYTES", region)
    along = {"C": 0, "T": 1, "S": -1}[next(a for a in axes if a in "CTS")]
    image = np.stack([stack[0], stack[0][:, ::-1], stack[0] // 2], axis=along)
    expected = deblur(image, axes=axes, **NUMBERS, **chosen)
    lazy = deblur(da.from_array(image, chunks=(3, 2, 40, 30)), axes=axes, **NUMBERS, **chosen)
    np.testing.assert_array_equal(lazy.compute(), expected)


def test_a_stopped_file_run_goes_on_to_the_same_bytes(file, stack, tmp_path, monkeypatch):
    monkeypatch.setattr(stack_regions, "REGION_BYTES", 1)
    options = {"na": 0.8, "immersion": "air", "wavelength": 500, "iterations": 5}
    expected = deblur_file(file, tmp_path / "whole.ome.zarr", **options)
    run = FileRun(file, tmp_path / "out.ome.zarr", DeblurSettings(**options))
    with closing(run.events()) as events:
        for _ in range(8):
            next(events)
    assert (tmp_path / ".out.ome.zarr.stack").is_dir()
    result = deblur_file(file, tmp_path / "out.ome.zarr", resume=True, **options)
    with open_image(result) as one, open_image(expected) as other:
        np.testing.assert_array_equal(one.data[...], other.data[...])
        assert one.pixel_size == pytest.approx({"Z": 0.8, "Y": 0.3, "X": 0.3})
    assert not list(tmp_path.glob(".out*"))


def test_the_command_line_takes_the_microscope_and_the_voxels_of_the_file(file, tmp_path):
    out = tmp_path / "out.tif"
    done = CliRunner().invoke(app, ["deblur", str(file), str(out), *FLAGS, "--depth", "volume"])
    assert done.exit_code == 0, done.output
    assert "1 volume of 7 × 60 × 72 voxels" in done.output
    with open_image(file) as image:
        expected = deblur(image.data[...], axes="ZYX", **NUMBERS)
    np.testing.assert_array_equal(tifffile.imread(out), expected)


DESCRIPTION = """<?xml version="1.0" encoding="UTF-8"?>
<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">
 <Instrument ID="Instrument:0">
  <Objective ID="Objective:0" LensNA="0.1" Immersion="Oil"/>
  <Objective ID="Objective:1" LensNA="0.8" Immersion="Air"/>
 </Instrument>
 <Image ID="Image:0"><InstrumentRef ID="Instrument:0"/><ObjectiveSettings ID="Objective:1"/>
  <Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="72" SizeY="60" SizeZ="7"
   SizeC="1" SizeT="1" PhysicalSizeX="0.3" PhysicalSizeY="0.3" PhysicalSizeZ="800"
   PhysicalSizeZUnit="nm">
   <Channel ID="Channel:0:0" SamplesPerPixel="1" EmissionWavelength="500"
    AcquisitionMode="WideField"/><TiffData/>
  </Pixels></Image></OME>"""


def test_the_microscope_is_read_from_ome_xml(stack, tmp_path):
    image = stack[0]
    tifffile.imwrite(tmp_path / "in.ome.tif", image, description=DESCRIPTION, metadata=None)
    result = deblur_file(tmp_path / "in.ome.tif", tmp_path / "out.ome.tif")
    np.testing.assert_array_equal(tifffile.imread(result), deblur(image, axes="ZYX", **NUMBERS))
    by_hand = deblur_file(tmp_path / "in.ome.tif", tmp_path / "na.tif", na=0.5)  # overrules
    expected = deblur(image, axes="ZYX", **(NUMBERS | {"na": 0.5}))
    np.testing.assert_array_equal(tifffile.imread(by_hand), expected)


def test_a_measured_psf_serves_as_well(stack, tmp_path):
    psf = stack_psf(StackOptics(0.8, 0.5, 0.3, 0.8, immersion_index=1.0), (13, 35, 35))
    tifffile.imwrite(tmp_path / "psf.tif", psf, photometric="minisblack")
    image = stack[0]
    expected = deblur(image, axes="ZYX", iterations=5, **NUMBERS).astype(float)
    measured = deblur(image, axes="ZYX", iterations=5, psf=str(tmp_path / "psf.tif"))
    assert np.corrcoef(measured.ravel(), expected.ravel())[0, 1] > 0.999


def test_the_plan_tells_the_time_of_an_earlier_run(stack):
    settings = DeblurSettings(axes="ZYX", iterations=4, device="cpu", **NUMBERS)
    job = prepare(stack[0], settings)
    assert job.plan.seconds is None
    deblur(stack[0], axes="ZYX", iterations=4, device="cpu", **NUMBERS)
    seconds = prepare(stack[0], settings).plan.seconds
    assert 0 < seconds < 60
    twice = prepare(np.stack([stack[0]] * 2), replace(settings, axes="TZYX", iterations=8))
    assert twice.plan.seconds == pytest.approx(4 * seconds)
    assert ", about" in twice.describe()


BAD_OPTICS = [
    ({"na": None}, r"missing: na\)"),
    ({"axes": "TYX"}, "two planes along Z"),
    ({"planes": "Z=2"}, "two planes along Z"),
    ({"z_step": 0.0}, "z_step must be a positive number"),
    ({"na": 1.2}, r"na must be less than the refractive index .*na=1.2, immersion_index=1\)"),
    ({"na": -0.5}, "na must be a positive number"),
    ({"immersion": "honey"}, "no such immersion"),
    ({"sample_index": 0.5}, "sample_index is a refractive index from 1 to 2"),
    ({"specimen_depth": 10.0}, r"missing: sample_index\)"),
    ({"specimen_depth": -1.0, "sample_index": 1.33}, "from 0 to 1000 micrometres"),
    ({"wavelength": 0.52}, "wavelength is in nanometres"),
    ({"modality": "widefeld"}, "no such modality"),
    ({"uncertainty": True}, "without the network"),
    ({"depth": "deep"}, "no such depth"),
    ({"psf": np.zeros((5, 5, 5), np.float32)}, "nothing but zeros"),
    ({"psf": np.ones((5, 5), np.float32)}, "dimensions Z, Y and X"),
    ({"psf": np.ones((4, 5, 5), np.float32)}, "odd"),
]


@pytest.mark.parametrize(("changes", "sentence"), BAD_OPTICS, ids=[b[1][:24] for b in BAD_OPTICS])
def test_what_cannot_be_a_volume_is_refused_in_one_sentence_everywhere(
    stack, tmp_path, changes, sentence
):
    tifffile.imwrite(tmp_path / "in.tif", stack[0], photometric="minisblack")
    options = {"axes": "ZYX", "depth": "volume"} | NUMBERS | changes
    options = {name: value for name, value in options.items() if value is not None}
    if "psf" in options:
        tifffile.imwrite(tmp_path / "psf.tif", options["psf"], photometric="minisblack")
        options["psf"] = str(tmp_path / "psf.tif")
    source, result = tmp_path / "in.tif", tmp_path / "out.tif"
    with pytest.raises(SettingsError, match=sentence) as refused:
        deblur_file(source, result, **options)
    flags = [
        text
        for name, value in options.items()
        for text in (f"--{name.replace('_', '-')}", *(() if value is True else (str(value),)))
    ]
    told = CliRunner().invoke(app, ["deblur", str(source), str(result), *flags])
    assert told.exit_code == 2
    assert f"error: {refused.value}" in told.output.replace("\n", " ").replace("  ", " ")
    assert not result.exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Objective NA = 1.2 (water)\nImmersion: Water", FileOptics(na=1.2, immersion_index=1.333)),
        (
            "Numerical Aperture: 0.75\nEmission wavelength = 525 nm",
            FileOptics(0.75, emissions=(0.525,)),
        ),
        ("nothing of the kind, banana = 7", FileOptics()),
    ],
)
def test_the_microscope_is_read_from_imagejs_info(text, expected):
    assert optics_of_text(text) == expected
