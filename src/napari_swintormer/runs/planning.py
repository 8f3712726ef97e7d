"""From an image and settings to a planned run; imports no torch and reads no pixel."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, get_args

from napari_swintormer.engine.remembered import recall_speed, speed_key
from napari_swintormer.errors import SettingsError
from napari_swintormer.imaging.axes import resolve_axes
from napari_swintormer.imaging.carried import SampleMeaning
from napari_swintormer.imaging.intensity import IntensityConvention
from napari_swintormer.imaging.planes import Planes
from napari_swintormer.models.catalogue import describe_model, image_kinds
from napari_swintormer.models.files.card import ForeignCard
from napari_swintormer.models.files.weights import file_sha256
from napari_swintormer.models.prior.prior_settings import (
    LDM_BYTES,
    LDM_BYTES_PER_PIXEL,
    LdmPriorSettings,
)
from napari_swintormer.optics.blur import Blur
from napari_swintormer.optics.file_optics import FileOptics
from napari_swintormer.optics.inverse_filter import REACH
from napari_swintormer.runs.blur_finding import blur_wish
from napari_swintormer.runs.blur_job import WHOLE, BlurJob, check_known, speed_name
from napari_swintormer.runs.job import Job, chosen_planes
from napari_swintormer.runs.presets import complete
from napari_swintormer.runs.stack_planning import prepare_stack, wants_volume
from napari_swintormer.settings.deblur_settings import (
    FILTER_MODEL,
    UNKNOWN_BLUR,
    DeblurSettings,
    ImageKind,
)
from napari_swintormer.tiling.plan import DeviceMemory, RestorerProfile, make_plan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from napari_swintormer.models.catalogue import ModelInfo
    from napari_swintormer.models.files.card import ModelCard
    from napari_swintormer.models.tile_restorer import TileRestorer
    from napari_swintormer.runs.blur_finding import Wish
    from napari_swintormer.tiling.plan import Plan

# Most memory of a network, in bytes per pixel of a batch and channel of the first level: 15 to 29
# were measured on the CPU, in fp32 and bf16, for networks of 16 and 48 channels, with and without
# deconvolution.
_BYTES_PER_PIXEL = 30
# The filter for a known blur alone, of three channels.
_FILTER_BYTES_PER_PIXEL = 120


def prepare(
    image: Any,
    settings: DeblurSettings | None = None,
    restorer: Callable[..., Any] | None = None,
    second_view: Any = None,
    optics: FileOptics | None = None,
    meaning: SampleMeaning | None = None,
) -> Job:
    """Plan a run; reads no pixel and imports no torch.

    Parameters
    ----------
    image
        Array-like with `shape`, `dtype` and slicing: numpy, dask, zarr, memory map.
    settings
        The user's choices; None takes the defaults.
    restorer
        Replaces ``settings.model``: a `napari_swintormer.models.tile_restorer.TileRestorer`, or any
        callable with `channels` and `multiple` that maps ``(B, C, H, W)`` to the same.
    second_view
        The other image of the scene, for a model of two views: array-like of the same shape, axes
        and data type.
    optics
        What the file says of the microscope; a stack may be restored as a volume with it.
    meaning
        What the numbers of the image mean, if they have a special meaning.

    Raises
    ------
    SwintormerError
        Image, model and settings do not fit; the message says what would work.
    """
    settings = settings or DeblurSettings()
    axes = resolve_axes(image.shape, image.dtype, settings.axes)
    known, meaning = optics or FileOptics(), meaning or SampleMeaning()
    if wants_volume(
        settings, axes, image.shape, known, alone=restorer is None and second_view is None
    ):
        if restorer is not None or second_view is not None:
            given = "a restorer" if restorer is not None else "a second view"
            raise SettingsError(
                f"A volume is restored without the network (got {given}). Leave it out, or use "
                "depth='planes'."
            )
        return prepare_stack(image, settings, axes, known, meaning)
    wish, settings = blur_wish(settings), replace(settings, axes=axes)
    n_views = 1 if second_view is None else 2
    if wish not in (None, UNKNOWN_BLUR):
        check_known(settings, n_views)
    kinds = _kinds(settings, image.dtype)
    chosen = _choose(settings.model, restorer)
    chosen.check_views(n_views)
    if (settled := chosen.settle(wish, settings.scale)) is not None:
        check_known(settings, n_views)
        return _prepare_known(image, settings, chosen, meaning, kinds, settled)
    settings = complete(settings, chosen.card)
    planes = Planes(image, axes, chosen.channels, second_view, meaning)
    planes = chosen_planes(planes, settings.planes)
    convention = IntensityConvention() if chosen.card is None else chosen.card.intensity
    plan = _plan(planes, settings, chosen)
    return Job(planes, plan, settings, chosen.model, convention, chosen.restorer)


def _prepare_known(
    image: Any,
    settings: DeblurSettings,
    chosen: _Chosen,
    meaning: SampleMeaning,
    kinds: Sequence[ImageKind],
    wish: Wish,
) -> BlurJob:
    """Plan a run that undoes a known blur, with a model behind the filter if there is one."""
    assert settings.axes is not None
    axes = settings.axes
    settings = complete(settings, chosen.card)
    planes = Planes(image, axes, chosen.channels, meaning=meaning)
    planes = chosen_planes(planes, settings.planes)
    convention = IntensityConvention() if chosen.card is None else chosen.card.intensity
    if chosen.card is None or chosen.continues:  # the filter alone, or a network behind it
        photo = None if len(kinds) > 1 else "photo" in kinds
        convention = WHOLE if "photo" in kinds else convention
    else:
        photo = convention.whole
    plan = _plan(planes, settings, chosen, REACH, speed_name(chosen.sha256))
    return BlurJob(
        planes,
        plan,
        settings,
        chosen.model,
        convention,
        chosen.restorer,
        wish=wish,
        told_photo=photo,
    )


def _kinds(settings: DeblurSettings, dtype: np.dtype[Any]) -> tuple[ImageKind, ...]:
    """Return the kinds that an image may be: the one that the user says, or all that fit."""
    assert settings.axes is not None
    if settings.kind not in (None, *get_args(ImageKind)):
        raise SettingsError(
            f"An image is a photo or microscopy (got kind={settings.kind!r}). Use one of these "
            "words, or leave kind out."
        )
    return (settings.kind,) if settings.kind else image_kinds(dtype, rgb="S" in settings.axes)


def _choose(name: str | None, restorer: Callable[..., Any] | None) -> _Chosen:
    """Find the model, or none for the filter alone, or adapt a restorer that was given."""
    if restorer is None:
        return _FILTER if name == FILTER_MODEL else _described(name)
    from napari_swintormer.models.tile_restorer import as_tile_restorer

    adapted = as_tile_restorer(restorer)
    card, sha256 = adapted.card, adapted.sha256
    if card is None:
        return _Chosen(None, adapted, None, adapted.channels, adapted.multiple, sha256)
    card.check_described()
    return _Chosen(None, adapted, card, card.network.channels, card.network.multiple, sha256)


def _described(name: str | None) -> _Chosen:
    """Find the model with this name, or the built-in one."""
    model = describe_model(name)
    card = model.card
    assert card is not None
    card.check_described()
    sha256 = file_sha256(model.path)
    return _Chosen(model, None, card, card.network.channels, card.network.multiple, sha256)


def _plan(
    planes: Planes,
    settings: DeblurSettings,
    chosen: _Chosen,
    margin: int | None = None,
    speed: str | None = None,
) -> Plan:
    """Plan the tiles; with a filter before the model, `margin` and `speed` are those of both."""
    assert settings.tile_size is not None
    assert settings.overlap is not None
    assert settings.blend is not None
    side = settings.tile_size * settings.scale
    tile_pixels = min(side, planes.shape[0]) * min(side, planes.shape[1])
    return make_plan(
        planes.shape,
        dtype=planes.dtype,
        n_planes=len(planes),
        channels=planes.channels,
        n_views=planes.n_views,
        tile_size=side,
        overlap=settings.overlap * settings.scale,
        blend=settings.blend,
        batch_size=1 if settings.batch_size is None else settings.batch_size,
        samples=settings.samples or 1,
        uncertainty=settings.uncertainty,
        profile=RestorerProfile(
            minimum_tile_size=chosen.multiple * settings.scale,
            margin=chosen.margin if margin is None else margin,
            device_memory=chosen.memory(settings),
            rate=recall_speed(speed_key(speed or chosen.sha256, settings), tile_pixels),
            n_devices=settings.device.count(",") + 1,
            threads=chosen.threads(settings),
        ),
    )


@dataclass(frozen=True)
class _Chosen:
    """A model of the catalogue, or a restorer that was given."""

    model: ModelInfo | None
    restorer: TileRestorer | None
    card: ModelCard | None
    channels: int
    multiple: int
    sha256: str

    @property
    def name(self) -> str:
        """Name for people."""
        if self.model is not None:
            return self.model.name
        return "" if self.restorer is None else self.restorer.name

    @property
    def continues(self) -> bool:
        """Whether the model continues from a filter for a known blur."""
        return self.card is not None and self.card.network.known_blur

    @property
    def finds(self) -> bool:
        """Whether the model finds a blur that is not known."""
        return self is not _FILTER and (self.card is None or self.card.finds_blur)

    @property
    def margin(self) -> int:
        """Pixels around a tile that the restorer reads."""
        return 0 if self.restorer is None else self.restorer.margin

    def settle(self, wish: Wish | None, scale: int) -> Wish | None:
        """Decide how the blur gets known, if the user leaves it open; None if it never does.

        At a smaller scale it never does, and the network finds it.
        """
        if scale != 1 and self.continues and self.finds and wish in (None, UNKNOWN_BLUR):
            return None
        if wish == UNKNOWN_BLUR and not self.finds:
            name = self.name or FILTER_MODEL
            raise SettingsError(
                f"The model {name!r} needs a known blur (got blur={wish!r}). Use blur='auto', or "
                "another model."
            )
        if self is _FILTER or self.continues:
            return wish or ("auto" if self.card is None else self.card.blur)
        if isinstance(wish, Blur):
            raise SettingsError(
                f"The model {self.name!r} finds the blur by itself (got a blur as well). Leave "
                "model out, or leave blur out."
            )
        return None if wish == UNKNOWN_BLUR else wish

    def check_views(self, n_views: int) -> None:
        """Refuse another number of views than the restorer takes."""
        if self.card is not None:
            self.card.check_views(n_views)
        elif self.restorer is not None and n_views != self.restorer.views:
            raise SettingsError(
                f"The restorer takes {self.restorer.views} view(s) of a scene (got {n_views}). "
                "Give a second_view to a restorer of two views, and to no other."
            )

    def threads(self, settings: DeblurSettings) -> int:
        """Count the threads that may restore tiles side by side, as far as is known without torch.

        torch may take fewer of them, and another device none.
        """
        if self.restorer is not None:
            safe = self.restorer.thread_safe
        else:
            safe = not isinstance(self.card, ForeignCard)
        if settings.device not in ("auto", "cpu") or not safe:
            return 1
        told = os.environ.get("OMP_NUM_THREADS", "")
        return int(told) if told.isdecimal() and int(told) else os.cpu_count() or 1

    def memory(self, settings: DeblurSettings) -> DeviceMemory | None:
        """Estimate the memory of the network; it counts as the computer's unless a GPU is named."""
        on_host = settings.device in ("auto", "cpu")
        if self.card is None:
            known = self.model is None and self.restorer is None
            return DeviceMemory(0, _FILTER_BYTES_PER_PIXEL, on_host) if known else None
        fixed, per_pixel = 0 if self.model is None else self.model.path.stat().st_size, 0.0
        prior = self.card.prior
        if settings.num_inference_steps is not None and isinstance(prior, LdmPriorSettings):
            assert settings.tile_size is not None
            fixed += LDM_BYTES
            per_pixel = LDM_BYTES_PER_PIXEL * min(1.0, prior.window / settings.tile_size) ** 2
        # a compact prior runs before the network, and takes less
        per_pixel += _BYTES_PER_PIXEL * self.card.network.dim
        return DeviceMemory(fixed, per_pixel / settings.scale**2, on_host)


_FILTER = _Chosen(None, None, None, 3, 1, "")
