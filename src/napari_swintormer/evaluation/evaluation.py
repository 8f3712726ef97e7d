"""Runs every method on every image of every data set, and can resume.

Finished rows are in a journal in the folder ``.evaluation`` of the report. A row is computed again
only if its images, its method, its protocol or the package's version changed.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer import __version__
from napari_swintormer.errors import OutputError, SettingsError
from napari_swintormer.evaluation.data.pair_images import most_detailed, open_pair, to_rgb
from napari_swintormer.evaluation.data.protocols import find_protocol
from napari_swintormer.evaluation.methods.methods import BLURRED, UNCHANGED, ModelMethod
from napari_swintormer.evaluation.methods.told_blur import Restored
from napari_swintormer.evaluation.metrics.lpips import missing_lpips
from napari_swintormer.evaluation.metrics.scoring import ALWAYS, OPTIONAL, Scale, score_pair
from napari_swintormer.evaluation.rows import Row, append_rows, read_rows
from napari_swintormer.events import Clock, Notice
from napari_swintormer.models.catalogue import replacement

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from napari_swintormer.evaluation.data.pair_files import PairFiles
    from napari_swintormer.evaluation.data.pair_images import PairImages
    from napari_swintormer.evaluation.data.protocols import Protocol
    from napari_swintormer.evaluation.methods.methods import Method
    from napari_swintormer.events import Event

JOURNAL_FOLDER = ".evaluation"
_SHARP = "sharp"


@dataclass(frozen=True)
class DataSet:
    """The pairs of a data set and the protocol that scores them."""

    protocol: Protocol
    pairs: tuple[PairFiles, ...]


def find_data_set(text: str) -> DataSet:
    """Find a data set named as ``PROTOCOL=PATH``."""
    name, equals, path = text.partition("=")
    if not equals or not path:
        raise SettingsError(
            f"A data set is named as PROTOCOL=PATH (got {text!r}), such as folders=path/to/pairs."
        )
    protocol = find_protocol(name)
    return DataSet(protocol, tuple(protocol.pairs(Path(path).expanduser())))


@dataclass(frozen=True)
class Evaluation:
    """Compares methods, and the blurred images themselves, on data sets."""

    data_sets: tuple[DataSet, ...]
    methods: tuple[Method, ...]
    folder: Path  # of the report
    metrics: tuple[str, ...] | None = None  # beyond PSNR, SSIM and MAE; None asks the protocols
    centre: int | None = None  # side in pixels of the scored middle; None scores whole images
    rows: list[Row] = field(default_factory=list)  # the results of `events`

    def events(self, *, resume: bool = False, overwrite: bool = False) -> Generator[Event]:
        """Fill `rows`, and yield the progress in images times methods.

        With `resume`, rows that an earlier evaluation left in the folder are not computed again.
        With `overwrite`, the evaluation starts again in a folder that holds one. A `Notice` tells
        of a metric that is not available here.
        """
        journal = self._open_journal(resume=resume, overwrite=overwrite)
        left_out = set()
        wanted = any("lpips" in self._metrics_of(data_set) for data_set in self.data_sets)
        if wanted and (sentence := missing_lpips()):
            left_out.add("lpips")
            yield Notice(sentence)
        for method in self.methods:
            model = method.settings.model if isinstance(method, ModelMethod) else None
            if sentence := replacement(model):
                yield Notice(sentence)
        known = read_rows(journal)
        journal.unlink(missing_ok=True)  # an incomplete last line goes
        append_rows(journal, known.values())
        methods = (UNCHANGED, *(m for m in self.methods if m.name != BLURRED))
        clock = Clock(sum(len(data.pairs) for data in self.data_sets) * len(methods), "images")
        self.rows.clear()
        for data_set in self.data_sets:
            metrics = tuple(n for n in self._metrics_of(data_set) if n not in left_out)
            for files in data_set.pairs:
                pair = _PairRows(data_set.protocol, files, metrics, self.centre, journal.parent)
                for row in pair.rows(methods, known):
                    if row is not None:
                        self.rows.append(row)
                        if row.crop not in known:
                            append_rows(journal, [row])
                    yield clock.after(1)

    def _metrics_of(self, data_set: DataSet) -> tuple[str, ...]:
        return data_set.protocol.metrics if self.metrics is None else self.metrics

    def _open_journal(self, *, resume: bool, overwrite: bool) -> Path:
        unknown = [n for n in self.metrics or () if n not in OPTIONAL]
        if unknown:
            raise SettingsError(
                f"There is no metric {unknown[0]!r}. Beside {', '.join(ALWAYS)} use "
                f"{', '.join(OPTIONAL)}."
            )
        journal = self.folder / JOURNAL_FOLDER / "rows.jsonl"
        if journal.exists() and not resume:
            if not overwrite:
                raise OutputError(
                    f"{self.folder} already holds an evaluation. Use --resume to continue it, "
                    "--overwrite to start again, or another folder."
                )
            journal.unlink()
        try:
            journal.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{self.folder} cannot be made ({error.strerror}).") from error
        return journal


@dataclass(frozen=True)
class _PairRows:
    """All methods on one pair; images are opened when a row has to be computed."""

    protocol: Protocol
    files: PairFiles
    metrics: tuple[str, ...]
    centre: int | None
    folder: Path

    def rows(
        self, methods: Sequence[Method], known: dict[str, Row]
    ) -> Generator[Row | None, None, None]:
        """Yield a row for each method; None for a method that cannot work on these images."""
        keys = [self._key(method) for method in methods]
        if all(key in known for key in keys):
            yield from (known[key] for key in keys)
            return
        with open_pair(self.files, self.protocol, self.centre) as pair:
            scale = Scale.of(pair.sharp, self.protocol)
            region = most_detailed(pair.sharp, pair.axes)
            self._save_crop(self._key(None), pair.sharp[region], scale)
            for key, method in zip(keys, methods, strict=True):
                yield known.get(key) or self._row(key, method, pair, scale, region)

    def _row(
        self,
        key: str,
        method: Method,
        pair: PairImages,
        scale: Scale,
        region: tuple[int | slice, ...],
    ) -> Row | None:
        start = time.perf_counter()
        restored = method.restore(pair)
        seconds = time.perf_counter() - start
        if restored is None:
            return None
        found: dict[str, float] = {}
        if isinstance(restored, Restored):
            restored, found = restored
        scores = score_pair(pair, restored, scale, self.metrics) | found
        self._save_crop(key, restored[region], scale)
        macs = method.macs_per_pixel(pair) if isinstance(method, ModelMethod) else None
        image = self.protocol.name, self.files.set, self.files.name, self.files.split
        return Row(*image, method.name, scores, seconds, key, self._key(None), macs)

    def _save_crop(self, key: str, crop: Any, scale: Scale) -> None:
        from PIL import Image

        picture = Image.fromarray(to_rgb(np.asarray(crop), scale.black, scale.span))
        picture.save(self.folder / f"{key}.png")

    def _key(self, method: Method | None) -> str:
        """Hash everything that a row depends on; without a method, for the sharp crop."""
        pair = self.files
        files = [pair.blurred, pair.sharp, *(pair.views or ()), pair.psf]
        stats = [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files if f is not None]
        what: list[object] = [__version__, self.protocol.name, pair.name, stats, self.metrics]
        what += [self.centre, pair.optics, pair.planes]
        what.append(_SHARP if method is None else method.identity)
        return hashlib.sha256(repr(what).encode()).hexdigest()[:24]
