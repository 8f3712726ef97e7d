"""The contract between a restorer and the engine, with defaults for what few restorers need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from napari_swintormer.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_swintormer.models.files.card import ModelCard
    from napari_swintormer.models.prior.noise import TileOrigin
    from napari_swintormer.models.restorer import PriorUse
    from napari_swintormer.models.stepwise import Stepwise


class TileRestorer(nn.Module):
    """Restores batches of tiles: ``(B, C, H, W)`` float32 in unit intensities, the same out.

    A subclass needs `forward`. One that works in several steps, or whose result depends on where
    tiles lie, overrides `in_steps` and `count_steps` too.

    Attributes
    ----------
    channels
        Channels of a tile, 1 or 3; a restorer of 3 channels takes grey tiles too.
    margin
        Pixels around a tile that the restorer reads: it takes ``(B, C, H + 2 * margin, W + 2 *
        margin)`` and returns ``(B, C, H, W)``.
    multiple
        Tiles whose sides are multiples of this are restored without padding.
    views
        Views of a scene that a tile holds one after the other; the result has those of the first.
    card
        Description of the model; None for a restorer without one.
    sha256
        SHA-256 of the weights file; empty for weights that come from no file.
    movable
        Whether ``to(device)`` moves all of it.
    thread_safe
        Whether several threads may restore tiles at the same time.
    """

    channels: int = 3
    multiple: int = 1
    margin: int = 0
    views: int = 1
    card: ModelCard | None = None
    sha256: str = ""
    movable: bool = True
    thread_safe: bool = False

    @property
    def name(self) -> str:
        """Name for people and for the metadata of results."""
        return type(self).__name__

    @property
    def prior_sha256(self) -> str:
        """SHA-256 of the prior's own file; empty where the prior has none."""
        return ""

    @property
    def memory_key(self) -> str:
        """Name that differs where the memory for a tile differs; empty if unknown."""
        return self.sha256

    def trials(self) -> dict[str, int]:
        """Name what a device is tried with before a run, each with the plane of the tried tile.

        A name tells the weights. Empty for weights that come from no file: nobody knows whether the
        restorer gives the same result twice.
        """
        return {self.memory_key: 0} if self.sha256 else {}

    def plane_key(self, plane: int) -> str:
        """Name what the restorer knows of a plane; tiles of planes with equal keys are alike."""
        return ""

    def with_prior(self, use: PriorUse) -> TileRestorer:
        """Return a restorer that samples its prior in this way; the same one if it has none."""
        return self

    def count_steps(self, height: int, width: int) -> int:
        """Count the steps that `in_steps` makes for tiles of this size."""
        return 1

    def in_steps(
        self, tiles: Tensor, origins: Sequence[TileOrigin] | None = None
    ) -> Stepwise[Tensor]:
        """Restore a batch, and yield after every step, so that the caller can stop in between.

        Parameters
        ----------
        tiles
            ``(B, V * C, H, W)`` float32 in unit intensities, on the device of the restorer.
        origins
            Where each tile begins; None for tiles that belong to no image.

        Returns
        -------
        Tensor
            The restored tiles, ``(B, C, H, W)``. Restorers that compare N samples append their
            contrasts: ``(B, N * C, H, W)``.
        """
        restored: Tensor = self(tiles)
        yield
        return restored


class AdaptedRestorer(TileRestorer):
    """A module or function of the user under the contract; `as_tile_restorer` makes it."""

    def __init__(self, restore: Any) -> None:
        super().__init__()
        for needed in ("channels", "multiple"):
            if not hasattr(restore, needed):
                raise SettingsError(
                    f"A restorer needs the attributes channels and multiple (got a "
                    f"{type(restore).__name__} without {needed}). Set them, such as channels = 3 "
                    "and multiple = 1."
                )
        for known in ("channels", "multiple", "views", "card", "sha256"):
            if hasattr(restore, known):
                setattr(self, known, getattr(restore, known))
        self.restore = restore
        self.movable = isinstance(restore, nn.Module)

    @property
    def name(self) -> str:
        """Name of the user's class."""
        return type(self.restore).__name__

    def forward(self, tiles: Tensor) -> Tensor:
        """Restore `tiles`."""
        restored: Tensor = self.restore(tiles)
        return restored


def as_tile_restorer(restorer: Any) -> TileRestorer:
    """Return `restorer` if it keeps the contract, else adapt it.

    Parameters
    ----------
    restorer
        A `TileRestorer`, or any callable with `channels` and `multiple` that maps ``(B, C, H, W)``
        to the same.

    Raises
    ------
    SettingsError
        `channels` or `multiple` is missing.
    """
    return restorer if isinstance(restorer, TileRestorer) else AdaptedRestorer(restorer)
