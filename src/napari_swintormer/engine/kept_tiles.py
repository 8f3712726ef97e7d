"""Restored tiles of a preview, which a run with the same settings takes over.

A tile is found again by all that its result depends on: its pixels, its place, the restorer, the
device, the precision, and the size of its batch. So a run makes the same bits with kept tiles and
without.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_swintormer.engine.protocol import Tile
    from napari_swintormer.models.tile_restorer import TileRestorer

    Key = tuple[str, str]  # how tiles are restored, and the digest of a tile

_LIMIT = 256 * 2**20  # bytes; a preview of 1024 pixels takes about 50 MB


class KeptTiles:
    """Restored tiles; the oldest go when they take more than `limit` bytes."""

    def __init__(self, limit: int = _LIMIT) -> None:
        self._limit, self._bytes = limit, 0
        self._tiles: OrderedDict[Key, NDArray[np.float32]] = OrderedDict()
        self._lock = Lock()  # a preview may end in its thread while a run begins

    @property
    def bytes(self) -> int:
        """Memory that the tiles take."""
        return self._bytes

    def find(self, keys: Sequence[Key]) -> list[NDArray[np.float32]] | None:
        """Return the restored tiles of a batch; None unless all of them are kept."""
        with self._lock:
            found = [self._tiles[key] for key in keys if key in self._tiles]
            return found if len(found) == len(keys) else None

    def keep(self, keys: Sequence[Key], restored: NDArray[np.float32]) -> None:
        """Keep the restored tiles of a batch."""
        with self._lock:
            for key, tile in zip(keys, restored, strict=True):
                if key not in self._tiles:
                    self._tiles[key] = tile.copy()  # else the whole batch would stay
                    self._bytes += tile.nbytes
            while self._bytes > self._limit:
                self._bytes -= self._tiles.popitem(last=False)[1].nbytes

    def holds(self, how: str) -> bool:
        """Whether any tile is kept that was restored in this way."""
        with self._lock:
            return any(key[0] == how for key in self._tiles)


@dataclass(frozen=True)
class TakingOver:
    """How a runner uses kept tiles.

    Attributes
    ----------
    kept
        The tiles.
    name
        Names the restorer and how its prior is sampled.
    adds
        Whether the tiles that the runner restores are kept as well.
    """

    kept: KeptTiles
    name: str
    adds: bool = False

    def keys(self, tiles: Sequence[Tile], device: str, restorer: TileRestorer) -> list[Key]:
        """Return the keys of a batch; none where nothing would be found or kept."""
        plane = restorer.plane_key(tiles[0].origin.plane)
        how = f"{self.name}, {device}, {len(tiles)} at once, {plane}"
        if not self.adds and not self.kept.holds(how):
            return []
        return [(how, _digest(tile)) for tile in tiles]


def _digest(tile: Tile) -> str:
    pixels = np.ascontiguousarray(tile.pixels)
    place = f"{tuple(tile.origin)}, {pixels.shape}, {tile.margin}"
    return hashlib.blake2b(pixels.data, digest_size=32).hexdigest() + place
