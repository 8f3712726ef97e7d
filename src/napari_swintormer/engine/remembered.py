"""Figures that were measured once and help the next run, such as speeds; they may be lost."""

from __future__ import annotations

import json
from contextlib import closing, suppress
from math import log2
from statistics import median
from typing import TYPE_CHECKING

from napari_swintormer.events import Progress
from napari_swintormer.settings.preferences import cache_folder, write_json

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_swintormer.events import Event
    from napari_swintormer.settings.deblur_settings import DeblurSettings
    from napari_swintormer.tiling.plan import Plan

_KEEP = 200  # keys in a file; the oldest go first
_SPEEDS = "speeds"
_FIRST = " first"  # end of the key of a speed that counts the first batch
_RUNS = 5  # runs that the median is taken of


def recall(name: str, key: str) -> object:
    """Return the figure that the file `name` of the cache folder keeps under `key`, or None."""
    return _load(name).get(key)


def remember(name: str, key: str, figure: object) -> None:
    """Keep a figure, a JSON value; it is no error if the folder cannot be written."""
    figures = _load(name)
    figures.pop(key, None)
    figures[key] = figure
    with suppress(OSError):
        write_json(cache_folder() / f"{name}.json", dict(list(figures.items())[-_KEEP:]))


def _load(name: str) -> dict[str, object]:
    try:
        figures = json.loads((cache_folder() / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # missing or damaged: nothing is known
        return {}
    return figures if isinstance(figures, dict) else {}


def speed_key(sha256: str, settings: DeblurSettings) -> str:
    """Name a combination that has one speed.

    Parameters
    ----------
    sha256
        SHA-256 of the weights; empty if they come from no file.
    settings
        With a tile size. Device and precision count as the user names them: what ``"auto"`` stands
        for is only known once torch is loaded.
    """
    steps, scale = settings.num_inference_steps, settings.scale
    model = sha256 + ("" if steps is None else f" prior {steps}")
    model += f" at 1/{scale}" if scale > 1 else ""
    batch_size = settings.batch_size or 0
    return f"{model} {settings.device} {settings.precision} {settings.tile_size} {batch_size}"


def recall_speed(key: str, tile_pixels: int) -> float | None:
    """Return the speed with this key and tiles of about this size, in pixels of tiles per second.

    It counts one sample. The speed is the median of the last runs; before a run of two batches it
    is that of the first batch.
    """
    size = _size_class(tile_pixels)
    for other in (size, size + 1, size - 1):
        for kind in ("", _FIRST):
            rates = recall(_SPEEDS, f"{key} {other}{kind}")
            rates = rates if isinstance(rates, list) else []
            usable = [rate for rate in rates if isinstance(rate, float) and rate > 0]
            if usable:
                return median(usable)
    return None


def remember_speed(key: str, tile_pixels: int, rate: float, *, first: bool = False) -> None:
    """Keep the speed of a run, in pixels of tiles per second for one sample.

    `first` says that it is that of a first batch, with the time until the device was ready.
    """
    name = f"{key} {_size_class(tile_pixels)}{_FIRST if first else ''}"
    before = recall(_SPEEDS, name)
    rates = [] if first or not isinstance(before, list) else before
    remember(_SPEEDS, name, [*rates, float(rate)][-_RUNS:])


def _size_class(tile_pixels: int) -> int:
    """Count the doublings of a pixel: small tiles are slower, so each class has its own speed."""
    return round(log2(tile_pixels))


def tile_pixels_of(plan: Plan) -> int:
    """Count the pixels of a tile of a plan."""
    height, width = plan.grid.tile_shape
    return height * width


def remembering_speed(
    events: Generator[Event, None, None], plan: Plan, key: str, step_pixels: int | None = None
) -> Generator[Event, None, None]:
    """Pass the events of a run on, and remember its speed when it ends or is stopped.

    The first batch does not count: its time includes loading the weights and preparing the device.
    `step_pixels` is what one step of the progress works on; None stands for a tile.
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
            tile_pixels = step_pixels or tile_pixels_of(plan)
            done = (last.done - last.taken) - (first.done - first.taken)
            pixels = done * plan.samples * tile_pixels
            if done > 0:
                remember_speed(key, tile_pixels, pixels / (last.elapsed - first.elapsed))
