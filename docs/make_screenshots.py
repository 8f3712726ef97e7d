"""Make the screenshots of the documentation: ``python docs/make_screenshots.py``.

Opens a real window of napari, a sample and the Deblur widget from the menu, and saves the window
before the run, with the map of the blur, with strengths side by side, with the result below the
blurred image, with the swipe line, light ones with the difference and all settings unfolded and
with the card of a model, and the Train widget at work. Draws on a virtual display where there is
one. ``python docs/make_screenshots.py stacks`` makes the pictures of a restored stack only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

SIZE = (1280, 800)
CENTER, ZOOM = (75, 235), 2.5  # the stripes behind the board, out of focus
SWIPE_CENTER, SWIPE_ZOOM = (128, 240), 2.9  # the line goes through them
IMAGES = Path(__file__).parent / "images"


def start_virtual_display(exits: ExitStack) -> None:
    """Start Xvfb and let Qt draw on it, so that no window of the user's is in the picture."""
    if sys.platform != "linux" or shutil.which("Xvfb") is None:
        return
    reading, writing = os.pipe()
    command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", f"{SIZE[0]}x1000x24"]
    server = subprocess.Popen([*command, "-nolisten", "tcp"], pass_fds=[writing])
    exits.callback(server.terminate)
    os.close(writing)
    with os.fdopen(reading) as number:
        os.environ["DISPLAY"] = f":{number.readline().strip()}"
    os.environ["QT_QPA_PLATFORM"] = "xcb"


def take_pictures() -> None:
    """Do what a user does, and take pictures on the way."""
    import napari
    from napari._app_model import get_app_model

    viewer = napari.Viewer(show=True)
    viewer.window.resize(*SIZE)
    viewer.window._qt_window.move(0, 0)
    viewer.open_sample("napari-swintormer", "circuit-board")
    get_app_model().commands.execute_command("napari-swintormer.deblur").result()
    (widget,) = viewer.window.dock_widgets.values()
    widget.form.kind.photo.click()
    widget.run()  # measures the speed, so that the plan can say the time
    wait_for_result(widget)
    viewer.layers.remove(viewer.layers[-1])
    viewer.layers.selection.active = viewer.layers[0]
    viewer.status, viewer.help = "Ready", ""
    widget.run_panel.show_message("")
    save(viewer, "deblur-widget")

    viewer.scene.camera.center, viewer.scene.camera.zoom = CENTER, ZOOM
    widget.form.blur.expand(animate=False)
    wait_for(widget.blur.work.ended, widget.blur.map.click)
    save(viewer, "deblur-blur")
    viewer.layers.remove(viewer.layers[-1])
    widget.form.blur.collapse(animate=False)
    widget.run_panel.show_message("")
    widget.form.more.expand(animate=False)  # no button in there works while it is folded
    wait_for(widget.trying.work.ended, widget.trying.strengths.click)
    save(viewer, "deblur-try")
    widget.trying.close_row()
    widget.form.more.collapse(animate=False)

    widget.run()
    wait_for_result(widget)
    for layer in viewer.layers:
        layer.name_overlay.visible = True
    viewer.canvas.grid.enabled = True  # the blurred image above, the deblurred one below
    viewer.canvas.grid.shape = (2, 1)
    viewer.canvas.grid.stride = 1
    viewer.scene.camera.center = CENTER
    viewer.scene.camera.zoom = ZOOM
    viewer.status, viewer.help = "Ready", ""
    save(viewer, "deblur-result")

    viewer.canvas.grid.enabled = False
    for layer in viewer.layers:
        layer.name_overlay.visible = False
    viewer.scene.camera.center = SWIPE_CENTER
    viewer.scene.camera.zoom = SWIPE_ZOOM
    widget.compare.swipe.click()
    save(viewer, "deblur-swipe")

    widget.compare.swipe.click()
    viewer.reset_view()
    viewer.theme = "light"
    widget.compare.difference.click()
    widget.form.more.expand(animate=False)
    save(viewer, "deblur-settings")
    viewer.layers.remove(viewer.layers[-1])
    viewer.window.remove_dock_widget(widget)
    _, models = viewer.window.add_plugin_dock_widget("napari-swintormer", "Models")
    wait_for(models.card.drawn, models.card.show_example.click)
    viewer.status, viewer.help = "Ready", ""
    save(viewer, "models-widget")
    viewer.close()


def take_training_picture() -> None:
    """Train for a minute on two pairs made from samples, one of them moved, and take a picture."""
    import napari
    import numpy as np
    from qtpy.QtCore import QEventLoop
    from scipy.ndimage import gaussian_filter

    viewer = napari.Viewer(show=True)
    viewer.window.resize(SIZE[0], 1000)
    viewer.window._qt_window.move(0, 0)
    (sharp,) = viewer.open_sample("napari-swintormer", "circuit-board")
    blurred = viewer.add_image(
        gaussian_filter(sharp.data, (2, 2, 0)), name="circuit board, out of focus", rgb=True
    )
    moved = viewer.add_image(np.roll(sharp.data, 7, axis=0), name="moved", rgb=True)
    _, widget = viewer.window.add_plugin_dock_widget("napari-swintormer", "Train")
    sources = widget.form.sources
    for partner in (sharp, moved):
        sources.blurred.value, sources.sharp.value = blurred, partner
        sources.add_pair.click()
    loop = QEventLoop()
    widget.checked.connect(loop.quit)
    widget.check()
    loop.exec()
    widget.form.skip_bad.value = True
    widget.form.steps.value, widget.form.batch_size.value = 120, 1
    widget.run()
    widget.work.trained.connect(lambda line: line.step >= 100 and loop.quit())
    widget.finished.connect(loop.quit)
    loop.exec()
    viewer.layers.remove(moved)
    viewer.reset_view()
    viewer.status, viewer.help = "Ready", ""
    save(viewer, "train-widget")
    widget.stop()
    if widget.work.running:
        loop.exec()
    viewer.close()


def take_stack_pictures() -> None:
    """Restore the sample stack as a volume, and show both from above, from the side and in 3-D."""
    import napari
    from napari._app_model import get_app_model

    viewer = napari.Viewer(show=True)
    viewer.window.resize(*SIZE)
    viewer.window._qt_window.move(0, 0)
    (stack,) = viewer.open_sample("napari-swintormer", "nuclei-stack")
    get_app_model().commands.execute_command("napari-swintormer.deblur").result()
    (widget,) = viewer.window.dock_widgets.values()
    for name, value in {"na": 1.2, "immersion": "water", "wavelength": 520}.items():
        widget.form.stack.field(name).value = value
    widget.run()
    wait_for_result(widget)
    restored = viewer.layers[-1]
    stack.contrast_limits = (110, float(stack.data.max()) * 0.9)
    restored.contrast_limits = (110, 0.35 * float(restored.data.max()))
    for layer in (stack, restored):
        layer.gamma = 0.8
    viewer.canvas.grid.enabled, viewer.canvas.grid.stride = True, 1
    viewer.canvas.grid.shape = (1, 2)
    for name, order, point in (("xy", (0, 1, 2), (9, 0, 0)), ("xz", (1, 0, 2), (0, 50, 0))):
        viewer.dims.order = order
        viewer.dims.set_current_step(range(3), point)
        viewer.reset_view()
        save_canvas(viewer, f"stack-{name}")
    viewer.dims.order, viewer.dims.ndisplay = (0, 1, 2), 3
    viewer.reset_view()
    viewer.scene.camera.angles = (15, 30, 140)
    save_canvas(viewer, "stack-3d")
    viewer.close()


def save_canvas(viewer: object, name: str) -> None:
    """Save the canvas alone, in a size of its own."""
    from qtpy.QtTest import QTest

    QTest.qWait(1000)
    picture = IMAGES / f"{name}.png"
    viewer.screenshot(str(picture), canvas_only=True, flash=False, size=(380, 760))


def wait_for_result(widget: object) -> None:
    """Let the viewer live until the run has ended."""
    wait_for(widget.finished, lambda: None)


def wait_for(signal: object, begin: object) -> None:
    """Begin something, and let the viewer live until it has ended."""
    from qtpy.QtCore import QEventLoop

    loop = QEventLoop()
    signal.connect(loop.quit)
    begin()
    loop.exec()


def save(viewer: object, name: str) -> None:
    """Save the whole window when everything is drawn."""
    from qtpy.QtTest import QTest

    QTest.qWait(1000)
    IMAGES.mkdir(exist_ok=True)
    viewer.screenshot(str(IMAGES / f"{name}.png"), canvas_only=False, flash=False)


if __name__ == "__main__":
    os.environ["NAPARI_CONFIG"] = ""  # napari as it is after installation
    with ExitStack() as exits:
        home = exits.enter_context(TemporaryDirectory())  # no model is left
        os.environ["SWINTORMER_HOME"] = home
        start_virtual_display(exits)
        if sys.argv[1:] != ["stacks"]:
            take_pictures()
            take_training_picture()
        take_stack_pictures()
