"""Compares the blur that training makes with the blur of real pairs.

    python benchmarks/made_blur.py --photo DIR --microscopy DIR --pairs CSV --out FOLDER

For every kind of degradation and every set of real pairs, ``SET.png`` shows sharp and blurred
patches with their spectra, in linear intensity. ``statistics.md`` gives the width of edges, the
power that is left in bands of frequencies, and the noise.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from real_pairs import real_pairs
from scipy import ndimage

from napari_swintormer.evaluation.metrics.scoring import Fit
from napari_swintormer.evaluation.reports.pages import markdown_table
from napari_swintormer.imaging.intensity import IntensityConvention
from napari_swintormer.training.data.listing import list_pairs
from napari_swintormer.training.data.pairs import sharp_planes
from napari_swintormer.training.data.patches import PatchSampler

SIDE = 128
SHOWN = 12
BANDS = ((0.02, 0.06), (0.06, 0.12), (0.12, 0.2), (0.2, 0.3), (0.3, 0.45))  # cycles per pixel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photo", type=Path, required=True)
    parser.add_argument("--microscopy", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--patches", type=int, default=60, help="patches of every degradation")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    sets = {name: pairs for name, pairs in (made(options) | real(options.pairs)).items() if pairs}
    rows = []
    for name, pairs in sets.items():
        sheet(pairs).save(options.out / f"{name.replace(' ', '-')}.png")
        rows.append([name, *statistics(pairs)])
    header = ["patches", "edge width (px): 10, 50, 90 %"]
    header += [f"{a:g}-{b:g}" for a, b in BANDS] + ["noise, dark", "noise, light"]
    text = markdown_table(header, rows)
    (options.out / "statistics.md").write_text(text, encoding="utf-8")
    print(text)


def made(options: argparse.Namespace) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    """Draw pairs (blurred, sharp) of patches ``(C, SIDE, SIDE)`` as in training."""
    convention, sets = IntensityConvention(), {}
    for folder, kind in ((options.photo, "photo"), (options.microscopy, "microscopy")):
        listed = list_pairs([folder], kinds=[kind])[0]
        scenes = [scene for pair in listed for scene in sharp_planes(pair, 3)]
        for name in ("defocus", "optics", "motion"):
            if (kind, name) == ("microscopy", "motion"):
                continue
            sampler = PatchSampler(scenes, SIDE, 3, convention, 1, name)
            pairs = [sampler.draw(0, k) for k in range(options.patches)]
            blurred = [(b, s) for b, s in pairs if np.abs(b - s).max() > 1e-6]
            if kind == "photo":
                sets[f"{name} photo"] = blurred
                continue
            dark = [np.median(s) < 0.35 for _, s in blurred]
            sets[f"{name} fluorescence"] = [p for p, d in zip(blurred, dark, strict=True) if d]
            sets[f"{name} brightfield"] = [p for p, d in zip(blurred, dark, strict=True) if not d]
    return sets


def real(table: Path) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    """Cut out the most detailed patches of real pairs, in the range of the sharp image."""
    sets: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for name, _, image, reference in real_pairs(table):
        low, high = np.percentile(reference, (0.1, 99.9))
        sharp = np.atleast_3d((reference - low) / (high - low))
        fitted = Fit.between(image, reference)(image)
        blurred = np.atleast_3d(fitted - low) / (high - low)
        detail = ndimage.generic_gradient_magnitude(sharp.mean(axis=2), ndimage.sobel)
        blocks = ndimage.uniform_filter(detail, SIDE)[SIDE // 2 :: SIDE, SIDE // 2 :: SIDE]
        for k in np.argsort(blocks, axis=None)[:-5:-1]:
            y, x = (SIDE * i for i in np.unravel_index(k, blocks.shape))
            cut = slice(y, y + SIDE), slice(x, x + SIDE)
            patches = [np.moveaxis(i[cut], 2, 0).astype(np.float32) for i in (blurred, sharp)]
            if patches[0].shape[1:] == (SIDE, SIDE):
                sets.setdefault(f"real {name}", []).append((patches[0], patches[1]))
    return sets


def sheet(pairs: list[tuple[np.ndarray, np.ndarray]]) -> Image.Image:
    """Draw a row for each of some pairs: sharp, blurred, and the logarithms of their spectra."""
    rows = []
    for blurred, sharp in pairs[:: max(1, len(pairs) // SHOWN)][:SHOWN]:
        low, high = np.percentile(sharp, (0.1, 99.9))
        shown = [np.clip((i - low) / max(high - low, 1e-6), 0, 1) for i in (sharp, blurred)]
        logs = [np.log10(np.fft.fftshift(spectrum(i)) + 1e-9) for i in (sharp, blurred)]
        top = logs[0].max()
        shown += [np.clip((log - top + 7) / 7, 0, 1)[None] for log in logs]
        cells = [np.broadcast_to(np.moveaxis(i, 0, 2), (SIDE, SIDE, 3)) for i in shown]
        rows.append(np.concatenate(cells, axis=1))
    half = -(-len(rows) // 2)
    rows += [np.zeros_like(rows[0])] * (2 * half - len(rows))
    columns = [np.concatenate(part, axis=0) for part in (rows[:half], rows[half:])]
    return Image.fromarray(np.rint(255 * np.concatenate(columns, axis=1)).astype(np.uint8))


def statistics(pairs: list[tuple[np.ndarray, np.ndarray]]) -> list[str]:
    """Give edge widths, median share of the power left in each band, and median noise."""
    widths = np.concatenate([edge_widths(b.mean(axis=0)) for b, _ in pairs])
    left = np.median([power(b) / power(s) for b, s in pairs], axis=0)
    noise = np.nanmedian([noise_levels(b[len(b) // 2]) for b, _ in pairs], axis=0)
    edges = ", ".join(f"{w:.1f}" for w in np.percentile(widths, (10, 50, 90)))
    return [edges, *(f"{p:.2f}" for p in left), *(f"{100 * n:.2f} %" for n in noise)]


def spectrum(image: np.ndarray) -> np.ndarray:
    """Compute the power of ``(C, Y, X)`` under a Hann window, for the mean of the channels."""
    grey = image.mean(axis=0)
    window = np.outer(np.hanning(grey.shape[0]), np.hanning(grey.shape[1]))
    return np.abs(np.fft.fft2((grey - grey.mean()) * window)) ** 2


def power(image: np.ndarray) -> np.ndarray:
    """Compute the mean power in each band of `BANDS`."""
    y, x = (np.fft.fftfreq(n) for n in image.shape[1:])
    radius, powers = np.hypot(y[:, None], x), spectrum(image)
    return np.array([powers[(radius >= a) & (radius < b)].mean() for a, b in BANDS])


def edge_widths(grey: np.ndarray) -> np.ndarray:
    """Divide the height of the strongest edges by their slope: the width of a ramp, in pixels."""
    smooth = ndimage.gaussian_filter(grey, 0.7)
    slope = np.hypot(*np.gradient(smooth))
    strongest = (slope == ndimage.maximum_filter(slope, 9)) & (slope > np.percentile(slope, 90))
    height = ndimage.maximum_filter(smooth, 13) - ndimage.minimum_filter(smooth, 13)
    return height[strongest] / np.maximum(slope[strongest], 1e-6)


def noise_levels(channel: np.ndarray) -> list[float]:
    """Estimate the noise in dark and in light regions from the diagonal details of pixels."""
    parts = channel[::2, ::2], channel[1::2, ::2], channel[::2, 1::2], channel[1::2, 1::2]
    details = (parts[0] - parts[1] - parts[2] + parts[3]) / 2
    mean = sum(parts) / 4
    chosen = [details[mean < 0.2], details[mean > 0.6]]
    return [np.median(np.abs(d)) / 0.6745 if d.size > 100 else np.nan for d in chosen]


if __name__ == "__main__":
    main()
