"""Try several settings on the middle of the view: what they are, and making them in a worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_swintormer.errors import SettingsError, SwintormerError
from napari_swintormer.models.catalogue import ModelInfo
from napari_swintormer.plugin.shared.wiring import attach, show_error
from napari_swintormer.plugin.shared.worker import VariantsWorker
from napari_swintormer.runs.job import Job
from napari_swintormer.settings.deblur_settings import STRENGTHS, DeblurSettings
from napari_swintormer.tiling.grid import Region

if TYPE_CHECKING:
    from napari_swintormer.engine.region import RestoredRegion  # imports torch

SIDE = 128  # pixels of full resolution that are tried, along Y and X
STEPS = (1, 2, 4, 8)

Plan = Callable[[DeblurSettings], Job]


@dataclass(frozen=True)
class Variant:
    """One of the settings that are tried.

    Attributes
    ----------
    label
        For people.
    job
        What makes it; variants of one job are restored once.
    strength
        At which it is shown.
    choice
        Fields of `DeblurForm`, with dots, and their values, which a click takes over.
    """

    label: str
    job: Job
    strength: float
    choice: Mapping[str, Any]


def of_strength(settings: DeblurSettings, plan: Plan) -> list[Variant]:
    """Vary the strength, from the image as it is to the most; takes one restoration."""
    job = plan(settings)
    return [
        Variant("As it is" if value == 0 else f"{value:g}", job, value, {"strength": value})
        for value in STRENGTHS
    ]


def of_models(settings: DeblurSettings, plan: Plan, models: Sequence[ModelInfo]) -> list[Variant]:
    """Vary the model, each with the tiles that suit it; those that cannot be used are left out."""
    variants = []
    for info in models:
        own = replace(
            settings,
            model=info.name,
            tile_size=None,
            overlap=None,
            blend=None,
            num_inference_steps=None,
            samples=None,
            uncertainty=False,
            prior=None,
        )
        try:
            job = plan(own)
        except SwintormerError:
            continue  # the Models widget says why
        variants.append(Variant(info.name, job, settings.strength, {"model": info.name}))
    return variants


def of_steps(settings: DeblurSettings, plan: Plan) -> list[Variant]:
    """Vary the steps in which the prior is sampled, and leave it out; for models that have one."""
    without = replace(settings, prior="off", num_inference_steps=None)
    without = replace(without, samples=None, uncertainty=False)
    strength = settings.strength
    variants = [Variant("No prior", plan(without), strength, {"prior.use_prior": False})]
    for steps in STEPS:
        try:
            job = plan(replace(settings, prior=None, num_inference_steps=steps))
        except SettingsError:
            break  # more than the prior was trained for
        label = f"{steps} step{'s' * (steps != 1)}"
        choice = {"prior.use_prior": True, "prior.steps": steps}
        variants.append(Variant(label, job, strength, choice))
    return variants


def middle(region: Region, side: int = SIDE) -> Region:
    """Give the middle of a region, at most `side` pixels along Y and X."""
    spans = []
    for start, stop in ((region.y0, region.y1), (region.x0, region.x1)):
        if stop - start > side:
            start = (start + stop - side) // 2
            stop = start + side
        spans += [start, stop]
    return Region(*spans)


class Variants(QObject):
    """Makes variants one after the other, each as soon as its job is restored."""

    changed = Signal()
    """Variants are being made, or none."""
    progressed = Signal(object)
    said = Signal(str, bool)
    """Something to tell the user; whether it is an error."""
    made = Signal(int, object)
    """Number of a variant, and its pixels in the axes of the image."""
    ended = Signal()

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._worker: VariantsWorker | None = None
        self._variants: Sequence[Variant] = ()
        self._jobs: list[Job] = []

    @property
    def running(self) -> bool:
        """Whether variants are being made."""
        return self._worker is not None

    def start(
        self, variants: Sequence[Variant], position: Mapping[str, int], region: Region
    ) -> None:
        """Make variants of a region of the planes at a position; at least one.

        Parameters
        ----------
        variants
            Of the same image.
        position, region
            As in `napari_swintormer.plugin.deblur.preview.Preview.start`.
        """
        self._variants = variants
        self._jobs = []
        for variant in variants:
            if not any(variant.job is job for job in self._jobs):
                self._jobs.append(variant.job)
        self._worker = worker = VariantsWorker(self._jobs, position, region)
        worker.progressed.connect(self.progressed)
        worker.made.connect(self._take)
        attach(worker, self, lambda error: show_error(error, self.said.emit), self._reset)
        self.said.emit("", False)
        self.changed.emit()
        worker.start()

    def cancel(self) -> None:
        """Stop after the batch of tiles at hand; what has been made stays."""
        if self._worker is not None:
            self._worker.quit()

    def _take(self, number: int, restored: RestoredRegion) -> None:
        for place, variant in enumerate(self._variants):
            if variant.job is self._jobs[number]:
                self.made.emit(place, restored.finished(variant.strength))

    def _reset(self) -> None:
        if self._worker is None:
            return
        self.destroyed.disconnect(self._worker.quit)
        self._worker = None
        self.changed.emit()
        self.ended.emit()
