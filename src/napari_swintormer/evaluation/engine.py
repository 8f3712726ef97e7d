"""Models on the images of a scene, through the tile engine as any other image."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_swintormer.errors import SettingsError
from napari_swintormer.imaging.intensity import IntensityRange, measure_ranges
from napari_swintormer.job import prepare
from napari_swintormer.models.catalogue import describe_model, find_model, load_model
from napari_swintormer.models.prior import build_network
from napari_swintormer.models.restorer import pad_to_multiple
from napari_swintormer.models.weights import file_sha256, load_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from napari_swintormer.config import DeblurSettings
    from napari_swintormer.evaluation.pictures import Pictures
    from napari_swintormer.models.card import ModelCard
    from napari_swintormer.models.noise import Place
    from napari_swintormer.models.stepwise import Stepwise

_IN_MEMORY = 2**28  # samples; larger results lie in a nameless file
_FULL = IntensityRange(0.0, 1.0, -np.inf, np.inf)


class ViewsRestorer(nn.Module):
    """A network of two views as a restorer: it cuts its views where the engine's tiles lie.

    The engine goes over the view that the network adds its change to, the first one.

    Parameters
    ----------
    card
        Of a network of two views and without prior.
    state_dict
        Its parameters.
    sha256
        Of the weights file.
    """

    channels = 3
    needs_places = True

    def __init__(self, card: ModelCard, state_dict: Mapping[str, Tensor], sha256: str) -> None:
        super().__init__()
        if card.network.views != 2 or card.network.prior_channels:
            raise SettingsError(
                f"The model {card.name!r} cannot be evaluated: it takes {card.network.views} views "
                f"and a prior of {card.network.prior_channels} channels. Use one with one view, or "
                "with two and no prior."
            )
        self._card = card
        self.left_first = card.views is not None and card.views[0] == "left"
        self.sha256 = sha256
        self.multiple = card.network.multiple
        self.network = build_network(card.network, None)
        self.network.load_state_dict(dict(state_dict))
        self.views: tuple[NDArray[np.float32], ...] = ()
        self.eval().requires_grad_(False)

    def with_own_tiles(self, settings: DeblurSettings) -> DeblurSettings:
        """Fill in the tiles of the card where the user did not choose any."""
        # one at a time: the views of no place could tell how many fit
        settings = replace(settings, batch_size=settings.batch_size or 1)
        if settings.tile_size is not None:
            return settings
        overlap = self._card.overlap if settings.overlap is None else settings.overlap
        blend = settings.blend or self._card.blend
        return replace(settings, tile_size=self._card.tile_size, overlap=overlap, blend=blend)

    def count_steps(self, _height: int, _width: int) -> int:
        """Count what `in_steps` does."""
        return 1

    def in_steps(self, tiles: Tensor, places: Sequence[Place]) -> Stepwise[Tensor]:
        """Restore tiles as `forward` does, and yield once."""
        restored = self(tiles, places)
        yield
        return restored  # type: ignore[no-any-return]

    def forward(self, tiles: Tensor, places: Sequence[Place]) -> Tensor:
        """Restore tiles of the first view, ``(B, 3, H, W)``; the others are cut out beside them."""
        height, width = tiles.shape[2:]
        batch = []
        for place in places:
            region = slice(place.y, place.y + height), slice(place.x, place.x + width)
            batch.append(np.concatenate([view[region] for view in self.views], axis=2))
        views = torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2).to(tiles.device)
        restored: Tensor = self.network(pad_to_multiple(views, self.multiple).contiguous())
        return restored[..., :height, :width].to(torch.float32)


def load(settings: DeblurSettings) -> nn.Module:
    """Load a model for one image, or for the two views of a dual-pixel camera.

    Raises
    ------
    ModelNotFoundError, FileError, WeightsError, SettingsError
        The model cannot be had or used.
    """
    path = find_model(settings.model)
    card = describe_model(path).card
    if card is not None and card.network.views > 1:
        return ViewsRestorer(*load_weights(path), file_sha256(path))
    return load_model(path)


def restore(
    pictures: Pictures, settings: DeblurSettings, restorer: nn.Module, ensemble: int
) -> Any | None:
    """Restore the images of a scene.

    Intensities are the model's matter: one that wants the whole range (0th to 100th percentile)
    gets the full scale that the protocol divides by, as in the published scripts; one that wants
    percentiles measures them, which is part of it.

    Parameters
    ----------
    pictures
        Of the scene.
    settings
        Tiles, prior, device; None as the model says.
    restorer
        From `load`.
    ensemble
        1, or 8 for the mean over all flips and quarter turns of the image.

    Returns
    -------
    array-like or None
        Shape and data type of the blurred image; None where the network wants views that the
        scene does not have.
    """
    views: tuple[NDArray[np.float32], ...] | None = None
    image = pictures.blurred
    if isinstance(restorer, ViewsRestorer):
        if pictures.views is None:
            return None
        views = pictures.views if restorer.left_first else pictures.views[::-1]
        image = views[0]
        settings = restorer.with_own_tiles(settings)

    def once(turn: Callable[[Any], Any]) -> Any:
        if isinstance(restorer, ViewsRestorer) and views is not None:
            restorer.views = tuple(np.ascontiguousarray(turn(view)) for view in views)
        return _run(turn(image), pictures, settings, restorer)

    if ensemble == 1:
        return once(lambda pixels: pixels)
    image = np.asarray(image)
    total = np.zeros(image.shape, np.float64)
    for quarter in range(4):
        for flipped in (False, True):
            result = once(partial(_turned, quarter=quarter, flipped=flipped))
            total += _turned_back(result, quarter, flipped)
    mean = total / 8
    return (np.rint(mean) if image.dtype.kind in "iu" else mean).astype(image.dtype)


def _run(image: Any, pictures: Pictures, settings: DeblurSettings, restorer: nn.Module) -> Any:
    job = prepare(image, replace(settings, axes=pictures.axes), restorer)
    full_scale = pictures.protocol.full_scale is not None
    whole = isinstance(restorer, ViewsRestorer) or job.convention.whole
    if full_scale and whole:
        ranges = [replace(_FULL, strength=settings.strength)] * len(job.planes)
    elif full_scale:  # cutting to [0, 1] is the protocol's matter
        measured = measure_ranges(job.planes, job.convention)
        ranges = [
            replace(r, floor=-np.inf, ceiling=np.inf, strength=settings.strength) for r in measured
        ]
    else:
        ranges = job.ranges
    out = _empty(image.shape, job.planes.dtype)
    for _ in job.run(out, ranges=ranges):
        pass
    return out


def _empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    if np.prod(shape) <= _IN_MEMORY:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile() as file:  # lives as long as the array
        return np.memmap(file, dtype, "w+", shape=shape)


def _turned(pixels: Any, quarter: int, flipped: bool) -> Any:
    turned = np.rot90(pixels, quarter)
    return turned[:, ::-1] if flipped else turned


def _turned_back(pixels: Any, quarter: int, flipped: bool) -> Any:
    return np.rot90(pixels[:, ::-1] if flipped else pixels, -quarter)
