"""The buttons of a run, its progress bar and one message, for the Deblur and Train widgets."""

from __future__ import annotations

from dataclasses import dataclass

from qtpy.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QVBoxLayout, QWidget

from napari_swintormer.events import Progress
from napari_swintormer.plugin.shared.panel import MessageLine
from napari_swintormer.plugin.shared.style import button

_PROGRESS_PARTS = 1000


@dataclass(frozen=True)
class ImageProgress(Progress):
    """Progress within one image of several.

    Attributes
    ----------
    image, number, count
        Name and number of the image, counted from 1, and the number of all images.
    """

    image: str = ""
    number: int = 1
    count: int = 1

    @property
    def share(self) -> float:
        """Share of the work on all images that is done; each image counts alike."""
        return (self.number - 1 + super().share) / self.count


class RunPanel(QWidget):
    """Shows the buttons that make sense now; the widget connects them."""

    def __init__(self) -> None:
        super().__init__()
        self.preview = button(
            "Deblur this view",
            "Deblur what is on the screen; the whole image gets the same pixels. Only the middle\n"
            "1024 pixels of a larger view are used: zoom in to choose the place, or draw a\n"
            "rectangle in a Shapes layer and keep it selected.",
        )
        self.preview.setObjectName("swintormer-preview")
        self.run = button("Deblur all", "")
        self.run.setObjectName("swintormer-run")
        self.pause = button(
            "Pause",
            "Stop after the current tiles and free the memory of the device, until you resume.",
        )
        self.cancel = button(
            "Cancel", "Stop after the current tiles. The finished part of the result is kept."
        )
        self.resume = button("Resume", "Continue the stopped run, to the same result.")
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        self.progress.setFixedHeight(8)
        self.progress_text = QLabel()
        self.message = MessageLine()
        buttons = QHBoxLayout()
        buttons.setSpacing(8)
        buttons.addWidget(self.preview, 1)
        buttons.addWidget(self.run, 1)
        state = QHBoxLayout()
        state.setSpacing(8)
        state.addWidget(self.progress_text, 1)
        for each in (self.pause, self.resume, self.cancel):
            state.addWidget(each)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addLayout(buttons)
        layout.addWidget(self.progress)
        layout.addLayout(state)
        layout.addWidget(self.message)
        self.set_running(False)

    def set_running(
        self,
        running: bool,
        *,
        pausable: bool = False,
        resumable: bool = False,
        paused: bool = False,
    ) -> None:
        """Show the buttons for a state, and the progress bar while something is `running`.

        `resumable` says that a stopped run can continue, `paused` that it was paused.
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
            self.progress.setRange(0, 0)  # Qt shows a busy bar
            self.progress_text.setText("Loading the model …")
        elif resumable and not running:
            self.progress_text.setText("Paused." if paused else "A run was stopped.")

    def show_progress(self, event: Progress) -> None:
        """Show how much is done and how long the rest takes."""
        self.progress.setRange(0, _PROGRESS_PARTS)
        self.progress.setValue(round(_PROGRESS_PARTS * event.share))
        self.progress_text.setText(progress_line(event))

    def show_message(self, text: str, error: bool = False) -> None:
        """Show the latest message; an empty text hides the line."""
        self.message.show_message(text, error)

    def forget_message(self, *, errors_only: bool) -> None:
        """Remove the latest message, or only an error."""
        if not errors_only or self.message.property("role") == "error":
            self.message.show_message("")


def progress_line(event: Progress) -> str:
    """Write the progress of a run in one line.

    Examples
    --------
    >>> progress_line(Progress(3, 12, "tiles", elapsed=5.0, eta=15.0))
    '3 of 12 tiles, 15 s left'
    """
    if isinstance(event, ImageProgress):
        return f"Image {event.number} of {event.count}: {event.image}"
    line = f"{event.done:,} of {event.total:,} {event.unit}"
    if event.unit == "pairs":
        return f"Checking the images for training: {line}"
    if event.steps:
        line += f", step {event.step:,} of {event.steps:,}"
    if event.eta is None or event.done == event.total:
        return line
    return f"{line}, {clock(event.eta)} left"


def clock(seconds: float) -> str:
    """Write a duration to the second or minute.

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
