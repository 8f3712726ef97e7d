"""The pair check: find and name bad pairs before training learns from them."""

from __future__ import annotations

import dataclasses
import math
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
    compared_regions,
    draw_thumbnail,
    find_in_annotations,
    find_in_comparison,
    find_in_content,
    find_other_size,
)
from napari_swintormer.training.data.listing import list_dual_pixel, list_pairs
from napari_swintormer.training.data.pairs import are_arrays, array_pairs, plane_pairs
from napari_swintormer.training.data.sources import open_planes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

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
        Name of the blurred image, and the number of the plane in a stack.
    findings
        Problems, the worst first; empty for a good pair.
    comparison
        What was measured; None if the images could not be compared.
    usable
        What training uses of the pair; None for a bad pair.
    thumbnail
        ``(Y, X)`` uint8: the middle of the blurred and of the sharp image, side by side. None if
        an image has no usable content.
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
    def measured(self) -> tuple[str, str, str]:
        """Shift in pixels, gain and strength of the details as text; empty if unknown."""
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
        Folders, arrays or lists of arrays, as `napari_swintormer.train` takes them.
    channels
        Channels of the network: 3 keeps the colours of RGB images together.
    register, match_intensity
        Corrections that `train` will make; what they correct is not bad.

    Returns
    -------
    list[PairReport]
        One report per pair of planes, and one per image that has no partner or cannot be read.

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
    pairs: Iterable[ImagePair],
    unmatched: Sequence[str] = (),
    *,
    channels: int = 3,
    register: bool = False,
    match_intensity: bool = False,
) -> Iterator[PairReport]:
    """Check pairs one plane after the other; of a large plane a sample is checked.

    Every sentence in `unmatched`, about an image without a partner, becomes a report.
    """
    for sentence in unmatched:
        name = Path(sentence.partition(" has ")[0]).name
        yield PairReport(name, (Finding("unmatched", sentence),))
    names: dict[tuple[str, str], str] = {}
    sources: dict[str, str] = {}
    for pair in pairs:
        try:
            with ExitStack() as stack:
                sharp, *views = (
                    stack.enter_context(open_planes(source, channels))
                    for source in (pair.sharp, pair.blurred, pair.second)
                    if source is not None
                )
                if (problem := find_other_size(pair, views, sharp)) is not None:
                    yield PairReport(pair.name, (problem,))
                    continue
                ids = identify(views[0]), identify(sharp)
                repeated = []
                if ids in names:
                    message = f"{pair.name} is the same pair as {names[ids]}; it counts twice."
                    repeated = [Finding("duplicate", message, bad=False)]
                names.setdefault(ids, pair.name)
                for planes in plane_pairs(pair, sharp):
                    report = _check_plane(planes, views, sharp, register, match_intensity)
                    if (usable := report.usable) is not None:
                        # pairs of one sharp image must not be on both sides of the split
                        source = sources.setdefault(ids[1], usable.source)
                        usable = dataclasses.replace(usable, source=source)
                    findings = (*report.findings, *repeated)
                    yield dataclasses.replace(report, usable=usable, findings=findings)
        except TrainingError as error:
            yield PairReport(pair.name, (Finding("unreadable", str(error)),))


def refuse_bad(reports: Sequence[PairReport]) -> None:
    """Raise a `TrainingError` that names the first bad pair and the number of bad pairs."""
    bad = [report for report in reports if report.bad]
    if bad:
        message = bad[0].findings[0].message
        raise TrainingError(
            f"{len(bad)} of {len(reports)} pairs cannot be trained on; the first: {message} "
            "Check the pairs to see all of them, or skip bad pairs."
        )


def _check_plane(
    pair: PlanePair, views: Sequence[Planes], sharp: Planes, register: bool, match: bool
) -> PairReport:
    assert pair.blurred is not None
    name = pair.blurred.name
    if len(sharp) > 1:
        name += f", plane {pair.plane}"
    findings = list(find_in_annotations(pair, sharp))
    for view, words in zip(views, _VIEWS[len(views)], strict=True):
        findings += find_in_content(f"{name}: the {words}", view, pair.plane)
    findings += find_in_content(f"{name}: the sharp image", sharp, pair.plane)
    comparison = thumbnail = None
    if not any(finding.bad for finding in findings):
        regions = compared_regions(sharp.shape)
        # the mean of two views is not shifted to either side
        samples = [
            [_mean_of(planes, pair.plane, y, x) for y, x in regions] for planes in (views, [sharp])
        ]
        varied = [(b, s) for b, s in zip(*samples, strict=True) if np.ptp(b) and np.ptp(s)]
        thumbnail = draw_thumbnail(*(half[len(half) // 2] for half in samples))
        if all(np.array_equal(b, s) for b, s in zip(*samples, strict=True)):
            message = f"{name}: the blurred and the sharp image are the same; give the other one."
            findings.append(Finding("identical", message))
        elif not varied:
            message = f"{name}: each image is constant where the other one shows something."
            findings.append(Finding("unrelated", message))
        elif min(sharp.shape) >= 16:
            comparison = compare(*zip(*varied, strict=True))
            dtypes = views[0].dtype, sharp.dtype
            findings += find_in_comparison(name, comparison, dtypes, register=register, match=match)
            pair = _corrected(pair, comparison, register, match)
    findings.sort(key=lambda finding: not finding.bad)
    bad = any(finding.bad for finding in findings)
    return PairReport(name, tuple(findings), comparison, None if bad else pair, thumbnail)


def _corrected(pair: PlanePair, found: Comparison, register: bool, match: bool) -> PlanePair:
    """Return a pair with the corrections that registration and intensity matching make."""
    if register and np.hypot(*found.shift) > 0:
        y, x = (
            (max(0, -math.floor(d)), min(n, n - math.ceil(d)))
            for d, n in zip(found.shift, pair.shape, strict=True)
        )
        pair = dataclasses.replace(pair, shift=found.shift, region=(y, x))
    if match and found.gain > 0:
        pair = dataclasses.replace(pair, gain=found.gain, offset=found.offset)
    return pair


def _mean_of(images: Sequence[Planes], plane: int, y: slice, x: slice) -> NDArray[np.float64]:
    """Return the mean of all channels of all images in a region."""
    regions = [image.read(plane, y, x) for image in images]
    return np.asarray(np.mean(regions, axis=(0, 1), dtype=float))
