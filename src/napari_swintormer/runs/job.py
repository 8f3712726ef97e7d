"""A planned run over an image, for the widget, the command line and the API."""

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
from napari_swintormer.engine.remembered import remembering_speed, speed_key
from napari_swintormer.events import Substitution
from napari_swintormer.imaging.intensity import (
    IntensityConvention,
    IntensityRange,
    measure_ranges,
)
from napari_swintormer.imaging.planes import Planes
from napari_swintormer.imaging.spans import parse_planes
from napari_swintormer.models.catalogue import (
    ModelInfo,
    load_model,
    replacement,
)
from napari_swintormer.models.files.weights import file_sha256
from napari_swintormer.openmp import import_torch
from napari_swintormer.settings.deblur_settings import (
    AUTOMATIC_MODEL,
    STACK_OPTIONS,
    DeblurSettings,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from pathlib import Path

    import dask.array as da

    from napari_swintormer.engine.kept_tiles import KeptTiles
    from napari_swintormer.engine.protocol import RunJournal
    from napari_swintormer.engine.region import RestoredRegion
    from napari_swintormer.engine.runners import RunnerRecipe
    from napari_swintormer.events import Event, Notice
    from napari_swintormer.models.restorer import PriorUse
    from napari_swintormer.models.tile_restorer import TileRestorer
    from napari_swintormer.tiling.grid import Region
    from napari_swintormer.tiling.plan import Plan


@dataclass(frozen=True)
class Job:
    """A planned run; `prepare` makes it.

    Attributes
    ----------
    planes
        The image, or the chosen planes of it, with the second view of the scene if there is one. No
        pixel has been read.
    plan
        Tiles, memory, disk and time.
    settings
        Complete: axes, tiles and blending are filled in from the model.
    model
        The model in the catalogue; None if a restorer was given.
    convention
        How the model wants intensities.
    restorer
        The restorer that was given or loaded; None if the model is not loaded yet.
    given_ranges
        Intensity ranges that replace the measured ones.
    """

    planes: Planes
    plan: Plan
    settings: DeblurSettings
    model: ModelInfo | None
    convention: IntensityConvention
    restorer: TileRestorer | None = None
    given_ranges: list[IntensityRange] | None = None

    @property
    def keeps_changes(self) -> bool:
        """Whether `run` can write the changes, so that another strength needs no network."""
        return True

    @property
    def model_name(self) -> str:
        """Name of the model, for people."""
        if self.model is not None:
            return self.model.name
        assert self.restorer is not None
        return self.restorer.name

    @property
    def short_name(self) -> str:
        """Name of the model or the method in the name of a result."""
        return self.model_name

    @property
    def counts_tiles(self) -> bool:
        """Whether the progress of the job counts tiles."""
        return True

    @cached_property
    def weights_sha256(self) -> str:
        """SHA-256 of the weights file; empty for a restorer that comes from no file."""
        if self.model is not None:
            return file_sha256(self.model.path)
        assert self.restorer is not None
        return self.restorer.sha256

    @property
    def speed_name(self) -> str:
        """Name under which the speed of this kind of run is remembered."""
        return self.weights_sha256

    @property
    def speed_key(self) -> str:
        """Key under which the speed of this job is remembered."""
        return speed_key(self.speed_name, self.settings)

    @cached_property
    def ranges(self) -> list[IntensityRange]:
        """Intensity range of every plane, measured on first use on a fixed sample."""
        return self._measure_ranges() if self.given_ranges is None else self.given_ranges

    def _measure_ranges(self) -> list[IntensityRange]:
        ranges = measure_ranges(self.planes, self.convention)
        return [replace(measured, strength=self.settings.strength) for measured in ranges]

    def describe(self) -> str:
        """Describe the plan in one line."""
        device = self.settings.device
        text = self.plan.describe(None if device == "auto" else device)
        if self.restorer is None and self.settings.model in (None, AUTOMATIC_MODEL):
            text = f"model {self.model_name}, {text}"
        steps, samples = self.settings.num_inference_steps, self.settings.samples
        if steps is None:
            return text
        times = "" if samples == 1 else f", {samples} times"
        return f"{text}, a prior of {steps} step{'s' * (steps != 1)}{times}"

    def count_text(self, jobs: Sequence[Job]) -> tuple[str, str]:
        """Return how many parts `jobs` have, and what a part is: ``("12", "tiles of 512 px")``."""
        count = sum(job.plan.n_tiles for job in jobs)
        side = max(self.plan.grid.tile_shape)
        return f"{count:,}", f"tile{'s' * (count != 1)} of {side} px"

    def load(self) -> Job:
        """Load the model and its prior, unless a restorer is there; imports torch."""
        if self.restorer is not None:
            return self
        assert self.model is not None
        restorer = load_model(self.model.path)
        return replace(self, restorer=restorer.with_prior(self._prior_use()))

    def notices(self) -> list[Notice]:
        """Return what the user should know of the model, and what was found on the image."""
        sentence = replacement(self.settings.model) if self.model is not None else None
        return [Substitution(sentence)] if sentence else []

    def measured_by(self, call: Callable[..., Any]) -> Job:
        """Return this job with what is measured with a device, by ``call(function, *arguments)``.

        The function runs where the device is. Planes need nothing of the kind.
        """
        return self

    @property
    def precision(self) -> str:
        """Precision that is asked of the device."""
        return self.settings.precision

    @property
    def volume_steps(self) -> Mapping[tuple[int, ...], int] | None:
        """Iterations of the volume at every index along T and C; None for planes."""
        return None

    def measured_at(self, position: Mapping[str, int]) -> Job:
        """Return this job with what the planes at a position need beside their ranges."""
        return self

    def ready_at(self, position: Mapping[str, int]) -> Job:
        """Return this job with what a preview at a position needs; imports torch."""
        return self.measured_at(position)

    def keeping(self, earlier: Job | None) -> Job:
        """Return this job with what an earlier one has measured on the same image."""
        return self

    def run(
        self,
        out: Any,
        journal: RunJournal | None = None,
        deviation: Any = None,
        scratch: Path | None = None,
        changes: Any = None,
        kept: KeptTiles | None = None,
    ) -> Generator[Event, None, None]:
        """Say what was found on the image, load the model and restore the image; imports torch.

        Closing the generator stops the run.

        Parameters
        ----------
        out
            Array-like of the image's shape and dtype, written chunk by chunk.
        journal
            Records the finished chunks, and the batch size that they were made with. The run keeps
            that size unless the settings name one.
        deviation
            Array-like of the image's shape, float32, filled with 0: with ``settings.uncertainty``
            the standard deviation of the samples is written there.
        scratch
            Folder for what a run of volumes keeps between its iterations; None takes a temporary
            one.
        changes
            Array-like of the image's shape, float32: the change of every pixel in unit intensities
            is written there, if `keeps_changes`.
        kept
            Tiles that previews with the same settings have restored; the run does not restore them
            again, and its pixels are the same.

        Yields
        ------
        Event
            `Progress` after every batch of tiles and every step of a prior, `ChunkFinished` after
            every chunk, `Notice` when memory ran out and the run continues with less.

        Raises
        ------
        SettingsError
            The device or the precision is not available, or memory is too small for a single tile.
        """
        yield from self.notices()
        recipe = self._recipe()
        from napari_swintormer.engine import local

        if recipe.batch_size is None and journal is not None:
            recipe = replace(recipe, batch_size=journal.batch_size)
        with closing(recipe.make_team(kept)) as runner:
            if journal is not None and journal.batch_size is None:
                journal.batch_size = runner.batch_size
            plan = replace(self.plan, batch_size=runner.batch_size)
            events = local.run(
                plan, self.planes, self.ranges, runner, out, journal, deviation, changes
            )
            yield from remembering_speed(events, plan, self.speed_key)

    def preview(
        self, position: Mapping[str, int], region: Region, kept: KeptTiles | None = None
    ) -> Generator[Event, None, RestoredRegion]:
        """Restore a region of the planes at one position, to the pixels of `run`; imports torch.

        The position is the index along each of T, C and Z that the image has. Yields `Progress`
        after every batch of tiles. Restored tiles are kept in `kept`.
        """
        recipe = replace(self, settings=replace(self.settings, uncertainty=False))._recipe()
        from napari_swintormer.engine.region import restore_region

        with closing(recipe.make(kept)) as runner:
            return (
                yield from restore_region(
                    self.plan, self.planes, self.ranges, runner, position, region
                )
            )

    def planes_of(self, image: Any, second_view: Any = None) -> Planes:
        """View other array-likes with the same pixels as the planes of this job."""
        assert self.settings.axes is not None
        channels = self.planes.model_channels
        planes = Planes(image, self.settings.axes, channels, second_view, self.planes.meaning)
        return chosen_planes(planes, self.settings.planes)

    def fingerprint(self, name: str, second_name: str | None = None) -> dict[str, Any]:
        """Return what tells one input from another: names, form, and intensities of a sample."""
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

        Only the sample for `ranges` is computed now. `planes` is the same image as a dask array, if
        it is none, and `resources` are those that a block needs of a cluster's worker. The
        deviation is None without uncertainty.
        """
        recipe = self._recipe()
        from napari_swintormer.engine import graph

        return graph.lazy(self.plan, planes or self.planes, self.ranges, recipe, resources)

    def _recipe(self) -> RunnerRecipe:
        import_torch()
        from napari_swintormer.engine.runners import RunnerRecipe

        if self.restorer is not None:
            restorer: TileRestorer | Path = self.restorer
            name = uuid4().hex  # its weights may have changed since it was loaded
        else:
            assert self.model is not None
            restorer, name = self.model.path.absolute(), self.weights_sha256
        chosen = self.settings
        return RunnerRecipe(
            restorer,
            name,
            chosen.device,
            chosen.precision,
            chosen.batch_size,
            tile=(self.planes.n_views * self.planes.channels, *self.plan.grid.seen_shape),
            prior=self._prior_use(),
            scale=chosen.scale,
            n_tiles=self.plan.n_tiles,
        )

    def _prior_use(self) -> PriorUse:
        from napari_swintormer.models.restorer import PriorUse

        chosen = self.settings
        return PriorUse(
            chosen.seed,
            chosen.num_inference_steps,
            chosen.prior,
            chosen.samples or 1,
            chosen.uncertainty,
        )

    def provenance(self, resolved: tuple[str, str] | None = None) -> dict[str, Any]:
        """Return how the result is made, for the metadata of layer and file; imports torch.

        It holds no time, so that equal runs write equal bytes. `resolved` names the device and the
        precision that a cluster takes; None takes those of this computer.
        """
        import_torch()
        from napari_swintormer.engine.devices import resolve_names

        device, precision = resolved or resolve_names(self.settings.device, self.settings.precision)
        settings = dataclasses.asdict(self.settings)
        # the result does not depend on the batch size, nor a plane on the microscope; the model and
        # a blur, which the kind decides about, have entries of their own
        for computed in ("model", "kind", "batch_size", "blur", *STACK_OPTIONS):
            del settings[computed]
        prior = "" if self.restorer is None else self.restorer.prior_sha256
        return {
            **software(),
            "model": self.model_name,
            "weights_sha256": self.weights_sha256,
            **({"prior_sha256": prior} if prior else {}),
            "settings": settings | {"device": device, "precision": precision},
            "versions": versions(),
        }


def software() -> dict[str, str]:
    """Return the entry of the provenance that names this package."""
    return {"software": f"napari-swintormer {__version__}"}


def versions() -> dict[str, str]:
    """Return the versions that a result may depend on; imports torch."""
    import torch

    return {"python": platform.python_version(), "torch": torch.__version__}


def chosen_planes(planes: Planes, chosen: str | None) -> Planes:
    """View some planes of an image, such as ``"Z=2:5"``; None stands for all."""
    if chosen is None:
        return planes
    return planes.part(parse_planes(chosen, planes.axes, planes.data.shape))


def _digest(ranges: Sequence[IntensityRange]) -> str:
    measured = repr([(r.low, r.high, r.saturation) for r in ranges])
    return hashlib.sha256(measured.encode()).hexdigest()[:16]
