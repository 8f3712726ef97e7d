"""The pair check: what is wrong with a pair is found and named before anything learns from it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.errors import TrainingError
from napari_swintormer.imaging.sample import identify
from napari_swintormer.training.annotations import Marks, check_mask, plane_of_mask
from napari_swintormer.training.comparison import Comparison, compare
from napari_swintormer.training.pairs import are_arrays, array_pairs, list_pairs, scenes_of
from napari_swintormer.training.sources import open_planes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_swintormer.imaging.planes import Planes
    from napari_swintormer.training.pairs import ImagePair, Scene

# The limits stand between what 31 real pairs of five instruments show and what their swapped or
# moved versions show, see docs/training.md.
_SHIFTED, _MOVED_A_LITTLE = 1.0, 0.5  # pixels
_SHARPER, _HARDLY_SHARPER = 0.95, 1.03  # `Comparison.detail`
_OTHER_GAIN, _DIFFERENT_GAIN = 2.5, 1.25
_UNRELATED = 0.3  # `Comparison.correlation`
_SATURATED, _MANY_SATURATED = 0.5, 0.05  # share of the pixels
_SIDE = 384  # pixels of a region that is compared
_REGIONS = 9
_SEARCHED = 2**26  # pixels of a plane that are looked through for NaN; of more, the sample


@dataclass(frozen=True)
class Finding:
    """One thing about a pair that its owner should know.

    Attributes
    ----------
    kind
        ``"unmatched"``, ``"unreadable"``, ``"size"``, ``"annotations"``, ``"not finite"``,
        ``"constant"``, ``"identical"``, ``"data type"``, ``"unrelated"``, ``"shifted"``,
        ``"swapped"``, ``"intensity"``, ``"saturated"`` or ``"duplicate"``.
    message
        One sentence: what is wrong, what was measured, what would work.
    bad
        Whether the pair must not be trained on as it is.
    """

    kind: str
    message: str
    bad: bool = True


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
    scene
        What training uses of the pair, or None if the pair is bad.
    """

    name: str
    findings: tuple[Finding, ...] = ()
    comparison: Comparison | None = None
    scene: Scene | None = field(default=None, repr=False)

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
    blurred: Any,
    sharp: Any,
    *,
    annotations: Any = None,
    axes: str | None = None,
    channels: int = 3,
    register: bool = False,
    match_intensity: bool = False,
) -> list[PairReport]:
    """Find what is wrong with pairs, before `train` learns from them.

    Parameters
    ----------
    blurred, sharp, annotations, axes
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
    if are_arrays(sharp):
        pairs, unmatched = array_pairs(blurred, sharp, annotations, axes), list[str]()
    else:
        pairs, unmatched = list_pairs(
            [Path(sharp)], Path(blurred), None if annotations is None else Path(annotations)
        )
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
        Pairs with a blurred image, of `napari_swintormer.training.pairs`.
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
            with (
                open_planes(pair.sharp, channels) as sharp,
                open_planes(pair.blurred, channels) as blurred,
            ):
                problem = _compare_sizes(pair, blurred, sharp)
                if problem is not None:
                    yield PairReport(pair.name, (problem,))
                    continue
                duplicate = seen.add(pair, blurred, sharp)
                for scene in scenes_of(pair, sharp):
                    report = _check_plane(
                        scene, blurred, sharp, register=register, match=match_intensity
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
            "`swintormer pairs` lists them all, --skip-bad trains on the others."
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
        scene = report.scene
        if scene is not None:
            # one sharp image for several blurred ones: never in both halves of the data
            scene = dataclasses.replace(
                scene, source=self._sources.setdefault(self._last, scene.source)
            )
        findings = report.findings if duplicate is None else (*report.findings, duplicate)
        return dataclasses.replace(report, scene=scene, findings=findings)


def _compare_sizes(pair: ImagePair, blurred: Planes, sharp: Planes) -> Finding | None:
    ours = (len(sharp), sharp.channels, *sharp.shape)
    theirs = (len(blurred), blurred.channels, *blurred.shape)
    if ours == theirs:
        return None
    return Finding(
        "size",
        f"The images of a pair must have the same size: {pair.blurred} has {_size(theirs)}, "
        f"{pair.sharp} has {_size(ours)}. Crop both to the same field of view.",
    )


def _check_plane(
    scene: Scene, blurred: Planes, sharp: Planes, *, register: bool, match: bool
) -> PairReport:
    assert scene.blurred is not None
    name = scene.blurred.name
    if len(blurred) > 1:
        name += f", plane {scene.plane}"
    findings = [
        *_annotation_findings(scene, len(sharp)),
        *_content_findings(f"{name}: the blurred image", blurred, scene.plane),
        *_content_findings(f"{name}: the sharp image", sharp, scene.plane),
    ]
    comparison = None
    if not any(finding.bad for finding in findings):
        regions = _regions(sharp.shape)
        samples = [
            [planes.read(scene.plane, y, x).astype(float).mean(axis=0) for y, x in regions]
            for planes in (blurred, sharp)
        ]
        if all(np.array_equal(b, s) for b, s in zip(*samples, strict=True)):
            message = f"{name}: the blurred and the sharp image are the same; give the other one."
            findings.append(Finding("identical", message))
        elif min(sharp.shape) >= 16:
            kept = [(b, s) for b, s in zip(*samples, strict=True) if np.ptp(b) and np.ptp(s)]
            comparison = compare([b for b, _ in kept], [s for _, s in kept])
            findings += _relation_findings(name, comparison, blurred, sharp, register, match)
            scene = _adapted(scene, comparison, register, match)
    findings.sort(key=lambda finding: not finding.bad)
    bad = any(finding.bad for finding in findings)
    return PairReport(name, tuple(findings), comparison, None if bad else scene)


def _annotation_findings(scene: Scene, n_planes: int) -> Iterator[Finding]:
    if scene.annotations is None:
        return
    with open_planes(scene.annotations, 1) as mask:
        try:
            check_mask(scene.annotations.name, mask, n_planes, scene.shape)
        except TrainingError as error:
            yield Finding("annotations", str(error))
            return
        plane = plane_of_mask(mask, scene.plane, n_planes)
        if not Marks(mask, plane, slice(0, scene.shape[0]), slice(0, scene.shape[1])).total:
            yield Finding(
                "annotations",
                f"The annotations {scene.annotations.name} leave out the whole image.",
            )


def _content_findings(name: str, planes: Planes, plane: int) -> Iterator[Finding]:
    """Look for what makes an image useless by itself."""
    height, width = planes.shape
    regions = _regions(planes.shape)
    if planes.dtype.kind == "f" and height * width <= _SEARCHED:
        regions = [(slice(0, height), slice(0, width))]
    pixels = np.concatenate([planes.read(plane, y, x).ravel() for y, x in regions])
    wrong = int(np.count_nonzero(~np.isfinite(pixels)))
    if wrong:
        yield Finding(
            "not finite",
            f"{name} has {wrong:,} pixel(s) that are NaN or infinite; fill them or leave them out.",
        )
        return
    if pixels.min() == pixels.max():
        yield Finding(
            "constant",
            f"{name} is constant (every pixel is {pixels.flat[0]}); there is nothing to learn.",
        )
        return
    if planes.dtype.kind != "f":
        share = float(np.mean(pixels == np.iinfo(planes.dtype).max))
        if share > _MANY_SATURATED:
            yield Finding(
                "saturated",
                f"{name} is saturated in {share:.0%} of its pixels; expose less.",
                bad=share > _SATURATED,
            )


def _relation_findings(
    name: str,
    found: Comparison,
    blurred: Planes,
    sharp: Planes,
    register: bool,
    match: bool,
) -> Iterator[Finding]:
    """Judge how the two images lie to each other."""
    other_type = blurred.dtype != sharp.dtype
    if other_type and not match:
        yield Finding(
            "data type",
            f"{name}: the blurred image is {blurred.dtype}, the sharp one {sharp.dtype}; save both "
            "alike, or match intensities (--match-intensity).",
        )
    if found.correlation < _UNRELATED:
        yield Finding(
            "unrelated",
            f"{name}: the two images do not show the same thing (correlation "
            f"{found.correlation:.2f} even after moving them); pair each with its partner.",
        )
        return
    distance = float(np.hypot(*found.shift))
    if distance > _MOVED_A_LITTLE:
        done = "; it is moved back." if register else "; register them (--register)."
        yield Finding(
            "shifted",
            f"{name}: the sharp image is moved {_direction(found.shift)} against the blurred "
            f"one{done}",
            bad=distance > _SHIFTED and not register,
        )
    if found.detail < _HARDLY_SHARPER:
        swapped = found.detail < _SHARPER
        says = "less sharp than" if swapped else "hardly sharper than"
        yield Finding(
            "swapped",
            f"{name}: the sharp image is {says} the blurred one (details {found.detail:.2f} times "
            "as strong); are they swapped?",
            bad=swapped,
        )
    change = max(found.gain, 1 / found.gain)
    if change > _DIFFERENT_GAIN and not other_type:
        done = "; it is matched." if match else "; match them (--match-intensity)."
        yield Finding(
            "intensity",
            f"{name}: the contrast of the sharp image is {found.gain:.2f} times that of the "
            f"blurred one{done}",
            bad=change > _OTHER_GAIN and not match,
        )


def _adapted(scene: Scene, found: Comparison, register: bool, match: bool) -> Scene:
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


def _regions(shape: tuple[int, int]) -> list[tuple[slice, slice]]:
    """Spread squares evenly over a plane, or take all of a small one."""
    along = []
    for n in shape:
        count = min(int(_REGIONS**0.5), -(-n // _SIDE))
        side = min(n, _SIDE)
        starts = [0] if count == 1 else [k * (n - side) // (count - 1) for k in range(count)]
        along.append([slice(start, start + side) for start in starts])
    return [(y, x) for y in along[0] for x in along[1]]


def _direction(shift: tuple[float, float]) -> str:
    """Say a shift in words."""
    (dy, dx), parts = shift, []
    for distance, words in ((dy, ("down", "up")), (dx, ("right", "left"))):
        if abs(distance) >= 0.05:
            parts.append(f"{abs(distance):.1f} px {words[distance < 0]}")
    return " and ".join(parts)


def _size(size: tuple[int, ...]) -> str:
    planes, channels, height, width = size
    return f"{planes} plane(s) of {height} x {width} pixels and {channels} channel(s)"


def _floor(number: float) -> int:
    return int(np.floor(number))


def _ceil(number: float) -> int:
    return int(np.ceil(number))
