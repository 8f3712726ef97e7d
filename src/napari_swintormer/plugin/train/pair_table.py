"""The table of the pairs and of what the check found about each pair."""

from __future__ import annotations

from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QColor, QIcon
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem

from napari_swintormer.plugin.shared.pixmaps import pixmap_of
from napari_swintormer.training.data.check import PairReport

_COLUMNS = ("Pair", "Findings", "Shift", "Gain", "Detail")
_FINDINGS = 1
_TIPS = (
    "Name of the blurred image and number of the plane. The picture shows the middle of the\n"
    "blurred image on the left and of the sharp image on the right.",
    "Problems that the check found. Pairs with a red problem cannot be trained on.",
    "Shift of the sharp image against the blurred one along y and x, in pixels.",
    "Contrast of the sharp image divided by the contrast of the blurred image.",
    "Strength of the details in the sharp image divided by that in the blurred image.",
)
_ICON = (72, 36)  # pixels, of the two images side by side
_BAD, _REMARK, _GOOD = QColor("#e5484d"), QColor("#d29922"), QColor("#3fa66a")


class PairTable(QTableWidget):
    """Shows one report of the pair check per row, and grows while the check runs."""

    def __init__(self) -> None:
        super().__init__(0, len(_COLUMNS))
        for column, (name, tip) in enumerate(zip(_COLUMNS, _TIPS, strict=True)):
            item = QTableWidgetItem(name)
            item.setToolTip(tip)
            self.setHorizontalHeaderItem(column, item)
        self.verticalHeader().hide()
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        header = self.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)  # takes what is left
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.hide()  # until there is a row
        self.setWordWrap(False)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)  # names differ at their ends
        self.setIconSize(QSize(*_ICON))
        self.verticalHeader().setDefaultSectionSize(_ICON[1] + 6)
        self.setMinimumHeight(_ICON[1] + 40)
        self.reports: list[PairReport] = []

    def restart(self) -> None:
        """Remove all rows."""
        self.setRowCount(0)
        self.hide()
        self.reports = []

    def add(self, report: PairReport) -> None:
        """Add the row of a pair."""
        self.show()
        self.reports.append(report)
        row = self.rowCount()
        self.insertRow(row)
        kinds = ", ".join(finding.kind for finding in report.findings) or "good"
        sentences = "\n".join(finding.message for finding in report.findings)
        colour = _BAD if report.bad else _REMARK if report.findings else _GOOD
        for column, text in enumerate((report.name, kinds, *report.measured)):
            item = QTableWidgetItem(text)
            item.setToolTip(sentences or text)
            if column == 0 and report.thumbnail is not None:
                item.setIcon(QIcon(pixmap_of(report.thumbnail)))
            if column == _FINDINGS:
                item.setForeground(colour)
            elif column:
                item.setTextAlignment(Qt.AlignmentFlag.AlignCenter)
            self.setItem(row, column, item)

    def summary(self) -> str:
        """Count the pairs that can be trained on, and name the problem of the first bad pair."""
        bad = [report for report in self.reports if report.bad]
        line = f"{len(self.reports) - len(bad)} of {len(self.reports)} pairs can be trained on."
        return line if not bad else f"{line} {bad[0].findings[0].message}"
