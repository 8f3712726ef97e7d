"""Counts multiply-accumulates of convolutions and matrix products."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from napari_swintormer.evaluation.methods.evaluator import plan, restore
from napari_swintormer.models.network.products import has_onednn
from napari_swintormer.models.prior.prior_settings import CompactPriorSettings
from napari_swintormer.settings.deblur_settings import UNKNOWN_BLUR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from napari_swintormer.evaluation.data.pair_images import PairImages
    from napari_swintormer.settings.deblur_settings import DeblurSettings

_SIDE = 64  # pixels, the smallest side of the corner that is counted


def count(work: Callable[[], object]) -> int:
    """Count the multiply-accumulates of a call; torch's counter has two operations for each."""
    # the counter does not know the CPU's own attention kernel, nor its products
    own: dict[Any, Any] = {}
    if has_onednn():
        own[torch.ops.mkldnn._linear_pointwise] = _operations
    counter = FlopCounterMode(display=False, custom_mapping=own)
    with counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        work()
    return int(counter.get_total_flops()) // 2


def _operations(x: Any, second: Any, third: Any, *_: Any, **__: Any) -> int:
    """Count the operations of a product by its shapes; the one that adds to a tensor names it."""
    weight = second if third is None else third
    return int(2 * prod(x) * weight[0])


def macs_per_pixel(
    pair: PairImages, settings: DeblurSettings, restorer: Any, ensemble: int
) -> float | None:
    """Count multiply-accumulates per pixel of an image, over all tiles that the pixel lies in.

    Only a corner of the image is restored and counted, because the cost of a network grows with
    the number of pixels. With a compact prior, which works on a smaller copy of the image, the
    corner is a whole tile. The parameters are those of `evaluator.restore`. None if torch's
    counter sees no operations, or the model cannot restore this pair.
    """
    job = plan(pair, settings, restorer)
    if job is None:
        return None
    multiple = restorer.multiple * job.settings.scale

    def padded(lengths: Iterable[int]) -> int:
        return prod(-(-n // multiple) * multiple for n in lengths)

    grid = job.plan.grid
    compact = isinstance(restorer.card.prior, CompactPriorSettings)
    side = max(grid.tile_shape) if compact else _SIDE
    corner = (slice(-(-side // multiple) * multiple),) * 2
    views = pair.views and (pair.views[0][corner], pair.views[1][corner])
    if pair.protocol.volumes:  # all planes cost the same
        pair = replace(pair, axes="YX", blurred=pair.blurred[0])
    piece = replace(pair, blurred=pair.blurred[corner], views=views)
    alone = replace(settings, batch_size=1)  # otherwise a GPU first tries how many tiles fit
    if restorer.card.finds_blur:  # a corner tells no blur, and without one nothing is restored
        alone = replace(alone, blur=UNKNOWN_BLUR)
    macs = count(lambda: restore(piece, alone, restorer, ensemble))
    times = grid.n_tiles * padded(grid.tile_shape) / prod(pair.blurred.shape[:2])
    return macs / padded(piece.blurred.shape[:2]) * times or None
