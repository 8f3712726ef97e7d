"""From an image and settings to a planned run: what widget, command line and API share.

`prepare` imports no torch, so that a plan can be shown before anything is loaded; `Job.run` does
the work, in the worker or the command.
"""

from __future__ import annotations

import dataclasses
import hashlib
import platform
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from napari_swintormer import __version__
from napari_swintormer.engine.remembered import recall_speed, remembering_speed, speed_key
from napari_swintormer.errors import SettingsError
from napari_swintormer.imaging.axes import resolve_axes
from napari_swintormer.imaging.intensity import (
    IntensityConvention,
    IntensityRange,
    measure_ranges,
)
from napari_swintormer.imaging.planes import Planes
from napari_swintormer.imaging.spans import parse_planes
from napari_swintormer.models.catalogue import (
    ModelInfo,
    choose_model,
    describe_model,
    image_kinds,
    load_model,
)
from napari_swintormer.models.files.weights import file_sha256
from napari_swintormer.models.prior.prior_settings import (
    LDM_BYTES,
    LDM_BYTES_PER_PIXEL,
    LdmPriorSettings,
)
from napari_swintormer.openmp import import_torch
from napari_swintormer.runs.presets import complete
from napari_swintormer.settings.deblur_settings import AUTOMATIC_MODEL, DeblurSettings
from napari_swintormer.tiling.plan import DeviceMemory, Plan, RestorerProfile, make_plan

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from pathlib import Path

    import dask.array as da

    from napari_swintormer.engine.protocol import RunJournal
    from napari_swintormer.engine.region import RestoredRegion
    from napari_swintormer.engine.runners import RunnerRecipe
    from napari_swintormer.events import Event
    from napari_swintormer.models.files.card import ModelCard
    from napari_swintormer.models.restorer import PriorUse
    from napari_swintormer.models.tile_restorer import TileRestorer
    from napari_swintormer.tiling.grid import Region

# Most memory that a network takes, in bytes per pixel of a batch and channel of its first level:
# 15 to 29 were measured on the CPU, in fp32 and bf16, for networks of 16 and of 48 channels, with
# and without deconvolution.
_BYTES_PER_PIXEL = 30


@dataclass(frozen=True)
class Job:
    """A planned run; made by `prepare`.

    Attributes
    ----------
    planes
        The image, or the planes of it that were chosen, with the second view of the scene if it
        has one; nothing of it has been read.
    plan
        Tiles, memory, disk and time.
    settings
        Complete: axes, tiles and blending are filled in as the model says.
    model
        The model in the catalogue, or None if a restorer was given.
    convention
        How the model wants intensities.
    restorer
        The restorer that was given or loaded, or None if the model is still to be loaded.
    """

    planes: Planes
    plan: Plan
    settings: DeblurSettings
    model: ModelInfo | None
    convention: IntensityConvention
    restorer: TileRestorer | None = None

    @property
    def model_name(self) -> str:
        """Name of the model, for people."""
        if self.model is not None:
            return self.model.name
        assert self.restorer is not None
        return self.restorer.name

    @cached_property
    def weights_sha256(self) -> str:
        """SHA-256 of the weights file; empty for a restorer that comes from no file."""
        return _weights_sha256(self.model, self.restorer)

    @cached_property
    def ranges(self) -> list[IntensityRange]:
        """Intensity range of every plane; measured when first asked for, on a fixed sample."""
        ranges = measure_ranges(self.planes, self.convention)
        return [replace(measured, strength=self.settings.strength) for measured in ranges]

    def describe(self) -> str:
        """Say the plan in one line."""
        device = self.settings.device
        text = self.plan.describe("the fastest device" if device == "auto" else device)
        if self.restorer is None and self.settings.model in (None, AUTOMATIC_MODEL):
            text = f"model {self.model_name}, {text}"
        steps, samples = self.settings.num_inference_steps, self.settings.samples
        if steps is None:
            return text
        times = "" if samples == 1 else f", {samples} times"
        return f"{text}, a prior of {steps} step{'s' * (steps != 1)}{times}"

    def load(self) -> Job:
        """Load the model and its prior, unless a restorer is there already; imports torch.

        Raises
        ------
        WeightsError, FileError
            The weights file is damaged or gone, or the paper's prior cannot be had.
        """
        if self.restorer is not None:
            return self
        assert self.model is not None
        restorer = load_model(self.model.path).with_prior(self._prior_use())
        return replace(self, restorer=restorer)

    def run(
        self,
        out: Any,
        journal: RunJournal | None = None,
        ranges: list[IntensityRange] | None = None,
        deviation: Any = None,
    ) -> Generator[Event, None, None]:
        """Load the model and restore the image; imports torch.

        Nothing happens before the first event is asked for; closing the generator stops the run.

        Parameters
        ----------
        out
            Array-like of the image's shape and dtype, written chunk by chunk.
        journal
            Chunks that are finished already, and the batch size that they were made with, which
            the run keeps unless the settings name one; see `napari_swintormer.engine.local.run`.
        ranges
            Intensity range of every plane, for who knows them; None takes `ranges` of the job.
        deviation
            Array-like of the image's shape, float32, of zeros: with ``settings.uncertainty`` the
            standard deviation of the samples is written there.

        Yields
        ------
        Event
            `Progress` after every batch of tiles and every step of a prior, `ChunkFinished` after
            every chunk, `Notice` when memory ran out and the run goes on with less.

        Raises
        ------
        SettingsError
            The device or the precision is not there, or memory is too small for a single tile.
        """
        recipe = self._recipe()
        from napari_swintormer.engine import local

        if recipe.batch_size is None and journal is not None:
            recipe = replace(recipe, batch_size=journal.batch_size)
        with closing(recipe.make_team()) as runner:
            if journal is not None and journal.batch_size is None:
                journal.batch_size = runner.batch_size
            plan = replace(self.plan, batch_size=runner.batch_size)
            ranges = ranges or self.ranges
            events = local.run(plan, self.planes, ranges, runner, out, journal, deviation)
            key = planned_speed_key(self.weights_sha256, self.settings)
            yield from remembering_speed(events, plan, key)

    def preview(
        self, position: Mapping[str, int], region: Region
    ) -> Generator[Event, None, RestoredRegion]:
        """Restore a region of the planes at one position, to the pixels of `run`; imports torch.

        Parameters
        ----------
        position
            Index along each of T, C and Z that the image has.
        region
            In pixels of the plane.

        Yields
        ------
        Event
            `Progress` after every batch of tiles.

        Returns
        -------
        RestoredRegion
            See `napari_swintormer.engine.region`.
        """
        recipe = replace(self, settings=replace(self.settings, uncertainty=False))._recipe()
        from napari_swintormer.engine.region import restore_region

        with closing(recipe.make()) as runner:
            return (
                yield from restore_region(
                    self.plan, self.planes, self.ranges, runner, position, region
                )
            )

    def see(self, image: Any, second_view: Any = None) -> Planes:
        """See other array-likes with the same pixels as the planes of this job."""
        settings = self.settings
        assert settings.axes is not None
        channels = self.planes.model_channels
        return _planes(image, settings.axes, channels, settings.planes, second_view)

    def fingerprint(self, name: str, second_name: str | None = None) -> dict[str, Any]:
        """Tell one input from another, by its form and by the intensities of a sample.

        Parameters
        ----------
        name, second_name
            Of the image, and of its second view.
        """
        shape, dtype = list(self.planes.data.shape), str(self.planes.dtype)
        known = {"name": name, "shape": shape, "dtype": dtype, "intensities": _digest(self.ranges)}
        if self.planes.second is None:
            return known
        second = _digest(measure_ranges(self.planes.second, self.convention))
        return known | {"second_view": {"name": second_name, "intensities": second}}

    def lazy(
        self, planes: Planes | None = None, resources: Mapping[str, float] | None = None
    ) -> tuple[da.Array, da.Array | None]:
        """Make dask arrays of the result and of its deviation; imports torch.

        Only the sample for `ranges` is computed now.

        Parameters
        ----------
        planes
            The same image as a dask array; None if it is one.
        resources
            Resources of a cluster's worker that a block needs while it is restored.

        Returns
        -------
        result, deviation
            As `napari_swintormer.engine.graph.lazy` returns them; None without uncertainty.
        """
        recipe = self._recipe()
        from napari_swintormer.engine import graph

        return graph.lazy(self.plan, planes or self.planes, self.ranges, recipe, resources)

    def _recipe(self) -> RunnerRecipe:
        import_torch()
        from napari_swintormer.engine.runners import RunnerRecipe

        if self.restorer is not None:
            restorer: TileRestorer | Path = self.restorer
            name = uuid4().hex  # its weights may be other ones than when it was loaded
        else:
            assert self.model is not None
            restorer, name = self.model.path.absolute(), self.weights_sha256
        settings = self.settings
        return RunnerRecipe(
            restorer,
            name,
            settings.device,
            settings.precision,
            settings.batch_size,
            tile=(self.planes.n_views * self.planes.channels, *self.plan.grid.tile_shape),
            prior=self._prior_use(),
            scale=self.settings.scale,
        )

    def _prior_use(self) -> PriorUse:
        from napari_swintormer.models.restorer import PriorUse

        settings = self.settings
        return PriorUse(
            settings.seed,
            settings.num_inference_steps,
            settings.prior,
            settings.samples or 1,
            settings.uncertainty,
        )

    def provenance(self) -> dict[str, Any]:
        """Say how the result is made, for the metadata of layer and file; imports torch.

        Holds no time: equal runs write equal bytes.
        """
        import_torch()
        import torch

        from napari_swintormer.engine import devices

        device, *_ = devices.resolve_devices(self.settings.device)
        dtype = devices.resolve_precision(self.settings.precision, device)
        tf32 = self.settings.precision == "tf32"
        settings = dataclasses.asdict(self.settings)
        for computed in ("model", "batch_size"):  # the result does not depend on the batch size
            del settings[computed]
        prior = "" if self.restorer is None else self.restorer.prior_sha256
        return {
            "software": f"napari-swintormer {__version__}",
            "model": self.model_name,
            "weights_sha256": self.weights_sha256,
            **({"prior_sha256": prior} if prior else {}),
            "settings": settings
            | {
                "device": device.type,
                "precision": "tf32" if tf32 else devices.precision_name(dtype),
            },
            "versions": {"python": platform.python_version(), "torch": torch.__version__},
        }


def prepare(
    image: Any,
    settings: DeblurSettings | None = None,
    restorer: Callable[..., Any] | None = None,
    second_view: Any = None,
) -> Job:
    """Plan a run; reads no pixel and imports no torch.

    Parameters
    ----------
    image
        Array-like with `shape`, `dtype` and slicing: numpy, dask, zarr, memory map.
    settings
        What the user chose; None stands for the defaults.
    restorer
        Takes the place of ``settings.model``: anything with `channels` and `multiple` that maps
        ``(B, C, H, W)`` to the same, see `napari_swintormer.models.restorer.Restorer`.
    second_view
        The other image of the scene, for a model of two views: array-like of the same shape, axes
        and data type.

    Raises
    ------
    SwintormerError
        Image, model and settings do not fit; one sentence says what would work.
    """
    settings = settings or DeblurSettings()
    axes = resolve_axes(image.shape, image.dtype, settings.axes)
    n_views = 1 if second_view is None else 2
    model, adapted = None, None
    if restorer is None:
        kinds = image_kinds(image.dtype, rgb="S" in axes)
        model = describe_model(choose_model(settings.model, kinds))
        card = model.card
    else:
        from napari_swintormer.models.tile_restorer import as_tile_restorer

        adapted = as_tile_restorer(restorer)
        card = adapted.card
    if card is not None:
        card.check_described()
        card.check_views(n_views)
        channels, multiple = card.network.channels, card.network.multiple
    else:
        assert adapted is not None
        channels, multiple = adapted.channels, adapted.multiple
        if n_views != adapted.views:
            raise SettingsError(
                f"The restorer takes {adapted.views} view(s) of a scene (got {n_views}). Give a "
                "second_view to a restorer of two views, and to no other."
            )
    settings = complete(replace(settings, axes=axes), card)
    assert settings.tile_size is not None
    assert settings.overlap is not None
    assert settings.blend is not None
    planes = _planes(image, axes, channels, settings.planes, second_view)
    sha256 = _weights_sha256(model, adapted)
    memory = None if card is None else _network_memory(card, model, settings)
    plan = make_plan(
        planes.shape,
        dtype=planes.dtype,
        n_planes=len(planes),
        channels=planes.channels,
        n_views=n_views,
        tile_size=settings.tile_size * settings.scale,
        overlap=settings.overlap * settings.scale,
        blend=settings.blend,
        batch_size=1 if settings.batch_size is None else settings.batch_size,
        samples=settings.samples or 1,
        uncertainty=settings.uncertainty,
        profile=RestorerProfile(
            minimum_tile_size=multiple * settings.scale,
            device_memory=memory,
            rate=recall_speed(planned_speed_key(sha256, settings)),
            n_devices=settings.device.count(",") + 1,
        ),
    )
    convention = IntensityConvention() if card is None else card.intensity
    return Job(planes, plan, settings, model, convention, adapted)


def _planes(image: Any, axes: str, channels: int, chosen: str | None, second_view: Any) -> Planes:
    planes = Planes(image, axes, channels, second_view)
    if chosen is None:
        return planes
    return planes.part(parse_planes(chosen, planes.axes, image.shape))


def _network_memory(
    card: ModelCard, model: ModelInfo | None, settings: DeblurSettings
) -> DeviceMemory:
    """Memory of the network; counted as the computer's own unless a GPU was asked for by name."""
    fixed, per_pixel = 0 if model is None else model.path.stat().st_size, 0.0
    if settings.num_inference_steps is not None and isinstance(card.prior, LdmPriorSettings):
        assert settings.tile_size is not None
        fixed += LDM_BYTES
        share = min(1.0, card.prior.window / settings.tile_size) ** 2
        per_pixel = LDM_BYTES_PER_PIXEL * share
    return DeviceMemory(
        fixed=fixed,
        # a compact prior takes less than the network, before it
        per_pixel=(_BYTES_PER_PIXEL * card.network.dim + per_pixel) / settings.scale**2,
        on_host=settings.device in ("auto", "cpu"),
    )


def _digest(ranges: Sequence[IntensityRange]) -> str:
    measured = repr([(r.low, r.high, r.saturation) for r in ranges])
    return hashlib.sha256(measured.encode()).hexdigest()[:16]


def _weights_sha256(model: ModelInfo | None, restorer: TileRestorer | None) -> str:
    if model is not None:
        return file_sha256(model.path)
    assert restorer is not None
    return restorer.sha256


def planned_speed_key(sha256: str, settings: DeblurSettings) -> str:
    """Name the speed by what was asked for: what it becomes is known only with torch at hand."""
    assert settings.tile_size is not None
    model = sha256
    if settings.num_inference_steps is not None:
        model += f" prior {settings.num_inference_steps}"
    if settings.scale > 1:
        model += f" at 1/{settings.scale}"
    return speed_key(
        model, settings.device, settings.precision, settings.tile_size, settings.batch_size or 0
    )
