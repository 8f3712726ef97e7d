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
    from napari_swintormer.training.loop.state import TrainingState

_PATCHES = 48
# Not the training's seed: trainings of different seeds are compared on the same patches.
_SEED = 20_240_107


class Validation:
    """Measures a network on a fixed set of patches, all of them blurred.

    Parameters
    ----------
    held_out
        Scenes to take the patches from, in turn; may be empty.
    patch_size
        Side of the patches in pixels.
    batch_size
        Patches restored at once.
    card
        Says the channels and the intensity convention.
    synthesize
        See `PatchSampler`.
    """

    def __init__(
        self,
        held_out: Sequence[PlanePair],
        patch_size: int,
        batch_size: int,
        card: ModelCard,
        synthesize: str | None = "defocus",
    ) -> None:
        self._batch_size = batch_size
        self._pairs: tuple[torch.Tensor, torch.Tensor] | None = None
        self._shown = 0
        self._restored: torch.Tensor | None = None
        if held_out:
            sampler = PatchSampler(
                held_out, patch_size, card.network.channels, card.intensity, _SEED, synthesize
            )
            blurred, sharp = sampler.draw_validation(_PATCHES)
            self._pairs = torch.from_numpy(blurred), torch.from_numpy(sharp)
            # the patch that blur takes most from shows best what a network learns
            lost = np.nan_to_num(np.abs(sharp - blurred[:, : sharp.shape[1]])).mean(axis=(1, 2, 3))
            self._shown = int(lost.argmax())

    def run(self, state: TrainingState) -> tuple[float, float] | None:
        """Measure the mean PSNR in dB of the averaged network's images and of the blurred ones.

        Returns None when there is nothing held out.
        """
        if self._pairs is None:
            return None
        blurred, sharp = self._pairs
        device, precision = state.device, state.precision
        mixed, images = precision != torch.float32, []
        with torch.inference_mode(), torch.autocast(device.type, precision, enabled=mixed):
            parts = (torch.split(half, self._batch_size) for half in self._pairs)
            for i, (b, s) in enumerate(zip(*parts, strict=True)):
                batch = Batch(state.ema, b.to(device), s.to(device), _SEED, i)
                images.append(state.stage.image(batch).float().cpu())
        self._restored = restored = torch.cat(images)
        return psnr(restored, sharp), psnr(blurred[:, : sharp.shape[1]], sharp)

    def save_picture(self, path: Path) -> None:
        """Write one patch of the last run as a PNG: blurred, restored and sharp side by side."""
        assert self._pairs is not None
        assert self._restored is not None
        blurred, sharp = self._pairs
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
