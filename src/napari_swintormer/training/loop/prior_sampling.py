"""Samples the paper's prior of all training images, before the network is trained with it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_swintormer.events import Progress
from napari_swintormer.imaging.intensity import measure_ranges
from napari_swintormer.models.padding import pad_to_multiple
from napari_swintormer.models.prior.noise import TileNoise, TileOrigin
from napari_swintormer.training.data.prior_cache import CHANNELS
from napari_swintormer.training.data.sources import open_planes

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_swintormer.imaging.intensity import IntensityConvention
    from napari_swintormer.models.prior.ldm import LdmPrior
    from napari_swintormer.models.stepwise import Stepwise
    from napari_swintormer.training.data.pairs import PlanePair
    from napari_swintormer.training.data.prior_cache import PriorCache
    from napari_swintormer.training.loop.processes import Processes

MULTIPLE = 8  # the denoiser halves its input three times
_WINDOWS = 8  # of a GPU, that go through the denoiser together


def sampling_recipe(prior: LdmPrior, seed: int) -> str:
    """Return all that the latent of an image depends on, but the image."""
    return f"{prior.sha256} {prior.settings.model_dump_json(exclude={'source'})} seed {seed}"


def windows_at_once(device: torch.device) -> int:
    """Return how many windows go through the denoiser together; a CPU gains nothing by more."""
    return 1 if device.type == "cpu" else _WINDOWS


def sample_priors(
    cache: PriorCache,
    pairs: Sequence[PlanePair],
    prior: LdmPrior,
    convention: IntensityConvention,
    target: tuple[torch.device, torch.dtype],
    seed: int,
    processes: Processes,
) -> Generator[Progress]:
    """Sample what the cache does not hold yet; every process samples its share.

    `target` is the device and the precision of the denoiser. A stopped sampling continues with the
    image that it was at. Yields `Progress` in images after every call of the denoiser.
    """
    device, precision = target
    # shares of all planes: what is missing changes while other processes write
    planes = list({(pair.blurred, pair.plane): pair for pair in pairs}.values())
    share = [planes[i] for i in processes.share(len(planes))]
    own = [pair for pair in share if not cache.holds(pair)]
    if own:
        prior.to(device)
        prior.windows_at_once = windows_at_once(device)
    steps, start = prior.settings.num_inference_steps, time.monotonic()
    for done, pair in enumerate(own):
        views = _unit_views(pair, convention)
        height, width = views.shape[2:]
        padded = pad_to_multiple(views, MULTIPLE).to(device)
        calls = prior.count_calls(padded.shape[2], padded.shape[3], steps)
        noise = TileNoise(seed, [TileOrigin(int(cache.name_of(pair)[:8], 16), 0, 0)])
        with torch.no_grad():
            work = prior.sampling(prior.forward_features(padded), noise, steps)
        call = 0
        while (latent := _advance(work, device, precision)) is None:
            call += 1
            elapsed = time.monotonic() - start
            rest = len(own) / (done + call / calls) - 1
            yield Progress(
                *(done, len(own), "priors", elapsed, elapsed * rest),
                step=call,
                steps=calls,
                batch=1,
            )
        cache.write(pair, latent[0, :, :height, :width].float().cpu().numpy())
    if own:
        prior.to("cpu")
    processes.wait(device)  # training needs the latents of all processes


def _advance(work: Stepwise[Tensor], device: torch.device, precision: torch.dtype) -> Tensor | None:
    """Make one call of the denoiser; return the latent after the last one."""
    with (
        torch.no_grad(),
        torch.autocast(device.type, precision, enabled=precision != torch.float32),
    ):
        try:
            next(work)
        except StopIteration as end:
            latent: Tensor = end.value
            return latent
    return None


def _unit_views(pair: PlanePair, convention: IntensityConvention) -> Tensor:
    """Read the views of a blurred plane as a restorer sees them: ``(1, 3 * views, Y, X)``."""
    assert pair.blurred is not None
    images: list[NDArray[np.float32]] = []
    for view in (pair.blurred, pair.second):
        if view is None:
            continue
        with open_planes(view, CHANNELS) as planes:
            if not images:  # all views have the range of the first one
                intensity = measure_ranges(planes, convention)[pair.plane]
            everything = (slice(0, n) for n in planes.shape)
            image = np.clip(intensity.to_unit(planes.read(pair.plane, *everything)), 0, 1)
        images.append(np.broadcast_to(image, (CHANNELS, *image.shape[1:])))
    return torch.from_numpy(np.concatenate(images)[None])
