"""What a run over a folder is going to do: how many images, how long, and what is left out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from napari_swintormer.errors import FileError, ImageError, OutputError
from napari_swintormer.events import Clock
from napari_swintormer.runs.folder import not_images
from napari_swintormer.tiling.plan import duration_text

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from napari_swintormer.events import Progress
    from napari_swintormer.runs.folder import FolderRun

_NAMED = 3  # files that a sentence names


@dataclass(frozen=True)
class FolderSurvey:
    """What a run over a folder is going to do.

    Attributes
    ----------
    n_images
        Images to deblur.
    seconds
        Estimated time for them; None while the speed is unknown.
    done
        Names of images that have a result already.
    problems
        Why an image cannot be deblurred, by its name.
    no_images
        Names of other files and of subfolders.
    """

    n_images: int
    seconds: float | None
    done: Sequence[str] = ()
    problems: Mapping[str, str] = field(default_factory=dict)
    no_images: Sequence[str] = ()

    def sentences(self) -> list[str]:
        """Say all of it in sentences, first what is done."""
        time = "the time is unknown before the first run"
        if self.seconds is not None:
            time = f"about {duration_text(self.seconds)}"
        told = [f"{_count(self.n_images, 'image')} to deblur, {time}."]
        if self.n_images == 0:
            told = ["There is no image to deblur."]
        if self.done:
            told.append(f"Skipped, because they have a result: {_names(self.done)}.")
        if self.problems:
            told.append(f"Skipped, because they cannot be deblurred: {_count(len(self.problems))}.")
            told += [f"{name}: {why}" for name, why in self.problems.items()]
        if self.no_images:
            told.append(f"Left out, because they are no images: {_names(self.no_images)}.")
        return told


def iter_survey(run: FolderRun) -> Generator[Progress, None, FolderSurvey]:
    """Look at every image of a folder, without reading its pixels; imports no torch.

    Yields `Progress` in images.
    """
    files = run.files()
    done = [image.name for image, out in files if run.has_result(out)]
    clock, problems = Clock(len(files), "images"), dict[str, str]()
    times: list[float | None] = []
    for image, out in files:
        if not run.has_result(out):
            try:
                times.append(run.file_run(image, out).estimate())
            except (FileError, ImageError, OutputError) as error:
                problems[image.name] = str(error)
        yield clock.after(1)
    known = [seconds for seconds in times if seconds is not None]
    seconds = sum(known) if len(known) == len(times) else None
    others = not_images(run.src) if isinstance(run.src, Path) else []
    return FolderSurvey(len(times), seconds, done, problems, others)


def _count(count: int, what: str = "file") -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _names(names: Sequence[str]) -> str:
    """Name the first of some files, and count the others."""
    named, others = ", ".join(names[:_NAMED]), len(names) - _NAMED
    return named if others <= 0 else f"{named} and {others:,} more"
