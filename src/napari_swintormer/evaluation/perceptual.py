"""LPIPS, where its package and its weights are: the extra ``metrics``, and a first use online.

Where they are not, a sentence says so, and the metric is left out.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_SMALLEST = 32  # pixels on a side


def missing_lpips() -> str | None:
    """Say in a sentence why LPIPS cannot be had here; None if it can."""
    if find_spec("lpips") is None:
        return (
            "LPIPS is left out: the package lpips is not installed "
            "(pip install napari-swintormer[metrics])."
        )
    try:
        _network()
    except (ImportError, RuntimeError) as error:  # torchvision made for another torch raises both
        reason = " ".join(str(error).split())[:120]
        return (
            f"LPIPS is left out: the package lpips cannot be loaded ({reason}). Its torchvision "
            "must be the one made for the installed torch."
        )
    except OSError as error:  # the weights are fetched when first used
        return f"LPIPS is left out: its weights cannot be had ({error})."
    return None


def lpips(
    image: NDArray[Any], reference: NDArray[Any], *, black: float, data_range: float
) -> float:
    """Learned perceptual distance with the features of AlexNet, as published tables show it.

    Parameters
    ----------
    image, reference
        ``(Y, X)`` or ``(Y, X, 3)`` of equal shape; intensities are cut to the data range.
    black, data_range
        Intensity that is 0, and the distance from there to 1.

    Returns
    -------
    float
        0 for equal images; NaN for images of less than 32 pixels on a side.
    """
    import torch

    if min(image.shape[:2]) < _SMALLEST:
        return float("nan")
    pair = []
    for pixels in (image, reference):
        unit = np.clip((pixels - black) / data_range, 0, 1).astype(np.float32)
        colours = np.repeat(unit[..., None], 3, axis=2) if unit.ndim == 2 else unit
        pair.append(torch.from_numpy(np.ascontiguousarray(np.moveaxis(colours, 2, 0)))[None])
    with torch.inference_mode():
        return float(_network()(*pair, normalize=True))


@lru_cache
def _network() -> Callable[..., Any]:
    from lpips import LPIPS

    network: Callable[..., Any] = LPIPS(net="alex", verbose=False).eval()
    return network
