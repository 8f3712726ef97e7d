"""A run on the terminal: progress bar, notices, and Ctrl-C that stops after the batch at hand."""

from __future__ import annotations

import math
import signal
import sys
import threading
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING

from napari_swintormer.events import Notice, Progress, Trained

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from napari_swintormer.events import Event

_WRITING = "Writing the result"


def finish(events: Generator[Event, None, None], title: str, *, show: bool) -> None:
    """Iterate a run to its end.

    The first Ctrl-C stops it after the batch or step at hand, the second at once; both raise
    KeyboardInterrupt after the run has cleaned up.

    Parameters
    ----------
    events
        The run; closed in every case.
    title
        What is done, in a word or two, before the bar of tiles or steps.
    show
        Whether to draw a progress bar and to print notices, on standard error.
    """
    with closing(events), _interruption() as interrupted, ExitStack() as stack:
        bar = None
        tasks: dict[str, TaskID] = {}
        for event in events:
            if show and isinstance(event, Progress):
                if bar is None:  # not before: an error needs no bar
                    bar = stack.enter_context(_bar())
                if event.unit not in tasks:
                    name = _WRITING if event.unit == "chunks" else title
                    tasks[event.unit] = bar.add_task(name, unit=event.unit)
                bar.update(
                    tasks[event.unit], completed=event.share * event.total, total=event.total
                )
            elif show and (line := _line(event)) is not None:
                _print(line, bar)
            if interrupted():
                raise KeyboardInterrupt


def _print(line: str, bar: Bar | None) -> None:
    """Print a line, above the bar if there is one."""
    if bar is None:
        sys.stderr.write(line + "\n")
    else:
        bar.console.print(line, markup=False, highlight=False, soft_wrap=True)


def _bar() -> Bar:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bar

    return Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeElapsedColumn(),
        TextColumn("· to go"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def _line(event: Event) -> str | None:
    """Say an event that is worth a line of its own."""
    if isinstance(event, Notice):
        return event.message
    if isinstance(event, Trained) and event.psnr is not None and event.psnr_blurred is not None:
        loss = "" if math.isnan(event.loss) else f"loss {event.loss:.4f}, "
        return (
            f"step {event.step:,}: {loss}validation {event.psnr:.2f} dB "
            f"({event.psnr - event.psnr_blurred:+.2f} dB over the blurred images)"
        )
    return None


@contextmanager
def _interruption() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a request; yields whether there is one."""
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
