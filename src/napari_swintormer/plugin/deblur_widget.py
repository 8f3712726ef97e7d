"""The Deblur widget: choose a layer and a model, see the plan, run, get a new layer."""

from __future__ import annotations

from typing import Any

import napari
from napari.layers import Image
from napari.utils import progress
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QEvent, QTimer, Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_swintormer.errors import ImageError, SwintormerError
from napari_swintormer.events import Progress
from napari_swintormer.job import Job, prepare
from napari_swintormer.models.catalogue import list_models
from napari_swintormer.plugin.deblur_form import DeblurForm, FormArea
from napari_swintormer.plugin.layers import LayerSource
from napari_swintormer.plugin.run_panel import PlanPanel, RunPanel, clock
from napari_swintormer.plugin.style import style_sheet
from napari_swintormer.plugin.worker import DeblurWorker, Outcome

_PLAN_DELAY = 250  # milliseconds without a change before the plan is made again


class DeblurWidget(QWidget):
    """Deblurs an image layer into a new layer, in a worker; opening it imports no torch.

    Parameters
    ----------
    napari_viewer
        The viewer that the widget belongs to.

    Attributes
    ----------
    form
        The fields; a script sets them, for example ``widget.form.tile_size.value = 256``.
    finished
        Signal: a run has ended, with the new layer, or None after an error or Cancel.

    Examples
    --------
    >>> viewer = napari.Viewer()  # doctest: +SKIP
    >>> _, widget = viewer.window.add_plugin_dock_widget("napari-swintormer", "Deblur")
    ... # doctest: +SKIP
    >>> widget.run()  # doctest: +SKIP
    """

    finished = Signal(object)

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._worker: DeblurWorker | None = None
        self._source: LayerSource | None = None
        self._activity: progress | None = None
        self._new_layer: Image | None = None
        self.form = DeblurForm(self._image_layers, list_models)
        self.plan_panel = PlanPanel()
        self.run_panel = RunPanel()
        self._plan_timer = QTimer(self, singleShot=True, interval=_PLAN_DELAY)
        self._lay_out()
        self._choose_active_layer()
        self.form.changed.connect(self._plan_timer.start)
        self._plan_timer.timeout.connect(self.update_plan)
        self.run_panel.run.clicked.connect(self._run_if_possible)
        self.run_panel.cancel.clicked.connect(self.cancel)
        napari_viewer.events.theme.connect(self._use_theme)
        self._use_theme()
        self.update_plan()

    # ---- before a run ------------------------------------------------------------------------

    def reset_choices(self, *_: Any) -> None:
        """List layers and models again; napari calls this when layers come, go or are renamed."""
        self.form.refresh()
        self._plan_timer.start()

    def update_plan(self) -> bool:
        """Plan the run that the fields describe, and show the plan or why there can be no run.

        Returns
        -------
        bool
            Whether the run is possible.
        """
        self._plan_timer.stop()
        possible = False
        try:
            if self.form.layer is None:
                self.plan_panel.show_sentence("Choose an image to see the plan.", error=False)
            else:
                self.plan_panel.show_job(self._plan()[1])
                possible = True
        except SwintormerError as error:
            self.plan_panel.show_sentence(str(error), error=True)
        self.run_panel.run.setEnabled(possible and self._worker is None)
        return possible

    def _plan(self) -> tuple[LayerSource, Job]:
        source = self._take_source()
        return source, prepare(source.data, self.form.settings())

    def _take_source(self) -> LayerSource:
        layer = self.form.layer
        if layer is None:
            raise ImageError("There is no image to deblur; open one, or choose an image layer.")
        source = LayerSource.of(layer, self.form.axes.value)
        if self.form.current_plane_only:
            source = source.plane_at(layer.world_to_data(self._viewer.dims.point))
        return source

    def _image_layers(self) -> list[Image]:
        return [layer for layer in self._viewer.layers if isinstance(layer, Image)]

    def _choose_active_layer(self) -> None:
        active = self._viewer.layers.selection.active
        if isinstance(active, Image):
            self.form.image.value = active

    # ---- a run -------------------------------------------------------------------------------

    def run(self) -> None:
        """Start the run that the fields describe; the result becomes a new layer.

        Does nothing while another run goes on.

        Raises
        ------
        SwintormerError
            Image, model and settings do not fit; one sentence says what would work.
        """
        if self._worker is not None:
            return
        self._source, job = self._plan()
        self._activity = progress(total=job.plan.n_tiles, desc=f"Deblurring {self._source.name}")
        self._worker = worker = DeblurWorker(job, self._source.data.shape)
        worker.progressed.connect(self._show_progress)
        worker.noticed.connect(self.run_panel.show_message)
        worker.returned.connect(self._add_result)
        worker.errored.connect(self._show_error)
        worker.warned.connect(_relay_warning)
        worker.finished.connect(self._reset)
        self.destroyed.connect(worker.quit)  # the viewer was closed
        self.run_panel.show_message("")
        self.run_panel.set_running(True)
        worker.start()

    def _run_if_possible(self) -> None:
        if self.update_plan():
            self.run()

    def cancel(self) -> None:
        """Stop the run after the batch of tiles at hand; nothing is added to the viewer."""
        if self._worker is not None:
            self._worker.quit()
            self.run_panel.cancel.setEnabled(False)
            self.run_panel.show_message("Stopping after the tiles at hand …")

    def _show_progress(self, event: Progress) -> None:
        if self._activity is not None:
            if self._activity.total != event.total:  # tiles are done, levels are made
                self._activity.total = event.total
            self._activity.update(event.done - self._activity.n)
        self.run_panel.show_progress(event)

    def _add_result(self, outcome: Outcome) -> None:
        if self._source is None or self._worker is None or self._worker.abort_requested:
            return  # Cancel came between the last tile and this signal
        layer = self._source.result_layer(outcome.shown, outcome.provenance)
        outcome.result.keep_while(layer)
        self._viewer.add_layer(layer)
        self._new_layer = layer
        self.run_panel.show_message(f"Done in {clock(outcome.seconds)}: {layer.name}")

    def _show_error(self, error: Exception) -> None:
        if isinstance(error, SwintormerError):
            self.run_panel.show_message(str(error), error=True)
        else:  # not the user's mistake: napari shows the traceback on demand
            self.run_panel.show_message(f"{type(error).__name__}: {error}", error=True)
            notification_manager.receive_error(type(error), error, error.__traceback__)

    def _reset(self) -> None:
        if self._worker is not None:
            self.destroyed.disconnect(self._worker.quit)
            if self._worker.abort_requested:
                self.run_panel.show_message("Cancelled. The layers are as they were.")
        self._worker = self._source = None
        if self._activity is not None:
            self._activity.close()
            self._activity = None
        self.run_panel.set_running(False)
        self.update_plan()
        layer, self._new_layer = self._new_layer, None
        self.finished.emit(layer)

    # ---- the window --------------------------------------------------------------------------

    def event(self, event: QEvent) -> bool:
        """Stop the run when the dock widget is closed: nobody could stop it any more."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.cancel()
        return bool(super().event(event))

    def enterEvent(self, event: QEvent) -> None:  # noqa: N802 (Qt's name)
        """List the models again: one may have been added since."""
        self.form.refresh()
        super().enterEvent(event)

    def _use_theme(self, *_: Any) -> None:
        self.setStyleSheet(style_sheet(self._viewer.theme))

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(10, 8, 10, 8)
        layout.setSpacing(10)
        layout.addWidget(FormArea(self.form))
        layout.addWidget(self.plan_panel)
        layout.addWidget(self.run_panel)
        layout.addStretch(1)


def _relay_warning(arguments: tuple[Any, ...]) -> None:
    notification_manager.receive_warning(*arguments)
