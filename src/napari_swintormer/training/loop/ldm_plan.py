"""What a training with the paper's prior takes: hours, and gigabytes on disk, before it begins.

One call of the denoiser and one of the network are measured on the device. A training step takes
three times as long as its calls: the gradients take twice the time of the result.
"""

from __future__ import annotations

import math
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from napari_swintormer.engine.devices import device_name, resolve_device, resolve_precision
from napari_swintormer.errors import OutputError
from napari_swintormer.models.network.swintormer import Swintormer
from napari_swintormer.training.data.dataset import find_image_pairs
from napari_swintormer.training.data.prior_cache import CHANNELS, cache_bytes
from napari_swintormer.training.data.sources import open_planes
from napari_swintormer.training.loop.ldm_stages import load_encoder_of, load_prior_of, network_of
from napari_swintormer.training.loop.prior_sampling import MULTIPLE, windows_at_once

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from napari_swintormer.models.prior.ldm import LdmPrior
    from napari_swintormer.training.train_settings import TrainSettings

_STEP = 3  # times the calls that a training step takes as long as
_KEPT = (
    6 * 4
)  # bytes for a parameter in the checkpoint (itself, average, optimizer) and the weights


def plan_ldm(stages: Sequence[TrainSettings]) -> str:
    """Measure the stages that are still to run, and say in a sentence what they take.

    Raises `OutputError` if the disk is too small.
    """
    device = resolve_device(stages[0].device)
    precision = resolve_precision(stages[0].precision, device)
    prior = load_prior_of(stages[0])
    prior.windows_at_once = windows_at_once(device)
    hours, space = dict[str, float](), Counter[Path]()

    def seconds(network: nn.Module, *shape: int, more: tuple[int, ...] = ()) -> float:
        return _seconds(network.to(device), torch.zeros(shape, device=device), precision, *more)

    for stage in stages:
        patches, side = stage.steps * stage.batch_size, stage.patch_size
        if stage.stage == "denoiser":
            network: nn.Module = prior.denoiser
            each = seconds(network, 1, 2 * CHANNELS, side, side, more=(1,))
            encoding = seconds(load_encoder_of(stage), 1, CHANNELS, side, side)
            hours["training the denoiser"] = patches * (_STEP * each + encoding) / 3600
        else:
            shapes = _plane_shapes(stage)
            window = min(
                prior.settings.window,
                *(-(-n // MULTIPLE) * MULTIPLE for shape in shapes[:1] for n in shape),
            )
            batch = prior.windows_at_once, 2 * CHANNELS, window, window
            calls = sum(_calls(prior, shape) for shape in shapes)
            each = seconds(prior.denoiser, *batch, more=(1,))
            hours[f"sampling the prior of {len(shapes)} images"] = calls * each / 3600
            space[stage.latents] += cache_bytes(shapes)
            network = Swintormer(network_of(stage))
            each = seconds(network, 1, network.settings.in_channels, side, side)
            hours["training the network"] = _STEP * patches * each / 3600
        space[stage.run_folder] += _KEPT * sum(p.numel() for p in network.parameters())
    for folder, size in space.items():
        _check_space(folder, size)
    parts = ", ".join(f"{what} {_time(h)}" for what, h in hours.items())
    return (
        f"Plan: about {_time(sum(hours.values()))} on {device_name(device)} ({parts}), and "
        f"{sum(space.values()) / 1e9:.1f} GB on disk. The steps were measured once; Ctrl-C stops, "
        "and --resume continues."
    )


def _calls(prior: LdmPrior, shape: tuple[int, int]) -> int:
    height, width = (-(-n // MULTIPLE) * MULTIPLE for n in shape)
    return prior.count_calls(height, width, prior.settings.num_inference_steps)


def _seconds(network: nn.Module, images: torch.Tensor, precision: torch.dtype, *more: int) -> float:
    """Time one call of a network, after another one."""
    mixed = precision != torch.float32
    with torch.no_grad(), torch.autocast(images.device.type, precision, enabled=mixed):
        for _ in range(2):
            start = time.perf_counter()
            result = network(images, *more)
            float(getattr(result, "sample", result).float().sum())  # waits for the device
    return time.perf_counter() - start


def _plane_shapes(settings: TrainSettings) -> list[tuple[int, int]]:
    """List the shapes of all blurred planes; reads headers only."""
    shapes: list[tuple[int, int]] = []
    for pair in find_image_pairs(settings)[0]:
        if pair.blurred is not None:
            with open_planes(pair.blurred, CHANNELS) as planes:
                shapes += [planes.shape] * len(planes)
    return shapes


def _check_space(folder: Path, size: int) -> None:
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.is_dir())
    free = shutil.disk_usage(there).free
    if size > free:
        raise OutputError(
            f"The training needs {size / 1e9:.1f} GB in {folder} (got {free / 1e9:.1f} GB free). "
            "Free some disk space, or choose another folder with --prior-cache or --out."
        )


def _time(hours: float) -> str:
    """Write a duration for people."""
    if hours < 1 / 60:
        return f"{max(1, math.ceil(3600 * hours))} s"
    return f"{60 * hours:.0f} min" if hours < 2 else f"{hours:.1f} h"
