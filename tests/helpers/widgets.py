"""Images for the widgets, their deblurred pixels, how windows close, and how long a test waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtWidgets import QDockWidget, QMessageBox, QWidget

import napari_swintormer

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 120_000  # milliseconds; only a run that hangs takes so long
FP32 = {"device": "cpu", "precision": "fp32"}


def noise(*shape: int, dtype: str = "uint16") -> np.ndarray:
    """Make random pixels from 0 to 249."""
    return np.random.default_rng(1).integers(0, 250, shape).astype(dtype)


def expected(image: Any, **settings: Any) -> Any:
    """Deblur an image with the API, on the CPU in fp32 as the widget of the tests does."""
    return napari_swintormer.deblur(image, **FP32, **settings)


def no_and_yes(monkeypatch: Any) -> list[str]:
    """Answer the first question of a message box with No and the second with Yes; list them."""
    yes, no = QMessageBox.StandardButton.Yes, QMessageBox.StandardButton.No
    asked, answers = [], [yes, no]

    def ask(_parent: Any, _title: str, text: str, *_: Any) -> Any:
        asked.append(text)
        return answers.pop()

    monkeypatch.setattr(QMessageBox, "question", ask)
    return asked


def camera_of(viewer: Any) -> Any:
    """Return the camera of a viewer, also of one of napari before 0.9."""
    return getattr(viewer, "scene", viewer).camera


def canvas_size(viewer: Any) -> tuple[int, int]:
    """Return height and width of the canvas, also in napari before 0.9."""
    height, width = viewer.canvas.size if hasattr(viewer, "canvas") else viewer._canvas_size
    return height, width


def docks_of(viewer: Any) -> dict[str, QWidget]:
    """Return the widgets in the docks of a window by name, also in napari before 0.9."""
    window = viewer.window
    if hasattr(window, "dock_widgets"):
        return dict(window.dock_widgets)
    return {name: dock.widget() for name, dock in window._dock_widgets.items()}


def closing_button(widget: QWidget) -> Callable[[], None]:
    """Return a click on the button that closes the dock widget of a panel."""
    panel = widget.parent()
    while not isinstance(panel, QDockWidget):
        panel = panel.parent()
    click: Callable[[], None] = panel.titleBarWidget().close_button.click
    return click
