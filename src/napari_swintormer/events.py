"""One language for what happens during a run, spoken by the engine and by training.

A run is a generator of events: whoever starts it (widget, command line, API) iterates, shows
what it likes, and stops the run by closing the generator.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Progress:
    """Work done so far, reported after every batch of tiles, training step or written chunk.

    Attributes
    ----------
    done, total
        Counted in `unit`.
    unit
        ``"tiles"``, ``"steps"``, ``"chunks"`` while the finished result is put in its place, or
        ``"images"`` of a folder.
    elapsed
        Seconds since the run began, without the part that an earlier run had finished.
    eta
        Seconds to go, or None while unknown.
    step, steps
        Steps done and to do of the batch at hand: calls of the denoiser and of the network. 0 of 0
        when a batch is done, and for models without prior, which make a batch in one.
    at_hand
        Size of that batch, in `unit`.
    """

    done: int
    total: int
    unit: str
    elapsed: float
    eta: float | None = None
    step: int = 0
    steps: int = 0
    at_hand: int = 0

    @property
    def share(self) -> float:
        """Share of the work that is done, 0 to 1, with that of the batch at hand."""
        return (self.done + self.at_hand * self.step / max(1, self.steps)) / self.total


class Clock:
    """Counts work; speed and ETA come from the work of this run alone.

    Parameters
    ----------
    total, unit
        As in `Progress`.
    done_before
        What an earlier run had finished.
    """

    def __init__(self, total: int, unit: str, done_before: int = 0) -> None:
        self._total, self._unit = total, unit
        self._done_before = self._done = done_before
        self._start = time.monotonic()

    def after(self, n: int) -> Progress:
        """Count `n` more, at least one."""
        self._done += n
        elapsed = time.monotonic() - self._start
        eta = elapsed / (self._done - self._done_before) * (self._total - self._done)
        return Progress(self._done, self._total, self._unit, elapsed, eta)

    def within(self, n: int, step: int, steps: int) -> Progress:
        """Tell that of the next `n` a part is done: `step` of `steps`, at least one."""
        elapsed = time.monotonic() - self._start
        done = self._done + n * step / steps
        eta = elapsed / (done - self._done_before) * (self._total - done)
        return Progress(self._done, self._total, self._unit, elapsed, eta, step, steps, n)


@dataclass(frozen=True)
class ChunkFinished:
    """A region of the result is final and stored.

    Attributes
    ----------
    plane
        Number of the plane, see `napari_swintormer.imaging.planes.Planes`.
    y, x
        ``(start, stop)`` in pixels of the plane.
    """

    plane: int
    y: tuple[int, int]
    x: tuple[int, int]


@dataclass(frozen=True)
class Notice:
    """Something the user should know although the run goes on; one sentence."""

    message: str


@dataclass(frozen=True)
class Trained:
    """A line of the training log.

    Attributes
    ----------
    step, steps
        Steps done and to do.
    loss
        Mean training loss since the last report, NaN before the first step.
    psnr, psnr_blurred
        Validation PSNR in dB of the restored and of the blurred images, or None when this
        report has no validation.
    picture
        PNG file that shows a validation patch blurred, restored and sharp, or None.
    """

    step: int
    steps: int
    loss: float
    psnr: float | None = None
    psnr_blurred: float | None = None
    picture: Path | None = None


Event = Progress | ChunkFinished | Notice | Trained
