"""Deblurs the bundled images and ten odd inputs with every shipped model, and notes the bytes.

Writes one line per input and model: the SHA-256 of the result. Run it before and after a change
that must not change any pixel, on the same computer, and compare::

    python benchmarks/same_bytes.py before.json
    python benchmarks/same_bytes.py after.json --against before.json
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

import dask.array as da
import numpy as np
import tifffile
from PIL import Image

import napari_swintormer
from napari_swintormer import deblur, list_models

SAMPLES = Path(napari_swintormer.__file__).parent / "sample"


def bundled_images() -> dict[str, tuple[np.ndarray, str]]:
    """Read the images that come with the package, with their axes."""
    return {
        "circuit_board": (np.asarray(Image.open(SAMPLES / "circuit_board.png")), "YXS"),
        "actin": (tifffile.imread(SAMPLES / "actin.tif"), "YX"),
        "algae": (tifffile.imread(SAMPLES / "algae.ome.tif")[:2], "ZYXS"),
        "mitochondria": (tifffile.imread(SAMPLES / "mitochondria_blurred.tif"), "YX"),
    }


def odd_inputs() -> dict[str, tuple[object, str]]:
    """Make ten inputs of unusual types, shapes and values from a fixed seed."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[0:75, 0:101]
    scene = 0.5 + 0.3 * np.sin(x / 5) * np.cos(y / 7) + 0.02 * rng.standard_normal(x.shape)
    scene = np.clip(scene, 0, 1)
    uint8 = (scene * 255).astype(np.uint8)
    with_nan = scene.astype(np.float32) * 1000 - 300
    with_nan[10:14, 20:40], with_nan[0, 0] = np.nan, np.inf
    rgb = np.stack([uint8, uint8[::-1], uint8[:, ::-1]], axis=-1)
    rgba = np.concatenate([rgb, (uint8 > 128)[..., None].astype(np.uint8) * 255], axis=-1)
    saturated = np.where(scene > 0.6, 65535, scene * 30000).astype(np.uint16)
    stack = np.stack([np.roll(uint8, n, axis=1) for n in range(3)])
    return {
        "one pixel": (np.full((1, 1), 7, np.uint8), "YX"),
        "one row, int16": ((scene[:1] * 2000 - 1000).astype(np.int16), "YX"),
        "dark uint16, big endian": ((scene * 300 + 100).astype(">u2"), "YX"),
        "float32, NaN and inf": (with_nan, "YX"),
        "float64, tiny values": (scene * 1e-6, "YX"),
        "RGBA": (rgba, "YXS"),
        "saturated uint16": (saturated, "YX"),
        "stack of two channels": (np.stack([stack, 255 - stack], axis=1), "ZCYX"),
        "flat": (np.full((64, 80), 1234, np.uint16), "YX"),
        "dask, odd chunks": (da.from_array(rgb, chunks=(33, 47, 3)), "YXS"),
    }


def main() -> None:
    """Deblur everything, write the digests, and compare them when asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--against", type=Path, help="digests of an earlier run")
    arguments = parser.parse_args()
    digests = {}
    for model in list_models():
        for name, (image, axes) in (bundled_images() | odd_inputs()).items():
            result = np.asarray(deblur(image, axes=axes, model=model.name, device="cpu"))
            head = f"{result.dtype.str} {result.shape}".encode()
            digest = hashlib.sha256(head + np.ascontiguousarray(result).tobytes()).hexdigest()
            digests[f"{model.name}: {name}"] = digest
            print(digest[:16], model.name, name, flush=True)
    arguments.out.write_text(json.dumps(digests, indent=1) + "\n", encoding="utf-8")
    if arguments.against is not None:
        before = json.loads(arguments.against.read_text(encoding="utf-8"))
        other = sorted(key for key in digests | before if digests.get(key) != before.get(key))
        print(f"{len(digests) - len(other)} of {len(digests)} are equal.", *other, sep="\n")
        sys.exit(bool(other))


if __name__ == "__main__":
    main()
