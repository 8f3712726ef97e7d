"""Settings to compare on the middle of the view, and their results."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from napari_swintormer.engine.kept_tiles import KeptTiles
from napari_swintormer.errors import SettingsError, SwintormerError
from napari_swintormer.events import Event
from napari_swintormer.models.catalogue import ModelInfo
from napari_swintormer.plugin.deblur.preview import iter_preview
from napari_swintormer.plugin.layers.visible_region import InView
from napari_swintormer.runs.job import Job
from napari_swintormer.settings.deblur_settings import FILTER_MODEL, STRENGTHS, DeblurSettings
from napari_swintormer.tiling.grid import Region

SIDE = 240
"""Longest side of the region that is tried, in pixels of full resolution."""
STEPS = (1, 2, 4, 8)

if TYPE_CHECKING:
    from napari_swintormer.engine.region import RestoredRegion  # imports torch

PlanJob = Callable[[DeblurSettings], Job]


# replaced where a variant does not use the prior of the form
_NO_PRIOR: dict[str, Any] = {"num_inference_steps": None, "samples": None, "uncertainty": False}


@dataclass(frozen=True)
class Made:
    """The result of a variant.

    Attributes
    ----------
    number
        Number of the variant.
    pixels
        In the axes of the image; T, C and Z have the size 1.
    restored, job
        What a preview shows at any strength, and the job with what it has measured.
    """

    number: int
    pixels: NDArray[Any] = field(repr=False)
    restored: RestoredRegion = field(repr=False)
    job: Job = field(repr=False)


@dataclass(frozen=True)
class Variant:
    """One of several settings that the user compares; variants may share a job."""

    label: str
    job: Job
    strength: float
    choice: Mapping[str, Any]  # values for fields of `DeblurForm`, such as ``{"samples": 4}``


def of_strength(settings: DeblurSettings, plan: PlanJob) -> list[Variant]:
    """Vary the strength, from 0 to the maximum; this takes one restoration."""
    job = plan(settings)
    return [
        Variant("As it is" if value == 0 else f"{value:g}", job, value, {"strength": value})
        for value in STRENGTHS
    ]


def of_models(
    settings: DeblurSettings, plan: PlanJob, models: Sequence[ModelInfo]
) -> list[Variant]:
    """Vary the model, each with its own tiles and prior; leave out models that do not fit.

    No model fits a told blur that only a filter undoes; the reason is raised.
    """
    own = replace(settings, tile_size=None, overlap=None, blend=None, prior=None, **_NO_PRIOR)
    variants, refused = [], None
    for name in (*(info.name for info in models), FILTER_MODEL):
        try:
            job = plan(replace(own, model=name))
        except SwintormerError as error:
            refused = error  # the Models widget shows the reason
            continue
        variants.append(Variant(name, job, settings.strength, {"model": name}))
    if refused is not None and settings.blur is not None and not variants:
        raise refused
    return [*_as_it_is(variants), *variants]


def of_steps(settings: DeblurSettings, plan: PlanJob) -> list[Variant]:
    """Vary the steps of the prior, from none; the model must have a prior."""
    job = plan(replace(settings, prior="off", **_NO_PRIOR))
    variants = [Variant("No prior", job, settings.strength, {"use_prior": False})]
    for steps in STEPS:
        try:
            job = plan(replace(settings, prior=None, num_inference_steps=steps))
        except SettingsError:
            break  # more steps than the training of the prior had
        label = f"{steps} step{'s' * (steps != 1)}"
        choice = {"use_prior": True, "num_inference_steps": steps}
        variants.append(Variant(label, job, settings.strength, choice))
    return [*_as_it_is(variants), *variants]


def _as_it_is(variants: Sequence[Variant]) -> list[Variant]:
    """Return the image itself, to judge the variants by; it shares the job of the first one."""
    return [Variant("As it is", variant.job, 0.0, {}) for variant in variants[:1]]


def middle(region: Region) -> Region:
    """Return the middle of a region, at most `SIDE` pixels along Y and X."""
    spans = []
    for start, stop in ((region.y0, region.y1), (region.x0, region.x1)):
        if stop - start > SIDE:
            start = (start + stop - SIDE) // 2
            stop = start + SIDE
        spans += [start, stop]
    return Region(*spans)


def iter_variants(
    variants: Sequence[Variant], view: InView, kept: KeptTiles
) -> Generator[Event | Made, None, None]:
    """Restore a view once for each job; yield the result of a variant as soon as it exists.

    Restored tiles are kept in `kept`, for the run.
    """
    for planned in {id(variant.job): variant.job for variant in variants}.values():
        job, restored = yield from iter_preview(planned, view, kept)
        for number, variant in enumerate(variants):
            if variant.job is planned:
                yield Made(number, restored.at_strength(variant.strength), restored, job)
