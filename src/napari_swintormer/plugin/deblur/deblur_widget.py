"""The Deblur widget: preview, plan, run and compare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import napari
from napari.layers import Image
from qtpy.QtCore import QEvent, QTimer, Signal

from napari_swintormer.errors import SwintormerError
from napari_swintormer.plugin.deblur.deblur_parts import DeblurParts
from napari_swintormer.plugin.deblur.run_queue import Run
from napari_swintormer.plugin.layers.adopting import sources_of_results
from napari_swintormer.plugin.layers.layer_data import LayerSource
from napari_swintormer.plugin.layers.made_layers import kind_of, source_of
from napari_swintormer.plugin.layers.space_check import shortage
from napari_swintormer.plugin.layers.visible_region import selected_shapes
from napari_swintormer.plugin.settings.settings_page import JoinedPage
from napari_swintormer.plugin.shared.closing import ClosingQuestion
from napari_swintormer.plugin.shared.panel import open_panel
from napari_swintormer.runs.job import Job

_PLAN_DELAY = 250  # milliseconds from the last change of a field to the new plan


class DeblurWidget(DeblurParts):
    """Deblurs image layers into new layers, in a thread; opening it imports no torch.

    Attributes
    ----------
    form
        The fields; a script sets them, for example ``widget.form.tile_size.value = 256``.
    finished
        Signal: a run has ended, with the new layer, or None after an error or Cancel.
    previewed
        Signal: a preview has ended, with its layer, or None.

    Examples
    --------
    >>> viewer = napari.Viewer()  # doctest: +SKIP
    >>> _, widget = viewer.window.add_plugin_dock_widget("napari-swintormer", "Deblur")
    ... # doctest: +SKIP
    >>> widget.run()  # doctest: +SKIP
    """

    finished = Signal(object)
    previewed = Signal(object)

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer)
        self._closing = ClosingQuestion(self, self._question)
        self._works = (self.runs, self.preview, self.trying.work, self.folder.work)
        self._blur_waits = False  # for the end of a preview
        self._plan_timer = QTimer(self, singleShot=True, interval=_PLAN_DELAY)
        active = napari_viewer.layers.selection.active
        if isinstance(active, Image) and kind_of(active) is None:
            self.form.image.value = active
        self._connect()
        JoinedPage(self).said.connect(self.run_panel.show_message)
        self._adopt()
        self.update_plan()

    # ---- before a run ------------------------------------------------------------------------

    def reset_choices(self, *_: Any) -> None:
        """List layers and models again; napari calls this when the list of layers changes."""
        self.form.refresh()
        self._plan_timer.start()

    def update_plan(self) -> bool:
        """Plan the run of the fields, and show the plan or the reason why no run is possible.

        Return whether the run is possible.
        """
        self._plan_timer.stop()
        possible, new = False, []
        try:
            if self.form.layer is None:
                self.plan_panel.show_sentence("Choose an image to see the plan.", error=False)
            else:
                planned = self.chosen.plan()
                self.form.proposed_file = self.chosen.proposed_file(planned)
                jobs, path = [job for _, _, job in planned], self.chosen.destination(planned)
                lacking = next(filter(None, (shortage(job, path) for job in jobs)), None)
                self.plan_panel.show_jobs(jobs, lacking, path)
                possible = lacking is None
                new = [run for run in self._runs_of(planned, path) if not self.runs.has(run)]
        except SwintormerError as error:
            self.plan_panel.show_sentence(str(error), error=True)
        self._name_run_button()
        self.run_panel.run.setEnabled(possible and bool(new) and not self.folder.work.running)
        self.folder.choose.setEnabled(not self._busy)
        self.run_panel.preview.setEnabled(possible and not self._busy)
        self.trying.enable(possible and not self._busy)
        return possible

    @property
    def _busy(self) -> bool:
        return any(work.running for work in self._works)

    def _name_run_button(self) -> None:
        n_layers = 0 if self.form.layer is None else len(self.chosen.layers())
        what = f"{n_layers} layers" if n_layers > 1 else "all"
        if n_layers == 1 and self.form.current_plane_only:
            what = "this plane"
        elif n_layers == 1 and self.form.plane_range is not None:
            what = "these planes"
        busy = self.runs.running or self.runs.paused
        self.run_panel.run.setText("Queue another" if busy else f"Deblur {what}")
        text = "Deblur the whole image. The result is a new layer that fills in during the run."
        if n_layers > 1:
            text = "Deblur the selected layers one after the other, each into a new layer."
        if busy:
            text += "\nIt starts after the current run. An equal run does not wait twice."
        self.run_panel.run.setToolTip(text)
        self._name_preview_button()

    def _name_preview_button(self) -> None:
        what = "view" if selected_shapes(self._viewer) is None else "shape"
        self.run_panel.preview.setText(f"Deblur this {what}")

    def _show_card(self) -> None:
        """Open the Models widget at the chosen model."""
        models = open_panel(self, "Models")
        if models is not None:
            models.refresh(self.form.model.value)

    # ---- preview and run ---------------------------------------------------------------------

    def run_preview(self) -> None:
        """Deblur what is on the screen into a layer, with the same pixels as in `run`.

        Raises
        ------
        SwintormerError
            Image, model and settings do not fit, or the image is not on the screen.
        """
        if not self._busy:
            view = self.chosen.in_view()
            job = view.source.plan(self.form.settings())
            self.preview.start(job.keeping(self.blur.measured), view)

    def run(self) -> None:
        """Start the run of the fields; the result becomes a new layer.

        It waits while another run is going on. Several selected layers run one after the other.

        Raises
        ------
        SwintormerError
            Image, model and settings do not fit; one sentence says what would work.
        """
        planned = self.chosen.plan()
        path = self.chosen.destination(planned)
        self.preview.cancel()  # the run makes these pixels, too
        for run in self._runs_of(planned, path):
            if not self.runs.has(run):
                self.runs.start(run)

    def _runs_of(
        self, planned: list[tuple[Image, LayerSource, Job]], path: Path | None
    ) -> list[Run]:
        return [
            Run(source, job, self.chosen.record(layer, source, job), path)
            for layer, source, job in planned
        ]

    def cancel(self) -> None:
        """Stop after the current batch of tiles; what is finished is kept."""
        self.run_panel.cancel.setEnabled(False)
        for work in self._works:
            work.cancel()

    def pause(self) -> None:
        """Stop the run after the current batch of tiles and free the device, until `resume`."""
        self.run_panel.pause.setEnabled(False)
        self.runs.pause()

    def _run_if_possible(self) -> None:
        if self.update_plan():
            self.run()

    def _preview_if_possible(self) -> None:
        try:
            self.run_preview()
        except SwintormerError as error:
            self.run_panel.show_message(str(error), error=True)

    def _follow_blur(self) -> None:
        """Show the told blur in a preview; one that is going on is followed by another."""
        self._blur_waits = self.preview.running
        if not self._blur_waits:
            self._preview_if_possible()

    def _show_state(self) -> None:
        if self._busy:
            self._closing.watch()
        self.run_panel.set_running(
            self._busy,
            pausable=self.runs.running and not self.runs.paused,
            resumable=self.runs.stopped is not None,
            paused=self.runs.paused,
        )
        self.update_plan()

    def _compare_run(self, run: Run) -> None:
        """Compare a result that begins to fill in; it replaces the preview."""
        self.preview.remove()
        if run.destination is not None and self.form.save_to.value == str(run.destination):
            self.form.save_to.value = ""  # the next run needs another name
        if run.layer is not None:
            self.compare.add(run.layer, run.source)

    def _use_strength(self, strength: float) -> None:
        """Blend the preview, or the compared result of the chosen image, at another strength."""
        self.preview.set_strength(strength)
        layer = self.compare.layer
        if layer is None or kind_of(layer) != "result" or self.runs.running:
            return
        if source_of(layer, self._viewer.layers) != self.form.layer:
            return
        if self.live.set_strength(layer, strength):
            self.run_panel.show_message(f"{layer.name} has the strength {strength:g} now.")
        else:
            self.run_panel.show_message(
                f"The change of {layer.name} is not kept in memory. Press Deblur all for a result "
                "with this strength."
            )

    def _compare_preview(self, layer: Image | None) -> None:
        if layer is not None and self.preview.source is not None:
            self.compare.add(layer, self.preview.source)
            self.blur.take(self.preview.job)
        if self._blur_waits:
            self._follow_blur()
        self.previewed.emit(layer)

    # ---- the window --------------------------------------------------------------------------

    def _adopt(self) -> None:
        """Take over what an earlier panel has made in this viewer."""
        sources = sources_of_results(self._viewer.layers)
        self.preview.adopt(sources)
        for layer, source in sources.items():
            self.compare.add(layer, source)
        self.runs.adopt()

    def _forget_message(self, event: Any = None) -> None:
        """Remove a message that is about an earlier state of the viewer.

        Of a new layer only errors are forgotten: a run tells its end with its layer.
        """
        opened = event is not None and event.type == "inserted"
        if not self._busy and not (opened and kind_of(event.value) is not None):
            self.run_panel.forget_message(errors_only=opened)

    def _question(self) -> str:
        """Return what closing the panel would stop; empty if nothing."""
        if self.folder.work.running:
            return "A folder is being deblurred. Stop it? The same folders again continue the run."
        if not self.runs.running and not self.runs.paused:
            return ""
        waiting = f" {self.runs.n_waiting} more wait, and are dropped." * (self.runs.n_waiting > 0)
        return (
            f"A run is going on. Stop it?{waiting} What is finished is kept, and Resume in a new "
            "Deblur panel continues it."
        )

    def event(self, event: QEvent) -> bool:
        """Stop everything when the dock widget is closed: no button would be left to stop it."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.cancel()
            self.compare.close_comparison()
            self.trying.close_row()
        return bool(super().event(event))

    def enterEvent(self, event: QEvent) -> None:  # noqa: N802 (Qt's name)
        """Notice new models and selected shapes when the mouse comes back."""
        self.form.refresh()
        self.runs.adopt()
        self._name_preview_button()
        super().enterEvent(event)

    def _connect(self) -> None:
        self.form.changed.connect(self._plan_timer.start)
        self.form.image_chosen.connect(self._forget_message)
        self._viewer.dims.events.ndisplay.connect(self._forget_message)
        self._viewer.layers.events.inserted.connect(self._forget_message)
        self.blur.moved.connect(self._follow_blur)
        self.form.show_card.clicked.connect(self._show_card)
        self.form.strength.changed.connect(self._use_strength)
        self.live.blended.connect(self.compare.renew_difference)
        self._plan_timer.timeout.connect(self.update_plan)
        self.run_panel.run.clicked.connect(self._run_if_possible)
        self.run_panel.preview.clicked.connect(self._preview_if_possible)
        self.run_panel.cancel.clicked.connect(self.cancel)
        self.run_panel.pause.clicked.connect(self.pause)
        self.run_panel.resume.clicked.connect(self.runs.resume)
        for work in self._works:
            work.changed.connect(self._show_state)
            work.progressed.connect(self.run_panel.show_progress)
        for speaker in (*self._works, self.compare, self.blur.work, self.copying, self.saving):
            speaker.said.connect(self.run_panel.show_message)
        self.runs.opened.connect(self._compare_run)
        self.runs.ended.connect(self.saving.enable)
        self.runs.ended.connect(self.finished)
        self.preview.ended.connect(self._compare_preview)
        self._viewer.layers.selection.events.changed.connect(self._start_plan_timer)

    def _start_plan_timer(self, *_: Any) -> None:
        self._plan_timer.start()
