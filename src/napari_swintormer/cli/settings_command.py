"""The command ``settings``, which shows and changes the preferences of this computer."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from napari_swintormer.errors import SettingsError
from napari_swintormer.settings.preferences import (
    change_preferences,
    preferences,
    preferences_file,
)


def settings(
    changes: Annotated[
        list[str] | None,
        typer.Argument(
            help="name=value, such as device=cuda or cache_folder=/scratch; nothing shows all."
        ),
    ] = None,
) -> None:
    """Show or change the preferences: model, device, memory, cache folder."""
    wanted = {}
    for change in changes or []:
        name, equals, value = change.partition("=")
        if not equals:
            raise SettingsError(f"A setting is written as name=value (got {change!r}).")
        wanted[name] = value
    chosen = change_preferences(**wanted) if wanted else preferences()
    for name, value in asdict(chosen).items():
        typer.echo(f"{name:<14} {value}")
    typer.echo(f"\nKept in {preferences_file()}")
