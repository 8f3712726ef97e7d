"""A run over the images of a folder, which can be stopped and resumed."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_swintormer.errors import FileError, ImageError, OutputError
from napari_swintormer.events import Clock, Notice
from napari_swintormer.imaging.formats.file_sets import whole_images
from napari_swintormer.imaging.formats.registry import RESULT_SUFFIXES
from napari_swintormer.models.catalogue import describe_model
from napari_swintormer.runs.file import FileRun

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from napari_swintormer.events import Event
    from napari_swintormer.settings.deblur_settings import DeblurSettings

_ZARR_FILES = ("zarr.json", ".zgroup", ".zarray")


def is_folder_of_images(path: Path) -> bool:
    """Say whether a path is a folder, and not a Zarr image."""
    return path.is_dir() and not any((path / name).exists() for name in _ZARR_FILES)


@dataclass(frozen=True)
class FolderRun:
    """Deblurs every image of a folder into a file of the same name in another folder.

    Results that exist are kept, and an image that was stopped in the middle is resumed. So the same
    run completes an earlier one.

    Attributes
    ----------
    src, dst
        Folders; `dst` is made if it does not exist. Subfolders of `src` are ignored, except for
        Zarr images.
    settings
        The user's choices, for every image.
    overwrite
        Replace results that exist.
    second_view
        Folder of the second views, with the names of the images, for models of two views.
    """

    src: Path
    dst: Path
    settings: DeblurSettings
    overwrite: bool = False
    second_view: Path | None = None

    def files(self) -> list[tuple[Path, Path]]:
        """List the images, sorted by name, each with the file of its result.

        An OME-TIFF of several files is one image, under the name of its first file.
        """
        if self.dst.resolve() in [p.resolve() for p in (self.src, self.second_view) if p]:
            raise OutputError(
                f"{self.dst} is the folder of the images. Choose another folder for the results."
            )
        try:
            inside = sorted(path for path in self.src.iterdir() if not path.name.startswith("."))
        except OSError as error:
            raise FileError(f"{self.src} cannot be read ({error.strerror}).") from error
        images = [
            path
            for path in inside
            if path.suffix.lower() in RESULT_SUFFIXES and not is_folder_of_images(path)
        ]
        if not images:
            raise FileError(f"{self.src} holds no TIFF, Zarr, NPY, PNG or JPEG image.")
        taken = {path.name for path in images}
        return [(path, self.dst / _result_name(path, taken)) for path in whole_images(images)]

    def describe(self) -> str:
        """Describe the run in one line; imports no torch."""
        files = self.files()
        done = 0 if self.overwrite else sum(out.exists() for _, out in files)
        text = f"{len(files)} image{'s' * (len(files) != 1)} from {self.src} to {self.dst}"
        return f"{text}, {done} of them done already" if done else text

    def events(self) -> Generator[Event, None, None]:
        """Run; after the generator is closed, the same run can be repeated to complete it.

        Yields the events of `FileRun.events` for each image, and `Progress` in images after each.
        At last raises `FileError` with the names of the images that failed, and the reasons.
        """
        card = describe_model(self.settings.model).card  # fails once instead of for every image
        if card is not None:
            card.check_views(1 if self.second_view is None else 2)
        files = self.files()
        yield Notice(self.describe())
        try:
            self.dst.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{self.dst} cannot be made ({error.strerror}).") from error
        there = [out.exists() and not self.overwrite for _, out in files]
        clock = Clock(len(files), "images", sum(there))
        numbers = whole_images([image for image, _ in files])
        failed: list[str] = []
        for number, ((image, out), done) in enumerate(zip(files, there, strict=True), start=1):
            if done:
                continue
            yield Notice(f"{image.name} ({number} of {len(files)})")
            run = FileRun(
                image,
                out,
                self.settings,
                second_view=self.second_view and self.second_view / image.name,
                overwrite=self.overwrite,
                resume=not self.overwrite,
                image=numbers.get(image),
            )
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


def _result_name(image: Path, taken: set[str]) -> str:
    """Name a result; two images that differ in the suffix alone do not share it."""
    suffix = RESULT_SUFFIXES[image.suffix.lower()]
    if suffix == image.suffix.lower():
        return image.name
    name = image.stem + suffix
    return image.name + suffix if name in taken else name
