"""Restorers: a network and its contract with the engine, tile in, tile out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_swintormer.models.swintormer import Swintormer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_swintormer.models.card import ModelCard


class Restorer(nn.Module):
    """A trained network that restores a batch of tiles of any size.

    Parameters
    ----------
    card
        Description of the model; says which network to build.
    state_dict
        Parameters of that network, as `napari_swintormer.models.weights.load_weights` gives them.
    sha256
        SHA-256 of the weights file, for provenance; empty for weights that come from no file.

    Attributes
    ----------
    channels
        Channels of a tile, 1 or 3; a model of 3 channels takes grey tiles too.
    multiple
        Tiles whose sides are multiples of this are worked on without padding.

    Raises
    ------
    SettingsError
        The network needs more than one view or a prior, which a single image does not have.

    Examples
    --------
    >>> from napari_swintormer import load_model  # doctest: +SKIP
    >>> load_model()(torch.rand(1, 3, 100, 50)).shape  # doctest: +SKIP
    torch.Size([1, 3, 100, 50])
    """

    def __init__(self, card: ModelCard, state_dict: Mapping[str, Tensor], sha256: str = "") -> None:
        super().__init__()
        card.check_single_image()
        self.card = card
        self.sha256 = sha256
        self.channels = card.network.channels
        self.multiple = card.network.multiple
        self.network = Swintormer(card.network)
        self.network.load_state_dict(dict(state_dict))
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.eval().requires_grad_(False)

    def forward(self, tiles: Tensor) -> Tensor:
        """Restore a batch of tiles.

        Parameters
        ----------
        tiles
            ``(B, C, H, W)`` float32 in unit intensities, on the device of the network; ``H`` and
            ``W`` are at least 1 and ``C`` is `channels` or 1. What lies outside [0, 1] is cut off
            for the network and added to its result again.

        Returns
        -------
        Tensor
            The restored tiles: same shape, float32. Not finite where half precision made the
            network overflow: whoever runs it refuses that, as the engine does.

        Raises
        ------
        ValueError
            The shape of `tiles` is not as described.
        """
        if tiles.ndim != 4 or tiles.shape[1] not in (1, self.channels) or 0 in tiles.shape:
            raise ValueError(
                f"tiles must have the shape (B, C, H, W) with C = {self.channels} or 1 "
                f"and no empty side (got {tuple(tiles.shape)})"
            )
        unit = tiles.clamp(0, 1)
        grey = tiles.shape[1] < self.channels
        views = unit.expand(-1, self.channels, -1, -1) if grey else unit
        padded = pad_to_multiple(views, self.multiple)
        restored: Tensor = self.network(padded.contiguous(memory_format=torch.channels_last))
        restored = restored[..., : tiles.shape[2], : tiles.shape[3]].to(torch.float32)
        if grey:
            restored = restored.mean(dim=1, keepdim=True)
        if self.card.clip_output:
            restored = restored.clamp(0, 1)
        return restored + (tiles - unit)


class IdentityRestorer(nn.Module):
    """Returns every tile as it is: measures what everything but the network costs.

    Parameters
    ----------
    channels
        1 or 3, as for a model.
    """

    multiple = 1

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, tiles: Tensor) -> Tensor:
        """Return `tiles`."""
        return tiles


def pad_to_multiple(tiles: Tensor, multiple: int) -> Tensor:
    """Enlarge ``(B, C, H, W)`` to the right and below until both sides are multiples.

    The border is mirrored; where the tile is too small to fill the padding that way, its last
    row or column is repeated for the rest.
    """
    for axis in (2, 3):
        missing = -tiles.shape[axis] % multiple
        mirrored = min(missing, tiles.shape[axis] - 1)
        for mode, size in (("reflect", mirrored), ("replicate", missing - mirrored)):
            if size:
                padding = (0, 0, 0, size) if axis == 2 else (0, size, 0, 0)
                tiles = F.pad(tiles, padding, mode=mode)
    return tiles
