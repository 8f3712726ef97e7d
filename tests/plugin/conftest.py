"""A real viewer with the Deblur widget open, and a tiny model to run."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import threading
from contextlib import contextmanager, suppress
from types import SimpleNamespace

import pytest
import tifffile

os.environ["NAPARI_CONFIG"] = ""  # neither read nor write the user's settings of napari

from napari.components import ViewerModel

from helpers.training import stacks
from helpers.widgets import PATIENCE
from napari_swintormer.events import Progress
from napari_swintormer.models import catalogue
from napari_swintormer.models.restorer import Restorer
from napari_swintormer.plugin.deblur.deblur_widget import DeblurWidget
from napari_swintormer.plugin.shared import work as work_module
from napari_swintormer.plugin.shared.work import Worker
from napari_swintormer.plugin.train.train_widget import TrainWidget
from napari_swintormer.settings.deblur_settings import DEFAULT_MODEL
from napari_swintormer.training.loop.train import iter_train
from napari_swintormer.training.train_presets import PRESETS


@pytest.fixture
def one_model(home, monkeypatch):
    """Let the package ship the default model alone: it is chosen for every image."""
    folder = home / "built-in"
    folder.mkdir(parents=True)
    name = f"{DEFAULT_MODEL}.safetensors"
    (folder / name).symlink_to(catalogue.BUILT_IN_FOLDER / name)
    monkeypatch.setattr(catalogue, "BUILT_IN_FOLDER", folder)


@pytest.fixture
def model(home, tiny_weights, one_model):
    """Let the package ship a tiny model as its default; the user's folder is empty."""
    (home / "models").mkdir(parents=True)
    default = catalogue.BUILT_IN_FOLDER / f"{DEFAULT_MODEL}.safetensors"
    default.unlink()
    return shutil.copy(tiny_weights, default)


@pytest.fixture(scope="session", autouse=True)
def _frozen_imports():
    """Let the collector skip what imports made: napari collects whenever a layer is removed."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def qapp_args():
    """Without any display Qt would end the process, so draw nothing instead."""
    if sys.platform == "linux" and not os.environ.keys() & {"DISPLAY", "WAYLAND_DISPLAY"}:
        os.environ["QT_QPA_PLATFORM"] = "offscreen"
    return []


@pytest.fixture
def display(qapp):
    """Skip where the layers of a viewer cannot be drawn."""
    if qapp.platformName() in ("offscreen", "minimal"):
        pytest.skip("the layers of a viewer need OpenGL: install Xvfb or set DISPLAY")


class Batches(list):
    """Sizes of the batches so far. None begins beyond `limit` until that is lifted."""

    def __init__(self):
        super().__init__()
        self._limit, self._changed = None, threading.Condition()

    @property
    def limit(self):
        return self._limit

    @limit.setter
    def limit(self, limit):
        with self._changed:
            self._limit = limit
            self._changed.notify_all()

    def add(self, size):
        with self._changed:
            self._changed.wait_for(lambda: self._limit is None or len(self) < self._limit)
            self.append(size)


@pytest.fixture
def batches(monkeypatch):
    """Count the batches, and hold them: no test depends on the speed of a thread."""
    restore, batches = Restorer.in_steps, Batches()

    def counting(self, tiles, origins=None):
        batches.add(len(tiles))
        return restore(self, tiles, origins)

    monkeypatch.setattr(Restorer, "in_steps", counting)
    yield batches
    batches.limit = None


@pytest.fixture
def viewer(display, request):
    """Open a real viewer."""
    return request.getfixturevalue("make_napari_viewer")()


@pytest.fixture
def deblur(viewer, model, qtbot):
    """Open the Deblur widget in a real viewer, and give ways to run it."""
    _, widget = viewer.window.add_plugin_dock_widget("napari-swintormer", "Deblur")
    yield from _driven(viewer, widget, qtbot)


@pytest.fixture
def deblur_alone(model, qtbot):
    """Show the Deblur widget beside a viewer without a window: needs no OpenGL and is quick."""
    viewer = ViewerModel()
    widget = DeblurWidget(viewer)
    qtbot.addWidget(widget)
    viewer.layers.events.inserted.connect(widget.reset_choices)
    viewer.layers.events.removed.connect(widget.reset_choices)
    yield from _driven(viewer, widget, qtbot)


def _driven(viewer, widget, qtbot):
    widget.form.device.value = "cpu"
    widget.form.precision.value = "fp32"
    widget.form.more.expand(animate=False)  # no one can click on what is folded away

    def run():
        with qtbot.waitSignal(widget.finished, timeout=PATIENCE) as blocker:
            widget.run()
        return blocker.args[0]

    def preview():
        with qtbot.waitSignal(widget.previewed, timeout=PATIENCE) as blocker:
            widget.run_preview()
        return blocker.args[0]

    yield SimpleNamespace(viewer=viewer, widget=widget, form=widget.form, run=run, preview=preview)
    # what has begun, or waits for a slider to stand still, would go on in the next test
    with suppress(RuntimeError):  # deleted with its window
        widget.form.blur._timer.stop()
    works = widget.runs, widget.preview, widget.blur.work
    workers = [work._worker for work in works if work._worker is not None]
    for worker in workers:
        worker.quit()
    qtbot.waitUntil(lambda: not any(w.is_running for w in workers), timeout=PATIENCE)
    qtbot.waitUntil(lambda: not _running(widget), timeout=PATIENCE)  # closing asks during a run


def _running(widget):
    try:
        return widget.runs.parent() is not None and widget.runs.running
    except RuntimeError:  # deleted with its window
        return False


@pytest.fixture
def folders(tmp_path):
    """Two folders of four images each."""
    made = tmp_path / "blurred", tmp_path / "sharp"
    for folder, stack in zip(made, stacks(), strict=True):
        folder.mkdir()
        for k, plane in enumerate(stack):
            tifffile.imwrite(folder / f"{'abcd'[k]}.tif", plane)
    return made


def _is_step(event):
    return isinstance(event, Progress) and event.unit == "steps"


@contextmanager
def held_after(steps):
    """Hold a training after some steps until this context ends; give the event of holding."""
    report, reached, go_on = Worker._report, threading.Event(), threading.Event()

    def held(worker, event):
        report(worker, event)
        if _is_step(event) and event.done >= steps:
            reached.set()
            go_on.wait(PATIENCE / 1000)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Worker, "_report", held)
        try:
            yield reached
        finally:
            go_on.set()


def _drive(widget, viewer, qtbot):
    form = widget.form
    form.name.value = "mine"
    form.device.value = "cpu"
    form.steps.value, form.batch_size.value, form.patch_size.value = 6, 2, 32

    def until(signal, begin):
        with qtbot.waitSignal(signal, timeout=PATIENCE) as blocker:
            begin()
        return blocker.args[0]

    def stopped(settings):
        """Begin a training outside the widget, stop it, and give its folder."""
        events = iter_train(settings)
        while not (_is_step(e := next(events)) and e.done == 3):
            pass
        events.close()
        return settings.run_folder

    def stop_after(steps, halt=widget.stop):
        ending = qtbot.waitSignal(widget.finished, timeout=PATIENCE)
        with ending as blocker, held_after(steps) as reached:
            widget.run()
            qtbot.waitUntil(reached.is_set, timeout=PATIENCE)
            halt()
        return blocker.args[0]

    yield SimpleNamespace(
        viewer=viewer,
        widget=widget,
        form=form,
        run=lambda: until(widget.finished, widget.run),
        check=lambda: until(widget.checked, widget.check),
        stop_after=stop_after,
        held_after=held_after,
        go_on=lambda begin: until(widget.finished, begin),
        stopped=stopped,
    )
    if (worker := widget.work._worker) is not None:
        worker.quit()
        qtbot.waitUntil(lambda: not worker.is_running, timeout=PATIENCE)


@pytest.fixture
def _validate_often(monkeypatch):
    monkeypatch.setitem(PRESETS["quick"], "validate_every", 2)
    monkeypatch.setattr("napari_swintormer.training.loop.validation._PATCHES", 6)
    # every step is reported, however quick it was
    monkeypatch.setitem(work_module.PAUSES, Progress, 0.0)


@pytest.fixture
def training(viewer, model, qtbot, _validate_often):
    """Open the Train widget in a real viewer."""
    _, widget = viewer.window.add_plugin_dock_widget("napari-swintormer", "Train")
    yield from _drive(widget, viewer, qtbot)


@pytest.fixture
def training_alone(model, qtbot, _validate_often):
    """Show the Train widget beside a viewer without a window."""
    viewer = ViewerModel()
    widget = TrainWidget(viewer)
    qtbot.addWidget(widget)
    viewer.layers.events.inserted.connect(widget.reset_choices)
    viewer.layers.events.removed.connect(widget.reset_choices)
    yield from _drive(widget, viewer, qtbot)
