"""Wires a worker to whoever started it: how it ends, what it warns of, what went wrong."""

from __future__ import annotations

from typing import Any

from napari.utils.notifications import notification_manager
from qtpy.QtCore import QObject

from napari_swintormer.errors import SwintormerError


def show_error(error: Exception, say: Any) -> None:
    """Say what the user can put right in one sentence; show the traceback of anything else."""
    if isinstance(error, SwintormerError):
        say(str(error), True)
    else:  # not the user's mistake: napari shows the traceback on demand
        say(f"{type(error).__name__}: {error}", True)
        notification_manager.receive_error(type(error), error, error.__traceback__)


def relay_warning(arguments: tuple[Any, ...]) -> None:
    """Show a warning of a worker where napari shows those of the GUI thread."""
    notification_manager.receive_warning(*arguments)


def attach(worker: Any, owner: QObject, failed: Any, ended: Any) -> None:
    """Hand on what a worker ends with, and stop it when its owner goes with the viewer."""
    worker.errored.connect(failed)
    worker.warned.connect(relay_warning)
    worker.finished.connect(ended)
    owner.destroyed.connect(worker.quit)
