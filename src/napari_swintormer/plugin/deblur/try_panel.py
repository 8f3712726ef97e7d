"""Buttons that compare settings on the view, with a row of results in a window of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial

import napari
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QDockWidget, QWidget

from napari_swintormer.errors import ImageError, SwintormerError
from napari_swintormer.models.catalogue import list_models
from napari_swintormer.plugin.deblur.deblur_form import DeblurForm
from napari_swintormer.plugin.deblur.preview import Preview
from napari_swintormer.plugin.deblur.variant_row import VariantRow, side_for
from napari_swintormer.plugin.deblur.variants import (
    Made,
    PlanJob,
    Variant,
    iter_variants,
    middle,
    of_models,
    of_steps,
    of_strength,
)
from napari_swintormer.plugin.layers.region_frame import RegionFrame
from napari_swintormer.plugin.layers.swipe import canvas_of
from napari_swintormer.plugin.layers.visible_region import InView
from napari_swintormer.plugin.shared.style import button, button_row, style_sheet
from napari_swintormer.plugin.shared.work import Work
from napari_swintormer.settings.deblur_settings import DeblurSettings

_TITLE = "Try on the view"


class TryPanel(QWidget):
    """Compares strengths, models or steps of a prior on the middle of the view.

    A click on a result changes the form, and shows the result as the preview. `in_view` returns
    what is on the screen, and raises a `SwintormerError` if that cannot be deblurred.
    """

    made = Signal(object)
    """The `Made` of a variant."""

    def __init__(
        self,
        viewer: napari.Viewer,
        form: DeblurForm,
        in_view: Callable[[], InView],
        preview: Preview,
    ) -> None:
        super().__init__()
        self._viewer, self._form, self._in_view, self._preview = viewer, form, in_view, preview
        self.work = Work(self)
        self.row: VariantRow | None = None  # in a window of its own
        self.frame: RegionFrame | None = None  # around what is tried, while the row is shown
        self._variants: list[Variant] = []
        self._made: dict[int, Made] = {}
        self.strengths = button(
            "Strengths",
            "Show the middle of the view at several strengths, side by side.\nClick one to use it.",
            lambda: self._try(of_strength),
        )
        self.models = button(
            "Models",
            "Show the middle of the view as each model restores it, side by side.\n"
            "Click one to use it.",
            lambda: self._try(partial(of_models, models=list_models())),
        )
        self.steps = button(
            "Steps",
            "Show the middle of the view without the prior and with more and more steps of it,\n"
            "side by side. Click one to use it.",
            lambda: self._try(of_steps),
        )
        self.steps.hide()
        self.made.connect(self._show_result)
        button_row(self, self.strengths, self.models, self.steps)

    def enable(self, possible: bool) -> None:
        """Enable the buttons; hide the one for steps if the model has no prior."""
        for each in (self.strengths, self.models, self.steps):
            each.setEnabled(possible)
        self.steps.setHidden(self._form.prior_rows.isHidden())

    def close_row(self) -> None:
        """Remove the row and the frame from the screen."""
        self.work.cancel()
        self._frame_if(False)
        if self.row is not None and hasattr(self._viewer, "window"):
            with suppress(LookupError):  # the user has closed it
                self._viewer.window.remove_dock_widget(self.row)
        self.row = None

    def _try(self, vary: Callable[[DeblurSettings, PlanJob], list[Variant]]) -> None:
        try:
            view = self._in_view()
            settings = replace(self._form.settings(), axes=view.source.axes)
            variants = vary(settings, view.source.plan)
            if not variants:
                raise ImageError("No model fits this image. The Models widget describes each one.")
        except SwintormerError as error:
            self.work.said.emit(str(error), True)
            return
        tried = replace(view, region=middle(view.region))
        self._show_row(variants, tried)
        self.work.begin(
            partial(iter_variants, variants, tried, self._preview.kept),
            hear=lambda made: self.made.emit(made),
        )

    def _show_row(self, variants: list[Variant], view: InView) -> None:
        self.close_row()
        self._variants, self._view, self._made = variants, view, {}
        self.row = row = VariantRow(
            variants, view.source.axes, view.source.look, side_for(self.window().height())
        )
        row.setStyleSheet(style_sheet(self._viewer.theme))
        row.chosen.connect(self._use)
        row.shown.connect(self._frame_if)
        for variant, picture in zip(variants, row.buttons, strict=True):
            chosen = (getattr(self._form, name).value == v for name, v in variant.choice.items())
            picture.setChecked(bool(variant.choice) and all(chosen))
        if hasattr(self._viewer, "window"):  # a ViewerModel in a script has none
            dock = self._viewer.window.add_dock_widget(row, name=_TITLE, area="bottom")
            _float(dock, self.window())

    def _frame_if(self, shown: bool) -> None:
        """Frame on the canvas what is tried while the row is shown, and only then."""
        if self.frame is not None:
            self.frame.close_frame()
            self.frame = None
        canvas, layer = canvas_of(self), self._form.layer
        if shown and canvas is not None and layer is not None:
            view = self._view
            self.frame = RegionFrame(self._viewer, canvas.native, layer, view, view.region)

    def _show_result(self, made: Made) -> None:
        if self.row is not None:
            self._made[made.number] = made
            self.row.show_result(made.number, made.pixels)

    def _use(self, number: int) -> None:
        """Let the form have the choice of a variant, and show its result as the preview."""
        variant, made = self._variants[number], self._made[number]
        for name, value in variant.choice.items():
            getattr(self._form, name).value = value
        self._preview.show_made(made.job, self._view, made.restored, variant.strength)
        if variant.choice:
            self.work.said.emit(f"The form now has: {variant.label}.", False)


def _float(dock: QDockWidget, window: QWidget) -> None:
    """Let a dock be a window below another one, or at its lower edge if the screen ends there.

    In the other window it would take more height than a small screen has.
    """
    dock.setFloating(True)
    outer, room = window.frameGeometry(), window.screen().availableGeometry()
    dock.resize(min(dock.sizeHint().width(), outer.width()), dock.sizeHint().height())
    left = outer.center().x() - dock.width() // 2
    top = min(outer.bottom() + 1, room.bottom() - dock.height())
    dock.move(max(left, room.left()), top)
