"""The pair check: what is wrong with a pair is found and named before anything learns from it."""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.errors import TrainingError
from napari_swintormer.imaging.sample import identify
from napari_swintormer.training.data.comparison import Comparison, compare
from napari_swintormer.training.data.findings import (
    Finding,
    annotation_findings,
    compare_sizes,
    compared_regions,
    content_findings,
    draw_thumbnail,
    relation_findings,
)
from napari_swintormer.training.data.listing import list_dual_pixel, list_pairs
from napari_swintormer.training.data.pairs import are_arrays, array_pairs, plane_pairs
from napari_swintormer.training.data.sources import open_planes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from napari_swintormer.imaging.planes import Planes
    from napari_swintormer.training.data.pairs import ImagePair, PlanePair

_VIEWS = {1: ("blurred image",), 2: ("right view", "left view")}


@dataclass(frozen=True)
class PairReport:
    """What the check found about one pair of planes.

    Attributes
    ----------
    name
        Of the blurred image, and the number of the plane in a stack.
    findings
        Worst first; empty for a good pair.
    comparison
        What was measured, or None if the images could not be compared.
    usable
        What training uses of the pair, or None if the pair is bad.
    thumbnail
        ``(Y, X)`` uint8, the middle of the blurred image beside that of the sharp one; None if
        there is nothing to be seen.
    """

    name: str
    findings: tuple[Finding, ...] = ()
    comparison: Comparison | None = None
    usable: PlanePair | None = field(default=None, repr=False)
    thumbnail: NDArray[np.uint8] | None = field(default=None, repr=False, compare=False)

    @property
    def bad(self) -> bool:
        """Whether the pair must not be trained on."""
        return any(finding.bad for finding in self.findings)

    @property
    def figures(self) -> tuple[str, str, str]:
        """Shift in pixels, gain and strength of the details, to be shown; empty if unknown."""
        if self.comparison is None:
            return "", "", ""
        (dy, dx), found = self.comparison.shift, self.comparison
        return f"{dy:+.1f}, {dx:+.1f}", f"{found.gain:.2f}", f"{found.detail:.2f}"


def check_pairs(
    blurred: Any = None,
    sharp: Any = None,
    *,
    dual_pixel: str | Path | None = None,
    annotations: Any = None,
    axes: str | None = None,
    channels: int = 3,
    register: bool = False,
    match_intensity: bool = False,
) -> list[PairReport]:
    """Find what is wrong with pairs, before `train` learns from them.

    Parameters
    ----------
    blurred, sharp, dual_pixel, annotations, axes
        Folders, arrays or lists of arrays, as in `napari_swintormer.train`.
    channels
        Channels of the network: 3 keeps the colours of RGB images together.
    register, match_intensity
        What `train` will be told; it then puts right what would else be bad.

    Returns
    -------
    list[PairReport]
        One per pair of planes, and one per image that has no partner or cannot be read.

    Raises
    ------
    TrainingError
        A folder is missing or empty.

    Examples
    --------
    >>> from napari_swintormer import check_pairs
    >>> for report in check_pairs("blurred", "sharp"):  # doctest: +SKIP
    ...     print(report.name, *(finding.message for finding in report.findings))
    """
    masks = None if annotations is None or are_arrays(annotations) else Path(annotations)
    if dual_pixel is not None:
        pairs, unmatched = list_dual_pixel(Path(dual_pixel), masks)
    elif are_arrays(sharp):
        pairs, unmatched = array_pairs(blurred, sharp, annotations, axes), list[str]()
    elif blurred is None or sharp is None:
        raise TrainingError("The check needs a folder of blurred and one of sharp images.")
    else:
        pairs, unmatched = list_pairs([Path(sharp)], Path(blurred), masks)
    return list(
        iter_reports(
            pairs, unmatched, channels=channels, register=register, match_intensity=match_intensity
        )
    )


def iter_reports(
    pairs: Sequence[ImagePair],
    unmatched: Sequence[str] = (),
    *,
    channels: int = 3,
    register: bool = False,
    match_intensity: bool = False,
) -> Iterator[PairReport]:
    """Check pairs as `check_pairs` does, one plane after the other; of large images a sample.

    Parameters
    ----------
    pairs
        Pairs with a blurred image, of `napari_swintormer.training.data.pairs`.
    unmatched
        Sentences about images without a partner, each a report of its own.
    channels, register, match_intensity
        As in `check_pairs`.
    """
    for sentence in unmatched:
        name = Path(sentence.partition(" has ")[0]).name
        yield PairReport(name, (Finding("unmatched", sentence),))
    seen = _Seen()
    for pair in pairs:
        assert pair.blurred is not None
        try:
            with ExitStack() as stack:
                sharp, *views = (
                    stack.enter_context(open_planes(source, channels))
                    for source in (pair.sharp, pair.blurred, pair.second)
                    if source is not None
                )
                problem = compare_sizes(pair, views, sharp)
                if problem is not None:
                    yield PairReport(pair.name, (problem,))
                    continue
                duplicate = seen.add(pair, views[0], sharp)
                for scene in plane_pairs(pair, sharp):
                    report = _check_plane(
                        scene, views, sharp, register=register, match=match_intensity
                    )
                    yield seen.mark(report, duplicate)
        except TrainingError as error:
            yield PairReport(pair.name, (Finding("unreadable", str(error)),))


def refuse_bad(reports: Sequence[PairReport]) -> None:
    """Name the first bad pair and the number of all.

    Raises
    ------
    TrainingError
        There is one.
    """
    bad = [report for report in reports if report.bad]
    if bad:
        message = bad[0].findings[0].message
        raise TrainingError(
            f"{len(bad)} of {len(reports)} pairs cannot be trained on; the first: {message} "
            "Check the pairs to see all of them, or skip bad pairs."
        )


class _Seen:
    """Knows the pairs before, to find duplicates and to keep pairs of one sharp image together."""

    def __init__(self) -> None:
        self._pairs: dict[tuple[str, str], str] = {}
        self._sources: dict[str, str] = {}
        self._last = ""

    def add(self, pair: ImagePair, blurred: Planes, sharp: Planes) -> Finding | None:
        ids = identify(blurred), identify(sharp)
        self._last = ids[1]
        if ids in self._pairs:
            return Finding(
                "duplicate",
                f"{pair.name} is the same pair as {self._pairs[ids]}; it counts twice.",
                bad=False,
            )
        self._pairs[ids] = pair.name
        return None

    def mark(self, report: PairReport, duplicate: Finding | None) -> PairReport:
        scene = report.usable
        if scene is not None:
            # one sharp image for several blurred ones: never in both halves of the data
            scene = dataclasses.replace(
                scene, source=self._sources.setdefault(self._last, scene.source)
            )
        findings = report.findings if duplicate is None else (*report.findings, duplicate)
        return dataclasses.replace(report, usable=scene, findings=findings)


def _check_plane(
    scene: PlanePair, views: Sequence[Planes], sharp: Planes, *, register: bool, match: bool
) -> PairReport:
    assert scene.blurred is not None
    blurred = views[0]
    name = scene.blurred.name
    if len(blurred) > 1:
        name += f", plane {scene.plane}"
    findings = [
        *annotation_findings(scene, len(sharp)),
        *(
            finding
            for view, words in zip(views, _VIEWS[len(views)], strict=True)
            for finding in content_findings(f"{name}: the {words}", view, scene.plane)
        ),
        *content_findings(f"{name}: the sharp image", sharp, scene.plane),
    ]
    comparison = thumbnail = None
    if not any(finding.bad for finding in findings):
        regions = compared_regions(sharp.shape)
        # of two views their mean, in which nothing lies to one side
        samples = [
            [_mean_of(planes, scene.plane, y, x) for y, x in regions] for planes in (views, [sharp])
        ]
        thumbnail = draw_thumbnail(*(half[len(half) // 2] for half in samples))
        if all(np.array_equal(b, s) for b, s in zip(*samples, strict=True)):
            message = f"{name}: the blurred and the sharp image are the same; give the other one."
            findings.append(Finding("identical", message))
        elif not (
            kept := [(b, s) for b, s in zip(*samples, strict=True) if np.ptp(b) and np.ptp(s)]
        ):
            message = f"{name}: where one image shows something the other is constant."
            findings.append(Finding("unrelated", message))
        elif min(sharp.shape) >= 16:
            comparison = compare([b for b, _ in kept], [s for _, s in kept])
            findings += relation_findings(name, comparison, blurred, sharp, register, match)
            scene = _adapted(scene, comparison, register, match)
    findings.sort(key=lambda finding: not finding.bad)
    bad = any(finding.bad for finding in findings)
    return PairReport(name, tuple(findings), comparison, None if bad else scene, thumbnail)


def _adapted(scene: PlanePair, found: Comparison, register: bool, match: bool) -> PlanePair:
    """Tell a scene what registration and intensity matching found."""
    if register and np.hypot(*found.shift) > 0:
        y, x = (
            (max(0, -_floor(d)), min(n, n - _ceil(d)))
            for d, n in zip(found.shift, scene.shape, strict=True)
        )
        scene = dataclasses.replace(scene, shift=found.shift, region=(y, x))
    if match and found.gain > 0:
        scene = dataclasses.replace(scene, gain=found.gain, offset=found.offset)
    return scene


def _mean_of(images: Sequence[Planes], plane: int, y: slice, x: slice) -> NDArray[np.float64]:
    """Mean of all channels of all images in a region."""
    regions = [image.read(plane, y, x) for image in images]
    return np.asarray(np.mean(regions, axis=(0, 1), dtype=float))


def _floor(number: float) -> int:
    return int(np.floor(number))


def _ceil(number: float) -> int:
    return int(np.ceil(number))
