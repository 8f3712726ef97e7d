"""Panels in one window: each is there once, and a new one does not enlarge the window."""

from __future__ import annotations

import pytest
from napari._app_model import get_app_model
from qtpy.QtTest import QTest

from napari_swintormer.plugin.models.models_widget import ModelsWidget
from napari_swintormer.plugin.shared.panel import Panel, open_panel

pytestmark = pytest.mark.gui


def test_the_menu_and_a_button_open_the_same_panel_in_a_window_of_the_same_height(
    viewer, model, qtbot
):
    window = viewer.window._qt_window
    with qtbot.waitExposed(window):
        viewer.show()
    commands = get_app_model().commands
    ids = ("napari-swintormer.deblur", "napari-swintormer:Deblur")  # napari 0.9 and 0.6
    commands.execute_command(next(name for name in ids if name in commands)).result()
    (deblur,) = window.findChildren(Panel)
    deblur.form.more.expand(animate=False)
    QTest.qWait(50)
    window.resize(1200, 560)
    height = window.height()
    models = open_panel(deblur, "Models")
    assert isinstance(models, ModelsWidget)
    assert open_panel(deblur, "Models") is models
    assert len(window.findChildren(Panel)) == 2
    assert models.parentWidget().windowTitle() == "Models (Swintormer)"
    qtbot.waitUntil(lambda: models.minimumSizeHint().height() > 0)
    QTest.qWait(50)
    assert window.height() <= height + 2  # rounding
    assert deblur.visibleRegion().isEmpty()  # it lies behind
