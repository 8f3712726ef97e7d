"""Buttons that copy a run to the clipboard, as Python or as a command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QWidget

from napari_swintormer.errors import SwintormerError
from napari_swintormer.plugin.deblur.scripts import as_command, as_python
from napari_swintormer.plugin.shared.style import button, button_row


class CopyPanel(QWidget):
    """Copies the run that `record` returns, so that it can be repeated with the same pixels."""

    said = Signal(str, bool)

    def __init__(self, record: Callable[[], dict[str, Any]]) -> None:
        super().__init__()
        self._record = record
        self.python = button(
            "Python",
            "Copy the run as Python for the console: the run of the selected result, or of the\n"
            "fields above.",
            lambda: self._copy(as_python, "Python for the console of napari"),
        )
        self.command = button(
            "Command line",
            "Copy the run as a command line. The image must come from a file.",
            lambda: self._copy(as_command, "a command line"),
        )
        button_row(self, self.python, self.command)

    def _copy(self, write: Callable[[dict[str, Any]], str], what: str) -> None:
        try:
            text = write(self._record())
        except SwintormerError as error:
            self.said.emit(str(error), True)
            return
        QGuiApplication.clipboard().setText(text)
        self.said.emit(f"Copied as {what}.", False)
