"""A real viewer with the Deblur widget open, and a tiny model to run."""

from __future__ import annotations

import os
import shutil
import sys
import time
from types import SimpleNamespace

import pytest

os.environ["NAPARI_CONFIG"] = ""  # neither read nor write the user's settings of napari

from napari.components import ViewerModel

from napari_swintormer.models.restorer import Restorer
from napari_swintormer.plugin.deblur_widget import DeblurWidget

PATIENCE = 120_000  # milliseconds: only a run that hangs takes so long


@pytest.fixture
def model(home, tiny_weights):
    """Put a tiny model where the default model is looked for."""
    folder = home / "models"
    folder.mkdir(parents=True)
    return shutil.copy(tiny_weights, folder / "swintormer-small.safetensors")


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
    """Sizes of the batches so far. None begins beyond `limit` before that is lifted."""

    limit = None


@pytest.fixture
def batches(monkeypatch):
    """Count the batches, and hold them: no test may depend on how fast a thread is."""
    forward, batches = Restorer.forward, Batches()

    def counting(self, tiles):
        while batches.limit is not None and len(batches) >= batches.limit:
            time.sleep(0.005)
        batches.append(len(tiles))
        return forward(self, tiles)

    monkeypatch.setattr(Restorer, "forward", counting)
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

    def run():
        with qtbot.waitSignal(widget.finished, timeout=PATIENCE) as blocker:
            widget.run()
        return blocker.args[0]

    def preview():
        with qtbot.waitSignal(widget.previewed, timeout=PATIENCE) as blocker:
            widget.run_preview()
        return blocker.args[0]

    yield SimpleNamespace(viewer=viewer, widget=widget, form=widget.form, run=run, preview=preview)
    workers = [w for w in (widget.runs._worker, widget.preview._worker) if w is not None]
    for worker in workers:
        worker.quit()
    qtbot.waitUntil(lambda: not any(w.is_running for w in workers), timeout=PATIENCE)
