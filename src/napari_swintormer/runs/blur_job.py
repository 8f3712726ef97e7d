"""A planned run that undoes a known blur, told by the user or measured on the image."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from napari_swintormer.errors import SettingsError
from napari_swintormer.events import Notice, PlanNotice
from napari_swintormer.imaging.intensity import IntensityConvention, measure_ranges
from napari_swintormer.openmp import import_torch
from napari_swintormer.optics.blur import Blur, as_text
from napari_swintormer.optics.estimation.image_field import looks_like_photo
from napari_swintormer.optics.plane_blur import FoundBlur
from napari_swintormer.runs.blur_finding import (
    doubted,
    find_blurs,
    measure_powers,
    measured_planes,
    plane_blurs,
    read_shown_windows,
    read_unit_windows,
)
from napari_swintormer.runs.job import Job
from napari_swintormer.settings.deblur_settings import UNKNOWN_BLUR

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from napari_swintormer.engine.kept_tiles import KeptTiles
    from napari_swintormer.engine.region import RestoredRegion
    from napari_swintormer.engine.runners import RunnerRecipe
    from napari_swintormer.events import Event
    from napari_swintormer.imaging.intensity import IntensityRange
    from napari_swintormer.models.files.card import ModelCard
    from napari_swintormer.optics.plane_blur import PlaneBlur
    from napari_swintormer.optics.plane_power import PowerOfPlane
    from napari_swintormer.runs.blur_finding import Wish
    from napari_swintormer.tiling.grid import Region

METHOD = "filter for a known blur"
WHOLE = IntensityConvention(low=0, high=100)


@dataclass(frozen=True)
class BlurJob(Job):
    """A planned run that filters each plane with its blur.

    Attributes
    ----------
    wish
        The blur that the user told, or how it is estimated.
    told_photo
        Whether intensities follow the curve of a camera; None looks at the image.
    found
        Blurs by plane that an earlier part of the run found; None measures them.
    powers
        Noise and detail by plane, if they are measured already.
    """

    wish: Wish = "auto"
    told_photo: bool | None = False
    found: Mapping[int, FoundBlur] | None = None
    powers: Mapping[int, PowerOfPlane] | None = None

    @property
    def model_name(self) -> str:
        """Name of the method or the model, for people."""
        return METHOD if self._without_model else super().model_name

    @property
    def short_name(self) -> str:
        """Name of the model or the filter in the name of a result."""
        return "filter" if self._without_model else self.model_name

    @cached_property
    def weights_sha256(self) -> str:
        """SHA-256 of the weights file; empty without a model."""
        return "" if self._without_model else super().weights_sha256

    @property
    def speed_name(self) -> str:
        """Name under which the speed is remembered."""
        return speed_name(self.weights_sha256)

    @property
    def _without_model(self) -> bool:
        return self.model is None and self.restorer is None

    @property
    def _card(self) -> ModelCard | None:
        if self.restorer is not None:
            return self.restorer.card
        return None if self.model is None else self.model.card

    @property
    def _continues(self) -> bool:
        """Whether a network continues from the filter."""
        return self._card is not None and self._card.network.known_blur

    @property
    def _finds(self) -> bool:
        """Whether the network behind the filter finds an unclear blur by itself."""
        return self._continues and self._card is not None and self._card.finds_blur

    @property
    def _by_place(self) -> bool:
        """Whether a network restores each place of a plane whose blur changes."""
        return self._card is not None and (not self._continues or self._card.network.unclear)

    @cached_property
    def photo(self) -> bool:
        """Whether intensities follow the curve of a camera."""
        if self.told_photo is not None:
            return self.told_photo
        return looks_like_photo(read_shown_windows(self.planes.whole))

    def _measure_ranges(self) -> list[IntensityRange]:
        return self._scaled(super()._measure_ranges())

    @cached_property
    def _all_ranges(self) -> list[IntensityRange]:
        """Intensity range of every plane of the whole image."""
        whole = self.planes.whole
        if len(whole) == len(self.planes):
            return self.ranges
        return self._scaled(measure_ranges(whole, self.convention))

    def _scaled(self, ranges: list[IntensityRange]) -> list[IntensityRange]:
        """Let the ranges of photos begin at black: light follows from the distance to it."""
        filters = self._without_model or self._continues
        if not (self.photo and filters and self.planes.dtype.kind == "u"):
            return ranges
        return [replace(r, low=0.0, high=r.ceiling) if r.gain else r for r in ranges]

    @cached_property
    def found_blurs(self) -> Mapping[int, FoundBlur]:
        """Blur by plane, for the planes that are measured; told, stored or estimated once."""
        if self.found is not None:
            return self.found
        return find_blurs(self.planes.whole, self._all_ranges, self.wish, photo=self.photo)

    @cached_property
    def measured_powers(self) -> Mapping[int, PowerOfPlane]:
        """Noise and detail by plane, for the planes that are measured."""
        if self.powers is not None:
            return self.powers
        return measure_powers(self.planes.whole, self._all_ranges, photo=self.photo)

    @cached_property
    def blurs(self) -> dict[int, PlaneBlur]:
        """What the filter of every plane needs, by the number in the whole image."""
        ranges = self._all_ranges
        with ThreadPoolExecutor(1, thread_name_prefix="swintormer-powers") as beside:
            powers = beside.submit(lambda: self.measured_powers)
            return plane_blurs(self.planes.whole, ranges, self.found_blurs, powers.result())

    def middle_window(self) -> list[NDArray[np.float32]]:
        """Read the middle window of the first plane, in unit intensities, for a shared blur."""
        first = self.planes.numbers[0]
        return read_unit_windows(
            self.planes.whole, first, self._all_ranges[first], only_middle=True
        )

    def with_blur(self, blur: Blur) -> BlurJob:
        """Return this job with another blur; what is measured on the image is kept."""
        return replace(
            self,
            wish=blur,
            found=None,
            powers=self.measured_powers,
            told_photo=self.photo,
            given_ranges=self.ranges,
            settings=replace(self.settings, blur=as_text(blur)),
        )

    def measured_at(self, position: Mapping[str, int]) -> BlurJob:
        """Return this job with what the planes at a position need, and without the other planes."""
        whole = self.planes.whole
        nearest = measured_planes(whole)
        needed = {nearest[self.planes.numbers[n]] for n in self.planes.numbers_at(position)}
        found = {n: blur for n, blur in (self.found or {}).items() if n in needed}
        powers = dict(self.powers or {})
        if new := needed - found.keys():
            found |= find_blurs(whole, self._all_ranges, self.wish, photo=self.photo, only=new)
        if new := needed - powers.keys():
            powers |= measure_powers(whole, self._all_ranges, photo=self.photo, only=new)
        return replace(
            self, found=found, powers=powers, given_ranges=self.ranges, told_photo=self.photo
        )

    def found_at(self, position: Mapping[str, int]) -> FoundBlur | None:
        """Return the blur of the first plane at a position; None if it is not measured yet."""
        number = self.planes.numbers[self.planes.numbers_at(position).start]
        return (self.found or {}).get(measured_planes(self.planes.whole)[number])

    def ready_at(self, position: Mapping[str, int]) -> BlurJob:
        """Return this job with what a preview needs, and its model: the next one keeps that too."""
        return self.measured_at(position).load()

    def keeping(self, earlier: Job | None) -> BlurJob:
        """Return this job with what an earlier one has measured on the same image."""
        if not isinstance(earlier, BlurJob) or not self._measures_as(earlier):
            return self
        found = earlier.found if earlier.wish == self.wish else None
        loaded = earlier.restorer
        if loaded is not None and loaded.sha256 != self.weights_sha256:
            loaded = None
        return replace(
            self,
            found=found,
            powers=earlier.powers,
            told_photo=earlier.photo,
            given_ranges=earlier.ranges,
            restorer=self.restorer or loaded,
        )

    def _measures_as(self, earlier: BlurJob) -> bool:
        """Tell whether another job measures the same on the same image, but for the blur."""
        planes, other = self.planes, earlier.planes
        return (
            planes.whole.data is other.whole.data
            and planes.numbers == other.numbers
            and replace(self.settings, blur=None) == replace(earlier.settings, blur=None)
            and (self.model, self.convention) == (earlier.model, earlier.convention)
        )

    def preview(
        self, position: Mapping[str, int], region: Region, kept: KeptTiles | None = None
    ) -> Generator[Event, None, RestoredRegion]:
        """Restore a region; see `Job.preview`. Only what it needs is measured."""
        measured = self.measured_at(position)
        return (yield from super(BlurJob, measured).preview(position, region, kept))

    def with_found(self, stored: Mapping[str, Any]) -> BlurJob:
        """Return this job with the blurs that the provenance of its first part holds."""
        found = {int(n): FoundBlur.from_json(values) for n, values in stored["found"].items()}
        return replace(self, found=found)

    def notices(self) -> list[Notice]:
        """Say in a sentence for each kind of plane what was found, and what follows."""
        if self.wish == UNKNOWN_BLUR:
            return [*super().notices(), *self._equal_samples()]  # the plan says the rest
        if isinstance(self.wish, Blur):
            return [*super().notices(), *self._doubts(self.wish)]
        counts = Counter(blur.found for blur in self.blurs.values())
        said = super().notices()
        for found, count in counts.items():
            planes = f"{count} of {len(self.blurs)} planes: " if len(counts) > 1 else ""
            if found.blur.kind == "none":
                said.append(Notice(f"{planes}{found.reason} {self._without_blur(found)}"))
            elif found.field is not None and self._by_place:
                follows = f"The model {self.model_name} restores it where it is blurred."
                said.append(PlanNotice(f"{planes}{found.reason} {follows}"))
            else:
                said.append(PlanNotice(f"{planes}{found.reason}"))
        unclear = any(found.unclear or found.field is not None for found in counts)
        return [*said, *self._equal_samples()] if unclear else said

    def _equal_samples(self) -> list[Notice]:
        """Say that a network for unclear blur has no prior, to a user who asks for samples."""
        card, several = self._card, (self.settings.samples or 1) > 1 or self.settings.uncertainty
        if card is None or not card.network.unclear or not several:
            return []
        return [
            Notice(
                "Where the blur is unclear no prior is sampled: the samples are equal there, and "
                "the uncertainty is zero. Tell the blur to get samples."
            )
        ]

    def _doubts(self, told: Blur) -> list[Notice]:
        """Say that the image shows another size than a told defocus; one plane stands for all."""
        if told.family != "defocus":
            return []
        measured = sorted(set(measured_planes(self.planes.whole).values()))
        middle = measured[len(measured) // 2]
        windows = read_unit_windows(self.planes.whole, middle, self._all_ranges[middle])
        doubt = doubted(windows, told, photo=self.photo)
        return [] if doubt is None else [Notice(doubt)]

    def _without_blur(self, found: FoundBlur) -> str:
        """Say what happens to planes without a known blur."""
        if found.unclear and self._finds:
            return f"The model {self.model_name} restores it place by place."
        if self._without_model or self._continues:
            return "The image stays as it is."
        return f"The model {self.model_name} restores it."

    def describe(self) -> str:
        """Describe the plan in one line."""
        told = self.wish.sentence() if isinstance(self.wish, Blur) else "blur found on the image"
        if self.wish == UNKNOWN_BLUR:
            told = "blur unknown"
        begin = METHOD if self._without_model else f"{METHOD} and model {self.model_name}"
        device = self.settings.device
        plan = self.plan.describe("the fastest device" if device == "auto" else device)
        return f"{begin}, {told}, {plan}"

    def load(self) -> BlurJob:
        """Load the model, if there is one; imports torch."""
        if self._without_model:
            return self
        loaded = super().load()
        assert isinstance(loaded, BlurJob)
        return loaded

    def _recipe(self) -> RunnerRecipe:
        import_torch()
        from napari_swintormer.engine.runners import RunnerRecipe
        from napari_swintormer.models.blur_filter import KnownBlurRestorer

        inner = None if self._without_model else super().load().restorer
        behind: Restorer | None = None
        otherwise = inner
        if self._continues:
            from napari_swintormer.models.restorer import Restorer

            assert isinstance(inner, Restorer)
            behind, otherwise = inner, None
        restorer = KnownBlurRestorer(
            self.blurs,
            self.planes.shape,
            self.planes.channels if inner is None else self.planes.model_channels,
            behind,
            otherwise,
        )
        base = self.settings
        return RunnerRecipe(
            restorer,
            uuid4().hex,
            base.device,
            base.precision,
            base.batch_size,
            tile=(self.planes.channels, *self.plan.grid.seen_shape),
            prior=self._prior_use(),
            n_tiles=self.plan.n_tiles,
            kept_as=self.speed_name,
        )

    def provenance(self, resolved: tuple[str, str] | None = None) -> dict[str, Any]:
        """Return how the result is made, with the blur that was told and found; imports torch."""
        told = self.wish if self.settings.blur is None else self.settings.blur
        found = {str(number): blur.to_json() for number, blur in self.found_blurs.items()}
        blur = {
            "told": "" if self.settings.psf else as_text(told),
            "found": found,
            "photo": self.photo,
        }
        return super().provenance(resolved) | {"blur": blur}


def speed_name(sha256: str) -> str:
    """Name the speed of a filter for a known blur with a model behind it."""
    return f"{sha256} after a known blur"


def check_known(settings: Any, n_views: int) -> None:
    """Refuse options that a known blur does not go together with."""
    if n_views != 1:
        raise SettingsError(
            "A known blur is undone in one view of a scene (got a second view). Leave second_view "
            "or blur out."
        )
    if settings.scale != 1:
        raise SettingsError(
            f"A known blur is undone at full size, however wide it is (got scale={settings.scale})."
            " Leave scale out."
        )
