# ruff: noqa: RUF009 (`option` makes a field)
"""Preferences of the user for one computer, and the folders of this package."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, get_args

import platformdirs

from napari_swintormer.errors import OutputError, SettingsError
from napari_swintormer.settings.deblur_settings import (
    AUTOMATIC_MODEL,
    DeblurSettings,
    Device,
    Precision,
)
from napari_swintormer.settings.options import option, options_of

MEMORY_SHARES = (0.1, 0.95)
_DEBLUR = options_of(DeblurSettings)


@dataclass(frozen=True)
class Preferences:
    """What a user sets once for a computer; the API does not read it."""

    model: str = option(
        AUTOMATIC_MODEL,
        "Model that the Deblur panel and the command line use by default.",
        "auto takes the built-in model.",
        label="Model",
    )
    device: Device = option(
        "auto",
        "Device that is used where the device is automatic: auto, cpu, cuda, cuda:1, xpu or mps.",
        _DEBLUR["device"].details,
        label="Device",
        choices=_DEBLUR["device"].choices,
    )
    precision: Precision = option(
        "auto",
        "Precision that is used where the precision is automatic.",
        _DEBLUR["precision"].details,
        label="Precision",
        choices=_DEBLUR["precision"].choices,
    )
    memory_share: float = option(
        0.85,
        "Share of the GPU's free memory that a run may use, from 0.1 to 0.95.",
        "A smaller share leaves more memory to other programs.",
        label="Share of GPU memory",
        low=MEMORY_SHARES[0],
        high=MEMORY_SHARES[1],
    )
    cache_folder: str = option(
        "",
        "Folder for large results and for overviews of large files.",
        "A large result is stored there until its layer is removed. Empty means the usual cache "
        "folder of this computer.",
        label="Cache folder",
    )


def preferences() -> Preferences:
    """Read the user's preferences; what is missing or damaged in the file counts as not set."""
    try:
        stored = json.loads(preferences_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return Preferences()
    stored = stored if isinstance(stored, dict) else {}
    known: dict[str, Any] = asdict(Preferences())
    for name, default in known.items():
        value = stored.get(name)
        known[name] = value if type(value) is type(default) else default
    return Preferences(**known)


def preferences_file() -> Path:
    """File of the user's preferences, a JSON object."""
    return home() / "settings.json"


def with_preferences(settings: DeblurSettings) -> DeblurSettings:
    """Put the user's preferences where settings leave the choice."""
    preferred = preferences()
    return replace(
        settings,
        model=settings.model or preferred.model,
        device=preferred.device if settings.device == "auto" else settings.device,
        precision=preferred.precision if settings.precision == "auto" else settings.precision,
    )


def home() -> Path:
    """Folder of everything the user owns; ``SWINTORMER_HOME`` moves it."""
    override = os.environ.get("SWINTORMER_HOME")
    return Path(override) if override else Path(platformdirs.user_data_dir("napari-swintormer"))


def models_folder() -> Path:
    """Folder of the user's own models: copying a weights file into it imports the model."""
    return home() / "models"


def cache_folder() -> Path:
    """Folder of what can be deleted without loss: measured speeds, results on show, pyramids."""
    if preferred := preferences().cache_folder:
        return Path(preferred).expanduser()
    if os.environ.get("SWINTORMER_HOME"):
        return home() / "cache"
    return Path(platformdirs.user_cache_dir("napari-swintormer"))


def change_preferences(**changes: Any) -> Preferences:
    """Change fields of `Preferences`, keep them for every later run, and return all of them.

    Numbers may be written as text. Raises `SettingsError` if there is no such preference, or it
    does not take this value.
    """
    for name, value in changes.items():
        changes[name] = _checked(name, value)
    changed = replace(preferences(), **changes)
    path = preferences_file()
    try:
        write_json(path, asdict(changed))
    except OSError as error:
        raise OutputError(f"The settings cannot be kept in {path} ({error.strerror}).") from error
    return changed


def write_json(path: Path, value: object) -> None:
    """Write a file of JSON; a process that reads it sees the old or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", delete=False) as file:
        json.dump(value, file, indent=1)
    os.replace(file.name, path)


def _checked(name: str, value: Any) -> Any:
    known = [each.name for each in fields(Preferences)]
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
