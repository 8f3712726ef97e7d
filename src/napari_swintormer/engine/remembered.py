"""Figures that were measured once and help the next run; losing them costs nothing else."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING

from napari_swintormer.settings.preferences import cache_folder

if TYPE_CHECKING:
    from pathlib import Path

_KEEP = 200  # combinations of model, device and settings; the oldest go first


def recall(name: str, key: str) -> object:
    """Return the figure that was kept in the file `name` under `key`, or None."""
    return _load(name).get(key)


def remember(name: str, key: str, figure: object) -> None:
    """Keep a figure, a JSON value; a folder that cannot be written is no error."""
    figures = _load(name)
    figures.pop(key, None)
    figures[key] = figure
    path = _path(name)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", delete=False) as file:
            json.dump(dict(list(figures.items())[-_KEEP:]), file, indent=1)
        os.replace(file.name, path)


def _path(name: str) -> Path:
    return cache_folder() / f"{name}.json"


def _load(name: str) -> dict[str, object]:
    try:
        figures = json.loads(_path(name).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none yet, or damaged: both mean that nothing is known
        return {}
    return figures if isinstance(figures, dict) else {}
