"""Parameters that others publish: fetched once, checked by SHA-256, and read as data.

Losses and metrics compare images by the features of torchvision's classifiers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from napari_swintormer.errors import FileError, one_line
from napari_swintormer.settings.preferences import cache_folder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Published:
    """A file of parameters: its network, its address, its SHA-256, and its size for people."""

    name: str
    url: str
    sha256: str
    size: str

    @property
    def file(self) -> Path:
        """Where the file is cached; a file that is put there needs no connection."""
        return cache_folder() / "published" / self.url.rpartition("/")[2]

    def fetch(self) -> Path:
        """Return the file, and fetch it if it is not there; raises `FileError`."""
        import pooch

        file = self.file
        try:
            pooch.retrieve(self.url, f"sha256:{self.sha256}", file.name, file.parent)
        except (OSError, ValueError) as error:  # no connection, or another file than expected
            raise FileError(
                f"The parameters of {self.name} ({self.size}) cannot be fetched from {self.url} "
                f"({one_line(error)}). Fetch the file by other means and put it there: {file}"
            ) from error
        return file

    def read(self, file: Path) -> dict[str, Tensor]:
        """Read the tensors of a file as data; raises `FileError`."""
        if not file.is_file():
            raise FileError(f"There is no file {file} with the parameters of {self.name}.")
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # a hostile or truncated pickle can raise anything
            raise FileError(
                f"{file} is damaged, or holds more than plain weights. Use the file of {self.url}."
            ) from error
        tensors = content.items() if isinstance(content, dict) else ()
        return {str(key): value for key, value in tensors if isinstance(value, Tensor)}

    def fill(self, layers: nn.ModuleList, state: Mapping[str, Tensor], file: Path) -> None:
        """Give layers their parameters by name; raises `FileError` if they do not fit."""
        wanted = {key: value.shape for key, value in layers.state_dict().items()}
        if {key: value.shape for key, value in state.items()} != wanted:
            raise FileError(
                f"{file} does not hold the parameters of {self.name}. Use the file of {self.url}."
            )
        layers.load_state_dict(state, assign=True)

    def fill_convolutions(self, convolutions: nn.ModuleList, file: Path) -> None:
        """Give convolutions the parameters of torchvision's file of a classifier."""
        found = {
            (int(name[1]), name[2]): value
            for key, value in self.read(file).items()
            if (name := re.fullmatch(r"features\.(\d+)\.(\w+)", key))
        }
        # torchvision numbers all layers, the list of convolutions only some of them
        layers = sorted({layer for layer, _ in found})
        state = {f"{layers.index(layer)}.{kind}": value for (layer, kind), value in found.items()}
        self.fill(convolutions, state, file)
