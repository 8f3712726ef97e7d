"""Train the network that estimates the blur at each place of a photo, from sharp photos.

    python recipes/blur_places.py --images DIR --out places_photo.npz

Photos become scenes with made-up depth before a thin lens. The network first learns which radius
each place has. Its last layer then learns which mixture of the filters leaves the smallest error,
so that it is careful where a filter does harm. The filters are slow to make, so only some scenes
have them. The file belongs into ``optics/estimation/``.
"""

from __future__ import annotations

import argparse
import re
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import nn
from torch.nn.functional import pad, relu

from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.models.blur_filter import KnownBlurRestorer
from napari_swintormer.optics import psf
from napari_swintormer.optics.blur import Blur
from napari_swintormer.optics.blur_field import BlurField
from napari_swintormer.optics.estimation.blur_places import SIZES, blur_of_size
from napari_swintormer.optics.estimation.defocus_posterior import CLIP, defocus_posterior
from napari_swintormer.optics.estimation.sample import PLACE
from napari_swintormer.optics.estimation.spectrum import describe_windows
from napari_swintormer.optics.inverse_filter import REACH
from napari_swintormer.optics.light import GAMMA, from_light, to_light
from napari_swintormer.optics.plane_blur import FoundBlur, PlaneBlur
from napari_swintormer.optics.plane_power import PowerOfPlane
from napari_swintormer.training.degradations.camera import SensorNoise
from napari_swintormer.training.degradations.image_formation import blur_by_depth, draw_depth_map
from napari_swintormer.training.degradations.simple import Degradation

if TYPE_CHECKING:
    from collections.abc import Callable

SIDE, AROUND = 256, 24  # pixels of a scene, and around it
STEP = 32  # pixels between places
LAYERS = 8
STRONGEST = np.log([2, 10])  # pixels, of the largest blur circle
EVEN, SHARP = 0.1, 0.05  # shares of the scenes
NOISE = 0.004  # at most; that of the mean of three channels
SPREAD = 24  # pixels, of what is known of the radii when the filters are made
WIDTH = 56
USE_STEPS, RAREST = 400, -8.0
LEAST = 3e-7  # mean square error that counts as none
KNOTS = np.log([0.6, *SIZES])


class Scene(NamedTuple):
    """Descriptions of the places ``(y, x, n)``, shares of the radii, and errors of the filters."""

    described: np.ndarray
    shares: np.ndarray  # (radii, y, x)
    errors: np.ndarray | None  # (radii, radii, y, x): means of products of two filters' errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="folder of sharp photos")
    parser.add_argument("--out", type=Path, required=True, help=".npz file to write")
    parser.add_argument("--draws", type=int, default=10, help="scenes of each photo")
    parser.add_argument("--filtered", type=int, default=1, help="of these with filters")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--scenes", type=Path, help="scenes of an earlier run, beside its result")
    parser.add_argument("--kept", type=Path, help="list of names that are not trained on")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    kept = options.kept.read_text().split() if options.kept else []
    if options.scenes:
        scenes = read_scenes(options.scenes)
    else:
        scenes = list(draw_scenes(options, {group(Path(name)) for name in kept}))
        write_scenes(options.out.with_suffix(".scenes.npz"), scenes)
    np.savez_compressed(options.out, **train(scenes, options.steps, options.seed))


def write_scenes(path: Path, scenes: list[Scene]) -> None:
    """Keep scenes, so that another training need not make them again."""
    arrays = {
        f"{number} {name}": values
        for number, scene in enumerate(scenes)
        for name, values in scene._asdict().items()
        if values is not None
    }
    np.savez_compressed(path, **arrays)


def read_scenes(path: Path) -> list[Scene]:
    """Read what `write_scenes` has written."""
    with np.load(path, allow_pickle=False) as stored:
        count = 1 + max(int(name.split()[0]) for name in stored.files)
        return [
            Scene(*(stored.get(f"{number} {name}") for name in Scene._fields))
            for number in range(count)
        ]


def group(path: Path) -> str:
    """Name what crops of one photo have in common."""
    return re.sub(r"_t\d+$", "", path.stem)


def draw_scenes(options: argparse.Namespace, kept: set[str]):
    """Draw scenes from all photos, and say after each photo how far it is."""
    begun = time.process_time()
    files = [f for f in sorted(options.images.iterdir()) if group(f) not in kept]
    for number, file in enumerate(files):
        if file.suffix not in (".jpg", ".png"):
            continue
        with open_image(file) as image:
            pixels = np.asarray(image.data[...], np.float32) / 255
        grey = pixels.mean(axis=2) if pixels.ndim == 3 else pixels
        rng = np.random.default_rng([options.seed, zlib.crc32(file.name.encode())])
        for draw in range(options.draws if min(grey.shape) >= SIDE else 0):
            yield make_scene(grey, rng, filters=draw < options.filtered)
        print(f"{number + 1}/{len(files)} {time.process_time() - begun:.0f} s", flush=True)


def make_scene(grey: np.ndarray, rng: np.random.Generator, *, filters: bool) -> Scene:
    """Cut a scene out of a photo, blur it by a depth, and describe its places."""
    sides = [min(SIDE + 2 * AROUND, n) for n in grey.shape]
    y, x = (int(rng.integers(n - side + 1)) for n, side in zip(grey.shape, sides, strict=True))
    sharp = grey[y : y + sides[0], x : x + sides[1]]
    lens, kind = draw_lens(rng), rng.random()
    if kind < EVEN + SHARP:
        radii = np.full(2, np.exp(rng.uniform(-0.5, 2.2)) if kind < EVEN else 0.3)
    else:
        distances = np.abs(np.linspace(0, 1, LAYERS) - rng.random())
        radii = np.maximum(np.exp(rng.uniform(*STRONGEST)) * distances / distances.max(), 0.3)
    kernels = [lens(r) if r > 0.45 else psf.disk(0.3) for r in radii]
    margin = max(map(len, kernels)) // 2
    light = to_light(np.pad(sharp, margin, mode="reflect")[None], GAMMA)
    depth = draw_depth_map(light, rng)
    image = from_light(blur_by_depth(light, depth, padded(kernels), margin), GAMMA)
    noise = rng.uniform(0, NOISE)
    recorded = Degradation((), GAMMA, SensorNoise(noise / 2**0.5, noise**2 / 2)).apply(image, rng)
    image = np.round(recorded[0].clip(0, 1) * 765) / 765  # the mean of three channels
    inner = depth[margin:-margin, margin:-margin]
    radius = np.interp(inner * (len(radii) - 1), np.arange(len(radii)), radii)
    image, sharp, radius = (
        a[tuple(slice((n - SIDE) // 2, (n - SIDE) // 2 + SIDE) for n in a.shape)].astype(np.float32)
        for a in (image, sharp, radius)
    )
    at = np.interp(np.log(radius), KNOTS, np.arange(len(KNOTS)))
    shares = np.maximum(1 - np.abs(at - np.arange(len(KNOTS))[:, None, None]), 0)
    errors = errors_of_filters(image, sharp, shares) if filters else None
    return Scene(describe(image), by_place(shares), errors)


def draw_lens(rng: np.random.Generator) -> Callable[[float], np.ndarray]:
    """Draw a kind of PSF: a function of the radius."""
    kind, cutoff = rng.random(), rng.uniform(0.35, 0.8)
    blades, turn = int(rng.integers(5, 9)), rng.uniform(0, 2 * np.pi)
    if kind < 0.45:
        return psf.disk
    if kind < 0.6:
        return lambda radius: psf.polygon(radius, blades, turn)
    if kind < 0.75:
        return psf.gaussian
    return lambda radius: psf.defocus(radius, cutoff=cutoff)


def padded(kernels: list[np.ndarray]) -> list[np.ndarray]:
    side = max(map(len, kernels))
    return [np.pad(kernel, (side - len(kernel)) // 2) for kernel in kernels]


def describe(image: np.ndarray) -> np.ndarray:
    light, starts = to_light(image, GAMMA), range(0, SIDE - PLACE + 1, STEP)
    windows = np.stack([light[y : y + PLACE, x : x + PLACE] for y in starts for x in starts])
    return describe_windows(windows).reshape(len(starts), len(starts), -1).astype(np.float32)


def by_place(values: np.ndarray) -> np.ndarray:
    """Average over the squares of a step in the middle of each window."""
    count, first = (SIDE - PLACE) // STEP + 1, (PLACE - STEP) // 2
    end = first + count * STEP
    cut = values[..., first:end, first:end]
    cut = cut.reshape(*values.shape[:-2], count, STEP, count, STEP)
    return cut.mean(axis=(-3, -1)).astype(np.float32)


def errors_of_filters(image: np.ndarray, sharp: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Filter a scene with each blur, and average products of two errors over the places."""
    posterior = defocus_posterior([image], "photo")
    blurs = (Blur.none(), *(blur_of_size(posterior, size) for size in SIZES))
    known = np.stack([ndimage.gaussian_filter(share, SPREAD) for share in shares])
    known = 0.75 * known + 0.25 * shares.mean(axis=(1, 2), keepdims=True)
    middle, steps = ((PLACE - 1) / 2,) * 2, (float(STEP),) * 2
    levels = np.rint(255 * by_place(known)).astype(np.uint8)
    field = BlurField(blurs, middle, steps, levels.shape[1:], levels.tobytes(), b"")
    power = PowerOfPlane.measured([image[None]], photo=True)
    places = power.in_places([image[None]], [(0, 0)], field) if power.light else ()
    tile = torch.from_numpy(np.pad(image, REACH, mode="reflect"))[None, None]
    errors = [image - sharp]
    for blur, each in zip(blurs[1:], places, strict=bool(places)):
        plane = PlaneBlur(FoundBlur(blur, 0.7), each)
        with torch.inference_mode():
            restored = KnownBlurRestorer({0: plane}, image.shape, 1)(tile)[0, 0].numpy()
        errors.append(restored.clip(0, 1) - sharp)
    errors += [errors[0]] * (len(blurs) - len(errors))  # an even scene stays as it is
    return np.stack([by_place(np.stack(errors) * error) for error in errors])


class Network(nn.Module):
    """What `blur_places` computes with the constants of the file."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.each = nn.Conv2d(inputs, WIDTH, 1)
        self.around1, self.around2 = nn.Conv2d(2 * WIDTH, WIDTH, 3), nn.Conv2d(WIDTH, WIDTH, 3)
        self.last, self.drop = nn.Conv2d(WIDTH, len(KNOTS), 1), nn.Dropout2d(0.1)
        self.use = nn.Conv2d(len(KNOTS) + WIDTH, len(KNOTS), 1)
        nn.init.zeros_(self.use.weight)
        nn.init.zeros_(self.use.bias)
        with torch.no_grad():
            self.use.weight[range(len(KNOTS)), range(len(KNOTS))] = 1

    def forward(self, described: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Give logarithms of the shares of the radii, and of what to use."""
        seen = self.drop(relu(self.each(described)))
        plane = seen.mean((2, 3), keepdim=True).expand_as(seen)
        seen = torch.cat([seen, plane], 1)
        seen = self.drop(relu(self.around1(pad(seen, (1, 1, 1, 1), mode="replicate"))))
        seen = seen + relu(self.around2(pad(seen, (1, 1, 1, 1), mode="replicate")))
        radii = self.last(seen).log_softmax(1)
        use = self.use(torch.cat([radii.clamp_min(RAREST), seen], 1).detach())
        return radii, use.log_softmax(1)


def run(network: Network, scene: Scene) -> tuple[torch.Tensor, torch.Tensor]:
    described = torch.from_numpy(np.ascontiguousarray(scene.described))
    radii, use = network(described.permute(2, 0, 1)[None])
    return radii[0], use[0]


def radius_loss(network: Network, scene: Scene) -> torch.Tensor:
    """Cross-entropy of the radii."""
    shares = torch.from_numpy(np.ascontiguousarray(scene.shares))
    return -(shares * run(network, scene)[0]).sum(0).mean()


def use_loss(network: Network, scene: Scene) -> torch.Tensor:
    """Decibels that the mixture of the filters loses."""
    errors = torch.from_numpy(np.ascontiguousarray(scene.errors))
    use = run(network, scene)[1].exp()
    left = torch.einsum("iyx,ijyx,jyx->yx", use, errors, use).mean()
    return 10 * torch.log10((left + LEAST) / (errors[0, 0].mean() + LEAST))


def turned(scene: Scene, rng: np.random.Generator) -> Scene:
    """Mirror and turn a scene, and leave out places between, as on a larger plane."""
    step = int(rng.choice([1, 1, 2, 3]))
    y, x = rng.integers(0, step, 2)
    turn, mirrored = int(rng.integers(4)), rng.random() < 0.5

    def change(values: np.ndarray) -> np.ndarray:
        values = np.rot90(values[..., y::step, x::step], turn, (-2, -1))
        return values[..., ::-1] if mirrored else values

    described = np.moveaxis(change(np.moveaxis(scene.described, 2, 0)), 0, 2)
    errors = None if scene.errors is None else change(scene.errors)
    return Scene(described, change(scene.shares), errors)


def train(scenes: list[Scene], steps: int, seed: int) -> dict[str, np.ndarray]:
    """Train the network on all scenes, then its last layer on those with filters."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    rows = np.concatenate([s.described.reshape(-1, s.described.shape[-1]) for s in scenes])
    mean, deviation = rows.mean(axis=0), rows.std(axis=0) + 1e-3
    scenes = [
        s._replace(described=np.clip((s.described - mean) / deviation, -CLIP, CLIP)) for s in scenes
    ]
    network = Network(len(mean))
    first = [p for name, p in network.named_parameters() if not name.startswith("use")]
    optimizer = torch.optim.AdamW(first, 1e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps)
    filtered = [scene for scene in scenes if scene.errors is not None]
    for step in range(steps + USE_STEPS):
        if step == steps:
            optimizer = torch.optim.AdamW(network.use.parameters(), 3e-3, weight_decay=0.1)
        of, loss_of = (scenes, radius_loss) if step < steps else (filtered, use_loss)
        batch = [turned(of[int(rng.integers(len(of)))], rng) for _ in range(4)]
        loss = torch.stack([loss_of(network, scene) for scene in batch]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step < steps:
            schedule.step()
        if step % 100 == 0:
            print(step, f"{loss.item():.3f}", flush=True)
    return constants(network, mean, deviation)


def constants(network: Network, mean: np.ndarray, deviation: np.ndarray) -> dict[str, np.ndarray]:
    """Give the parameters as `blur_places` reads them."""

    def of(layer: nn.Conv2d) -> tuple[np.ndarray, np.ndarray]:
        weight = layer.weight.detach().numpy().transpose(2, 3, 1, 0)
        return weight, layer.bias.detach().numpy()

    def alone(layer: nn.Conv2d) -> np.ndarray:
        weight, bias = of(layer)
        return np.concatenate([weight[0, 0], bias[None]])

    (around1, bias1), (around2, bias2) = of(network.around1), of(network.around2)
    made = {
        "mean": mean, "deviation": deviation, "each": alone(network.each), "around1": around1,
        "bias1": bias1, "around2": around2, "bias2": bias2, "last": alone(network.last),
        "use": alone(network.use),
    }  # fmt: skip
    return {name: values.astype(np.float16) for name, values in made.items()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
