"""A run over many images, such as those of a folder, which can be stopped and resumed."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_swintormer.errors import FileError, ImageError, OutputError
from napari_swintormer.events import Clock, ImageBegun, PlanNotice
from napari_swintormer.imaging.formats.boundary import read_errors
from napari_swintormer.imaging.formats.file_sets import whole_images
from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.imaging.formats.registry import RESULT_SUFFIXES, SUFFIXES
from napari_swintormer.models.catalogue import describe_model
from napari_swintormer.optics.blur import as_text
from napari_swintormer.runs.blur_finding import SHARED_WINDOWS, estimated
from napari_swintormer.runs.blur_job import BlurJob
from napari_swintormer.runs.file import FileRun
from napari_swintormer.runs.planning import prepare
from napari_swintormer.runs.result_names import result_names
from napari_swintormer.runs.stack_inputs import file_optics
from napari_swintormer.settings.deblur_settings import (
    AUTOMATIC_MODEL,
    FILTER_MODEL,
    UNKNOWN_BLUR,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from napari_swintormer.events import Event
    from napari_swintormer.optics.plane_blur import FoundBlur
    from napari_swintormer.settings.deblur_settings import DeblurSettings

_ZARR_FILES = ("zarr.json", ".zgroup", ".zarray")


def is_folder_of_images(path: Path) -> bool:
    """Say whether a path is a folder, and not a Zarr image."""
    # unlike the methods of a path, these functions take a name that is too long for a missing one
    return os.path.isdir(path) and not any((path / name).exists() for name in _ZARR_FILES)


def images_in(folder: Path) -> dict[Path, int | None]:
    """List the images of a folder, sorted by name, with their numbers in files of several images.

    An OME-TIFF of several files is one image, under the name of its first file. Subfolders are
    ignored, except for Zarr images. A `FileError` says that there is no image.
    """
    images = [path for path in _inside(folder) if _is_image(path)]
    if not images:
        raise FileError(f"{folder} holds no TIFF, Zarr, NPY, PNG or JPEG image.")
    return whole_images(images)


def not_images(folder: Path) -> list[str]:
    """List the names of files and subfolders that `images_in` ignores."""
    return [path.name for path in _inside(folder) if not _is_image(path)]


def _inside(folder: Path) -> list[Path]:
    with read_errors(folder):
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in RESULT_SUFFIXES and not is_folder_of_images(path)


@dataclass(frozen=True)
class FolderRun:
    """Deblurs every image of a folder, or several files, into files of a folder.

    A result has the name of its image, and a suffix that loses nothing; no two images share one.

    Results that exist are kept, and an image that was stopped in the middle is resumed. So the same
    run completes an earlier one.

    Attributes
    ----------
    src
        Folder of images, or several images and folders. Subfolders are ignored, except for Zarr
        images.
    dst
        Folder of the results; it is made if it does not exist.
    settings
        The user's choices, for every image.
    overwrite
        Replace results that exist.
    second_view
        Folder of the second views, with the names of the images, for models of two views.
    """

    src: Path | tuple[Path, ...]
    dst: Path
    settings: DeblurSettings
    overwrite: bool = False
    second_view: Path | None = None

    def files(self) -> list[tuple[Path, Path]]:
        """List the images, those of a folder sorted by name, each with the file of its result."""
        images = self._images()
        inputs = {path.parent for path in images}
        if self.dst.resolve() in [p.resolve() for p in (*inputs, self.second_view) if p]:
            raise OutputError(
                f"{self.dst} is the folder of the images. Choose another folder for the results."
            )
        if os.path.isfile(self.dst) or (
            self.dst.suffix.lower() in SUFFIXES and not os.path.isdir(self.dst)
        ):
            raise OutputError(
                f"{self.dst} is no folder, and several images are given. Give a folder for their "
                "results."
            )
        names = result_names(list(images), deviations=self.settings.uncertainty)
        return [(path, self.dst / name) for path, name in zip(images, names, strict=True)]

    def _images(self) -> dict[Path, int | None]:
        """List the images with their numbers in files of several images."""
        if isinstance(self.src, Path):
            return images_in(self.src)
        images: dict[Path, int | None] = {}
        named: dict[Path, list[Path]] = {}  # by folder
        for path in dict.fromkeys(self.src):
            if is_folder_of_images(path):
                images |= images_in(path)
            else:
                named.setdefault(path.parent, []).append(path)
        for paths in named.values():
            images |= whole_images(paths)
        return images

    def has_result(self, out: Path) -> bool:
        """Say whether an image is skipped, because the file of its result is there."""
        return out.exists() and not self.overwrite

    def file_run(self, image: Path, out: Path) -> FileRun:
        """Return the run of one image."""
        return FileRun(
            image,
            out,
            self.settings,
            second_view=self.second_view and self.second_view / image.name,
            overwrite=self.overwrite,
            resume=not self.overwrite,
        )

    def _shared_blur(self, files: Sequence[tuple[Path, Path]]) -> FoundBlur:
        """Estimate one blur from the middle windows of a few images, spread over all.

        Images of another kind than the first are left out, and those that cannot be read: their own
        run says why.
        """
        windows: dict[bool, list[NDArray[np.float32]]] = {}  # of photos, of micrographs
        step = max(1, len(files) / SHARED_WINDOWS)
        chosen = [files[int(k * step)] for k in range(min(SHARED_WINDOWS, len(files)))]
        numbers = self._images()
        for path, _ in chosen:
            try:
                with open_image(path, self.settings.axes, numbers.get(path)) as image:
                    settings = replace(self.settings, axes=image.axes)
                    job = prepare(image.data, settings, optics=file_optics(image))
                    if isinstance(job, BlurJob):  # a volume has the PSF of its microscope
                        windows.setdefault(job.photo, []).extend(job.middle_window())
            except (FileError, ImageError):
                continue
        photo, first = next(iter(windows.items()), (False, []))
        return estimated(first, photo=photo)

    def _sharing(self, shared: FoundBlur) -> DeblurSettings:
        """Tell the blur that all images share; a model that finds blur takes an unclear one."""
        settings = self.settings
        named = settings.model not in (None, AUTOMATIC_MODEL, FILTER_MODEL)
        card = describe_model(settings.model).card if named else None
        alone = card is not None and not card.network.known_blur
        if shared.blur.kind != "none":
            model = FILTER_MODEL if alone else settings.model
            return replace(settings, model=model, blur=as_text(shared.blur))
        finds = card.finds_blur if card is not None else settings.model != FILTER_MODEL
        unknown = alone or (shared.unclear and finds)
        return replace(settings, blur=UNKNOWN_BLUR if unknown else "none")

    def describe(self) -> str:
        """Describe the run in one line; imports no torch."""
        files = self.files()
        done = sum(self.has_result(out) for _, out in files)
        origin = f" from {self.src}" if isinstance(self.src, Path) else ""
        text = f"{len(files)} image{'s' * (len(files) != 1)}{origin} to {self.dst}"
        return f"{text}, {done} of them done already" if done else text

    def events(self) -> Generator[Event, None, None]:
        """Run; after the generator is closed, the same run can be repeated to complete it.

        Yields the events of `FileRun.events` for each image, and `Progress` in images after each.
        At last raises `FileError` with the names of the images that failed, and the reasons.
        """
        if self.settings.model != FILTER_MODEL:  # fails once instead of for every image
            card = describe_model(self.settings.model).card
            if card is not None:
                card.check_views(1 if self.second_view is None else 2)
        files = self.files()
        yield PlanNotice(self.describe())
        try:
            self.dst.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{self.dst} cannot be made ({error.strerror}).") from error
        settings = self.settings
        if settings.blur == "auto-shared":
            shared = self._shared_blur(files)
            settings = self._sharing(shared)
            yield PlanNotice(f"All images share one blur. {shared.reason}")
        there = [self.has_result(out) for _, out in files]
        clock = Clock(len(files), "images", sum(there))
        numbers = self._images()
        failed: list[str] = []
        for number, ((image, out), done) in enumerate(zip(files, there, strict=True), start=1):
            if done:
                continue
            message = f"{image.name} ({number} of {len(files)})"
            yield ImageBegun(message, image.name, number, len(files))
            run = replace(self.file_run(image, out), settings=settings, image=numbers.get(image))
            try:
                with closing(run.events()) as events:
                    yield from events
            except (FileError, ImageError, OutputError) as error:
                failed.append(f"{image.name}: {error}")
            yield clock.after(1)
        if failed:
            raise FileError(
                f"{len(failed)} of {len(files)} images could not be deblurred, all others are in "
                f"{self.dst}:\n" + "\n".join(failed)
            )
