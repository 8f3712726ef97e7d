"""Parts that the widgets share, and their style in the light and dark themes of napari."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from magicgui.widgets.bases import ValueWidget
from napari.utils.theme import get_theme
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QGridLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QWidget,
)


def form_layout(parent: QWidget | None = None) -> QFormLayout:
    """Make a layout whose rows have a label and a field; the field takes the rest of the width."""
    form = QFormLayout() if parent is None else QFormLayout(parent)
    form.setContentsMargins(0, 0, 0, 0)
    form.setVerticalSpacing(6)
    form.setHorizontalSpacing(10)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.DontWrapRows)
    return form


def add_row(
    form: QFormLayout,
    text: str,
    field: ValueWidget[Any],
    below: QWidget | None = None,
    beside: QWidget | None = None,
) -> QLabel:
    """Add a row with a label, a field, and a widget below or beside the field."""
    native = field.native
    native.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    if isinstance(native, QComboBox):  # a long layer name does not widen the window
        native.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        native.setMinimumContentsLength(11)
    label = QLabel(text)
    label.setBuddy(native)
    label.setToolTip(field.tooltip or "")
    cell = QGridLayout()
    cell.setHorizontalSpacing(6)
    cell.setVerticalSpacing(2)
    cell.addWidget(native, 0, 0)
    if beside is not None:
        cell.addWidget(beside, 0, 1)
    if below is not None:
        cell.addWidget(below, 1, 0, 1, cell.columnCount())
    form.addRow(label, cell)
    return label


def button(
    text: str,
    tooltip: str,
    clicked: Callable[[], object] | None = None,
    *,
    checkable: bool = False,
) -> QPushButton:
    """Make a button with an explanation."""
    made = QPushButton(text)
    made.setToolTip(tooltip)
    made.setCheckable(checkable)
    if clicked is not None:
        made.clicked.connect(lambda *_: clicked())
    return made


def button_row(parent: QWidget, *buttons: QPushButton, columns: int = 3) -> None:
    """Lay out the buttons of a panel in rows."""
    layout = QGridLayout(parent)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(6)
    for number, each in enumerate(buttons):
        layout.addWidget(each, number // columns, number % columns)


def text_label(role: str) -> QLabel:
    """Make a label for text of any origin: it wraps, and is never read as markup."""
    label = QLabel()
    label.setWordWrap(True)
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setProperty("role", role)
    return label


def show_text(label: QLabel, text: str, role: str) -> None:
    """Show a text in a role of the style sheet; an empty text hides the label."""
    label.setProperty("role", role)
    label.style().unpolish(label)
    label.style().polish(label)
    label.setText(text)
    label.setVisible(bool(text))


def is_dark(theme_id: str) -> bool:
    """Say whether a theme of napari has a dark background; napari before 0.9 does not tell."""
    red, green, blue = get_theme(theme_id).background.as_rgb_tuple()[:3]
    return bool(299 * red + 587 * green + 114 * blue < 500 * 255)


def style_sheet(theme_id: str) -> str:
    """Return the colours and sizes of the widgets in a theme of napari."""
    theme = get_theme(theme_id)
    # the `error` of the theme is a background colour, too dark for text
    dark = is_dark(theme_id)
    error = "#ff8a80" if dark else "#b3261e"
    caption = "#a9b0bb" if dark else "#56585c"
    size = int(str(theme.font_size).removesuffix("pt"))
    return f"""
    QLabel[role="caption"] {{ color: {caption}; font-size: {size}pt; }}
    QLabel[role="error"] {{ color: {error}; }}
    QListWidget::item {{ padding: 3px; }}
    QLabel[role="title"] {{ font-size: {size + 2}pt; font-weight: 600; }}
    QLabel[role="figure"] {{ font-size: {size + 3}pt; font-weight: 600; }}
    #swintormer-plan, #swintormer-plan QWidget {{
        background-color: {theme.foreground.as_hex()};
    }}
    #swintormer-plan {{ border-radius: 4px; }}
    #swintormer-more {{
        background: transparent; text-align: left; padding-left: 0px; qproperty-iconSize: 0px 0px;
    }}
    #swintormer-more:hover {{ background-color: {theme.foreground.as_hex()}; }}
    #swintormer-kind:checked {{ background-color: {theme.current.as_hex()}; }}
    #swintormer-variant {{ border-radius: 4px; padding: 3px; }}
    #swintormer-variant:checked {{ background-color: {theme.current.as_hex()}; }}
    #swintormer-large {{ border: 2px solid {theme.current.as_hex()}; }}
    #swintormer-run, #swintormer-preview {{ min-height: 20px; }}
    #swintormer-run {{ font-weight: 600; }}
    #swintormer-run:enabled {{ background-color: {theme.current.as_hex()}; }}
    #swintormer-run:enabled:hover {{ background-color: {theme.highlight.as_hex()}; }}
    """
