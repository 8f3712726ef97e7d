"""A run on the terminal: progress bar, notices, and Ctrl-C."""

from __future__ import annotations

import math
import sys
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from napari_swintormer.events import Notice, Progress, Trained, stoppable

if TYPE_CHECKING:
    from collections.abc import Generator

    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from napari_swintormer.events import Event

_NAMES = {  # by unit
    "chunks": "Writing the result",
    "pairs": "Checking the images",
    "priors": "Sampling the prior",
}


def finish(events: Generator[Event, None, None], title: str) -> None:
    """Iterate a run to its end, with a progress bar and notices on standard error.

    Parameters
    ----------
    events
        The run; it is closed in every case. Ctrl-C stops it as `stoppable` says.
    title
        A word or two before the bar of tiles or steps.
    """
    with closing(stoppable(events)) as run, ExitStack() as stack:
        bar = None
        tasks: dict[str, TaskID] = {}
        for event in run:
            if isinstance(event, Progress):
                if bar is None:  # an error before the first progress needs no bar
                    bar = stack.enter_context(_bar())
                if event.unit not in tasks:
                    name = _NAMES.get(event.unit, title)
                    tasks[event.unit] = bar.add_task(name, unit=event.unit)
                done = event.share * event.total
                bar.update(tasks[event.unit], completed=done, total=event.total)
            elif (line := _line(event)) is not None:
                if bar is None:
                    sys.stderr.write(line + "\n")
                else:  # above the bar
                    bar.console.print(line, markup=False, highlight=False, soft_wrap=True)


def _bar() -> Bar:
    from rich import progress
    from rich.console import Console

    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.TaskProgressColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[unit]}"),
        progress.TimeElapsedColumn(),
        progress.TextColumn("· to go"),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def _line(event: Event) -> str | None:
    """Describe an event in a line; None for events that are not shown."""
    if isinstance(event, Notice):
        return event.message
    if isinstance(event, Trained) and event.psnr is not None and event.psnr_blurred is not None:
        loss = "" if math.isnan(event.loss) else f"loss {event.loss:.4f}, "
        return (
            f"step {event.step:,}: {loss}validation {event.psnr:.2f} dB "
            f"({event.psnr - event.psnr_blurred:+.2f} dB over the blurred images)"
        )
    return None
