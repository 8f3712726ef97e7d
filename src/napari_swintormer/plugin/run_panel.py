"""What a run will do, its buttons and how far it is: the lower half of the Deblur widget."""

from __future__ import annotations

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
from napari_swintormer.job import Job
from napari_swintormer.plugin.style import set_role, text_label
from napari_swintormer.tiling.plan import duration_text, size_text


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

    def show_job(self, job: Job) -> None:
        """Show the plan of a job."""
        plan = job.plan
        height, width = plan.grid.tile_shape
        facts = [
            (f"{plan.n_tiles:,}", f"tile{'s' * (plan.n_tiles != 1)} of {max(height, width)} px"),
            ("—" if plan.seconds is None else f"≈ {duration_text(plan.seconds)}", "time"),
            (size_text(plan.host_bytes), "memory"),
        ]
        for (figure, caption), over, under in zip(
            facts, self._figures, self._captions, strict=True
        ):
            over.setText(figure)
            under.setText(caption)
        unknown = "\nThe first run with these settings measures the speed."
        self.setToolTip(job.describe() + unknown * (plan.seconds is None))
        self.sentence.hide()
        self._facts.show()

    def show_sentence(self, sentence: str, *, error: bool) -> None:
        """Show one sentence instead of the facts."""
        set_role(self.sentence, "error" if error else "caption")
        self.sentence.setText(sentence)
        self.setToolTip("")
        self._facts.hide()
        self.sentence.show()


class RunPanel(QWidget):
    """Run and Cancel, the progress bar and one line of message."""

    def __init__(self) -> None:
        super().__init__()
        self.run = QPushButton("Deblur")
        self.run.setObjectName("swintormer-run")
        self.run.setToolTip("Deblur the image; the result becomes a new layer.")
        self.cancel = QPushButton("Cancel")
        self.cancel.setObjectName("swintormer-cancel")
        self.cancel.setToolTip("Stop after the tiles at hand; the layers stay as they were.")
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        self.progress.setFixedHeight(8)
        self.progress_text = QLabel()
        self.message = text_label("message")
        self.message.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)

        buttons = QHBoxLayout()
        buttons.setSpacing(8)
        buttons.addWidget(self.run, 2)
        buttons.addWidget(self.cancel, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addLayout(buttons)
        layout.addWidget(self.progress)
        layout.addWidget(self.progress_text)
        layout.addWidget(self.message)
        self.set_running(False)
        self.show_message("")

    def set_running(self, running: bool) -> None:
        """Enable the button that makes sense, and show the progress bar during a run."""
        self.cancel.setEnabled(running)
        self.progress.setVisible(running)
        self.progress_text.setVisible(running)
        if running:
            self.run.setEnabled(False)
            self.progress.setRange(0, 0)  # busy: nothing is counted yet
            self.progress_text.setText("Loading the model …")

    def show_progress(self, event: Progress) -> None:
        """Show how many tiles are done and how long the rest takes."""
        self.progress.setRange(0, event.total)
        self.progress.setValue(event.done)
        self.progress_text.setText(progress_line(event))

    def show_message(self, text: str, *, error: bool = False) -> None:
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
