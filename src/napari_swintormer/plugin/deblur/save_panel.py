"""The button that saves the compared result, whatever layer is selected."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from napari.components import ViewerModel
from napari.layers import Image
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_swintormer.imaging.formats.registry import RESULT_SUFFIXES
from napari_swintormer.imaging.image import split_suffix
from napari_swintormer.imaging.web_path import WebPath, as_path
from napari_swintormer.plugin.layers.layer_data import full_resolution
from napari_swintormer.plugin.layers.made_layers import kind_of, source_of
from napari_swintormer.plugin.layers.writer import save_layer
from napari_swintormer.plugin.shared.style import button, button_row
from napari_swintormer.plugin.shared.work import Work, in_one_step

_KINDS = {
    "OME-TIFF": ".ome.tif",
    "OME-Zarr": ".ome.zarr",
    "TIFF": ".tif",
    "PNG": ".png",
    "JPEG": ".jpg",
    "WebP": ".webp",
    "NumPy": ".npy",
}


class SavePanel(QWidget):
    """Asks for a file and saves the result that `compared` returns, in a thread.

    A file that exists is replaced only if the dialog has asked.
    """

    said = Signal(str, bool)

    def __init__(self, viewer: ViewerModel, compared: Callable[[], Image | None]) -> None:
        super().__init__()
        self._viewer, self._compared = viewer, compared
        self.work = Work(self)
        self.save = button(
            "Save …",
            "Save the result, also while another layer is selected. The file gets what the file\n"
            "of the image holds beside its pixels, such as EXIF data, as far as its format can.",
            self._choose,
        )
        self.work.said.connect(self.said)
        self.work.changed.connect(self.enable)
        button_row(self, self.save)

    def enable(self, *_: object) -> None:
        """Enable the button if there is a complete result, and not only a preview."""
        layer = self._compared()
        made = {} if layer is None else layer.metadata.get("swintormer", {})
        complete = bool(made.get("complete")) and kind_of(layer) == "result"
        self.save.setEnabled(complete and not self.work.running)

    def save_to(self, path: Path, *, overwrite: bool = False) -> None:
        """Save the result into a file whose suffix names the format."""
        layer = self._compared()
        if layer is None or self.work.running:
            return
        image = source_of(layer, self._viewer.layers)
        src = None if image is None else image.source.path
        data, meta, _ = layer.as_layer_data_tuple()
        write = partial(save_layer, path, data, meta, src=src, overwrite=overwrite)
        self.work.begin(in_one_step(write), take=partial(self._announce, path))
        self.said.emit("Saving …", False)

    def _announce(self, path: Path, lost: str | None) -> None:
        self.said.emit(f"Saved as {path}." + (f" {lost}" if lost else ""), False)

    def _choose(self) -> None:
        layer = self._compared()
        if layer is None:
            return
        filters = [f"{name} (*{suffix})" for name, suffix in _KINDS.items()]
        proposed = self._proposed(layer)
        suffix = split_suffix(proposed)[1]
        chosen = next((f for f in filters if f.endswith(f"(*{suffix})")), filters[0])
        answer, kind = QFileDialog.getSaveFileName(
            self, "Save the result", str(proposed), ";;".join(filters), chosen
        )
        if not answer:
            return
        path, named = Path(answer), bool(split_suffix(Path(answer))[1])
        if not named:
            path = path.with_name(path.name + _KINDS[kind.partition(" (")[0]])
        self.save_to(path, overwrite=named)  # the dialog asks about the name that was typed

    def _proposed(self, layer: Image) -> Path:
        """Propose a file beside that of the image, in a format that loses nothing."""
        image = source_of(layer, self._viewer.layers)
        data = full_resolution(layer)
        suffix = ".png" if layer.rgb and data.ndim == 3 and data.dtype == "uint8" else ".ome.tif"
        folder = Path()
        if image is not None and image.source.path:
            src = as_path(image.source.path)
            folder = Path() if isinstance(src, WebPath) else src.parent
            own = split_suffix(src)[1].lower()
            fitting = RESULT_SUFFIXES.get(own, own)
            suffix = fitting if fitting in _KINDS.values() else suffix
        return folder / f"{_file_name(layer.name)}{suffix}"


def _file_name(name: str) -> str:
    """Turn the name of a layer into one for a file, such as a_b of "a · b"."""
    return re.sub(r"[\\/:*?\"<>|\s·]+", "_", name).strip("_")
