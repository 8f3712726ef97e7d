"""Offers all images of a file that holds several: positions, series or animation frames."""

from __future__ import annotations

from contextvars import ContextVar

import napari
from napari.components import ViewerModel
from napari.utils.notifications import show_info
from qtpy.QtWidgets import QApplication, QComboBox, QVBoxLayout, QWidget

from napari_swintormer.errors import SwintormerError
from napari_swintormer.imaging.image import Image
from napari_swintormer.plugin.shared.style import show_text, style_sheet, text_label

IMAGE_NUMBER = "swintormer_image"
"""Key of ``layer.metadata`` for the number of the image in its file, if that holds several."""

_chosen: ContextVar[int | None] = ContextVar("_chosen", default=None)


def chosen_number() -> int | None:
    """Return the number of the image that the user chose; None if the reader shall choose."""
    return _chosen.get()


class ImageChoice(QWidget):
    """Opens the image of a file that is chosen in a combo box, and hides the others.

    Parameters
    ----------
    viewer
        Viewer that gets the layers.
    path
        The file.
    images
        Names of all images in it.
    number
        The image that is open already, from 1.
    """

    def __init__(
        self, viewer: ViewerModel, path: str, images: tuple[str, ...], number: int
    ) -> None:
        super().__init__()
        self._viewer, self._path, self._shown = viewer, path, number
        self.combo = QComboBox()
        self.combo.setToolTip("Image of this file to show. It is opened in layers of its own.")
        self.combo.addItems([f"{n} {name}" for n, name in enumerate(images, start=1)])
        self.combo.setCurrentIndex(number - 1)
        self.combo.currentIndexChanged.connect(lambda index: self.choose(index + 1))
        self.message = text_label("error")
        self.message.hide()
        layout = QVBoxLayout(self)
        layout.addWidget(self.combo)
        layout.addWidget(self.message)
        layout.addStretch()
        self.setStyleSheet(style_sheet(viewer.theme))

    def is_for(self, viewer: ViewerModel, path: str) -> bool:
        """Say whether this offers the images of a file in a viewer."""
        return self._viewer is viewer and self._path == path

    def choose(self, number: int) -> None:
        """Show an image of the file; open it if no layer has it yet."""
        show_text(self.message, "", "error")
        layers = [layer for layer in self._viewer.layers if layer.source.path == self._path]
        if not any(layer.metadata.get(IMAGE_NUMBER) == number for layer in layers):
            token = _chosen.set(number)
            try:
                layers += self._viewer.open(self._path, plugin="napari-swintormer")
            except (SwintormerError, OSError) as error:
                show_text(self.message, str(error), "error")
                self.combo.blockSignals(True)
                self.combo.setCurrentIndex(self._shown - 1)
                self.combo.blockSignals(False)
                return
            finally:
                _chosen.reset(token)
        self._shown = number
        for layer in layers:
            if IMAGE_NUMBER in layer.metadata:
                layer.visible = layer.metadata[IMAGE_NUMBER] == number


def offer_images(path: str, image: Image) -> None:
    """Tell that a file holds several images, and offer them in the window."""
    if chosen_number() is not None:
        return
    viewer = napari.current_viewer()
    if viewer is None or QApplication.instance() is None or not hasattr(viewer, "window"):
        show_info(f"{image.listed()} Image {image.number} is open.")
        return
    title = f"Images in {image.path.name}"
    show_info(f"{image.listed()} Image {image.number} is open; choose another in “{title}”.")
    offered = (w for w in QApplication.allWidgets() if isinstance(w, ImageChoice))
    if not any(choice.is_for(viewer, path) for choice in offered):
        choice = ImageChoice(viewer, path, image.images, image.number)
        viewer.window.add_dock_widget(choice, name=title, area="left")
