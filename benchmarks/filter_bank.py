"""Measures what the filters of the deconvolution gain if the best mixture of each patch is known.

    python benchmarks/filter_bank.py --photo DIR --microscopy DIR [--patches 60]

Patches are made as in training. For each patch, least squares against the sharp half finds one
mixture of the filters. No model can know it, so the gain is a bound that compares filter banks.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from napari_swintormer.evaluation.reports.pages import markdown_table
from napari_swintormer.imaging.intensity import IntensityConvention
from napari_swintormer.models.network.network_settings import DeconvolutionSettings
from napari_swintormer.models.network.wiener import WienerBank
from napari_swintormer.training.data.listing import list_pairs
from napari_swintormer.training.data.pairs import sharp_planes
from napari_swintormer.training.data.patches import PatchSampler

SIDE, BORDER = 256, 26
BANKS = {
    "as it is": {},
    "disks only": {"gaussians": ()},
    "Gaussians only": {"disks": ()},
    "three filters": {"disks": (3.0,), "gaussians": (0.6, 1.75)},
    "noise of 0.004": {"noise": 0.004},
    "noise of 0.06": {"noise": 0.06},
    "not in light": {"gamma": None},
    "light as image to the 2.6": {"gamma": 2.6},
}
_RIDGE = 1e-8  # keeps the shares of nearly equal filters small


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photo", type=Path, required=True)
    parser.add_argument("--microscopy", type=Path, required=True)
    parser.add_argument("--patches", type=int, default=60)
    options = parser.parse_args()
    kinds = {"photo": ("defocus", "all"), "microscopy": ("defocus", "optics")}
    sets = {
        f"{kind}, {name}": patches(getattr(options, kind), kind, name, options.patches)
        for kind, names in kinds.items()
        for name in names
    }
    rows = []
    for label, changes in BANKS.items():
        bank = WienerBank(DeconvolutionSettings(**changes))
        gains = [np.mean([gain(bank, *pair) for pair in pairs]) for pairs in sets.values()]
        rows.append([label, *(f"{mean:.2f}" for mean in gains)])
    print(markdown_table(["bank", *sets], rows))


def patches(folder: Path, kind: str, name: str, number: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Draw pairs (blurred, sharp) of patches, without those that are not blurred."""
    scenes = [s for pair in list_pairs([folder], kinds=[kind])[0] for s in sharp_planes(pair, 3)]
    sampler = PatchSampler(scenes, SIDE, 3, IntensityConvention(), 1, name)
    drawn = (sampler.draw(0, k) for k in range(number))
    return [(b, s) for b, s in drawn if np.square(b - s).mean() > 1e-6]


def gain(bank: WienerBank, blurred: np.ndarray, sharp: np.ndarray) -> float:
    """Compute the gain of the best mixture over the blurred patch, in dB."""
    results = [
        np.stack([residual.numpy() for _, residual in bank.residuals(plane)])
        for plane in torch.from_numpy(blurred)
    ]
    inner = (..., slice(BORDER, -BORDER), slice(BORDER, -BORDER))
    terms = np.stack(results)[inner].swapaxes(0, 1)
    terms = terms.reshape(len(terms), -1).T.astype(np.float64)
    missing = (sharp - blurred)[inner].ravel().astype(np.float64)
    normal = terms.T @ terms + _RIDGE * len(terms) * np.eye(terms.shape[1])
    left = missing - terms @ np.linalg.solve(normal, terms.T @ missing)
    return float(10 * np.log10(np.square(missing).mean() / np.square(left).mean()))


if __name__ == "__main__":
    main()
