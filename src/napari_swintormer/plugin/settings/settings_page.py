"""The page of napari's Preferences (napari 0.9 and later) and our own settings kept as one.

napari keeps its page in a file of its own, and tells of changes only while it runs; the command
line knows our file alone. So both are brought together when a widget opens, value by value: one
that was changed on the page since the last time goes into our file, any other comes from there.
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
    """Give the page of this plugin, an evented model; None for napari before 0.9."""
    try:
        from napari.settings import get_plugin_settings
    except ImportError:
        return None
    return getattr(get_plugin_settings(_PLUGIN), _PAGE)


class JoinedPage(QObject):
    """Brings page and settings together, and keeps the settings up to date as long as it lives.

    Parameters
    ----------
    parent
        The widget that is open.

    Attributes
    ----------
    page
        Of `preferences_page`; with None nothing happens.
    """

    said = Signal(str, bool)
    """Why a value cannot be taken; always an error."""
    changed = Signal()
    """A value of the page has been taken."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.page = preferences_page()
        if self.page is None:
            return
        seen = recall(_FILE, _KEY)
        before = seen if isinstance(seen, dict) else asdict(Preferences())
        for name, value in asdict(preferences()).items():
            shown = getattr(self.page, name)
            if shown != before.get(name, value):
                self._take(name)
            elif shown != value:
                setattr(self.page, name, value)
        self._remember()
        self.page.events.connect(self._take_change)  # keeps no reference to this object

    def show_settings(self) -> None:
        """Show the settings on the page after they were changed elsewhere."""
        if self.page is not None:
            for name, value in asdict(preferences()).items():
                if getattr(self.page, name) != value:
                    setattr(self.page, name, value)

    def _take_change(self, event: Any) -> None:
        name = event.type
        if name not in asdict(Preferences()):
            return
        if getattr(self.page, name) != getattr(preferences(), name):
            self._take(name)
            self.changed.emit()
        self._remember()

    def _take(self, name: str) -> None:
        """Take a value from the page; what cannot be is put back."""
        try:
            change_preferences(**{name: getattr(self.page, name)})
        except SwintormerError as error:
            self.said.emit(str(error), True)
            setattr(self.page, name, getattr(preferences(), name))

    def _remember(self) -> None:
        shown = {name: getattr(self.page, name) for name in asdict(Preferences())}
        remember(_FILE, _KEY, shown)
