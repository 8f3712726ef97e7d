"""Parameters that others publish: fetched once, checked, and read as data.

The classifiers of torchvision see what images show; losses and metrics compare by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from napari_swintormer.errors import FileError
from napari_swintormer.settings.preferences import cache_folder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Published:
    """A file of parameters.

    Attributes
    ----------
    name
        Of the network, for people.
    url, sha256
        Where the file is, and what it must be.
    size
        For people.
    """

    name: str
    url: str
    sha256: str
    size: str

    @property
    def file(self) -> Path:
        """Where the file is kept; who puts it there by other means needs no connection."""
        return cache_folder() / "published" / self.url.rpartition("/")[2]

    def fetch(self) -> Path:
        """Give the file, fetched if it is not there yet.

        Raises
        ------
        FileError
            It cannot be fetched, or is another one.
        """
        import pooch

        file = self.file
        try:
            pooch.retrieve(self.url, f"sha256:{self.sha256}", file.name, file.parent)
        except (OSError, ValueError) as error:  # no connection; or not the file that was expected
            raise FileError(
                f"The parameters of {self.name} ({self.size}) cannot be fetched from {self.url} "
                f"({' '.join(str(error).split())[:200]}). Fetch the file by other means and put "
                f"it there: {file}"
            ) from error
        return file

    def read(self, file: Path) -> dict[str, Tensor]:
        """Read the tensors of a file; nothing in it is executed.

        Raises
        ------
        FileError
            There is no such file, it is damaged, or holds more than tensors.
        """
        if not file.is_file():
            raise FileError(f"There is no file {file} with the parameters of {self.name}.")
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # a hostile or truncated pickle can raise anything
            raise FileError(
                f"{file} is damaged, or holds more than plain weights. Use that of {self.url}."
            ) from error
        tensors = content.items() if isinstance(content, dict) else ()
        return {str(key): value for key, value in tensors if isinstance(value, Tensor)}

    def fill(self, layers: nn.ModuleList, state: Mapping[str, Tensor], file: Path) -> None:
        """Give layers their parameters, by the names that the layers have.

        Raises
        ------
        FileError
            The file holds the parameters of other layers.
        """
        wanted = {key: value.shape for key, value in layers.state_dict().items()}
        if {key: value.shape for key, value in state.items()} != wanted:
            raise FileError(
                f"{file} does not hold the parameters of {self.name}. Use that of {self.url}."
            )
        layers.load_state_dict(state, assign=True)

    def fill_convolutions(self, convolutions: nn.ModuleList, file: Path) -> None:
        """Give convolutions the parameters of torchvision's file of a classifier.

        Raises
        ------
        FileError
            As `read` and `fill`.
        """
        self.fill(convolutions, _renamed(self.read(file)), file)


def _renamed(content: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Count the convolutions alone; torchvision counts what lies between them, too."""
    own = {key: value for key, value in content.items() if key.startswith("features.")}
    places = sorted({int(k.split(".")[1]) for k in own if k.split(".")[1].isdecimal()})
    return {
        f"{places.index(int(number))}.{kind}": value
        for (_, number, kind), value in ((key.split("."), value) for key, value in own.items())
    }
