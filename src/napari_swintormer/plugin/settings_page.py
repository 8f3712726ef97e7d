"""The page of napari's Preferences (napari 0.9 and later) and our own settings kept as one.

napari keeps its page in a file of its own, and tells of changes only while it runs; the command
line knows our file alone. So both are brought together when a widget opens, value by value: one
that was changed on the page since the last time goes into our file, any other comes from there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from napari_swintormer.config import Preferences, preferences
from napari_swintormer.engine.remembered import recall, remember
from napari_swintormer.errors import SwintormerError
from napari_swintormer.preferences import change_preferences

_PLUGIN, _PAGE = "napari-swintormer", "settings"
_FILE, _KEY = "preferences_page", "seen"


def preferences_page() -> Any:
    """Give the page of this plugin, an evented model; None for napari before 0.9."""
    try:
        from napari.settings import get_plugin_settings
    except ImportError:
        return None
    return getattr(get_plugin_settings(_PLUGIN), _PAGE)


def join_page(page: Any, said: Callable[[str], None]) -> None:
    """Bring page and settings together, and keep the settings up to date from now on.

    Parameters
    ----------
    page
        Of `preferences_page`; None does nothing.
    said
        Takes the sentence why a value cannot be taken.
    """
    if page is None:
        return
    seen = recall(_FILE, _KEY)
    before = seen if isinstance(seen, dict) else asdict(Preferences())
    for name, value in asdict(preferences()).items():
        shown = getattr(page, name)
        if shown != before.get(name, value):
            _take(page, name, said)
        elif shown != value:
            setattr(page, name, value)
    _remember(page)
    page.events.connect(lambda event: _take_change(page, event, said))


def show_on_page(page: Any) -> None:
    """Show the settings on the page after they were changed elsewhere."""
    if page is not None:
        for name, value in asdict(preferences()).items():
            if getattr(page, name) != value:
                setattr(page, name, value)


def _take_change(page: Any, event: Any, said: Callable[[str], None]) -> None:
    name = event.type
    if name in asdict(Preferences()) and getattr(page, name) != getattr(preferences(), name):
        _take(page, name, said)
    _remember(page)


def _take(page: Any, name: str, said: Callable[[str], None]) -> None:
    """Take a value from the page; what cannot be is put back."""
    try:
        change_preferences(**{name: getattr(page, name)})
    except SwintormerError as error:
        said(str(error))
        setattr(page, name, getattr(preferences(), name))


def _remember(page: Any) -> None:
    remember(_FILE, _KEY, {name: getattr(page, name) for name in asdict(Preferences())})
