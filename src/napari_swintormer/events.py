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
    """

    done: int
    total: int
    unit: str
    elapsed: float
    eta: float | None = None


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
