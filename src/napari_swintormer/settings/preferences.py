"""Changing the user's preferences; reading them is in `config`."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, fields, replace
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, get_args

from napari_swintormer.errors import OutputError, SettingsError
from napari_swintormer.settings.options import Precision, Preferences, preferences, preferences_file

MEMORY_SHARES = (0.1, 0.95)


def change_preferences(**changes: Any) -> Preferences:
    """Change preferences and keep them for every later run.

    Parameters
    ----------
    **changes
        Fields of `Preferences`; numbers may be written as text.

    Returns
    -------
    Preferences
        All of them.

    Raises
    ------
    SettingsError
        There is no such preference, or it does not take this value.
    OutputError
        They cannot be written.
    """
    for name, value in changes.items():
        changes[name] = _checked(name, value)
    changed = replace(preferences(), **changes)
    path = preferences_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", delete=False) as file:
            json.dump(asdict(changed), file, indent=1)
        os.replace(file.name, path)
    except OSError as error:
        raise OutputError(f"The settings cannot be kept in {path} ({error.strerror}).") from error
    return changed


def _checked(name: str, value: Any) -> Any:
    known = [field.name for field in fields(Preferences)]
    if name not in known:
        raise SettingsError(f"There is no setting {name!r}. Use one of {', '.join(known)}.")
    if name == "memory_share":
        low, high = MEMORY_SHARES
        try:
            share = float(value)
        except ValueError:
            share = -1.0
        if not low <= share <= high:
            raise SettingsError(
                f"memory_share is a share of the GPU's free memory (got {value}). "
                f"Use a number from {low} to {high}."
            )
        return share
    if name == "precision" and value not in get_args(Precision):
        raise SettingsError(
            f"There is no such precision (got {value!r}). "
            f"Use one of {', '.join(map(repr, get_args(Precision)))}."
        )
    if name == "cache_folder" and value and not Path(value).expanduser().is_dir():
        raise SettingsError(f"There is no folder {value}. Make it first, or choose another.")
    return value
