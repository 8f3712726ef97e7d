"""What a run will do, its buttons and how far it is: the lower half of the Deblur widget."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_swintormer.events import Progress
from napari_swintormer.plugin.layers.space_check import fits_in_memory
from napari_swintormer.plugin.shared.style import set_role, text_label
from napari_swintormer.runs.job import Job
from napari_swintormer.runs.stores import file_bytes
from napari_swintormer.tiling.plan import duration_text, size_text

_PROGRESS_PARTS = 1000


class PlanPanel(QFrame):
    """Number of tiles, time and memory of the run, or the sentence why there can be none."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("swintormer-plan")
        self._facts = QWidget()
        grid = QGridLayout(self._facts)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(12)
        grid.setVerticalSpacing(0)
        self._figures: list[QLabel] = []
        self._captions: list[QLabel] = []
        for column in range(3):
            figure, caption = QLabel(), QLabel()
            figure.setProperty("role", "figure")
            caption.setProperty("role", "caption")
            grid.addWidget(figure, 0, column)
            grid.addWidget(caption, 1, column)
            grid.setColumnStretch(column, 1)
            self._figures.append(figure)
            self._captions.append(caption)
        self.sentence = text_label("caption")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(10, 8, 10, 8)
        layout.addWidget(self._facts)
        layout.addWidget(self.sentence)

    def show_jobs(
        self, jobs: Sequence[Job], shortage: str | None, destination: Path | None = None
    ) -> None:
        """Show the plan of one job or of several that run one after the other.

        Parameters
        ----------
        jobs
            At least one.
        shortage
            Why the computer cannot do it, and what would help; None where it can.
        destination
            File that the result of the one job goes to, or None.
        """
        plans = [job.plan for job in jobs]
        height, width = plans[0].grid.tile_shape
        n_tiles = sum(plan.n_tiles for plan in plans)
        times = [plan.seconds for plan in plans]
        known = [seconds for seconds in times if seconds is not None]
        memory = max(plan.host_bytes for plan in plans)
        on_disk = sum(
            plan.disk_bytes
            for job, plan in zip(jobs, plans, strict=True)
            if not fits_in_memory(job)
        )
        facts = [
            (f"{n_tiles:,}", f"tile{'s' * (n_tiles != 1)} of {max(height, width)} px"),
            (
                f"≈ {duration_text(sum(known))}".replace("hours", "h") if known == times else "—",
                "time",
            ),
            (size_text(memory), "memory"),
        ]
        for (figure, caption), over, under in zip(
            facts, self._figures, self._captions, strict=True
        ):
            over.setText(figure)
            under.setText(caption)
        unknown = "\nThe first preview or run with these settings measures the speed."
        self.setToolTip(
            "\n".join(job.describe() for job in jobs) + unknown * (len(known) < len(times))
        )
        kept = f"The result is kept on disk while its layer lives: {size_text(on_disk)}."
        if destination is not None:
            on_disk = file_bytes(jobs[0], destination)
            kept = f"{destination.name} takes up to {size_text(on_disk)} of disk while it is made."
        set_role(self.sentence, "caption" if shortage is None else "error")
        self.sentence.setText(shortage or (kept if on_disk else ""))
        self.sentence.setVisible(bool(self.sentence.text()))
        self._facts.show()

    def show_sentence(self, sentence: str, *, error: bool) -> None:
        """Show one sentence instead of the facts."""
        set_role(self.sentence, "error" if error else "caption")
        self.sentence.setText(sentence)
        self.setToolTip("")
        self._facts.hide()
        self.sentence.show()


class RunPanel(QWidget):
    """Preview, run, cancel and resume; the progress bar and one line of message."""

    def __init__(self) -> None:
        super().__init__()
        self.preview = QPushButton("Deblur this view")
        self.preview.setObjectName("swintormer-preview")
        self.preview.setToolTip(
            "Deblur what is on the screen, to the same pixels that the whole image gets.\n"
            "Of a view larger than 1024 pixels the middle: zoom in to choose the place,\n"
            "or draw a rectangle in a Shapes layer and keep it selected."
        )
        self.run = QPushButton("Deblur all")
        self.run.setObjectName("swintormer-run")
        self.pause = QPushButton("Pause")
        self.pause.setToolTip(
            "Stop after the tiles at hand and free the memory of the device, until you resume."
        )
        self.cancel = QPushButton("Cancel")
        self.cancel.setToolTip("Stop after the tiles at hand. What is finished is kept.")
        self.resume = QPushButton("Resume")
        self.resume.setToolTip("Go on with the run that was stopped, to the same result.")
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        self.progress.setFixedHeight(8)
        self.progress_text = QLabel()
        self.message = text_label("message")
        self.message.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)

        buttons = QHBoxLayout()
        buttons.setSpacing(8)
        buttons.addWidget(self.preview, 1)
        buttons.addWidget(self.run, 1)
        going_on = QHBoxLayout()
        going_on.setSpacing(8)
        going_on.addWidget(self.progress_text, 1)
        for button in (self.pause, self.resume, self.cancel):
            going_on.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addLayout(buttons)
        layout.addWidget(self.progress)
        layout.addLayout(going_on)
        layout.addWidget(self.message)
        self.set_running(False)
        self.show_message("")

    def set_running(
        self,
        running: bool,
        *,
        pausable: bool = False,
        resumable: bool = False,
        paused: bool = False,
    ) -> None:
        """Show the buttons that make sense, and the progress bar during a run.

        Parameters
        ----------
        running
            Whether a run or a preview goes on.
        pausable
            Whether that can be paused.
        resumable
            Whether a run was stopped, or paused, that can go on.
        paused
            Whether it was paused.
        """
        began = running and self.progress.isHidden()
        self.pause.setEnabled(pausable)
        self.pause.setVisible(pausable)
        self.cancel.setEnabled(running or paused)
        self.cancel.setVisible(running or paused)
        self.resume.setVisible(resumable and not running)
        self.progress.setVisible(running)
        self.progress_text.setVisible(running or resumable)
        if began:
            self.progress.setRange(0, 0)  # busy: nothing is counted yet
            self.progress_text.setText("Loading the model …")
        elif resumable and not running:
            self.progress_text.setText("Paused." if paused else "A run was stopped.")

    def show_progress(self, event: Progress) -> None:
        """Show how many tiles are done and how long the rest takes."""
        if event.unit == "images":
            return  # the message names the image of a folder
        self.progress.setRange(0, _PROGRESS_PARTS)
        self.progress.setValue(round(_PROGRESS_PARTS * event.share))
        self.progress_text.setText(progress_line(event))

    def show_message(self, text: str, error: bool = False) -> None:
        """Show the last thing that happened; an empty text hides the line."""
        set_role(self.message, "error" if error else "message")
        self.message.setText(text)
        self.message.setVisible(bool(text))


def progress_line(event: Progress) -> str:
    """Say how far a run is.

    Examples
    --------
    >>> progress_line(Progress(3, 12, "tiles", elapsed=5.0, eta=15.0))
    '3 of 12 tiles, 15 s left'
    """
    line = f"{event.done:,} of {event.total:,} {event.unit}"
    if event.steps:
        line += f", step {event.step:,} of {event.steps:,}"
    if event.eta is None or event.done == event.total:
        return line
    return f"{line}, {clock(event.eta)} left"


def clock(seconds: float) -> str:
    """Write a duration as people say it.

    Examples
    --------
    >>> clock(14.2), clock(200), clock(7500)
    ('14 s', '3 min 20 s', '2 h 5 min')
    """
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
