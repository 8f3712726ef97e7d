"""Remove defocus and motion blur from images of any size.

The public names load on first use, so that importing the package (napari does, to read
the manifest) imports neither torch nor Qt.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_swintormer.api import deblur, deblur_file, train
    from napari_swintormer.models.catalogue import list_models, load_model
    from napari_swintormer.optics.blur import Blur
    from napari_swintormer.training.data.check import check_pairs

__version__ = "0.1.0"
__all__ = [
    "Blur",
    "__version__",
    "check_pairs",
    "deblur",
    "deblur_file",
    "list_models",
    "load_model",
    "train",
]

_HOME = {
    "Blur": "optics.blur",
    "check_pairs": "training.data.check",
    "deblur": "api",
    "deblur_file": "api",
    "list_models": "models.catalogue",
    "load_model": "models.catalogue",
    "train": "api",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
