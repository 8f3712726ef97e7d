"""The images of a training: found, checked, and split into training and validation."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from napari_swintormer.events import Notice, Progress
from napari_swintormer.training.data.annotations import read_marks
from napari_swintormer.training.data.check import iter_reports, refuse_bad
from napari_swintormer.training.data.listing import list_dual_pixel, list_pairs
from napari_swintormer.training.data.pairs import (
    PlanePair,
    fingerprint,
    sharp_planes,
    split_validation,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from napari_swintormer.training.data.check import PairReport
    from napari_swintormer.training.data.pairs import ImagePair
    from napari_swintormer.training.train_settings import TrainSettings


FoundPairs = tuple["list[PlanePair]", "list[PlanePair]", str, list[Notice]]
"""Pairs to train on and to validate with, the fingerprint of both, remarks of the pair check."""


def find_plane_pairs(
    settings: TrainSettings, channels: int
) -> Generator[Progress, None, FoundPairs]:
    """Find the pairs to train on for a network of `channels` channels.

    Yields `Progress` in pairs of images while the pairs are checked.
    """
    reports, made = [], []
    images, unmatched = find_image_pairs(settings)
    for report, progress in _iter_checked(images, unmatched, settings, channels):
        reports.append(report)
        yield progress
    pairs = [report.usable for report in reports if report.usable is not None]
    if not (settings.skip_bad and pairs):
        refuse_bad(reports)
    notices = _notices(reports)
    if settings.synthesize is not None:
        alone = [image for image in images if image.blurred is None]
        made = [plane for image in alone for plane in sharp_planes(image, channels)]
    train, validation = list[PlanePair](), list[PlanePair]()
    for planes in filter(None, (pairs, made)):
        halves = split_validation(planes, settings.held_out, settings.largest_patch)
        for whole, half in zip((train, validation), halves, strict=True):
            whole += [p for p in half if p.annotations is None or read_marks(p, channels).total]
    if not train:  # all marks lie in the part for validation
        train, validation = [*pairs, *made], []
    if not validation:
        sentence = "No image is held out for validation: the training reports its loss only."
        notices.append(Notice(sentence))
    return train, validation, fingerprint([*train, *validation]), notices


def _iter_checked(
    found: Sequence[ImagePair], unmatched: list[str], settings: TrainSettings, channels: int
) -> Iterator[tuple[PairReport, Progress]]:
    """Check the pairs of a training; beside each report say how many pairs are behind it.

    Images without a partner, whose blur is synthesized, are left out.
    """
    images = [image for image in found if image.blurred is not None]
    total, start, begun = len(images), time.monotonic(), 0

    def counted() -> Iterator[ImagePair]:
        nonlocal begun
        for begun, image in enumerate(images):  # noqa: B007 (it tells how far the check is)
            yield image

    reports = iter_reports(
        counted(),
        unmatched,
        channels=channels,
        register=settings.register,
        match_intensity=settings.match_intensity,
    )
    for report in reports:
        yield report, Progress(begun, total, "pairs", time.monotonic() - start)


def check_settings(settings: TrainSettings, channels: int = 3) -> Iterator[PairReport]:
    """Check the pairs of a training one plane after the other."""
    found = find_image_pairs(settings)
    return (report for report, _ in _iter_checked(*found, settings, channels))


def find_image_pairs(settings: TrainSettings) -> tuple[list[ImagePair], list[str]]:
    """List the pairs that settings name, and sentences about images without a partner."""
    if settings.pairs:
        return list(settings.pairs), []
    if settings.dual_pixel is not None:
        return list_dual_pixel(settings.dual_pixel, settings.annotations)
    kinds = settings.kinds * len(settings.sharp) if len(settings.kinds) == 1 else settings.kinds
    return list_pairs(settings.sharp, settings.blurred, settings.annotations, kinds)


def _notices(reports: Sequence[PairReport]) -> list[Notice]:
    """Name the pairs that are skipped, and count those with remarks."""
    notices = [Notice(f"Skipped: {r.findings[0].message}") for r in reports if r.bad]
    with_remarks = [r for r in reports if r.findings and not r.bad]
    if with_remarks:
        first = with_remarks[0].findings[0].message
        sentence = f"The check has a remark about {len(with_remarks)} pair(s); the first: {first}"
        notices.append(Notice(sentence))
    return notices
