"""The events of a run, as `napari_swintormer.plugin.shared.work.Work` takes them."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from napari_swintormer.engine.kept_tiles import KeptTiles
from napari_swintormer.engine.remembered import (
    recall_speed,
    remember_speed,
    tile_pixels_of,
)
from napari_swintormer.events import Event, Notice, Progress, Substitution
from napari_swintormer.plugin.layers.file_result import FileResult
from napari_swintormer.plugin.layers.layer_data import LayerSource
from napari_swintormer.plugin.layers.layer_result import LayerResult, make_result
from napari_swintormer.runs.job import Job

T = TypeVar("T")


@dataclass(frozen=True)
class Outcome:
    """The result of a run: complete, or just opened and still showing the input."""

    result: LayerResult | FileResult
    provenance: dict[str, Any]  # for the metadata of the layer
    seconds: float = 0.0  # duration of the run; 0 until it is complete


def iter_run(
    job: Job,
    source: LayerSource,
    result: LayerResult | FileResult | None = None,
    destination: Path | None = None,
    kept: KeptTiles | None = None,
) -> Generator[Event | Outcome, None, Outcome]:
    """Run a job, or continue it with the `result` of a run that was stopped.

    The result goes into the file `destination`, or into a layer if that is None. Closing the
    generator keeps the finished part of the result. Tiles of previews are taken over from `kept`.

    Yields
    ------
    Event or Outcome
        An `Outcome` when the result is open, then the events of `Job.run`.
    """
    start = time.monotonic()
    if result is None and destination is None:
        result = make_result(job, source.coarser)
    elif result is None:
        assert destination is not None
        result = FileResult(job, source, destination)
    try:
        if isinstance(result, FileResult):
            yield from map(Notice, filter(None, (result.damage, result.lost)))
        provenance = job.provenance()
        yield Outcome(result, provenance)
        changes = None if isinstance(result, FileResult) else result.changes
        events = job.run(
            result.array, result, deviation=result.deviation, changes=changes, kept=kept
        )
        if not result.finished():  # the tiles of an earlier run would count as well
            events = keep_first_speed(job, events)
        substituted: list[str] = []
        for event in events:
            if isinstance(event, Substitution):
                substituted.append(event.message)
                result.note_substitution(event.message)
            yield event
        if isinstance(result, FileResult):
            yield from result.put_in_place()
    finally:
        if isinstance(result, FileResult):
            result.discard_if_empty()
    made: dict[str, Any] = {"time": datetime.now(UTC).isoformat(timespec="seconds")}
    made |= {"substituted": substituted} if substituted else {}
    return Outcome(result, provenance | made, time.monotonic() - start)


def keep_first_speed(job: Job, events: Generator[Event, None, T]) -> Generator[Event, None, T]:
    """Pass events on, and store the speed if none is known, so that the plan shows a time.

    The engine stores the speed of a run without its first batch. A preview or a run of one batch
    has only this speed, which is too low rather than too high. The steps of a volume differ in size
    between a preview and a run, so their speed is not stored here.
    """
    last: Progress | None = None
    try:
        with closing(events):
            while True:
                event = next(events)
                if isinstance(event, Progress) and not event.steps:
                    last = event
                yield event
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        if job.counts_tiles:
            _remember_first(job, last)


def _remember_first(job: Job, last: Progress | None) -> None:
    """Store the speed up to the last batch, if none is known."""
    if last is not None and last.elapsed > 0:
        key, tile_pixels = job.speed_key, tile_pixels_of(job.plan)
        if recall_speed(key, tile_pixels) is None:
            rate = last.done * job.plan.samples * tile_pixels / last.elapsed
            remember_speed(key, tile_pixels, rate, first=True)
