"""The Stack section: shown for stacks, filled from the layer, and a volume in the viewer."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel
from napari.layers import Image

from napari_swintormer import deblur
from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.plugin.deblur.deblur_widget import DeblurWidget
from napari_swintormer.plugin.layers.layer_data import CARRIED, LayerSource, show_brighter
from napari_swintormer.plugin.layers.samples import nuclei_stack

NUMBERS = {"na": 0.8, "immersion": "air", "wavelength": 500.0}


@pytest.fixture
def stack():
    rng = np.random.default_rng(0)
    image = rng.poisson(20, (5, 40, 48)).astype(np.uint16) + 100
    image[2, 15:25, 20:23] += 2000
    return image


@pytest.fixture
def widget(make_napari_viewer, stack):
    viewer = make_napari_viewer()
    viewer.add_image(stack, scale=(0.8, 0.3, 0.3), units=("um",) * 3, axis_labels=("z", "y", "x"))
    widget = DeblurWidget(viewer)
    viewer.window.add_dock_widget(widget)
    return widget


@pytest.mark.gui
def test_the_section_takes_voxels_from_the_layer_and_names_what_is_missing(widget):
    section = widget.form.stack
    assert not section.isHidden()
    assert section.pixel_size.value == pytest.approx(0.3)
    assert section.z_step.value == pytest.approx(0.8)
    assert "NA, Immersion, Wavelength" in section.facts.text()
    assert widget.form.settings().depth == "planes"
    for name, value in NUMBERS.items():
        section.field(name).value = value
    settings = widget.form.settings()
    assert (settings.depth, settings.na, settings.immersion) == ("volume", 0.8, "air")
    section.depth.value = "planes"
    assert widget.form.settings().depth == "planes"
    assert widget.form.stack.toggleButton().text().endswith("Stack: plane by plane")
    widget._viewer.add_image(np.zeros((20, 20), np.uint8), name="flat")
    widget.form.refresh()
    widget.form.image.value = widget._viewer.layers["flat"]
    assert section.isHidden()
    assert widget.form.settings().depth == "auto"


DESCRIPTION = """<?xml version="1.0" encoding="UTF-8"?>
<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">
 <Instrument ID="Instrument:0"><Objective ID="Objective:0" LensNA="1.25"/></Instrument>
 <Image ID="Image:0"><InstrumentRef ID="Instrument:0"/>
  <ObjectiveSettings ID="Objective:0" {index}/>
  <Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="48" SizeY="40" SizeZ="5"
   SizeC="2" SizeT="1" PhysicalSizeX="0.1043" PhysicalSizeY="0.1043" PhysicalSizeZ="0.25">
   <Channel ID="Channel:0:0" SamplesPerPixel="1" EmissionWavelength="461"
    AcquisitionMode="SpinningDiskConfocal"/>
   <Channel ID="Channel:0:1" SamplesPerPixel="1" EmissionWavelength="525"
    AcquisitionMode="SpinningDiskConfocal"/>
   <TiffData/></Pixels></Image></OME>"""


@pytest.mark.gui
def test_the_section_takes_the_microscope_from_the_file(widget, stack, tmp_path):
    viewer, section, path = widget._viewer, widget.form.stack, tmp_path / "two.ome.tif"
    description = DESCRIPTION.format(index="")
    tifffile.imwrite(path, np.stack([stack] * 2), description=description, metadata=None)
    layers = viewer.open(path, plugin="napari-swintormer")
    for layer, wavelength in zip(layers, (461, 525), strict=True):
        widget.form.refresh()
        widget.form.image.value = layer
        names = ("na", "immersion", "wavelength", "pixel_size", "z_step", "modality")
        values = [section.field(name).value for name in names]
        assert values == [1.25, None, wavelength, 0.1043, 0.25, "spinning-disk"]
    assert section.facts.text() == "For a volume these numbers are missing: Immersion."
    section.immersion.value = "glycerol"
    assert "as a volume" in section.facts.text()
    section.specimen_depth.value = 10
    assert "missing: Specimen index." in section.facts.text()
    section.sample_index.value = 1.38
    settings = widget.form.settings()
    assert (settings.depth, settings.specimen_depth, settings.na) == ("volume", 10, 1.25)


@pytest.mark.gui
def test_every_channel_of_a_layer_has_its_own_wavelength(widget, stack, tmp_path):
    path, section = tmp_path / "two.ome.tif", widget.form.stack
    description = DESCRIPTION.format(index='RefractiveIndex="1.44"')
    tifffile.imwrite(path, np.stack([stack] * 2), description=description, metadata=None)
    with open_image(path) as image:
        layer = widget._viewer.add_image(image.data[...], metadata={CARRIED: image.carried})
    layer.axis_labels, layer.units = "czyx", ("pixel", "um", "um", "um")
    layer.scale = (1, 0.25, 0.1043, 0.1043)
    widget.form.refresh()
    widget.form.image.value = layer
    widget.form.axes.value = "CZYX"
    assert (section.wavelength.value, section.immersion.value) == (0, "1.44")
    assert "each channel" in section.wavelength.native.text()
    job = LayerSource.of(layer, "CZYX").plan(widget.form.settings())
    assert [optics.emission for optics in job.optics] == [0.461, 0.525]


@pytest.mark.gui
def test_a_volume_in_the_viewer_equals_that_of_the_api(widget, stack, qtbot):
    for name, value in NUMBERS.items():
        widget.form.stack.field(name).value = value
    widget.form.stack.iterations.value = 3
    with qtbot.waitSignal(widget.runs.ended, timeout=60_000):
        widget.run()
    expected = deblur(
        stack, axes="ZYX", pixel_size=0.3, z_step=0.8, iterations=3, depth="volume", **NUMBERS
    )
    (result,) = (layer for layer in widget._viewer.layers if layer.name.endswith("· volume"))
    np.testing.assert_array_equal(result.data, expected)
    assert result.metadata["swintormer"]["model"] == "Richardson-Lucy 3-D"


def test_a_volume_is_shown_to_its_own_brightness_unless_the_user_has_set_the_limits(stack):
    layer = Image(stack)
    source = LayerSource.of(layer, "ZYX")
    brighter = source.result_layer(3 * stack, "stack")
    show_brighter(brighter, source)
    low, high = layer.contrast_limits
    assert brighter.contrast_limits[0] == low
    assert high < brighter.contrast_limits[1] <= 3 * stack.max()
    brighter.contrast_limits = (low, 200)
    show_brighter(brighter, source)
    assert brighter.contrast_limits == [low, 200]


@pytest.mark.gui
def test_the_psf_is_drawn_when_the_section_is_open(widget, qtbot):
    section = widget.form.stack
    for name, value in NUMBERS.items():
        section.field(name).value = value
    assert section.picture.pixmap().isNull()
    section.expand(animate=False)
    qtbot.waitUntil(lambda: not section.picture.pixmap().isNull(), timeout=10_000)


@pytest.mark.gui
def test_the_microscope_is_taken_from_the_file_of_the_layer(qtbot, one_model):
    viewer = ViewerModel()
    ((data, arguments, _),) = nuclei_stack()
    layer = viewer.add_image(data, **arguments)
    widget = DeblurWidget(viewer)
    qtbot.addWidget(widget)
    section, settings = widget.form.stack, widget.form.settings()
    assert (settings.depth, settings.na, settings.immersion) == ("volume", 1.2, "water")
    assert (settings.wavelength, settings.modality) == (520, "widefield")
    assert section.toggleButton().text().endswith("Stack: as a volume")
    assert "as a volume" in widget.form.kind.sentence.text()
    viewer.layers.remove(layer)
    viewer.add_image(np.zeros((4, 20, 20), np.uint8), axis_labels=("z", "y", "x"))
    widget.reset_choices()
    assert section.na.value == 1.2  # the same microscope, until another is told
    assert section.pixel_size.value == 0
