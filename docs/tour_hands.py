"""Hands and eyes of a person at a real window: mouse, keys, screenshots, and what they count."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QPoint, QPointF, Qt, QTimer
from qtpy.QtGui import QGuiApplication, QWheelEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QDialog,
    QDockWidget,
    QFileDialog,
    QFormLayout,
    QLabel,
    QLineEdit,
    QMenu,
    QScrollArea,
    QScrollBar,
    QTabBar,
    QWidget,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LEFT = Qt.MouseButton.LeftButton
_PATIENCE = 240  # seconds until a run must have ended
_DRAWN = 700  # milliseconds until everything is drawn
_CONTROLS = (QAbstractButton, QComboBox, QAbstractSpinBox, QLineEdit, QAbstractSlider)


class Person:
    """Uses a window as a person does, and finds every control by the words on it.

    Attributes
    ----------
    n_clicks
        Clicks, and presses of the mouse to drag, so far.
    """

    def __init__(self, viewer: Any, pictures: Path) -> None:
        self.viewer, self._pictures = viewer, pictures
        self.window: QWidget = viewer.window._qt_window
        self.n_clicks = self._n_pictures = 0

    # ---- eyes --------------------------------------------------------------------------------

    def see(self, name: str, canvas: bool = False) -> Path:
        """Take a picture of the screen, or of the image alone, when everything is drawn."""
        QTest.qWait(_DRAWN)
        self._n_pictures += 1
        self._pictures.mkdir(parents=True, exist_ok=True)
        file = self._pictures / f"{self._n_pictures:02} {name}.png"
        shown = self.canvas if canvas else self.window
        corner = shown.mapToGlobal(QPoint(0, 0))
        screen = QGuiApplication.primaryScreen()
        grabbed = screen.grabWindow(0, corner.x(), corner.y(), shown.width(), shown.height())
        grabbed.save(str(file))
        return file

    def wait(self, seen: Callable[[], object], what: str) -> None:
        """Let the window live until something is seen."""
        until = time.monotonic() + _PATIENCE
        while not seen():
            QTest.qWait(50)
            if time.monotonic() > until:
                raise TimeoutError(f"{what} is not seen after {_PATIENCE} s")

    def wait_for_run(self) -> None:
        """Wait until no button offers to stop a run."""
        stops = ("Cancel", "Stop")
        QTest.qWait(300)
        self.wait(lambda: not any(self._buttons(text) for text in stops), "the end of a run")
        QTest.qWait(300)

    def controls(self, dock: str) -> list[str]:
        """Name the controls that can be used in a panel now, without scrolling."""
        panel = next(d for d in self.window.findChildren(QDockWidget) if dock in d.windowTitle())
        found = []
        for kind in _CONTROLS:
            for each in panel.widget().findChildren(kind):
                inner = isinstance(each.parentWidget(), (QComboBox, QAbstractSpinBox))
                slider_text = isinstance(each, QScrollBar) or not _on_screen(each)
                if each.isEnabled() and not inner and not slider_text:
                    found.append(f"{type(each).__name__} {getattr(each, 'text', str)()}")
        return found

    # ---- hands -------------------------------------------------------------------------------

    def click(self, widget: QWidget, at: QPoint | None = None) -> None:
        """Click on a widget, in its middle if nothing else is said."""
        QTest.mouseClick(widget, LEFT, Qt.KeyboardModifier.NoModifier, at or widget.rect().center())
        self.n_clicks += 1
        QTest.qWait(200)

    def has(self, text: str) -> bool:
        """Whether a button with this text can be pressed."""
        return bool(self._buttons(text))

    def shows(self, text: str) -> bool:
        """Whether a button with this text is there, even if it cannot be pressed."""
        found = self.window.findChildren(QAbstractButton)
        return any(_plain(b.text()) == text and b.isVisible() and not _behind(b) for b in found)

    def press(self, text: str, then: Callable[[], None] | None = None) -> None:
        """Press the button with this text, after scrolling to it; `then` answers its dialog."""
        self.wait(lambda: self.has(text), f"the button {text}")
        button = self._buttons(text)[0]
        self._scroll_to(button)
        if then is not None:
            QTimer.singleShot(800, then)
        self.click(button)

    def close(self, dock: str) -> None:
        """Close a dock by the cross in its title."""
        docks = self.window.findChildren(QDockWidget)
        closed = next(d for d in docks if d.windowTitle().startswith(dock) and d.isVisible())
        self.click(closed.titleBarWidget().close_button)

    def press_tool(self, mode: str) -> None:
        """Press a button of napari that has a picture and no text."""
        found = self.window.findChildren(QAbstractButton)
        self.click(next(b for b in found if b.property("mode") == mode and b.isVisible()))

    def choose(self, label: str, choice: str) -> None:
        """Choose in the combo box with this label."""
        combo = self._field(label, QComboBox)
        self._scroll_to(combo)
        self.click(combo)
        row = combo.findText(choice)
        if row < 0:
            raise LookupError(f"{label} offers no {choice}")
        QTest.keyClick(combo.view(), Qt.Key.Key_Home)
        for _ in range(row):
            QTest.keyClick(combo.view(), Qt.Key.Key_Down)
        QTest.keyClick(combo.view(), Qt.Key.Key_Return)
        self.n_clicks += 1  # a person clicks on the row
        self.wait(lambda: combo.currentText() == choice, f"{choice} in {label}")

    def enter(self, label: str, text: str) -> None:
        """Type into the field with this label."""
        field = self._field(label, (QAbstractSpinBox, QLineEdit))
        self._scroll_to(field)
        self.click(field, QPoint(12, field.height() // 2))
        line = field.findChild(QLineEdit) or field
        line.selectAll()
        QTest.keyClicks(line, text)
        QTest.keyClick(line, Qt.Key.Key_Tab)
        QTest.qWait(200)

    def drag(self, widget: QWidget, start: QPoint, end: QPoint) -> None:
        """Drag with the left button."""
        QTest.mousePress(widget, LEFT, Qt.KeyboardModifier.NoModifier, start)
        self.n_clicks += 1
        for part in range(1, 11):
            QTest.mouseMove(widget, start + (end - start) * part / 10)
            QTest.qWait(20)
        QTest.mouseRelease(widget, LEFT, Qt.KeyboardModifier.NoModifier, end)
        QTest.qWait(300)

    def scroll(self, widget: QWidget, at: QPoint, steps: int) -> None:
        """Turn the wheel of the mouse; napari zooms in where it points."""
        for _ in range(abs(steps)):
            event = QWheelEvent(
                QPointF(at),
                QPointF(widget.mapToGlobal(at)),
                QPoint(0, 0),
                QPoint(0, 120 if steps > 0 else -120),
                Qt.MouseButton.NoButton,
                Qt.KeyboardModifier.NoModifier,
                Qt.ScrollPhase.NoScrollPhase,
                False,
            )
            QApplication.sendEvent(widget, event)
            QTest.qWait(30)

    def menu(self, *path: str, then: Callable[[], None] | None = None) -> None:
        """Choose in the menus of the window; `then` answers the dialog that opens."""
        bar = self.window.menuBar()
        action = _action(bar, path[0])
        self.click(bar, bar.actionGeometry(action).center())
        for number, text in enumerate(path[1:], start=1):
            self.wait(lambda text=text: _open_menu_with(text), f"the menu with {text}")
            menu = _open_menu_with(text)
            action = _action(menu, text)
            if number == len(path) - 1 and then is not None:
                QTimer.singleShot(800, then)
            self.click(menu, menu.actionGeometry(action).center())

    def answer_file_dialog(self, file: Path, picture: str | None = None) -> None:
        """Type the name of a file into the open dialog, and confirm."""
        dialog = QApplication.activeModalWidget()
        assert isinstance(dialog, QFileDialog), f"{dialog} is no dialog for files"
        line = dialog.findChild(QLineEdit, "fileNameEdit")
        line.selectAll()
        QTest.keyClicks(line, str(file))
        if picture:
            self.see(picture)
        texts = ("Save", "Open")
        buttons = dialog.findChildren(QAbstractButton)
        self.click(next(b for b in buttons if b.isVisible() and _plain(b.text()) in texts))

    def answer(self, text: str, picture: str | None = None) -> None:
        """Press a button of the open dialog."""
        dialog = QApplication.activeModalWidget()
        assert isinstance(dialog, QDialog), f"{dialog} is no dialog"
        if picture:
            self.see(picture)
        buttons = dialog.findChildren(QAbstractButton)
        self.click(next(b for b in buttons if _plain(b.text()) == text))

    # ---- what is where -----------------------------------------------------------------------

    @property
    def canvas(self) -> QWidget:
        """The part of the window that shows the image."""
        return self.viewer.window._qt_viewer.canvas.native

    def tab(self, text: str) -> None:
        """Bring a panel to the front by its tab."""
        for bar in self.window.findChildren(QTabBar):
            for number in range(bar.count()):
                if text in bar.tabText(number) and bar.isVisible():
                    self.click(bar, bar.tabRect(number).center())
                    return
        raise LookupError(f"no tab is called {text}")

    def _buttons(self, text: str) -> list[QAbstractButton]:
        found = self.window.findChildren(QAbstractButton)
        fitting = [b for b in found if _plain(b.text()) == text and b.isEnabled()]
        return [b for b in fitting if b.isVisible() and not _behind(b)]

    def _field(self, label: str, kind: Any) -> Any:
        """Find the visible field right of a label."""
        for each in self.window.findChildren(QLabel):
            if _plain(each.text()) != label or not each.isVisible() or _behind(each):
                continue
            buddy = each.buddy()
            if buddy is None and isinstance(each.parentWidget().layout(), QFormLayout):
                buddy = _beside(each)
            fields = [] if buddy is None else [buddy, *buddy.findChildren(QWidget)]
            for field in fields:
                if isinstance(field, kind) and field.isVisible():
                    return field
        raise LookupError(f"no field is called {label}")

    def _scroll_to(self, widget: QWidget) -> None:
        above = widget.parentWidget()
        while above is not None:
            if isinstance(above, QScrollArea):
                above.ensureWidgetVisible(widget, 0, 20)
            above = above.parentWidget()
        QTest.qWait(100)


def _beside(label: QLabel) -> QWidget | None:
    for form in label.parentWidget().findChildren(QFormLayout):
        row = form.getWidgetPosition(label)[0]
        if row >= 0:
            item = form.itemAt(row, QFormLayout.ItemRole.FieldRole)
            return None if item is None else item.widget()
    return None


def _behind(widget: QWidget) -> bool:
    """Say whether a widget lies in a panel behind the tab of another."""
    above = widget.parentWidget()
    while above is not None and not isinstance(above, QDockWidget):
        above = above.parentWidget()
    return above is not None and above.visibleRegion().isEmpty()


def _on_screen(widget: QWidget) -> bool:
    return widget.isVisible() and not widget.visibleRegion().isEmpty()


def _plain(text: str) -> str:
    return text.replace("&", "").lstrip("▸▾ ").strip()


def _action(menu: Any, text: str) -> Any:
    fitting = (a for a in menu.actions() if _plain(a.text()).startswith(text) and a.isVisible())
    return next(fitting, None)


def _open_menu_with(text: str) -> Any:
    menu = QApplication.activePopupWidget()
    return menu if isinstance(menu, QMenu) and _action(menu, text) is not None else None
