"""Networks of others as restorers: in full precision, on tiles of the sizes that they take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from napari_swintormer.errors import SettingsError
from napari_swintormer.models.padding import enlarge
from napari_swintormer.models.restorer import PriorUse, Restorer

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_swintormer.models.files.card import ForeignCard


class ForeignNetworkOnTiles(nn.Module):
    """Enlarges tiles to the sizes that a network of others takes, and runs it in float32."""

    def __init__(self, card: ForeignCard, network: Callable[..., Any]) -> None:
        super().__init__()
        self.rules = card.network
        self.network = network

    def forward(self, tiles: Tensor) -> Tensor:
        """Restore ``(B, C, H, W)`` in [0, 1]; raises `SettingsError` if they are too large."""
        height, width = tiles.shape[2:]
        largest = self.rules.largest
        if largest is not None and max(height, width) > largest:
            raise SettingsError(
                f"This network takes tiles of {largest} pixels only (got tile_size="
                f"{max(height, width)}). Use tile_size={largest}."
            )
        sides = [max(side, self.rules.minimum) for side in (height, width)]
        sides = [-(-side // self.rules.multiple) * self.rules.multiple for side in sides]
        if self.rules.square:
            sides = [max(sides)] * 2
        enlarged = enlarge(tiles, sides[0], sides[1])
        with torch.autocast(tiles.device.type, enabled=False):  # half precision may overflow
            if self.rules.kind == "spandrel":
                restored = self.network(enlarged)
            else:  # traced programs may be fixed to a batch of one
                restored = torch.cat([self.network(tile[None]) for tile in enlarged])
        result: Tensor = restored[..., :height, :width]
        return result


class ForeignRestorer(Restorer):
    """A network of others with the interface of `Restorer`."""

    thread_safe = False  # what a network of others keeps between calls is not known

    def __init__(self, card: ForeignCard, network: Callable[..., Any], sha256: str) -> None:
        nn.Module.__init__(self)
        self.card = card
        self.sha256 = sha256
        self.channels, self.views = card.network.channels, 1
        self.multiple = card.network.multiple
        self.network = ForeignNetworkOnTiles(card, network)  # type: ignore[assignment]
        self.use = PriorUse()
        self.prior = None
        if card.network.kind == "spandrel":  # exported programs know no such modes
            self.eval()
        self.requires_grad_(False)
