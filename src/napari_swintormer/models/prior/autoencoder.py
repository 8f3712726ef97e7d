"""The encoder of the paper's autoencoder: it turns a sharp image into the latent ``z0``.

The autoencoder is LDM's VQ-f4: its latent has three channels and a quarter of the resolution. The
sharp image is enlarged four times first, so the latent has the size of the image. The encoder is
frozen, and only training needs it: the network takes latents undecoded.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor, nn

from napari_swintormer.models.files.kinds import PICKLE_SUFFIXES
from napari_swintormer.models.prior.compvis import convert_compvis_encoder, read_checkpoint
from napari_swintormer.models.prior.diffusers_files import (
    encoder_config,
    fill,
    find_part,
    read_config,
    read_part,
)
from napari_swintormer.models.prior.ldm import NOTHING

if TYPE_CHECKING:
    from collections.abc import Mapping

_PARTS = ("encoder.", "quant_conv.")


class LatentEncoder(nn.Module):
    """Encodes sharp images; `encoder` and `quant_conv` are those of diffusers' ``VQModel``."""

    def __init__(self, encoder: nn.Module, quant_conv: nn.Module, factor: int) -> None:
        super().__init__()
        self.encoder, self.quant_conv, self.factor = encoder, quant_conv, factor

    def forward(self, images: Tensor) -> Tensor:
        """Encode ``(B, 3, H, W)`` in unit intensities as ``(B, 3, H, W)``, before quantization."""
        enlarged = F.interpolate(2 * images - 1, scale_factor=self.factor, mode="bicubic")
        latent: Tensor = self.quant_conv(self.encoder(enlarged))
        return latent.float()


class ImageAsLatent(nn.Module):
    """Stands in for an autoencoder: the latent is the image in [-1, 1]."""

    def forward(self, images: Tensor) -> Tensor:
        """Encode ``(B, 3, H, W)`` in unit intensities."""
        return 2 * images - 1


def load_encoder(source: str) -> nn.Module:
    """Load the frozen encoder that belongs to a denoiser, from the source of the denoiser.

    The source is one of those of `napari_swintormer.models.prior.ldm.load_prior`, but for files
    that training wrote: they hold the denoiser alone. For `NOTHING` the latent is the image.

    Raises
    ------
    FileError, WeightsError
        The source has no autoencoder, or one that does not fit.
    """
    if source == NOTHING:
        return ImageAsLatent()
    path = Path(source).expanduser()
    if path.suffix.lower() in PICKLE_SUFFIXES:
        config, state = convert_compvis_encoder(read_checkpoint(path), str(path))
    else:
        folder, path = find_part(source, "vqvae")
        config = read_config(folder / "config.json", encoder_config)
        state = read_part(path)
    state = {key: value for key, value in state.items() if key.startswith(_PARTS)}
    return fill(lambda: _build(config), state, path, "autoencoder")  # type: ignore[no-any-return]


def _build(config: Mapping[str, Any]) -> LatentEncoder:
    from diffusers import VQModel

    ends = config["block_out_channels"]
    decoder = {"up_block_types": ("UpDecoderBlock2D",) * len(ends)}  # built, and left out
    whole: Any = VQModel(**config, **decoder)
    return LatentEncoder(whole.encoder, whole.quant_conv, 2 ** (len(ends) - 1))
