"""Speeds of earlier runs, so that a plan can tell how long it takes."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from napari_swintormer.engine.remembered import recall, remember
from napari_swintormer.events import Progress

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_swintormer.events import Event
    from napari_swintormer.tiling.plan import Plan

_FILE = "speeds"


def speed_key(model: str, device: str, precision: str, tile_size: int, batch_size: int) -> str:
    """Name a combination that has one speed.

    Parameters
    ----------
    model
        SHA-256 of the weights, or another name that changes with them.
    device, precision
        As asked for or as resolved; a plan and its run name them alike.
    tile_size, batch_size
        Of the plan.
    """
    return f"{model} {device} {precision} {tile_size} {batch_size}"


def recall_speed(key: str) -> float | None:
    """Return the speed of the last run with this key, or None.

    In pixels of tiles per second, for one sample.
    """
    speed = recall(_FILE, key)
    return speed if isinstance(speed, float) and speed > 0 else None


def remember_speed(key: str, rate: float) -> None:
    """Keep the speed of a run, in pixels of tiles per second, for one sample.

    Nothing depends on it but the plan's time, so a folder that cannot be written is no error.
    """
    remember(_FILE, key, float(rate))


def remembering(
    events: Generator[Event, None, None], plan: Plan, key: str
) -> Generator[Event, None, None]:
    """Pass the events of a run on, and remember its speed when it ends or is stopped.

    The first batch is left out: it also pays for reading the weights and preparing the device.
    """
    first = last = None
    try:
        with closing(events):
            for event in events:
                if isinstance(event, Progress) and not event.steps:
                    first, last = first or event, event
                yield event
    finally:
        if first is not None and last is not None and last.elapsed > first.elapsed:
            height, width = plan.grid.tile_shape
            pixels = (last.done - first.done) * plan.samples * height * width
            remember_speed(key, pixels / (last.elapsed - first.elapsed))
