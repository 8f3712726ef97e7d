"""A run from file to file, which can be stopped and resumed."""

from __future__ import annotations

import shutil
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

from napari_swintormer.errors import OutputError, SettingsError
from napari_swintormer.events import Notice, PlanNotice, Substitution
from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.imaging.formats.registry import format_of, loss_notice
from napari_swintormer.imaging.formats.writing import (
    Compression,
    black_is_zero,
    check_fits,
    check_output,
)
from napari_swintormer.imaging.hidden_names import hidden_beside
from napari_swintormer.imaging.spans import parse_planes
from napari_swintormer.imaging.store.result import ResultStore
from napari_swintormer.runs.blur_job import BlurJob
from napari_swintormer.runs.planning import prepare
from napari_swintormer.runs.stack_inputs import file_optics
from napari_swintormer.runs.stores import FileStores, check_deviation, file_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from pathlib import Path

    from distributed import Client

    from napari_swintormer.events import Event
    from napari_swintormer.imaging.carried import Carried
    from napari_swintormer.imaging.image import Image
    from napari_swintormer.runs.job import Job
    from napari_swintormer.settings.deblur_settings import DeblurSettings


@dataclass(frozen=True)
class FileRun:
    """Deblurs an image file.

    Attributes
    ----------
    src, dst, second_view
        Files or folders of the image, its result, and the second view of the scene.
    settings
        The user's choices.
    restorer
        Replaces ``settings.model``, or None.
    compression, overwrite, resume, scheduler, image
        Arguments of `napari_swintormer.api.deblur_file`.
    """

    src: Path
    dst: Path
    settings: DeblurSettings
    restorer: Callable[..., Any] | None = None
    second_view: Path | None = None
    compression: Compression | None = None
    overwrite: bool = False
    resume: bool = False
    scheduler: str | None = None
    image: int | None = None

    def describe(self) -> str:
        """Check everything and describe the plan in one line; imports no torch, writes nothing."""
        with self._planned() as (_, job):
            return job.describe()

    def estimate(self) -> float | None:
        """Estimate the seconds of the run; None for an unknown speed. Imports no torch."""
        with self._prepared() as (_, job):
            return job.plan.seconds

    def events(self) -> Generator[Event, None, None]:
        """Run; after the generator is closed, the run can be resumed.

        Yields
        ------
        Event
            A `Notice` with the plan, the events of `napari_swintormer.runs.job.Job.run`, and
            `Progress` in chunks while the result is put in its place.
        """
        with self._planned() as (views, job):
            yield PlanNotice(job.describe())
            image = replace(views[0], data=job.planes.data)
            lost = loss_notice(self.dst, image, self.compression)
            for said in (self._choice(image), *image.left_out, lost):
                if said:
                    yield Notice(said)
            with self._cluster() as client:
                yield from self._restore(views, job, client)

    def _restore(
        self, views: Sequence[Image], job: Job, client: Client | None
    ) -> Generator[Event, None, None]:
        """Fill the stores, and put them in their places."""
        resolved = None
        if client is None:
            job = job.load()
        else:
            from napari_swintormer.engine import cluster

            resolved = cluster.resolve_names(client, job.settings.device, job.precision)
            job = job.measured_by(partial(cluster.call, client))
        job = self._with_stored_blur(job)
        stores = self._open_stores(views[0], job, resolved)
        if stores.damage:
            yield Notice(stores.damage)
        try:
            for event in self._work(views, job, stores, client):
                if isinstance(event, Substitution):
                    stores.note_substitution(event.message)
                yield event
        except BaseException as error:
            stopped = isinstance(error, (GeneratorExit, KeyboardInterrupt))
            volume_under_way = stopped and self._scratch.is_dir()
            if not stores.finished() and not volume_under_way:  # nothing to resume
                stores.discard()
                shutil.rmtree(self._scratch, ignore_errors=True)
            raise
        yield from stores.finishing(
            carried=self._carried(views[0], job),
            compression=self.compression,
            overwrite=self.overwrite,
        )

    @contextmanager
    def _cluster(self) -> Iterator[Client | None]:
        """Connect to the cluster; None without a scheduler."""
        if self.scheduler is None:
            yield None
            return
        from napari_swintormer.engine import cluster

        with cluster.connected(self.scheduler) as client:
            yield client

    def _choice(self, image: Image) -> str | None:
        """Say which one of several images is deblurred, unless it was chosen."""
        if self.image is not None or not image.images:
            return None
        return (
            f"{image.listed()} This run deblurs image {image.number}; choose another with --image."
        )

    @staticmethod
    def _carried(image: Image, job: Job) -> Carried:
        """Give what the result carries: of the chosen planes only."""
        chosen = job.settings.planes
        shape = tuple(image.data.shape)
        spans = {} if chosen is None else parse_planes(chosen, image.axes, shape)
        return image.carried.cut(image.axes, shape, spans)

    @property
    def _scratch(self) -> Path:
        """Folder for intermediate results of a stack."""
        return hidden_beside(self.dst, "stack")

    def _work(
        self, views: Sequence[Image], job: Job, stores: FileStores, client: Client | None
    ) -> Generator[Event, None, None]:
        """Restore the image here, or on a cluster."""
        if client is None:
            yield from job.run(
                stores.array, stores, deviation=stores.deviation, scratch=self._scratch
            )
            shutil.rmtree(self._scratch, ignore_errors=True)
            return
        from napari_swintormer.engine import cluster
        from napari_swintormer.imaging.formats.dask_file import as_dask

        yield from job.notices()
        planes = job.planes_of(*(as_dask(view, job.plan.grid.block_size) for view in views))
        result, deviation = job.lazy(planes, cluster.gpu_resources(client))
        beside = None if deviation is None else (deviation, stores.deviation)
        yield from cluster.run(
            job.plan, planes, result, stores.array, stores, client, beside, job.volume_steps
        )
        shutil.rmtree(self._scratch, ignore_errors=True)  # of an earlier part that ran here

    @contextmanager
    def _planned(self) -> Iterator[tuple[Sequence[Image], Job]]:
        """Open the views and plan the run; refuse a result that cannot be written."""
        for src in filter(None, (self.src, self.second_view)):
            check_output(self.dst, src, self.overwrite)
        self._check_compression()
        with self._prepared() as (views, job):
            check_deviation(self.dst, self.src, job, overwrite=self.overwrite)
            yield views, job

    @contextmanager
    def _prepared(self) -> Iterator[tuple[Sequence[Image], Job]]:
        """Open the views and plan the run, also where its folder does not exist yet."""
        with ExitStack() as opened:
            image = opened.enter_context(open_image(self.src, self.settings.axes, self.image))
            views = [image]
            if self.second_view is not None:
                second = open_image(self.second_view, image.axes, self.image)
                views.append(opened.enter_context(second))
            form = format_of(self.dst)
            if form is not None and not form.holds_white_is_zero:
                views = [black_is_zero(view) for view in views]
            image = views[0]
            settings = replace(self.settings, axes=image.axes)
            second_view = None if self.second_view is None else views[1].data
            optics = file_optics(image)
            meaning = image.carried.meaning
            job = prepare(image.data, settings, self.restorer, second_view, optics, meaning)
            check_fits(self.dst, image.axes, job.planes.data.shape, image.data.dtype)
            yield views, job

    def _check_compression(self) -> None:
        if self.compression is None:
            return
        if self.compression not in get_args(Compression):
            raise SettingsError(
                f"There is no such compression (got compression={self.compression!r}). "
                f"Use one of {', '.join(map(repr, get_args(Compression)))}."
            )
        form = format_of(self.dst)
        if form is None or not form.compressions:
            raise SettingsError(
                f"Only a TIFF takes a compression (got compression={self.compression!r} for "
                f"{self.dst.name}). Leave it out; OME-Zarr is always compressed."
            )

    def _open_stores(self, image: Image, job: Job, resolved: tuple[str, str] | None) -> FileStores:
        if not (self.resume and ResultStore.is_unfinished(self.dst)):
            self._check_space(job)
        second = None if self.second_view is None else self.second_view.name
        fingerprint = job.fingerprint(self.src.name, second)
        if image.number > 1:
            fingerprint["image"] = image.number
        return FileStores(
            self.dst,
            job,
            job.provenance(resolved) | {"input": fingerprint},
            resume=self.resume,
            overwrite=self.overwrite,
            pixel_size=image.pixel_size,
            unit=image.unit,
        )

    def _with_stored_blur(self, job: Job) -> Job:
        """Let a resumed run take the blur that was found when it began."""
        if isinstance(job, BlurJob) and self.resume and ResultStore.is_unfinished(self.dst):
            stored = ResultStore.run_of(self.dst).get("blur")
            return job if stored is None else job.with_found(stored)
        return job

    def _check_space(self, job: Job) -> None:
        """Refuse a run whose result, uncompressed, is larger than the free space."""
        needed = file_bytes(job, self.dst)
        free = shutil.disk_usage(self.dst.absolute().parent).free
        if free < needed:
            raise OutputError(
                f"The disk is too full for {self.dst}: it may take {needed / 1e9:.2g} GB, and "
                f"{free / 1e9:.2g} GB are free. Free some space, or write to another disk."
            )
