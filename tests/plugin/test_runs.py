"""Results fill in during a run; a run can stop, continue and wait."""

from __future__ import annotations

import gc
from collections import Counter

import numpy as np
import pytest
from napari.layers import Image
from qtpy.QtCore import Qt

from helpers.widgets import PATIENCE, expected, noise
from napari_swintormer.engine.region import RestoredRegion
from napari_swintormer.models.restorer import Restorer
from napari_swintormer.plugin.layers import space_check
from napari_swintormer.plugin.layers.layer_result import MemoryResult
from napari_swintormer.plugin.shared.work import Worker

pytestmark = pytest.mark.gui
_LIVE = (Image, Restorer, MemoryResult, RestoredRegion, Worker)


@pytest.fixture
def on_disk(monkeypatch):
    """Treat small images as large ones, in small chunks."""
    monkeypatch.setattr(space_check, "LARGEST_TEXTURE", 100)
    monkeypatch.setattr("napari_swintormer.tiling.grid._SMALLEST_BLOCK", 128)
    monkeypatch.setattr("napari_swintormer.tiling.grid._BLOCK_MULTIPLE", 64)
    monkeypatch.setattr("napari_swintormer.imaging.store.pyramid._COARSEST", 100)


def stop_after(widget, qtbot, n_chunks, batches, limit):
    """Run, and cancel when some chunks are finished, which takes no more than `limit` batches."""

    def enough():
        result = widget.runs._current and widget.runs._current.result
        return result is not None and len(result.finished()) >= n_chunks

    batches.limit = len(batches) + limit
    with qtbot.waitSignal(widget.finished, timeout=PATIENCE) as blocker:
        widget.run()
        qtbot.waitUntil(enough, timeout=PATIENCE)
        qtbot.mouseClick(widget.run_panel.cancel, Qt.MouseButton.LeftButton)
        batches.limit = None
    return blocker.args[0]


def test_a_stack_fills_in_and_a_stopped_run_continues_to_the_same_result(
    deblur_alone, qtbot, batches
):
    image = noise(6, 120, 100)
    whole = expected(image)
    n_batches = len(batches)
    batches.clear()
    blurred = deblur_alone.viewer.add_image(image, name="cells", contrast_limits=(3, 200))
    widget, panel = deblur_alone.widget, deblur_alone.widget.run_panel
    shown = []
    widget.runs.opened.connect(lambda run: shown.append(np.array(run.layer.data)))

    # the first two of six planes are written when the fourth begins
    assert stop_after(widget, qtbot, 2, batches, n_batches // 2 + 1) is None

    np.testing.assert_array_equal(shown[0], image)  # the input, until there is more
    _, layer = deblur_alone.viewer.layers
    finished = [np.array_equal(a, b) for a, b in zip(layer.data, whole, strict=True)]
    assert 2 <= sum(finished) < 6
    np.testing.assert_array_equal(layer.data[5], image[5])
    assert not layer.metadata["swintormer"]["complete"]
    assert layer.contrast_limits == blurred.contrast_limits
    assert panel.message.text().startswith("What is finished is kept")
    assert panel.resume.isVisibleTo(panel)
    before = len(batches)

    with qtbot.waitSignal(widget.finished, timeout=PATIENCE) as blocker:
        qtbot.mouseClick(panel.resume, Qt.MouseButton.LeftButton)

    assert blocker.args == [layer]
    np.testing.assert_array_equal(layer.data, whole)
    assert layer.metadata["swintormer"]["complete"]
    assert layer.metadata["swintormer"]["settings"]["axes"] == "ZYX"
    # nothing finished is made again: at most the plane that was in hand
    assert before < len(batches) <= n_batches + n_batches // len(image)
    assert not panel.resume.isVisibleTo(panel)


def test_a_paused_run_continues_before_the_waiting_one(deblur_alone, qtbot, batches):
    image, other = noise(5, 120, 100), noise(1, 60, 60)
    viewer, widget, panel = deblur_alone.viewer, deblur_alone.widget, deblur_alone.widget.run_panel
    blurred = viewer.add_image(image, name="cells")
    made = []
    widget.finished.connect(made.append)

    def pause_after(n_batches):
        batches.limit = len(batches) + n_batches
        widget.run()
        qtbot.waitUntil(lambda: len(batches) == batches.limit, timeout=PATIENCE)
        before = len(batches)
        qtbot.mouseClick(panel.pause, Qt.MouseButton.LeftButton)
        batches.limit = None
        qtbot.waitUntil(lambda: widget.runs.stopped is not None, timeout=PATIENCE)
        assert len(batches) <= before + 1

    pause_after(3)
    assert not made
    assert panel.progress_text.text() == "Paused."
    deblur_alone.form.image.value = viewer.add_image(other, name="other")
    widget.run()
    assert widget.runs.n_waiting == 1
    assert not widget.runs.running

    qtbot.mouseClick(panel.resume, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: len(made) == 2, timeout=PATIENCE)
    assert [layer.name for layer in made] == [
        "cells · swintormer",
        "other · swintormer",
    ]
    np.testing.assert_array_equal(made[0].data, expected(image))

    deblur_alone.form.image.value = blurred
    before = list(viewer.layers)
    pause_after(3)
    qtbot.mouseClick(panel.cancel, Qt.MouseButton.LeftButton)
    if widget.runs.stopped is None:  # nothing was finished at the pause
        assert list(viewer.layers) == before
    assert not widget.runs.paused


def test_cancel_before_anything_is_finished_leaves_the_viewer_unchanged(
    deblur_alone, qtbot, batches
):
    viewer = deblur_alone.viewer
    viewer.add_image(noise(120, 900))
    before = list(viewer.layers)
    batches.limit = 3
    with qtbot.waitSignal(deblur_alone.widget.finished, timeout=PATIENCE) as blocker:
        deblur_alone.widget.run()
        qtbot.waitUntil(lambda: len(batches) == 3, timeout=PATIENCE)
        qtbot.mouseClick(deblur_alone.widget.run_panel.cancel, Qt.MouseButton.LeftButton)
        batches.limit = None

    assert blocker.args == [None]
    assert deblur_alone.widget.run_panel.message.text().startswith("Cancelled")
    assert len(batches) <= 3 + 1
    assert list(viewer.layers) == before
    assert deblur_alone.widget.run_panel.run.isEnabled()
    assert not deblur_alone.widget.run_panel.cancel.isEnabled()
    assert deblur_alone.run() == viewer.layers[-1]


@pytest.mark.parametrize("kind", ["grey", "colours of a pyramid"])
def test_a_large_result_fills_in_on_disk_and_goes_with_its_layer(
    deblur_alone, home, on_disk, kind, qtbot, batches
):
    image = noise(2, 300, 260) if kind == "grey" else noise(300, 260, 3, dtype="uint8")
    levels = [image] if kind == "grey" else [image, image[::2, ::2], image[::4, ::4]]
    deblur_alone.viewer.add_image(
        image if kind == "grey" else levels, rgb=kind != "grey", multiscale=kind != "grey"
    )
    whole = expected(image, axes="ZYX" if kind == "grey" else "YXS")

    stop_after(deblur_alone.widget, qtbot, 3, batches, 3 * len(batches) // 4)

    layer = deblur_alone.viewer.layers[-1]
    assert layer.multiscale
    part = np.asarray(layer.data[0])
    y, x = (1, 2) if kind == "grey" else (0, 1)
    spatial = [slice(None)] * image.ndim
    for start in (0, 128, 256):  # every chunk is the input or the result
        for left in (0, 128, 256):
            spatial[y], spatial[x] = slice(start, start + 128), slice(left, left + 128)
            chunk = tuple(spatial)
            for n, position in enumerate(part[chunk] if kind == "grey" else [part[chunk]]):
                options = [a[chunk][n] if kind == "grey" else a[chunk] for a in (image, whole)]
                assert any(np.array_equal(position, option) for option in options)
    assert not np.array_equal(part, image)
    assert not np.array_equal(part, whole)
    assert layer.data[1].shape[y : x + 1] == (150, 130)
    if kind != "grey":  # the lower right is not finished: there are the levels of the input
        np.testing.assert_array_equal(layer.data[1][-10:, -10:], levels[1][-10:, -10:])

    with qtbot.waitSignal(deblur_alone.widget.finished, timeout=PATIENCE):
        deblur_alone.widget.runs.resume()
    np.testing.assert_array_equal(layer.data[0], whole)
    mean = whole[..., :300, :, :] if kind != "grey" else whole
    mean = mean.astype(float)
    mean = (mean.take(range(0, 300, 2), y) + mean.take(range(1, 300, 2), y)) / 2
    mean = (mean.take(range(0, 260, 2), x) + mean.take(range(1, 260, 2), x)) / 2
    np.testing.assert_allclose(layer.data[1], mean, atol=0.5)
    assert len(list((home / "cache").glob("result-*"))) == 1

    deblur_alone.viewer.layers.remove(layer)
    deblur_alone.viewer.layers.selection.active = deblur_alone.viewer.layers[0]
    del layer

    def gone():  # a thread may hold the layer's data a moment longer
        gc.collect()
        return not list((home / "cache").glob("result-*"))

    qtbot.waitUntil(gone, timeout=PATIENCE)


def test_selected_layers_run_in_turn_and_their_inputs_may_be_removed(deblur_alone, qtbot):
    images = {name: noise(3, 64, 60 + i) for i, name in enumerate("abc")}
    viewer, widget = deblur_alone.viewer, deblur_alone.widget
    layers = [viewer.add_image(image, name=name) for name, image in images.items()]
    viewer.layers.selection = set(layers)
    assert widget.update_plan()
    assert widget.run_panel.run.text() == "Deblur 3 layers"
    made = []
    widget.finished.connect(made.append)

    qtbot.mouseClick(widget.run_panel.run, Qt.MouseButton.LeftButton)
    assert widget.runs.n_waiting == 2
    for layer in layers:
        viewer.layers.remove(layer)
    qtbot.waitUntil(lambda: len(made) == 3, timeout=PATIENCE)

    assert [layer.name for layer in made] == [f"{name} · swintormer" for name in "abc"]
    assert made == list(viewer.layers)
    for layer, image in zip(made, images.values(), strict=True):
        np.testing.assert_array_equal(layer.data, expected(image))


def test_a_second_click_queues_no_equal_run(deblur_alone, qtbot, batches):
    deblur_alone.viewer.add_image(noise(96, 96), name="cells")
    widget, run = deblur_alone.widget, deblur_alone.widget.run_panel.run
    batches.limit = 1
    assert widget.update_plan()
    qtbot.mouseClick(run, Qt.MouseButton.LeftButton)
    assert run.text() == "Queue another"
    assert not run.isEnabled()
    widget.run()
    assert widget.runs.n_waiting == 0
    deblur_alone.form.strength.value = 0.5
    widget.update_plan()
    assert run.isEnabled()
    qtbot.mouseClick(run, Qt.MouseButton.LeftButton)
    assert widget.runs.n_waiting == 1
    assert not run.isEnabled()
    made = []
    widget.finished.connect(made.append)
    batches.limit = None
    qtbot.waitUntil(lambda: len(made) == 2, timeout=PATIENCE)
    assert run.text() == "Deblur all"


def test_removing_the_result_stops_its_run(deblur_alone, qtbot, batches):
    deblur_alone.viewer.add_image(noise(60, 120, 100))
    widget = deblur_alone.widget
    batches.limit = 1

    def remove(run):
        deblur_alone.viewer.layers.remove(run.layer)
        batches.limit = None

    widget.runs.opened.connect(remove)
    assert deblur_alone.run() is None
    assert len(deblur_alone.viewer.layers) == 1
    assert widget.runs.stopped is None
    assert len(batches) <= 2


@pytest.mark.slow("plugin", "runs", "engine")
def test_runs_and_previews_leave_nothing_behind(viewer, deblur, qtbot):
    layer = viewer.add_image(noise(40, 50))

    def live():
        gc.collect()
        return Counter(type(a).__name__ for a in gc.get_objects() if type(a) in _LIVE)

    def once():
        deblur.preview()
        viewer.layers.remove(deblur.run())
        viewer.layers.selection.active = layer

    once()
    before = live()
    for _ in range(4):
        once()
    # the thread of the last run may still hold its worker
    qtbot.waitUntil(lambda: live() <= before, timeout=10_000)


def test_a_lack_of_memory_is_shown_before_the_run(deblur_alone, monkeypatch):
    deblur_alone.viewer.add_image(noise(80, 80))
    widget = deblur_alone.widget
    assert widget.update_plan()
    free = space_check.psutil.virtual_memory()._replace(available=400_000)
    monkeypatch.setattr(space_check.psutil, "virtual_memory", lambda: free)
    assert not widget.update_plan()
    assert "1 MB are free. Choose a smaller tile size" in widget.plan_panel.sentence.text()
    assert widget.plan_panel.sentence.property("role") == "error"
    assert not widget.run_panel.run.isEnabled()
