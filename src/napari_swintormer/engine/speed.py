"""Speeds of earlier runs, so that a plan can tell how long it takes."""

from __future__ import annotations

import json
import os
from contextlib import closing, suppress
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING

from napari_swintormer.config import cache_folder
from napari_swintormer.events import Progress

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from napari_swintormer.events import Event
    from napari_swintormer.tiling.plan import Plan

_KEEP = 200  # combinations of model, device and settings; the oldest go first


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
    """Return the speed of the last run with this key, in pixels of tiles per second, or None."""
    speed = _load().get(key)
    return speed if isinstance(speed, float) and speed > 0 else None


def remember_speed(key: str, rate: float) -> None:
    """Keep the speed of a run, in pixels of tiles per second.

    Nothing depends on it but the plan's time, so a folder that cannot be written is no error.
    """
    speeds = _load()
    speeds.pop(key, None)
    speeds[key] = float(rate)
    path = _path()
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", delete=False) as file:
            json.dump(dict(list(speeds.items())[-_KEEP:]), file, indent=1)
        os.replace(file.name, path)


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
                if isinstance(event, Progress):
                    first, last = first or event, event
                yield event
    finally:
        if first is not None and last is not None and last.elapsed > first.elapsed:
            height, width = plan.grid.tile_shape
            pixels = (last.done - first.done) * height * width
            remember_speed(key, pixels / (last.elapsed - first.elapsed))


def _path() -> Path:
    return cache_folder() / "speeds.json"


def _load() -> dict[str, object]:
    try:
        speeds = json.loads(_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none yet, or damaged: both mean that no speed is known
        return {}
    return speeds if isinstance(speeds, dict) else {}
