"""The events of a run: deblurring, training and evaluation report with the same few classes.

A run is a generator of events. Widget, command line and API iterate it, show the events they like,
and stop the run by closing the generator.
"""

from __future__ import annotations

import signal
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Progress:
    """Work done so far, reported after every batch of tiles, training step or written chunk.

    Attributes
    ----------
    done, total
        Work in `unit`.
    unit
        ``"tiles"``, ``"steps"``, ``"images"``, ``"pairs"`` while a training checks its images,
        ``"priors"`` while it samples the prior of each, or ``"chunks"`` while the result is put in
        its place.
    elapsed
        Seconds since the run began, without those of an earlier run that it resumes.
    eta
        Seconds to go; None while unknown.
    step, steps
        Steps of the current batch, done and in total: calls of the denoiser and of the network.
        Both are 0 when the batch is done, and for restorers that need one step.
    batch
        Size of the current batch, in `unit`.
    taken
        Work of `done` that was taken over from a preview, and tells no speed.
    """

    done: int
    total: int
    unit: str
    elapsed: float
    eta: float | None = None
    step: int = 0
    steps: int = 0
    batch: int = 0
    taken: int = 0

    @property
    def share(self) -> float:
        """Share of the work that is done, 0 to 1, including the current batch."""
        return (self.done + self.batch * self.step / max(1, self.steps)) / self.total


class Clock:
    """Counts work; speed and ETA come from the work of this run alone.

    Parameters
    ----------
    total, unit
        Work to do, and its unit as in `Progress`.
    done_before
        Work that an earlier run had finished.
    """

    def __init__(self, total: int, unit: str, done_before: int = 0) -> None:
        self._total, self._unit = total, unit
        self._done_before = self._done = done_before
        self._start, self._taken = time.monotonic(), 0

    def after(self, n: int, taken: int = 0) -> Progress:
        """Count `n` more, at least one; `taken` of all were taken over from a preview."""
        self._done += n
        self._taken = taken
        elapsed = time.monotonic() - self._start
        eta = self._eta(elapsed, self._done)
        return Progress(self._done, self._total, self._unit, elapsed, eta, taken=taken)

    def within(self, n: int, step: int, steps: int) -> Progress:
        """Report `step` of `steps`, at least one, of the next `n`."""
        elapsed = time.monotonic() - self._start
        done = self._done + n * step / steps
        eta = self._eta(elapsed, done)
        return Progress(
            self._done, self._total, self._unit, elapsed, eta, step, steps, n, self._taken
        )

    def _eta(self, elapsed: float, done: float) -> float | None:
        worked = done - self._done_before - self._taken
        return elapsed / worked * (self._total - done) if worked > 0 else None


@dataclass(frozen=True)
class ChunkFinished:
    """A region of the result is final and stored."""

    plane: int  # number of the plane, as in `napari_swintormer.imaging.planes.Planes`
    y: tuple[int, int]  # start and stop in pixels of the plane
    x: tuple[int, int]


@dataclass(frozen=True)
class Notice:
    """One sentence that the user should know although the run continues."""

    message: str


@dataclass(frozen=True)
class PlanNotice(Notice):
    """What a run is going to do, before it does anything."""


@dataclass(frozen=True)
class ImageBegun(PlanNotice):
    """A run over several images begins with one of them.

    Attributes
    ----------
    name
        Name of its file.
    number, count
        Number of the image, counted from 1, and of all images.
    """

    name: str
    number: int
    count: int


@dataclass(frozen=True)
class Substitution(Notice):
    """The run uses something else than was asked for; the provenance of the result says it, too."""


@dataclass(frozen=True)
class Trained:
    """A line of the training log.

    Attributes
    ----------
    step, steps
        Steps done and in total.
    loss
        Mean training loss since the last report; NaN before the first step.
    psnr, psnr_blurred
        Validation PSNR in dB of the restored and of the blurred images; None without validation.
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


def stoppable(events: Generator[Event, None, None]) -> Generator[Event, None, None]:
    """Pass the events of a run on until Ctrl-C stops it.

    The first Ctrl-C stops the run after the current batch or step, the second one at once. Both
    raise KeyboardInterrupt after the run has cleaned up.
    """
    with closing(events), _interruption() as interrupted:
        for event in events:
            yield event
            if interrupted():
                raise KeyboardInterrupt


@contextmanager
def _interruption() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a request; yields a function that tells whether there is one."""
    if threading.current_thread() is not threading.main_thread():  # signals go to the main thread
        yield lambda: False
        return
    asked = threading.Event()

    def ask(_number: int, _frame: object) -> None:
        asked.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, ask) or signal.SIG_DFL
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)
