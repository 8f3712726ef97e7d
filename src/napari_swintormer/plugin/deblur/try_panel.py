"""Buttons that compare settings on the view, with a row of small results below the image."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import napari
from numpy.typing import NDArray
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QWidget

from napari_swintormer.errors import ImageError, SwintormerError
from napari_swintormer.models.catalogue import list_models
from napari_swintormer.plugin.deblur.deblur_form import DeblurForm
from napari_swintormer.plugin.deblur.variant_row import VariantRow
from napari_swintormer.plugin.deblur.variants import (
    PlanJob,
    Variant,
    iter_variants,
    middle,
    of_models,
    of_steps,
    of_strength,
)
from napari_swintormer.plugin.layers.visible_region import InView
from napari_swintormer.plugin.shared.style import button, button_row, style_sheet
from napari_swintormer.plugin.shared.work import Work
from napari_swintormer.settings.deblur_settings import DeblurSettings


class TryPanel(QWidget):
    """Compares strengths, models or steps of a prior on the middle of the view.

    A click on a result changes the form. `in_view` returns what is on the screen, and raises a
    `SwintormerError` if that cannot be deblurred.
    """

    made = Signal(int, object)
    """Number of a variant, and its pixels in the axes of the image."""

    def __init__(
        self, viewer: napari.Viewer, form: DeblurForm, in_view: Callable[[], InView]
    ) -> None:
        super().__init__()
        self._viewer, self._form, self._in_view = viewer, form, in_view
        self.work = Work(self)
        self.row: VariantRow | None = None  # below the image
        self.strengths = button(
            "Strengths",
            "Show the middle of the view at several strengths, side by side below the image.\n"
            "Click one to use it.",
            lambda: self._try(of_strength),
        )
        self.models = button(
            "Models",
            "Show the middle of the view as each model restores it, side by side below the\n"
            "image. Click one to use it.",
            lambda: self._try(partial(of_models, models=list_models())),
        )
        self.steps = button(
            "Steps",
            "Show the middle of the view without the prior and with more and more steps of it,\n"
            "side by side below the image. Click one to use it.",
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
        """Remove the row from the window."""
        self.work.cancel()
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
        self._show_row(variants, view)
        self.work.begin(
            partial(iter_variants, variants, view.position, middle(view.region)),
            hear=lambda made: self.made.emit(*made),
        )

    def _show_row(self, variants: list[Variant], view: InView) -> None:
        self.close_row()
        self.row = VariantRow(variants, view.source.axes, view.source.look)
        self.row.setStyleSheet(style_sheet(self._viewer.theme))
        self.row.chosen.connect(self._use)
        for variant, picture in zip(variants, self.row.buttons, strict=True):
            chosen = (getattr(self._form, name).value == v for name, v in variant.choice.items())
            picture.setChecked(bool(variant.choice) and all(chosen))
        if hasattr(self._viewer, "window"):  # a ViewerModel in a script has none
            self._viewer.window.add_dock_widget(self.row, name="Try on the view", area="bottom")

    def _show_result(self, number: int, pixels: NDArray[Any]) -> None:
        if self.row is not None:
            self.row.show_result(number, pixels)

    def _use(self, variant: Variant) -> None:
        if not variant.choice:
            return  # the image itself, to compare with
        for name, value in variant.choice.items():
            getattr(self._form, name).value = value
        self.work.said.emit(f"The form now has: {variant.label}.", False)
