"""Long work of a widget: it runs in a thread, and the viewer stays alive."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import closing
from math import inf
from typing import Any

from napari.qt.threading import WorkerBase, WorkerBaseSignals
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QObject, Signal

from napari_swintormer.errors import SwintormerError
from napari_swintormer.events import ChunkFinished, Notice, Progress

PAUSES: dict[type, float] = {Progress: 0.1, ChunkFinished: 0.4}
"""Seconds between two signals of one kind: napari draws a layer again for a finished chunk."""

MakeEvents = Callable[[], Generator[Any, None, Any]]


class Work(QObject):
    """Runs one generator of events at a time in a thread, and reports to the GUI thread.

    The generator stops when `parent` is destroyed. The user reads `on_cancel` after a `cancel`.

    Examples
    --------
    >>> work = Work(parent)  # doctest: +SKIP
    >>> work.progressed.connect(panel.show_progress)  # doctest: +SKIP
    >>> work.begin(partial(job.preview, position, region), take=show)  # doctest: +SKIP
    """

    changed = Signal()
    """The work has begun or ended."""
    progressed = Signal(object)
    """A `Progress`, at most ten a second."""
    said = Signal(str, bool)
    """A sentence for the user; True marks an error."""
    ended = Signal(object)
    """The result, or None after an error or an abort."""

    def __init__(self, parent: QObject, on_cancel: str = "") -> None:
        super().__init__(parent)
        self._on_cancel = on_cancel
        self._worker: Worker | None = None
        self._take: Callable[[Any], Any] | None = None
        self._hear: Callable[[Any], object] | None = None
        self._made: Any = None

    @property
    def running(self) -> bool:
        """Whether a generator is running, even if it has been told to stop."""
        return self._worker is not None

    @property
    def stopping(self) -> bool:
        """Whether the running generator has been told to stop."""
        return self._worker is not None and bool(self._worker.abort_requested)

    def begin(
        self,
        make_events: MakeEvents,
        *,
        take: Callable[[Any], Any] | None = None,
        hear: Callable[[Any], object] | None = None,
    ) -> None:
        """Start a generator in a thread. No other may be running.

        Parameters
        ----------
        make_events
            Makes the generator, in the thread. Its return value is the result.
        take
            Gets the result in the GUI thread; `ended` sends what it returns. Without it `ended`
            sends the result itself.
        hear
            Gets every event that is neither `Progress` nor `Notice`, in the GUI thread.
        """
        self._take, self._hear = take, hear
        self._worker = worker = Worker(make_events)
        worker.told.connect(self._tell)
        worker.returned.connect(self._receive)
        worker.errored.connect(self._show_error)
        worker.warned.connect(lambda warned: notification_manager.receive_warning(*warned))
        worker.finished.connect(self._finish)
        self.destroyed.connect(worker.quit)
        self.said.emit("", False)
        self.changed.emit()
        worker.start()

    def cancel(self) -> None:
        """Stop after the event in progress: the thread closes the generator."""
        if self._worker is not None:
            self._worker.quit()
            if self._on_cancel:
                self.said.emit(self._on_cancel, False)

    def _end(self, made: Any, *, aborted: bool) -> None:
        """Announce the end; a subclass may do more."""
        self.changed.emit()
        self.ended.emit(made)

    def _tell(self, event: Any) -> None:
        if isinstance(event, Progress):
            self.progressed.emit(event)
        elif isinstance(event, Notice):
            self.said.emit(event.message, False)
        elif self._hear is not None:
            self._hear(event)

    def _receive(self, result: Any) -> None:
        self._made = result if self._take is None else self._take(result)

    def _show_error(self, error: Exception) -> None:
        """Show one sentence for a mistake of the user, and the traceback of any other error."""
        if isinstance(error, SwintormerError):
            self.said.emit(str(error), True)
        else:
            self.said.emit(f"{type(error).__name__}: {error}", True)
            notification_manager.receive_error(type(error), error, error.__traceback__)

    def _finish(self) -> None:
        worker, made = self._worker, self._made
        assert worker is not None
        self.destroyed.disconnect(worker.quit)
        self._worker = self._made = self._take = self._hear = None
        self._end(made, aborted=worker.abort_requested)


class _Signals(WorkerBaseSignals):
    told = Signal(object)


class Worker(WorkerBase[Any]):
    """The thread of a `Work`; it leaves out events that follow each other too closely."""

    def __init__(self, make_events: MakeEvents) -> None:
        super().__init__(SignalsClass=_Signals)
        self._make_events = make_events
        self._last: dict[type, float] = {}

    def work(self) -> Any:
        """Run the generator; return its result, or None after an abort."""
        with closing(self._make_events()) as events:
            try:
                while True:
                    self._report(next(events))
                    if self.abort_requested:
                        return None
            except StopIteration as end:
                return end.value

    def _report(self, event: Any) -> None:
        kind, now = type(event), time.monotonic()
        complete = isinstance(event, Progress) and event.done == event.total
        if complete or now - self._last.get(kind, -inf) >= PAUSES.get(kind, 0.0):
            self._last[kind] = now
            self.told.emit(event)


def in_one_step(function: Callable[[], Any]) -> MakeEvents:
    """Make a generator without events that returns the result of a function."""

    def events() -> Generator[Any, None, Any]:
        yield from ()
        return function()

    return events
