"""Measures what the deconvolution of a model gains without the network behind it.

    python benchmarks/deconvolution_alone.py --photo DIR [--model NAME ...] [--images 12]

Sharp photos are blurred evenly with point-spread functions of several shapes and radii. Each model
has three columns: its deconvolution, the same with the filters' shares averaged over the image, and
the whole model. If the averaged shares gain more, local shares know too little of their
surroundings.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from napari_swintormer.evaluation.data.synthetic import GAMMA, SUFFIXES
from napari_swintormer.evaluation.reports.pages import markdown_table
from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.models.catalogue import find_model, load_model
from napari_swintormer.models.files.weights import load_weights
from napari_swintormer.models.network.swintormer import Swintormer
from napari_swintormer.optics import psf
from napari_swintormer.settings.deblur_settings import DEFAULT_MODEL
from napari_swintormer.training.degradations.camera import SensorNoise
from napari_swintormer.training.degradations.simple import Degradation

if TYPE_CHECKING:
    from collections.abc import Callable

SIDE, BORDER, NOISE = 384, 32, 0.002
RADII = (1.0, 1.6, 2.5, 3.4)  # pixels
FIGURES = {
    "disk": psf.disk,
    "Gaussian": psf.gaussian,
    "diffraction": lambda radius: psf.defocus(radius, cutoff=0.6),
}


class Everywhere(nn.Module):
    """Averages the shares of the filters over the image."""

    def __init__(self, shares: nn.Module) -> None:
        super().__init__()
        self.shares = shares

    def forward(self, x: Tensor) -> Tensor:
        shares: Tensor = self.shares(x)
        return shares.mean(dim=(1, 2), keepdim=True).expand_as(shares)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photo", type=Path, required=True)
    parser.add_argument("--model", action="append", help="name or weights file")
    parser.add_argument("--images", type=int, default=12, help="number of photos, evenly spaced")
    options = parser.parse_args()
    columns: dict[str, Callable[[Tensor], Tensor]] = {}
    for model in options.model or [DEFAULT_MODEL]:
        columns |= ways(model)
    sharp = [*photos(options.photo, options.images)]
    rows = [
        [name, f"{radius:g}", *(f"{gain:+.2f}" for gain in gains(columns, sharp, figure(radius)))]
        for radius in RADII
        for name, figure in FIGURES.items()
    ]
    print(markdown_table(["blur", "radius (px)", *columns], rows))


def ways(model: str) -> dict[str, Callable[[Tensor], Tensor]]:
    """Give three ways to restore with a model, by the name of their column."""
    card, weights = load_weights(find_model(model))
    local, everywhere = Swintormer(card.network).eval(), Swintormer(card.network).eval()
    for network in (local, everywhere):
        network.load_state_dict(weights)
    if local.deconvolution is None or everywhere.deconvolution is None:
        raise SystemExit(f"{model} has no deconvolution.")
    everywhere.deconvolution.shares = Everywhere(everywhere.deconvolution.shares)
    name = Path(model).stem
    return {
        name: lambda x: x + deconvolved(local, x),
        f"{name}, everywhere": lambda x: x + deconvolved(everywhere, x),
        f"{name}, all": load_model(model),
    }


def deconvolved(network: Swintormer, photos: Tensor) -> Tensor:
    """Give what the deconvolution of a network adds to photos."""
    deconvolution = network.deconvolution
    assert deconvolution is not None
    added: Tensor = deconvolution(
        photos, torch.ones(len(photos)) if deconvolution.knows_kind else None
    )
    return added


def photos(folder: Path, number: int) -> list[np.ndarray]:
    """Read the centres of some photos, ``(3, Y, X)`` in [0, 1], with a margin for the blur."""
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
    side, found = SIDE + 2 * BORDER, []
    for file in files[:: max(1, len(files) // number)]:
        with open_image(file) as image:
            pixels = np.asarray(image.data[...])
        if pixels.ndim == 3 and min(pixels.shape[:2]) >= side:
            top, left = ((n - side) // 2 for n in pixels.shape[:2])
            part = pixels[top : top + side, left : left + side]
            found.append(np.moveaxis(part / np.float32(255), 2, 0))
    return found


@torch.inference_mode()
def gains(
    columns: dict[str, Callable[[Tensor], Tensor]], photos: list[np.ndarray], kernel: np.ndarray
) -> list[float]:
    """Measure the mean gain in PSNR of each way to restore photos that a kernel has blurred."""
    degradation = Degradation(
        (kernel,), GAMMA, SensorNoise(NOISE / 2**0.5, NOISE**2 / 2), levels=256
    )
    won = []
    for number, photo in enumerate(photos):
        margin = BORDER - degradation.margin
        cut = photo[:, margin:-margin, margin:-margin]
        blurred = degradation.apply(cut, np.random.default_rng(number)).clip(0, 1)
        sharp = photo[:, BORDER:-BORDER, BORDER:-BORDER]
        before = error(blurred, sharp)
        tile = torch.from_numpy(blurred)[None]
        results = [restore(tile)[0].float().numpy() for restore in columns.values()]
        won.append([10 * np.log10(before / error(result, sharp)) for result in results])
    return list(np.mean(won, axis=0))


def error(image: np.ndarray, sharp: np.ndarray) -> float:
    """Compute the mean squared error of the middle."""
    middle = (..., slice(BORDER, -BORDER), slice(BORDER, -BORDER))
    return float(np.square(image.clip(0, 1) - sharp)[middle].mean())


if __name__ == "__main__":
    main()
