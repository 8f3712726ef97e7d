"""The plan of a run: tiles, time and memory, or the reason why no run is possible."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path

from qtpy.QtWidgets import QFrame, QGridLayout, QLabel, QVBoxLayout, QWidget

from napari_swintormer.plugin.layers.space_check import fits_in_memory
from napari_swintormer.plugin.shared.style import show_text, text_label
from napari_swintormer.runs.job import Job
from napari_swintormer.runs.stores import file_bytes
from napari_swintormer.tiling.plan import Plan, duration_text, size_text

_LONG = 3600  # seconds from which on the panel says why a run takes so long


class PlanPanel(QFrame):
    """Shows three figures of a plan, or one sentence."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("swintormer-plan")
        self._facts = QWidget()
        grid = QGridLayout(self._facts)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(12)
        grid.setVerticalSpacing(0)
        self._figures = [QLabel() for _ in range(3)]
        self._captions = [QLabel() for _ in range(3)]
        for row, role, labels in ((0, "figure", self._figures), (1, "caption", self._captions)):
            for column, label in enumerate(labels):
                label.setProperty("role", role)
                grid.addWidget(label, row, column)
                grid.setColumnStretch(column, 1)
        self.sentence = text_label("caption")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(10, 8, 10, 8)
        layout.addWidget(self._facts)
        layout.addWidget(self.sentence)

    def show_jobs(
        self, jobs: Sequence[Job], shortage: str | None, destination: Path | None = None
    ) -> None:
        """Show the plan of one job, or of several that run one after the other.

        `shortage` is what the computer lacks, or None. `destination` is the file for the result of
        the only job, or None.
        """
        plans = [job.plan for job in jobs]
        known = [plan.seconds for plan in plans if plan.seconds is not None]
        all_known = len(known) == len(plans)
        time = f"≈ {duration_text(sum(known))}".replace("hours", "h") if all_known else "—"
        facts = [
            jobs[0].count_text(jobs),
            (time, "time"),
            (size_text(max(plan.host_bytes for plan in plans)), "memory"),
        ]
        for number, (figure, caption) in enumerate(facts):
            self._figures[number].setText(figure)
            self._captions[number].setText(caption)
        tooltip = [job.describe() for job in jobs]
        if not all_known:
            tooltip.append("The first preview or run with these settings measures the speed.")
        elif speed := _speed(plans):
            tooltip.append(f"The time is estimated from {speed}, as measured on this computer.")
        self.setToolTip("\n".join(tooltip))
        role = "caption" if shortage is None else "error"
        told = [_disk_use(jobs, destination)]
        if all_known and sum(known) > _LONG:
            told.append(f"At {speed}, as measured here. The preset Fast takes less time.")
        show_text(self.sentence, shortage or " ".join(filter(None, told)), role)
        self._facts.show()

    def show_sentence(self, sentence: str, *, error: bool) -> None:
        """Show one sentence in place of the figures."""
        show_text(self.sentence, sentence, "error" if error else "caption")
        self.setToolTip("")
        self._facts.hide()


def _speed(plans: Sequence[Plan]) -> str:
    """Say how fast the computer is, in pixels of the tiles of all samples; empty if unknown."""
    known = [plan for plan in plans if plan.seconds]
    seconds = sum(plan.seconds or 0 for plan in known)
    pixels = sum(plan.n_tiles * plan.samples * prod(plan.grid.tile_shape) for plan in known)
    return f"{pixels / seconds / 1e6:.2g} megapixels a second" if seconds else ""


def _disk_use(jobs: Sequence[Job], destination: Path | None) -> str:
    """Tell how much space the results take on the disk; empty if they take none."""
    if destination is not None:
        size = size_text(file_bytes(jobs[0], destination))
        return f"{destination.name} takes up to {size} of disk during the run."
    on_disk = sum(job.plan.disk_bytes for job in jobs if not fits_in_memory(job))
    if not on_disk:
        return ""
    return f"The result takes {size_text(on_disk)} of disk until its layer is removed."
