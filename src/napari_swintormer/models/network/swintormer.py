"""The Swintormer network: a four-level U-Net of transformer blocks over shifted windows.

Follows *Efficient Image Deblurring Networks based on Diffusion Models* (arXiv 2401.05907).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_swintormer.models.network.block import Block
from napari_swintormer.models.network.deconvolution import LocalDeconvolution
from napari_swintormer.models.network.network_settings import BLUR_MAPS, SwintormerSettings
from napari_swintormer.optics.inverse_filter import UNKNOWN_SIZE

__all__ = ["Swintormer", "SwintormerSettings"]

# The deconvolution's residual has a root mean square of about 0.05, images in [-1, 1] of 0.4.
RESIDUAL_GAIN = 8


class Conv3x3(nn.Conv2d):
    """3 × 3 convolution without bias; NHWC in and out."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        # the permuted view is what PyTorch calls channels-last: no copy in either direction
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def _unshuffle(x: Tensor) -> Tensor:
    """Half the resolution, four times the channels; NHWC, channels as in `F.pixel_unshuffle`."""
    return F.pixel_unshuffle(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)


def _shuffle(x: Tensor) -> Tensor:
    """Twice the resolution, a quarter of the channels; NHWC, channels as in `F.pixel_shuffle`."""
    return F.pixel_shuffle(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)


def _level(settings: SwintormerSettings, dim: int, num_heads: int, num_blocks: int) -> nn.Module:
    """Chain blocks; every second one shifts its windows."""
    return nn.Sequential(
        *(Block(settings, dim, num_heads, shifted=i % 2 == 1) for i in range(num_blocks))
    )


class Swintormer(nn.Module):
    """Restores blurred images.

    Parameters
    ----------
    settings
        Sizes of the network.

    Examples
    --------
    >>> import torch
    >>> sizes = SwintormerSettings(dim=8, num_blocks=(1, 1, 1, 1), window_size=2)
    >>> network = Swintormer(sizes)
    >>> network(torch.rand(1, sizes.in_channels, 32, 64)).shape
    torch.Size([1, 3, 32, 64])
    """

    def __init__(self, settings: SwintormerSettings) -> None:
        super().__init__()
        self.settings = settings
        dims, heads, blocks = settings.dims, settings.num_heads, settings.num_blocks
        # the finest level of the decoder keeps the channels of its skip and of the level below
        decoder_dims = (2 * dims[0], dims[1], dims[2])
        seen = settings.channels if settings.known_blur else settings.in_channels
        self.embed = Conv3x3(4 * seen, dims[0])
        # finest level first; the last level of the encoder is the bottom of the U
        self.encoder = nn.ModuleList(
            _level(settings, *sizes) for sizes in zip(dims, heads, blocks, strict=True)
        )
        self.down = nn.ModuleList(Conv3x3(dim, dim // 2) for dim in dims[:3])
        self.up = nn.ModuleList(Conv3x3(dim, 2 * dim) for dim in dims[1:])
        self.reduce = nn.ModuleList(nn.Linear(2 * dim, dim, bias=False) for dim in dims[1:3])
        self.decoder = nn.ModuleList(
            _level(settings, *sizes)
            for sizes in zip(decoder_dims, heads[:3], blocks[:3], strict=True)
        )
        self.refinement = _level(settings, 2 * dims[0], heads[0], settings.num_refinement_blocks)
        self.skip = nn.Linear(dims[0], 2 * dims[0], bias=False)
        self.output = Conv3x3(2 * dims[0], 4 * settings.channels)
        # an untrained network changes its input little: training starts from the blurred image
        nn.init.trunc_normal_(self.output.weight, std=1e-3)
        self.deconvolution: LocalDeconvolution | None = None
        if settings.deconvolution is not None and not settings.unclear:
            self.deconvolution = LocalDeconvolution(settings.deconvolution)
        self.unclear = Swintormer(settings.for_unclear) if settings.unclear else None
        if settings.known_blur:
            self.embed_maps = nn.Linear(BLUR_MAPS, dims[0], bias=False)
            nn.init.zeros_(self.embed_maps.weight)
        if settings.known_blur or settings.deconvolution is not None:
            self.embed_added = Conv3x3(4 * settings.channels, dims[0])
            # a trained network that gets a deconvolution starts with unchanged results
            nn.init.zeros_(self.embed_added.weight)

    @property
    def for_unclear(self) -> Swintormer:
        """The network for images whose blur is not known: a second one, or this one."""
        return self if self.unclear is None else self.unclear

    def forward(self, x: Tensor) -> Tensor:
        """Restore a batch.

        Parameters
        ----------
        x
            ``(B, in_channels, H, W)`` in [0, 1]: the views, then the prior; for a known blur the
            image, the filtered image and `BLUR_MAPS` maps, then the prior. H and W are multiples of
            ``settings.multiple``.

        Returns
        -------
        Tensor
            ``(B, channels, H, W)``, the first view plus the residual; not clipped.
        """
        self._check(x)
        return x[:, : self.settings.channels].float() + self.forward_features(x)[1]

    def filled(self, x: Tensor) -> Tensor:
        """Filter the images of a batch whose blur is not known, place by place.

        `x` is as in `forward`, of a network for a known blur that has a deconvolution too. Where
        the map of the size is `UNKNOWN_SIZE`, the filtered image is replaced.
        """
        unknown = x[:, 2 * self.settings.channels, 0, 0]
        places = (unknown == UNKNOWN_SIZE).nonzero()[:, 0]
        if self.deconvolution is None or not len(places):
            return x
        return x.index_copy(0, places, self.filtered(x[places]))

    def filtered(self, x: Tensor) -> Tensor:
        """Filter all images of a batch place by place; `x` is as in `filled`."""
        if self.deconvolution is None:
            return x
        channels = self.settings.channels
        views, _, maps = x.tensor_split([channels, 2 * channels], dim=1)
        photo = maps[:, 1, 0, 0] if self.deconvolution.knows_kind else None
        filtered = (views + self.deconvolution(views, photo)).to(x.dtype)
        return torch.cat([views, filtered, maps], dim=1)

    def begins_with(self, x: Tensor) -> Tensor:
        """Give what the network continues from, of an input without prior.

        It is the first view, or for a known blur the filtered image, ``(B, channels, H, W)``.
        """
        begin = self.settings.channels if self.settings.known_blur else 0
        return x[:, begin : begin + self.settings.channels]

    def forward_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of a batch and the residual of its first view.

        Their shapes are ``(B, H / 2, W / 2, 2 * dim)`` and ``(B, channels, H, W)``; the residual is
        float32.
        """
        deconvolved, maps = None, None
        if self.settings.known_blur:
            settings = self.settings
            parts = [settings.channels, settings.channels, BLUR_MAPS, settings.prior_channels]
            view, filtered, maps, prior = torch.split(x, parts, dim=1)
            filtered = filtered + prior if settings.prior_channels else filtered
            x, deconvolved = filtered, (filtered - view).float()
        elif self.deconvolution is not None:
            view, others = x.tensor_split([self.settings.channels], dim=1)
            deconvolved = self.deconvolution(view)
            x = torch.cat([view + deconvolved, others], dim=1)
        features = self._features(x, deconvolved, maps)
        # (y + 1) / 2 with y = residual + (2x - 1): in fp32, whatever autocast did before
        residual = _shuffle(self.output(features)).permute(0, 3, 1, 2).float() / 2
        return features, residual if deconvolved is None else residual + deconvolved

    def _features(self, x: Tensor, deconvolved: Tensor | None, maps: Tensor | None) -> Tensor:
        """Run the U-Net; `deconvolved` is the residual of the deconvolution or of a known blur."""
        embedded = self.embed(_unshuffle((2 * x - 1).permute(0, 2, 3, 1)))
        if deconvolved is not None:
            scaled = (RESIDUAL_GAIN * deconvolved).permute(0, 2, 3, 1)
            embedded = embedded + self.embed_added(_unshuffle(scaled))
        if maps is not None:
            embedded = embedded + self.embed_maps(maps[..., ::2, ::2].permute(0, 2, 3, 1))

        skips: list[Tensor] = []
        features = self.encoder[0](embedded)
        for down, level in zip(self.down, self.encoder[1:], strict=True):
            skips.append(features)
            features = level(_unshuffle(down(features)))

        for i in (2, 1, 0):
            features = torch.cat([_shuffle(self.up[i](features)), skips[i]], dim=-1)
            if i > 0:
                features = self.reduce[i - 1](features)
            features = self.decoder[i](features)

        refined: Tensor = self.refinement(features) + self.skip(embedded)
        return refined

    def _check(self, x: Tensor) -> None:
        channels, multiple = self.settings.in_channels, self.settings.multiple
        fits = x.ndim == 4 and x.shape[1] == channels and min(x.shape) > 0
        if not fits or x.shape[2] % multiple or x.shape[3] % multiple:
            raise ValueError(
                f"the network's input must be (B, {channels}, H, W) with H and W multiples of "
                f"{multiple} (got {tuple(x.shape)}). Pad the image by reflection."
            )
