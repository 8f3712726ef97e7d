"""What a task of a dask graph tells its user, and asks its worker, in whatever process it runs."""

from __future__ import annotations

import logging
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from napari_swintormer.events import Notice, Substitution

if TYPE_CHECKING:
    import dask.array as da


_LOGGER = logging.getLogger(__name__)  # without a client, a task has no other way


class Iterations(NamedTuple):
    """A volume that a worker is restoring.

    Attributes
    ----------
    volume
        Index along T and C, as far as the image has these axes.
    done
        Iterations that are made.
    """

    volume: tuple[int, ...]
    done: int


def topic_of(result: da.Array) -> str:
    """Name the topic under which the tasks of a result tell something; it is their token."""
    return str(result.name).rpartition("-")[2]


def tell(token: str, said: Notice | Iterations) -> None:
    """Tell the client something, where this process is a worker; log a sentence once.

    Parameters
    ----------
    token
        Of the graph.
    said
        What the task tells.
    """
    if isinstance(said, Notice):
        _log_once(token, said.message)
        kind = "substitution" if isinstance(said, Substitution) else "notice"
        message: dict[str, Any] = {"kind": kind, "text": said.message}
    else:
        message = {"kind": "iterations", "volume": list(said.volume), "done": said.done}
    if (worker := _worker()) is not None:
        worker.log_event(token, message)


def heard(message: dict[str, Any]) -> Notice | Iterations:
    """Read what `tell` has sent."""
    if message["kind"] == "iterations":
        return Iterations(tuple(message["volume"]), message["done"])
    kind = Substitution if message["kind"] == "substitution" else Notice
    return kind(message["text"])


def is_cancelled() -> bool:
    """Say whether nobody waits for the task of this thread any more: its run was stopped."""
    if (worker := _worker()) is None:
        return False
    task = worker.state.tasks.get(worker.get_current_task())
    return task is None or task.state == "cancelled"


def working_folder() -> str | None:
    """Return the folder of this worker for large files; None outside of a cluster."""
    return None if (worker := _worker()) is None else str(worker.local_directory)


@lru_cache(maxsize=64)
def _log_once(token: str, message: str) -> None:
    _LOGGER.warning(message)


def _worker() -> Any:
    """Return the worker that runs the task of this thread; None outside of a cluster."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    try:
        return distributed.get_worker()
    except ValueError:
        return None
