"""Buttons that put a run into the clipboard, as Python or as a command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QWidget

from napari_swintormer.errors import SwintormerError
from napari_swintormer.plugin.deblur.scripts import as_command, as_python


class CopyPanel(QWidget):
    """Copies a run, so that it can be repeated with the same pixels.

    Parameters
    ----------
    record
        Gives what `napari_swintormer.plugin.deblur.scripts.run_record` wrote down of the run.
    """

    said = Signal(str, bool)

    def __init__(self, record: Callable[[], dict[str, Any]]) -> None:
        super().__init__()
        self._record = record
        self.python = QPushButton("Python")
        self.python.setToolTip(
            "Copy the run of the active result, or of the fields above, as Python for the console."
        )
        self.command = QPushButton("Command line")
        self.command.setToolTip("Copy it as a command line; the image must lie in a file.")
        self.python.clicked.connect(
            lambda: self._copy(as_python, "Python for the console of napari")
        )
        self.command.clicked.connect(lambda: self._copy(as_command, "a command line"))
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addWidget(self.python)
        layout.addWidget(self.command)

    def _copy(self, write: Callable[[dict[str, Any]], str], what: str) -> None:
        try:
            text = write(self._record())
        except SwintormerError as error:
            self.said.emit(str(error), True)
            return
        QGuiApplication.clipboard().setText(text)
        self.said.emit(f"Copied as {what}.", False)
