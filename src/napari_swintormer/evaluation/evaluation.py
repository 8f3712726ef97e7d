"""The evaluation: every method on every image of every set, one row each, resumable.

What is finished lies in a journal in the folder ``.evaluation`` of the report: a row is made again
only if its images, its method, the protocol or the version of the package are others.
"""

from __future__ import annotations

import csv
import hashlib
import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer import __version__
from napari_swintormer.errors import OutputError, SettingsError
from napari_swintormer.evaluation.data.pair_images import display, most_detailed, open_pair
from napari_swintormer.evaluation.data.protocols import find_protocol
from napari_swintormer.evaluation.methods.methods import BLURRED, ModelMethod, Unchanged
from napari_swintormer.evaluation.metrics.lpips import missing_lpips
from napari_swintormer.evaluation.metrics.scoring import ALWAYS, OPTIONAL, Scale, score
from napari_swintormer.events import Clock, Notice

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    from napari_swintormer.evaluation.data.pair_files import PairFiles
    from napari_swintormer.evaluation.data.pair_images import PairImages
    from napari_swintormer.evaluation.data.protocols import Protocol
    from napari_swintormer.evaluation.methods.methods import Method
    from napari_swintormer.events import Event

JOURNAL = ".evaluation"
SHARP = "sharp"


@dataclass(frozen=True)
class DataSet:
    """A data set and the protocol that it is scored by."""

    protocol: Protocol
    scenes: tuple[PairFiles, ...]


def find_data_set(text: str) -> DataSet:
    """Find a data set named as ``PROTOCOL=PATH``.

    Raises
    ------
    SettingsError
        The text is not of this form, or names no protocol.
    FileError
        The data set is not there, or not complete.
    """
    name, equals, path = text.partition("=")
    if not equals or not path:
        raise SettingsError(
            f"A data set is named as PROTOCOL=PATH (got {text!r}), such as folders=path/to/pairs."
        )
    protocol = find_protocol(name)
    return DataSet(protocol, tuple(protocol.scenes(Path(path).expanduser())))


@dataclass(frozen=True)
class Row:
    """What one method made of one image.

    Attributes
    ----------
    protocol, set, image, split
        Of the scene.
    method
        Its name.
    scores
        By metric; NaN where it does not apply.
    seconds
        That the method took.
    crop, sharp_crop
        Names of PNG files in the journal's folder, without suffix.
    macs_per_pixel
        Multiply-accumulates that a model takes for a pixel of the image; None of other methods.
    """

    protocol: str
    set: str
    image: str
    split: str
    method: str
    scores: dict[str, float]
    seconds: float
    crop: str
    sharp_crop: str
    macs_per_pixel: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """What is compared, and where the report goes.

    Attributes
    ----------
    sources
        Data sets.
    methods
        Beside the blurred images themselves, which are always there.
    folder
        Of the report.
    metrics
        Beyond PSNR, SSIM and MAE; None as each protocol says.
    centre
        Side of the middle that is scored, in pixels; None takes whole images.
    """

    sources: tuple[DataSet, ...]
    methods: tuple[Method, ...]
    folder: Path
    metrics: tuple[str, ...] | None = None
    centre: int | None = None
    rows: list[Row] = field(default_factory=list)

    def events(self, *, resume: bool = False, overwrite: bool = False) -> Generator[Event]:
        """Compute what is not there yet, into `rows`.

        Parameters
        ----------
        resume
            Keep what an earlier evaluation left in the folder.
        overwrite
            Begin anew in a folder that holds one.

        Yields
        ------
        Event
            `Notice` for what cannot be measured here, `Progress` in images times methods.

        Raises
        ------
        OutputError
            The folder holds an evaluation already.
        SwintormerError
            A file or a method cannot be used.
        """
        journal = self._open_journal(resume=resume, overwrite=overwrite)
        left_out = set()
        wanted = any("lpips" in self._wanted(source) for source in self.sources)
        if wanted and (sentence := missing_lpips()):
            left_out.add("lpips")
            yield Notice(sentence)
        known = _read_journal(journal)
        with journal.open("w", encoding="utf-8") as file:  # without a line that was cut off
            file.writelines(_line(row) for row in known.values())
        methods = (Unchanged(), *(m for m in self.methods if m.name != BLURRED))
        clock = Clock(sum(len(source.scenes) for source in self.sources) * len(methods), "images")
        self.rows.clear()
        for source in self.sources:
            metrics = tuple(n for n in self._wanted(source) if n not in left_out)
            for scene in source.scenes:
                work = _PairRows(
                    source.protocol, scene, metrics, self.centre, self.folder / JOURNAL
                )
                for row in work.rows(methods, known):
                    if row is not None:
                        self.rows.append(row)
                        if row.crop not in known:
                            _append(journal, row)
                    yield clock.after(1)

    def _wanted(self, source: DataSet) -> tuple[str, ...]:
        return source.protocol.metrics if self.metrics is None else self.metrics

    def _open_journal(self, *, resume: bool, overwrite: bool) -> Path:
        unknown = [n for n in self.metrics or () if n not in OPTIONAL]
        if unknown:
            raise SettingsError(
                f"There is no metric {unknown[0]!r}. Beside {', '.join(ALWAYS)} use "
                f"{', '.join(OPTIONAL)}."
            )
        journal = self.folder / JOURNAL / "rows.jsonl"
        if journal.exists() and not resume:
            if not overwrite:
                raise OutputError(
                    f"{self.folder} holds an evaluation already. Use --resume to go on with it, "
                    "--overwrite to begin anew, or another folder."
                )
            journal.unlink()
        try:
            (self.folder / JOURNAL).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{self.folder} cannot be made ({error.strerror}).") from error
        return journal


@dataclass(frozen=True)
class _PairRows:
    """All methods on one scene; images are read when the first row is to be made."""

    protocol: Protocol
    scene: PairFiles
    metrics: tuple[str, ...]
    centre: int | None
    folder: Path

    def rows(
        self, methods: Sequence[Method], known: dict[str, Row]
    ) -> Generator[Row | None, None, None]:
        """Yield a row for each method, or None for one that cannot work on these images."""
        keys = [self._key(method) for method in methods]
        if all(key in known for key in keys):
            yield from (known[key] for key in keys)
            return
        with open_pair(self.scene, self.protocol, self.centre) as pictures:
            scale = Scale.of(pictures.sharp, self.protocol)
            place = most_detailed(pictures.sharp)
            self._save_crop(self._key(None), pictures.sharp[place], scale)
            for key, method in zip(keys, methods, strict=True):
                yield known.get(key) or self._row(key, method, pictures, scale, place)

    def _row(
        self,
        key: str,
        method: Method,
        pictures: PairImages,
        scale: Scale,
        place: tuple[slice, slice],
    ) -> Row | None:
        start = time.perf_counter()
        restored = method.restore(pictures)
        seconds = time.perf_counter() - start
        if restored is None:
            return None
        scores = score(self.protocol, restored, pictures.sharp, scale, self.metrics)
        self._save_crop(key, restored[place], scale)
        scene = self.scene
        return Row(
            self.protocol.name,
            scene.set,
            scene.name,
            scene.split,
            method.name,
            scores,
            seconds,
            key,
            self._key(None),
            method.macs_per_pixel(pictures) if isinstance(method, ModelMethod) else None,
        )

    def _save_crop(self, key: str, crop: Any, scale: Scale) -> None:
        from PIL import Image

        picture = Image.fromarray(display(np.asarray(crop), scale.black, scale.span))
        picture.save(self.folder / f"{key}.png")

    def _key(self, method: Method | None) -> str:
        """Name of a row by all that it depends on; of the sharp crop without a method."""
        scene = self.scene
        files = [scene.blurred, scene.sharp, *(scene.views or ()), scene.psf]
        stats = [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files if f is not None]
        what = [__version__, self.protocol.name, scene.name, stats, self.metrics, self.centre]
        what.append(SHARP if method is None else method.identity)
        return hashlib.sha256(repr(what).encode()).hexdigest()[:24]


def _read_journal(journal: Path) -> dict[str, Row]:
    """Rows by their crop; a line that was cut off when a run was killed is made again."""
    known = {}
    if journal.is_file():
        for line in journal.read_text(encoding="utf-8").splitlines():
            try:
                row = Row(**json.loads(line))
            except ValueError:
                continue
            known[row.crop] = row
    return known


def _append(journal: Path, row: Row) -> None:
    with journal.open("a", encoding="utf-8") as file:
        file.write(_line(row))


def _line(row: Row) -> str:
    return json.dumps(asdict(row)) + "\n"


def write_scores(path: Path, rows: Iterable[Row]) -> None:
    """Write a CSV file with one row per image and method; `gain` is the PSNR over the blurred."""
    rows = list(rows)
    names = list(dict.fromkeys(name for row in rows for name in row.scores))
    base = {(r.protocol, r.set, r.image): r.scores["psnr"] for r in rows if r.method == BLURRED}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        head = ["protocol", "set", "image", "split", "method", "psnr", "gain"]
        others = [name for name in names if name != "psnr"]
        writer.writerow([*head, *others, "macs_per_pixel", "seconds"])
        for r in rows:
            psnr = r.scores["psnr"]
            figures = [psnr, psnr - base[r.protocol, r.set, r.image]]
            figures += [r.scores.get(name, float("nan")) for name in others]
            cells = ["" if np.isnan(figure) else f"{figure:.5g}" for figure in figures]
            scene = [r.protocol, r.set, r.image, r.split]
            macs = "" if r.macs_per_pixel is None else f"{r.macs_per_pixel:.0f}"
            writer.writerow([*scene, r.method, *cells, macs, f"{r.seconds:.2f}"])
