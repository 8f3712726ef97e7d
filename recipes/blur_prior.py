"""Train the network that estimates defocus, from a folder of sharp images of one field.

    python recipes/blur_prior.py --field photo --images DIR --out defocus_photo.npz

Images are blurred by known PSFs, with noise and rounding, or stay sharp. Drawn scenes, text, noise
and flat fields are added. Every fourth image is kept for validation, which also sets the
temperature of the probabilities. The file belongs into ``optics/estimation/``.
"""

from __future__ import annotations

import argparse
import re
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.optics import psf
from napari_swintormer.optics.estimation.defocus_posterior import (
    CLIP,
    CUTOFFS,
    GAMMAS,
    KINDS,
    RADII,
)
from napari_swintormer.optics.estimation.spectrum import describe_window
from napari_swintormer.optics.light import from_light, to_light
from napari_swintormer.training.degradations.camera import SensorNoise
from napari_swintormer.training.degradations.primitives import (
    blur,
    round_to_levels,
    through_jpeg,
)

WORDS = "File Edit View for step in range first last brown fox jumps 0123456789 tile dB 31.42 | <="
SPREAD = 0.07  # of the logarithm of a radius over its neighbours in the target
BOUNDS = np.sqrt(np.multiply(CUTOFFS[1:], CUTOFFS[:-1]))  # between cutoffs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--field", choices=list(GAMMAS), required=True)
    parser.add_argument("--images", type=Path, required=True, help="folder of sharp images")
    parser.add_argument("--out", type=Path, required=True, help=".npz file to write")
    parser.add_argument("--draws", type=int, default=40, help="draws of each image")
    parser.add_argument("--drawn", type=int, default=60, help="drawn scenes, as further images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--descriptions", type=Path, nargs="*", default=[], help="of earlier runs")
    options = parser.parse_args()
    inputs, targets, kept = describe(options)
    np.savez_compressed(
        options.out.with_suffix(".descriptions.npz"), inputs=inputs, targets=targets, kept=kept
    )
    for path in options.descriptions:
        with np.load(path) as earlier:
            inputs = np.concatenate([inputs, earlier["inputs"]])
            targets = np.concatenate([targets, earlier["targets"]])
            kept = np.concatenate([kept, earlier["kept"]])
    np.savez_compressed(options.out, **train(inputs, targets, kept, options.seed))


def describe(options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Describe draws of all images; give descriptions, targets, and which are for validation."""
    rows: list[tuple[np.ndarray, np.ndarray, bool]] = []
    for path in sorted(options.images.iterdir()):
        # crops and channels of one picture are all trained on, or none is
        group = re.sub(r"(_c\d+)?(_t\d+)?$", "", path.stem)
        sharp = read_unit(path, options.field)
        rng = np.random.default_rng([options.seed, zlib.crc32(path.name.encode())])
        for _ in range(options.draws):
            rows.append((*draw(sharp, options.field, rng), zlib.crc32(group.encode()) % 4 == 0))
    rng = np.random.default_rng([options.seed, 1])
    for k in range(options.drawn):
        scene = draw_scene(rng)
        rows += [(*draw(scene, options.field, rng), k % 4 == 0) for _ in range(8)]
        for _ in range(5):
            image = record(draw_nothing(rng, options.field), options.field, rng)
            rows.append((describe_image(image, options.field), target(None, 0), k % 4 == 0))
    inputs, targets, kept = zip(*rows, strict=True)
    return np.array(inputs, np.float32), np.array(targets, np.float32), np.array(kept)


def read_unit(path: Path, field: str) -> np.ndarray:
    """Read the luminance of an image in unit intensities."""
    with open_image(path) as image:
        pixels = np.asarray(image.data[...], np.float32)
        grey = pixels.mean(axis=2) if "S" in image.axes else pixels
    low, high = (0.0, 255.0) if field == "photo" else np.percentile(grey, (0.1, 99.9))
    return ((grey - low) / max(high - low, 1e-9)).astype(np.float32)


def draw(sharp: np.ndarray, field: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Cut out a part of a sharp image, blur it or leave it, record it, and describe that."""
    if min(sharp.shape) >= 300 and rng.random() < (0.6 if field == "photo" else 0.3):
        side = min(*rng.choice([256, 320, 384, 448], 1), *sharp.shape)
        y, x = (int(rng.integers(n - side + 1)) for n in sharp.shape)
        sharp = sharp[y : y + side, x : x + side]
    light = to_light(sharp, GAMMAS[field])
    if min(sharp.shape) >= 300 and rng.random() < 0.25:  # a smaller picture is sharper
        scale = rng.uniform(0.5, 1)
        light = ndimage.zoom(ndimage.gaussian_filter(light, 0.45 / scale), scale, order=1)
    kind, radius = None, 0.0
    if rng.random() >= 0.2:
        radius = rng.uniform(1.5, 3.5) if rng.random() < 0.4 else np.exp(rng.uniform(*WIDE))
        kind, kernel = draw_psf(radius, rng)
        half = len(kernel) // 2
        if half >= min(light.shape):
            kind = None
        else:
            light = blur(np.pad(light, half, mode="reflect")[None], kernel, half)[0]
    image = record(from_light(light, GAMMAS[field]), field, rng)
    return describe_image(image, field), target(kind, radius)


WIDE = np.log([0.4, 16.5])


def draw_psf(radius: float, rng: np.random.Generator) -> tuple[int, np.ndarray]:
    """Draw a PSF, and the number of its kind in the posterior; a polygon counts as a disk."""
    family = rng.integers(4)
    if family == 3:
        cutoff = rng.uniform(0.35, 0.8)
        return 2 + int(np.searchsorted(BOUNDS, cutoff)), psf.defocus(radius, cutoff)
    if family == 2:
        return 0, psf.polygon(radius, int(rng.integers(5, 9)), rng.uniform(0, 2 * np.pi))
    return int(family), (psf.disk, psf.gaussian)[family](radius)


def record(image: np.ndarray, field: str, rng: np.random.Generator) -> np.ndarray:
    """Add noise, and round as a file does."""
    kind = rng.random()
    noise = 0.0 if kind < 0.12 else rng.uniform(0, 0.006)
    if kind > 0.75:
        noise = np.exp(rng.uniform(*np.log([3e-4, 0.03])))
    width = rng.uniform(0.4, 0.9) if rng.random() < 0.15 else 0.0
    sensor = SensorNoise(noise / np.sqrt(2), noise**2 / 2, width)
    image = sensor.add(image[None].astype(np.float32), rng)
    if field == "photo" and rng.random() < 0.3:
        return through_jpeg(image, int(rng.integers(78, 99)))[0]
    if field == "photo":
        return round_to_levels(image, 256)[0]
    levels = rng.uniform(80, 255)
    return image[0] if rng.random() < 0.4 else (np.round(image * levels) / levels)[0]


def describe_image(image: np.ndarray, field: str) -> np.ndarray:
    return describe_window(to_light(image.astype(np.float32), GAMMAS[field]))


def target(kind: int | None, radius: float) -> np.ndarray:
    """Probabilities to aim at: all on no blur, or spread over the radii near the true one."""
    row = np.zeros(1 + len(KINDS) * len(RADII))
    if kind is None or radius < 0.45:
        row[0] = 1
        return row
    near = np.exp(-0.5 * (np.log(RADII / radius) / SPREAD) ** 2)
    row[1 + kind * len(RADII) :][: len(RADII)] = near / near.sum()
    return row


def draw_scene(rng: np.random.Generator) -> np.ndarray:
    """Draw flat disks and triangles in front of each other, 400 x 400."""
    picture = Image.new("L", (400, 400), 100)
    pen = ImageDraw.Draw(picture)
    power = rng.uniform(0.4, 0.9)
    for radius in np.sort(rng.uniform(2, 5) * rng.random(rng.integers(100, 2000)) ** -power)[::-1]:
        y, x = rng.uniform(0, 400, 2)
        grey, angles = int(rng.integers(5, 250)), rng.uniform(0, 2 * np.pi, 3)
        if rng.random() < 0.7:
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=grey)
        else:
            pen.polygon([(x + radius * np.cos(a), y + radius * np.sin(a)) for a in angles], grey)
    return np.asarray(picture, np.float32) / 255


def draw_nothing(rng: np.random.Generator, field: str) -> np.ndarray:
    """Draw an image that has no blur to remove: noise, a flat field, text, stars or a pattern."""
    side = int(rng.choice([256, 320, 512]))
    white = rng.standard_normal((side, side))
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    choice = rng.integers(6)
    if choice == 0:
        smooth = ndimage.gaussian_filter(white, rng.choice([0.0, rng.uniform(0.3, 1.6)]))
        image = 0.5 + rng.uniform(0.02, 0.15) * smooth / smooth.std()
    elif choice == 1:
        image = rng.poisson(photons := rng.uniform(1, 30), white.shape) / (3 * photons)
    elif choice == 2:
        image = rng.uniform(0.1, 0.8) * (1 - rng.uniform(0, 0.4) * (x**2 + y**2))
        image = image + rng.uniform(-0.3, 0.3) * x + np.exp(rng.uniform(-8.5, -4)) * white
    elif choice == 3:
        image = draw_text(side, rng)
    elif choice == 4:
        light, number = np.zeros((side, side)), side // int(rng.integers(1, 6))
        np.add.at(light, tuple(rng.integers(0, side, (2, number))), 10 ** rng.uniform(2, 6, number))
        sky = 200 + ndimage.gaussian_filter(light, rng.uniform(0.5, 1.6), mode="wrap")
        image = np.minimum(sky + np.sqrt(sky) * white, 4095) / 4095
    else:
        image = np.ones((side, side))
        image[:: int(rng.integers(3, 17))] = image[:, :: int(rng.integers(3, 17))] = 0
        if rng.random() < 0.5:
            image = (np.indices((side, side)) // int(rng.integers(1, 9))).sum(axis=0) % 2.0
    if field == "photo":
        return image
    low, high = np.percentile(image, (0.1, 99.9))
    return (image - low) / max(high - low, 1e-6)


def draw_text(side: int, rng: np.random.Generator) -> np.ndarray:
    """Draw lines of text of several sizes, dark on light or light on dark."""
    page, ink = int(rng.integers(200, 256)), int(rng.integers(0, 100))
    if rng.random() < 0.4:
        page, ink = ink, page
    picture = Image.new("L", (side, side), page)
    pen, top = ImageDraw.Draw(picture), int(rng.integers(0, 8))
    zoom, gap = rng.uniform(0.8, 1.4), int(rng.integers(2, 14))
    while top < side:
        size = int(zoom * rng.choice([9, 11, 12, 14, 17, 24]))
        line = " ".join(rng.choice(WORDS.split(), 14))
        pen.text((4, top), line, fill=ink, font=ImageFont.load_default(size=size))
        top += size + gap
    return np.asarray(picture) / 255


def train(
    inputs: np.ndarray,
    targets: np.ndarray,
    kept: np.ndarray,
    seed: int = 0,
    *,
    hidden: int = 64,
    steps: int = 6000,
) -> dict[str, np.ndarray]:
    """Train the network by cross-entropy; give its arrays."""
    torch.manual_seed(seed)
    mean, deviation = inputs[~kept].mean(axis=0), inputs[~kept].std(axis=0) + 1e-3
    values = torch.from_numpy(np.clip((inputs - mean) / deviation, -CLIP, CLIP))
    aims, learned = torch.from_numpy(targets), torch.from_numpy(np.flatnonzero(~kept))
    sizes = (inputs.shape[1], hidden, hidden, targets.shape[1])
    layers = [torch.nn.Linear(a, b) for a, b in pairwise(sizes)]
    between = [(torch.nn.ReLU(), torch.nn.Dropout(0.1)) for _ in layers[:-1]]
    network = torch.nn.Sequential(layers[0], *between[0], layers[1], *between[1], layers[2])
    optimizer = torch.optim.AdamW(network.parameters(), 4e-3, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in range(steps):
        batch = learned[torch.randint(len(learned), (256,))]
        noisy = values[batch] + 0.1 * torch.randn(256, sizes[0])
        loss = -(aims[batch] * network(noisy).log_softmax(1)).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()
    with torch.no_grad():
        logits, truth = network(values[kept]), aims[kept]
        losses = {
            t: float(-(truth * (logits / t).log_softmax(1)).sum(1).mean())
            for t in np.arange(0.8, 2, 0.05)
        }
    temperature = min(losses, key=lambda t: losses[t])
    print(f"loss on {int(kept.sum())} kept descriptions: {losses[temperature]:.3f}")
    arrays = {
        f"layer{k}": np.vstack([n.weight.detach().numpy().T, n.bias.detach().numpy()])
        for k, n in enumerate(layers)
    }
    return {name: array.astype(np.float16) for name, array in arrays.items()} | {
        "mean": mean,
        "deviation": deviation,
        "temperature": np.float32(temperature),
    }


if __name__ == "__main__":
    main()
