"""What restoring costs: the multiply-accumulates of convolutions and matrix products."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from napari_swintormer.evaluation.methods.evaluator import plan, restore
from napari_swintormer.models.prior.prior_settings import CompactPriorSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from napari_swintormer.evaluation.data.pair_images import PairImages
    from napari_swintormer.settings.deblur_settings import DeblurSettings

_SIDE = 64  # pixels, at least, of the piece that is counted


def count(work: Callable[[], object]) -> int:
    """Multiply-accumulates of some work, by torch's counter: it says two operations for one."""
    # the counter does not know the CPU's own kernel for attention
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        work()
    return int(counter.get_total_flops()) // 2


def macs_per_pixel(
    pictures: PairImages, settings: DeblurSettings, restorer: Any, ensemble: int
) -> float | None:
    """Count what a pixel of an image takes, in all the tiles that it lies in.

    A corner of the image is restored and counted: what a network takes grows with the pixels. A
    compact prior sees the image smaller, where a corner would be enlarged: there it is a whole
    tile. What was prepared for earlier images does not count.

    Parameters
    ----------
    pictures, settings, restorer, ensemble
        As for `napari_swintormer.evaluation.methods.evaluator.restore`.

    Returns
    -------
    float or None
        Multiply-accumulates; None where torch's counter does not see any, or there is nothing to
        restore.
    """
    job = plan(pictures, settings, restorer)
    if job is None:
        return None
    multiple = restorer.multiple * job.settings.scale

    def padded(lengths: Iterable[int]) -> int:
        return prod(-(-n // multiple) * multiple for n in lengths)

    grid = job.plan.grid
    seen_smaller = isinstance(restorer.card.prior, CompactPriorSettings)
    side = max(grid.tile_shape) if seen_smaller else _SIDE
    corner = (slice(-(-side // multiple) * multiple),) * 2
    views = pictures.views and (pictures.views[0][corner], pictures.views[1][corner])
    piece = replace(pictures, blurred=pictures.blurred[corner], views=views)
    alone = replace(settings, batch_size=1)  # else a GPU tries first how many tiles fit
    macs = count(lambda: restore(piece, alone, restorer, ensemble))
    times = grid.n_tiles * padded(grid.tile_shape) / prod(pictures.blurred.shape[:2])
    return macs / padded(piece.blurred.shape[:2]) * times or None
