"""Validation on images that training never sees, blurred in one fixed way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from napari_swintormer.errors import OutputError
from napari_swintormer.training.data.patches import PatchSampler
from napari_swintormer.training.loop.losses import psnr
from napari_swintormer.training.loop.stage import Batch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_swintormer.models.files.card import ModelCard
    from napari_swintormer.training.data.pairs import PlanePair
    from napari_swintormer.training.data.prior_cache import PriorCache
    from napari_swintormer.training.loop.state import TrainingState
    from napari_swintormer.training.train_settings import TrainSettings

_PATCHES = 48
# This is not the seed of the training: trainings of all seeds are compared on the same patches.
_SEED = 20_240_107


class Validation:
    """Measures a network on a fixed set of blurred patches, taken from `pairs` in turn."""

    def __init__(
        self,
        pairs: Sequence[PlanePair],
        settings: TrainSettings,
        card: ModelCard,
        priors: PriorCache | None = None,
    ) -> None:
        self._batch_size = settings.batch_size
        self._patches: tuple[torch.Tensor, torch.Tensor] | None = None
        self._shown = 0
        self._restored: torch.Tensor | None = None
        if pairs:
            channels, side = card.network.channels, settings.largest_patch
            sampler = PatchSampler(
                *(pairs, side, channels, card.intensity, _SEED, settings.synthesize, priors),
                network=card.network,
                pair_share=settings.pair_share,
            )
            blurred, sharp = sampler.draw_validation(_PATCHES)
            self._patches = torch.from_numpy(blurred), torch.from_numpy(sharp)
            # the patch with the largest difference shows best what a network learns
            lost = np.nan_to_num(np.abs(sharp - blurred[:, : sharp.shape[1]])).mean(axis=(1, 2, 3))
            self._shown = int(lost.argmax())

    def run(self, state: TrainingState) -> tuple[float, float] | None:
        """Return the mean PSNR in dB of the restored and of the blurred patches.

        The averaged network restores. Without patches the result is None.
        """
        if self._patches is None or state.stage.image is None:
            return None
        blurred, sharp = self._patches
        device, precision = state.device, state.precision
        mixed, images = precision != torch.float32, []
        autocast = torch.autocast(device.type, precision, enabled=mixed)
        with torch.inference_mode(), autocast, state.products():
            parts = (torch.split(half, self._batch_size) for half in self._patches)
            for i, (b, s) in enumerate(zip(*parts, strict=True)):
                batch = Batch(state.ema, b.to(device), s.to(device), _SEED, i)
                images.append(state.stage.image(batch).float().cpu())
        self._restored = restored = torch.cat(images)
        return psnr(restored, sharp), psnr(blurred[:, : sharp.shape[1]], sharp)

    def save_picture(self, path: Path) -> None:
        """Write one patch of the last run as PNG: blurred, restored and sharp side by side."""
        assert self._patches is not None
        assert self._restored is not None
        blurred, sharp = self._patches
        strip = torch.cat(
            [x[self._shown, : sharp.shape[1]] for x in (blurred, self._restored, sharp)], dim=2
        )
        grey_levels = (strip.nan_to_num().clamp(0, 1) * 255).round().to(torch.uint8)
        picture = grey_levels.permute(1, 2, 0).numpy().squeeze()
        try:
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(picture).save(path)
        except OSError as error:
            raise OutputError(f"The picture {path} cannot be written ({error}).") from error
