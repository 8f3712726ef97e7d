"""Keeps the page in napari's Preferences (napari 0.9 and later) and our preferences the same.

napari stores its page in its own file and reports changes only while it runs. The command line
knows our file alone. So this module compares both when a panel opens, value by value: a value that
the user has changed on the page since then goes into our file, any other comes from our file.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_swintormer.engine.remembered import recall, remember
from napari_swintormer.errors import SwintormerError
from napari_swintormer.settings.preferences import Preferences, change_preferences, preferences

_PLUGIN, _PAGE = "napari-swintormer", "settings"
_FILE, _KEY = "preferences_page", "seen"


def preferences_page() -> Any:
    """Return the page of this plugin, an evented model; None for napari before 0.9."""
    try:
        from napari.settings import get_plugin_settings
    except ImportError:
        return None
    return getattr(get_plugin_settings(_PLUGIN), _PAGE)


class JoinedPage(QObject):
    """Makes page and preferences equal, and keeps them equal while this object exists."""

    said = Signal(str, bool)
    """Why a value of the page cannot be used; True, for an error."""
    changed = Signal()
    """A value of the page went into our preferences."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.page = preferences_page()
        if self.page is None:
            return
        seen = recall(_FILE, _KEY)
        before = seen if isinstance(seen, dict) else asdict(Preferences())
        for name, value in asdict(preferences()).items():
            if getattr(self.page, name) != before.get(name, value):
                self._store(name)
        self.show_settings()
        self._remember()
        self.page.events.connect(self._take_change)  # napari keeps a weak reference

    def show_settings(self) -> None:
        """Show our preferences on the page."""
        if self.page is not None:
            for name, value in asdict(preferences()).items():
                if getattr(self.page, name) != value:
                    setattr(self.page, name, value)

    def _take_change(self, event: Any) -> None:
        name = event.type
        if name not in asdict(Preferences()):
            return
        if getattr(self.page, name) != getattr(preferences(), name):
            self._store(name)
            self.changed.emit()
        self._remember()

    def _store(self, name: str) -> None:
        """Store a value of the page; reset a value that cannot be used."""
        try:
            change_preferences(**{name: getattr(self.page, name)})
        except SwintormerError as error:
            self.said.emit(str(error), True)
            setattr(self.page, name, getattr(preferences(), name))

    def _remember(self) -> None:
        shown = {name: getattr(self.page, name) for name in asdict(Preferences())}
        remember(_FILE, _KEY, shown)
