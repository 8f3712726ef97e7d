"""The Blur section: a blur that is measured, or told by a slider, a line or a file."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from qtpy.QtCore import Qt
from scipy.ndimage import gaussian_filter

from helpers.tiny import FINDING_NETWORK
from helpers.widgets import PATIENCE, expected, noise
from napari_swintormer.events import Progress
from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.models import catalogue
from napari_swintormer.optics.blur import Blur
from napari_swintormer.plugin.deblur.deblur_events import keep_first_speed
from napari_swintormer.plugin.deblur.scripts import as_command, as_python
from napari_swintormer.plugin.layers.layer_data import CARRIED
from napari_swintormer.runs import blur_finding, blur_job
from napari_swintormer.runs.planning import prepare
from napari_swintormer.settings.deblur_settings import DEFAULT_MODEL, DeblurSettings

pytestmark = pytest.mark.gui


@pytest.fixture
def model(home, make_weights, one_model):
    """Let the package ship a tiny model that is told the blur, or finds it."""
    (home / "models").mkdir(parents=True)
    default = catalogue.BUILT_IN_FOLDER / f"{DEFAULT_MODEL}.safetensors"
    default.unlink()
    return shutil.copy(make_weights(DEFAULT_MODEL, network=FINDING_NETWORK), default)


@pytest.fixture
def image():
    """Squares out of focus, with a little noise."""
    y, x = np.mgrid[:160, :160]
    sharp = 40_000.0 * ((y // 24 + x // 24) % 2) + 10 * noise(160, 160)
    blurred = gaussian_filter(sharp, 2.5) + noise(160, 160)
    return blurred.astype(np.uint16)


@pytest.fixture
def opened(deblur_alone, image):
    """Open the widget on the image, all of it in view, with the section open."""
    deblur_alone.viewer.add_image(image, name="squares", scale=(0.5, 0.5), translate=(9, 7))
    deblur_alone.viewer._canvas_size = (4000, 4000)
    deblur_alone.section = deblur_alone.form.blur
    deblur_alone.section.expand(animate=False)
    return deblur_alone


def test_each_choice_gives_the_option_of_a_run(opened, tmp_path):
    section, settings = opened.section, opened.form.settings
    model = settings().model
    assert settings().blur is None
    section.choice.value = "size"
    section.size.value = 3.2
    assert (settings().blur, settings().model) == ("3.2px", model)
    assert section.facts.text() == "Defocus blur with a radius of 3.2 pixels."
    assert not section.picture.pixmap().isNull()
    section.collapse(animate=False)
    assert section.text().endswith("Blur: defocus blur with a radius of 3.2 pixels")
    section.expand(animate=False)
    assert section.text().endswith("Blur")
    record = opened.widget.chosen.active_record()
    assert "blur='3.2px'" in as_python(record)
    tifffile.imwrite(tmp_path / "image.tif", noise(160, 160))
    assert "--blur 3.2px" in as_command(record | {"path": str(tmp_path / "image.tif")})
    assert "radius of 3.2 pixels" in opened.widget.chosen.plan()[0][2].describe()

    section.choice.value = "file"
    assert section.facts.property("role") == "error"
    assert not opened.widget.update_plan()
    np.save(tmp_path / "even.npy", np.ones((4, 4), np.float32))
    section.file.value = str(tmp_path / "even.npy")
    assert section.facts.text().startswith("The sides of a PSF are odd")
    assert not opened.widget.update_plan()
    np.save(tmp_path / "psf.npy", np.ones((3, 3), np.float32))
    section.file.value = str(tmp_path / "psf.npy")
    assert settings().blur == str(tmp_path / "psf.npy")
    assert section.facts.property("role") == "caption"
    assert opened.widget.update_plan()

    section.choice.value = "unknown"
    assert (settings().blur, settings().model) == ("unknown", model)
    section.choice.value = "size"
    opened.form.model.value = "filter"
    assert (settings().blur, settings().model) == (f"{section.size.value:g}px", "filter")
    assert opened.widget.chosen.plan()[0][2].short_name == "filter"
    section.choice.value = "auto"
    assert (settings().blur, settings().model) == (None, "filter")
    opened.form.model.value = model
    assert (settings().blur, settings().model) == (None, model)


def test_the_measured_blur_is_said_and_drawn_as_a_run_finds_it(opened, qtbot, image):
    section = opened.section
    settings = DeblurSettings(model=opened.form.model.value, blur="auto")
    (notice,) = prepare(image, settings).notices()
    with qtbot.waitSignal(opened.widget.blur.work.ended, timeout=PATIENCE):
        qtbot.mouseClick(opened.widget.blur.tell, Qt.MouseButton.LeftButton)
    assert section.facts.text() == notice.message
    assert "pixels" in notice.message
    assert not section.picture.pixmap().isNull()
    assert opened.form.settings().blur is None
    opened.viewer.add_image(noise(40, 40), name="other")
    opened.form.image.value = opened.viewer.layers["other"]
    qtbot.waitUntil(lambda: not opened.widget.blur.work.running, timeout=PATIENCE)
    assert section.facts.text() != notice.message


def test_the_preview_follows_the_slider_and_measures_once(opened, qtbot, image, monkeypatch):
    measure, measured = blur_job.measure_powers, []

    def counting(*args, **options):
        measured.append(1)
        return measure(*args, **options)

    monkeypatch.setattr(blur_job, "measure_powers", counting)
    opened.section.choice.value = "size"
    shown, pixels = [], []
    for radius in (3.0, 5.0):
        with qtbot.waitSignal(opened.widget.previewed, timeout=PATIENCE) as made:
            opened.section.size.value = radius
        shown.append(made.args[0])
        pixels.append(shown[-1].data.copy())
    assert shown[0] is shown[1]
    assert len(measured) == 1
    for radius, preview in zip((3.0, 5.0), pixels, strict=True):
        np.testing.assert_array_equal(preview, expected(image, blur=radius))
    opened.section.choice.value = "motion"  # without a line there is no run
    assert "Draw a line" in opened.section.facts.text()


def test_a_line_on_the_image_is_a_motion(opened, qtbot):
    section, viewer = opened.section, opened.viewer
    section.choice.value = "motion"
    section.draw.click()
    layer = viewer.layers["squares motion"]
    assert viewer.layers.selection.active is layer
    assert opened.form.settings().blur == "motion:16@0"
    assert opened.widget.run_panel.preview.text() == "Deblur this view"
    with qtbot.waitSignal(opened.widget.previewed, timeout=PATIENCE):
        layer.data = [[[50, 60], [38, 76]]]  # pixels of the image
    assert opened.form.settings().blur == "motion:20@37"
    assert section.facts.text() == "Motion blur of 20 pixels, direction 37°."
    assert viewer.layers.selection.active is layer  # its ends can be dragged on
    layer.data = [[[50, 60], [50, 61]]]
    qtbot.waitUntil(lambda: section.facts.property("role") == "error", timeout=PATIENCE)
    assert "longer than one pixel" in section.facts.text()
    layer.data = [[[50, 60], [50, 70]]]
    qtbot.waitUntil(lambda: section.facts.property("role") != "error", timeout=PATIENCE)
    result = opened.run()
    made = result.metadata["swintormer"]["blur"]
    assert made["told"] == "motion:10@0"
    viewer.layers.remove(layer)
    assert "Draw a line" in section.facts.text()


def test_a_volume_has_no_blur_of_planes(deblur_alone):
    form = deblur_alone.form
    deblur_alone.viewer.add_image(noise(5, 40, 48))
    form.blur.choice.value = "size"
    assert not form.blur.isHidden()
    assert form.settings().blur is not None
    form.stack.depth.value = "volume"
    assert form.blur.isHidden()
    assert form.settings().blur is None


def test_of_a_stack_the_plane_on_the_screen_is_measured(deblur_alone, qtbot, image, monkeypatch):
    estimate, windows = blur_finding.estimated, []

    def counting(read, **options):
        windows.append(read)
        return estimate(read, **options)

    monkeypatch.setattr(blur_finding, "estimated", counting)
    viewer, section = deblur_alone.viewer, deblur_alone.form.blur
    sharp = 100.0 * noise(160, 160)
    viewer.add_image(np.stack([sharp.astype(np.uint16), image, image]))
    viewer._canvas_size = (4000, 4000)
    said = []
    for plane in (0, 1):
        viewer.dims.set_point(0, plane)
        with qtbot.waitSignal(deblur_alone.widget.blur.work.ended, timeout=PATIENCE):
            deblur_alone.widget.blur.measure()
        said.append(section.facts.text())
    assert len(windows) == 2
    assert "pixels" not in said[0]
    assert "radius of about" in said[1]


def test_the_speed_of_a_preview_gives_a_time_to_the_plan_of_the_run(image):
    settings = DeblurSettings(device="cpu", precision="fp32", blur="3.2px")
    job = prepare(image, settings)
    assert job.plan.seconds is None
    assert list(keep_first_speed(job, iter_once(Progress(1, 1, "tiles", 0.5))))
    assert prepare(image, settings).plan.seconds is not None
    assert prepare(image, replace(settings, model="filter")).plan.seconds is None


def iter_once(event):
    yield event


def test_the_lens_of_the_file_is_a_choice_with_the_defocus_as_slider(opened, qtbot, tmp_path):
    section, words = opened.section, "Numerical Aperture = 0.75\nEmission = 520"
    file = tmp_path / "cells.tif"
    info = {"Info": words, "unit": "um", "axes": "YX"}
    tifffile.imwrite(file, noise(160, 160), imagej=True, resolution=(5, 5), metadata=info)
    assert "lens" not in section.choice.choices
    with open_image(file) as read:
        carried = {CARRIED: read.carried}
    layer = opened.viewer.add_image(
        noise(160, 160), name="cells", metadata=carried, scale=(0.2, 0.2), units=("um", "um")
    )
    opened.viewer.reset_view()
    opened.form.image.value = layer
    qtbot.waitUntil(lambda: "lens" in section.choice.choices, timeout=PATIENCE)
    section.choice.value = "lens"
    assert section.lens_facts.text() == "From the file: NA 0.75, 520 nm, pixels of 0.2 µm."
    with qtbot.waitSignal(opened.widget.previewed, timeout=PATIENCE) as made:
        section.defocus.value = 1.5
    told = Blur.optics(na=0.75, wavelength=0.52, pixel_size=0.2, defocus=1.5)
    assert section.blur() == told
    assert section.facts.text() == f"B{told.sentence()[1:]}."
    np.testing.assert_array_equal(made.args[0].data, expected(layer.data, blur=told))
    section.defocus.value = section.defocus.max  # the widest blur that can be undone
    assert section.facts.property("role") == "caption"
    assert opened.widget.update_plan()
    opened.form.image.value = opened.viewer.layers["squares"]
    assert section.choice.value == "auto"
    assert "lens" not in section.choice.choices


def test_the_answer_what_an_image_is_reaches_the_filter(opened, qtbot, image):
    photo = np.stack([image // 257] * 3, -1).astype(np.uint8)
    layer = opened.viewer.add_image(photo, rgb=True, scale=(0.5, 0.5), translate=(9, 7))
    opened.form.image.value = layer
    opened.section.choice.value = "size"
    for kind in ("microscopy", "photo"):
        with qtbot.waitSignal(opened.widget.previewed, timeout=PATIENCE) as made:
            getattr(opened.form.kind, kind).click()
        wanted = expected(photo, blur=f"{opened.section.size.value:g}px", kind=kind)
        np.testing.assert_array_equal(made.args[0].data, wanted)
    opened.section.choice.value = "auto"
    qtbot.waitUntil(lambda: not opened.widget.blur.work.running, timeout=PATIENCE)
    with qtbot.waitSignal(opened.widget.blur.work.ended, timeout=PATIENCE):
        opened.form.kind.microscopy.click()
    assert not opened.widget.blur.measured.photo
