"""Buttons that try settings on the view, and the row of small results below the image."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import Any

import napari
from numpy.typing import NDArray
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QWidget

from napari_swintormer.errors import ImageError, SwintormerError
from napari_swintormer.models.catalogue import list_models
from napari_swintormer.plugin.deblur.deblur_form import DeblurForm
from napari_swintormer.plugin.deblur.variant_row import VariantRow
from napari_swintormer.plugin.deblur.variants import (
    Variant,
    Variants,
    middle,
    of_models,
    of_steps,
    of_strength,
)
from napari_swintormer.plugin.layers.view import InView
from napari_swintormer.plugin.shared.style import style_sheet
from napari_swintormer.runs.job import Job
from napari_swintormer.settings.deblur_settings import DeblurSettings


class TryPanel(QWidget):
    """Tries strengths, models or steps of a prior on the middle of the view; a click takes one.

    Parameters
    ----------
    viewer
        Shows the row of results, below the image.
    form
        The fields that a click changes.
    in_view
        Gives what is on the screen; raises a `SwintormerError` where that cannot be deblurred.

    Attributes
    ----------
    variants
        Makes them.
    row
        Shows them; None before the first.
    """

    said = Signal(str, bool)

    def __init__(
        self, viewer: napari.Viewer, form: DeblurForm, in_view: Callable[[], InView]
    ) -> None:
        super().__init__()
        self._viewer, self._form, self._in_view = viewer, form, in_view
        self.variants = Variants(self)
        self.row: VariantRow | None = None
        self.strengths = QPushButton("Strengths")
        self.strengths.setToolTip(
            "Show the middle of the view at several strengths side by side, below the image.\n"
            "A click on one takes it over."
        )
        self.models = QPushButton("Models")
        self.models.setToolTip(
            "Show what each model makes of the middle of the view, side by side, below the image.\n"
            "A click on one takes it over."
        )
        self.steps = QPushButton("Steps")
        self.steps.setToolTip(
            "Show the middle of the view without prior, and with one of more and more steps,\n"
            "side by side, below the image. A click on one takes it over."
        )
        self.steps.hide()
        self.strengths.clicked.connect(lambda: self._try(of_strength))
        self.models.clicked.connect(lambda: self._try(partial(of_models, models=list_models())))
        self.steps.clicked.connect(lambda: self._try(of_steps))
        self.variants.made.connect(self._show_result)
        self.variants.said.connect(self.said)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addWidget(self.strengths)
        layout.addWidget(self.models)
        layout.addWidget(self.steps)

    def enable(self, possible: bool) -> None:
        """Offer to try settings, or not: while something else is being made."""
        for button in (self.strengths, self.models, self.steps):
            button.setEnabled(possible)
        self.steps.setHidden(self._form.prior.isHidden())

    def close_row(self) -> None:
        """Take the row out of the window."""
        self.variants.cancel()
        if self.row is not None and hasattr(self._viewer, "window"):
            with suppress(LookupError):  # the user has closed it
                self._viewer.window.remove_dock_widget(self.row)
        self.row = None

    def _try(
        self,
        vary: Callable[[DeblurSettings, Callable[[DeblurSettings], Job]], list[Variant]],
    ) -> None:
        try:
            view = self._in_view()
            settings = replace(self._form.settings(), axes=view.source.axes)
            variants = vary(settings, lambda changed: view.source.plan(changed))
            if not variants:
                raise ImageError("No model fits this image; the Models widget says what each is.")
        except SwintormerError as error:
            self.said.emit(str(error), True)
            return
        self._show_row(variants, view)
        self.variants.start(variants, view.position, middle(view.region))

    def _show_row(self, variants: list[Variant], view: InView) -> None:
        self.close_row()
        self.row = VariantRow(variants, view.source.axes, view.source.look)
        self.row.setStyleSheet(style_sheet(self._viewer.theme))
        self.row.chosen.connect(self._take_over)
        for variant, button in zip(variants, self.row.buttons, strict=True):
            chosen = (attrgetter(name)(self._form).value == v for name, v in variant.choice.items())
            button.setChecked(all(chosen))
        if hasattr(self._viewer, "window"):  # not so a viewer without one, in scripts
            self._viewer.window.add_dock_widget(self.row, name="Try on the view", area="bottom")

    def _show_result(self, number: int, pixels: NDArray[Any]) -> None:
        if self.row is not None:
            self.row.show_result(number, pixels)

    def _take_over(self, variant: Variant) -> None:
        for name, value in variant.choice.items():
            attrgetter(name)(self._form).value = value
        self.said.emit(f"Taken over: {variant.label}.", False)
