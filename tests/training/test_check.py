"""Every kind of bad pair is found and named, and what can be put right is put right."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from napari_swintormer import check_pairs
from napari_swintormer.errors import TrainingError
from napari_swintormer.imaging.intensity import IntensityConvention
from napari_swintormer.training.data.check import iter_reports, refuse_bad
from napari_swintormer.training.data.listing import list_pairs
from napari_swintormer.training.data.pairs import array_pairs, sharp_planes
from napari_swintormer.training.data.patches import PatchSampler


def texture(shape=(200, 240), seed=0):
    """Structure of all sizes in 16 bits, with the noise of a camera."""
    rng = np.random.default_rng(seed)
    image = sum(
        sigma * ndimage.gaussian_filter(rng.standard_normal(shape), sigma) for sigma in (1, 3, 9)
    )
    image = 1000 + 8000 * (image - image.min()) / np.ptp(image)
    return np.rint(image + 20 * rng.standard_normal(shape)).astype(np.uint16)


def blur(image, sigma=2.0, seed=1):
    noise = 20 * np.random.default_rng(seed).standard_normal(image.shape)
    return np.rint(ndimage.gaussian_filter(image.astype(float), sigma) + noise).astype(image.dtype)


SHARP = texture()
BLURRED = blur(SHARP)


def spoiled(image, value):
    image = image.astype(np.float32)
    image[17, 40] = value
    return image


def findings(blurred, sharp, **more):
    (report,) = check_pairs(blurred, sharp, **more)
    return report, {finding.kind: finding for finding in report.findings}


@pytest.mark.parametrize(
    ("take_in", "kind"),
    [
        (lambda array: Image.fromarray(array), None),
        (lambda array: torch.from_numpy(array.astype(np.int32)), None),
        (lambda array: np.ma.masked_less(array, 2000), "no data"),
        (lambda array: np.ma.masked_less(array.astype(np.float32), 2000), "not finite"),
    ],
)
def test_arrays_of_other_libraries_are_taken_in_as_deblur_does(take_in, kind):
    report, found = findings(take_in(BLURRED), take_in(SHARP))
    assert set(found) == ({kind} if kind else set())
    assert report.bad is (kind is not None)


def test_pixels_without_data_in_a_file_are_found(tmp_path):
    holes = SHARP.copy()
    holes[20:40, 20:40] = 0
    for name, pixels in (("blurred", BLURRED), ("sharp", holes)):
        (tmp_path / name).mkdir()
        tags = [(42113, 2, 2, "0", True)]
        tifffile.imwrite(tmp_path / name / "a.tif", pixels, extratags=tags, metadata=None)
    _, found = findings(tmp_path / "blurred", tmp_path / "sharp")
    assert "400 pixel(s) without data" in found["no data"].message


def test_a_good_pair_has_no_findings():
    report, found = findings(BLURRED, SHARP)
    assert not found
    assert not report.bad
    assert report.usable is not None
    assert report.comparison.gain == pytest.approx(1, abs=0.05)
    assert report.comparison.detail > 1.3


BAD = {
    "shifted": (BLURRED[:-7], SHARP[7:], r"moved [67]\.\d px up against"),
    "swapped": (SHARP, BLURRED, "less sharp than the blurred one"),
    "size": (BLURRED[:, :-1], SHARP, "200 x 239 .* 200 x 240"),
    "data type": ((BLURRED // 256).astype(np.uint8), SHARP, "uint8, the sharp one uint16"),
    "constant": (np.full_like(BLURRED, 7), SHARP, "blurred image is constant .* 7"),
    "not finite": (spoiled(BLURRED, np.nan), SHARP.astype(np.float32), r"1 pixel\(s\)"),
    "unrelated": (blur(texture(seed=5)), SHARP, "do not show the same thing"),
    "identical": (SHARP, SHARP.copy(), "are the same"),
    "intensity": ((BLURRED // 5).astype(np.uint16), SHARP, r"[45]\.\d+ times"),
    "saturated": (np.where(BLURRED > 4000, 65535, BLURRED).astype(np.uint16), SHARP, "saturated"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_pair_is_named_and_refused(kind):
    blurred, sharp, message = BAD[kind]
    report, found = findings(blurred, sharp)
    assert report.bad
    assert report.usable is None
    assert found[kind].bad
    with pytest.raises(TrainingError, match=f"1 of 1 pairs .*; the first: .*{message}"):
        refuse_bad([report])


def test_an_infinite_pixel_of_the_sharp_image_is_found():
    _, found = findings(BLURRED.astype(np.float32), spoiled(SHARP, -np.inf))
    assert "the sharp image has 1 pixel(s)" in found["not finite"].message


def test_files_without_partner_and_damaged_files_have_their_own_report(tmp_path):
    for folder in ("blurred", "sharp"):
        (tmp_path / folder).mkdir()
    for name in ("a", "b"):
        tifffile.imwrite(tmp_path / "sharp" / f"{name}.tif", SHARP)
    tifffile.imwrite(tmp_path / "blurred" / "a.tif", BLURRED)
    tifffile.imwrite(tmp_path / "blurred" / "c.tif", BLURRED)
    (tmp_path / "sharp" / "d.png").write_bytes(b"no picture")
    Image.fromarray(SHARP.astype(np.uint8)).save(tmp_path / "blurred" / "d.png")
    reports = check_pairs(tmp_path / "blurred", tmp_path / "sharp")
    told = {report.name: [finding.kind for finding in report.findings] for report in reports}
    assert told == {
        "b.tif": ["unmatched"],
        "c.tif": ["unmatched"],
        "a.tif": [],
        "d.png": ["unreadable"],
    }


def test_planes_of_a_stack_are_checked_one_by_one():
    moved = np.roll(BLURRED, 7, axis=0)
    reports = check_pairs(np.stack([BLURRED, moved]), np.stack([SHARP, SHARP]), axes="ZYX")
    assert [(r.name, r.bad) for r in reports] == [
        ("image 0, plane 0", False),
        ("image 0, plane 1", True),
    ]


def test_pairs_with_one_sharp_image_are_on_one_side_of_the_split():
    other = texture(seed=3)
    pairs = array_pairs(
        [BLURRED, blur(SHARP, 3), blur(other), BLURRED], [SHARP, SHARP, other, SHARP]
    )
    reports = list(iter_reports(pairs))
    assert [report.usable.source for report in reports] == [
        "arrays/sharp 0",
        "arrays/sharp 0",
        "arrays/sharp 2",
        "arrays/sharp 0",
    ]
    assert [f.kind for f in reports[3].findings] == ["duplicate"]
    assert not reports[3].bad


@settings(max_examples=15, deadline=None)
@given(st.floats(-12, 12), st.floats(-12, 12))
def test_shifts_are_found_to_a_fraction_of_a_pixel(dy, dx):
    large = ndimage.gaussian_filter(texture((300, 320)).astype(float), 0.7)
    moved = ndimage.shift(large, (dy, dx), order=3, mode="mirror")[30:-30, 30:-30]
    blurred = ndimage.gaussian_filter(large, 2)[30:-30, 30:-30]
    report, _ = findings(blurred, moved)
    np.testing.assert_allclose(report.comparison.shift, (dy, dx), atol=0.2)


def test_registration_aligns_a_pair():
    """Sharp and blurred are one image, moved by 3.4 and -5.3 pixels: every patch must agree."""
    large = ndimage.gaussian_filter(texture((300, 320)).astype(float), 1.2)
    moved = ndimage.shift(large, (3.4, -5.3), order=3, mode="mirror")
    pairs = array_pairs(large[30:-30, 30:-30], moved[30:-30, 30:-30])
    report = next(iter_reports(pairs, register=True))
    assert "it is moved back" in report.findings[0].message
    (top, bottom), (left, right) = report.usable.region
    assert (top, bottom) == (0, 240 - 4)
    assert left == 6
    assert right == 260
    sampler = PatchSampler([report.usable], 64, 1, IntensityConvention(), seed=0)
    for step in range(8):
        seen, sharp = sampler.draw(step, 0)
        inside = (seen > 0) & (seen < 1)
        assert np.abs(seen - sharp)[inside].mean() < 0.01


def test_intensities_are_matched_on_request():
    darker = (SHARP // 6 + 300).astype(np.uint16)
    _, found = findings(BLURRED, darker)
    assert found["intensity"].bad
    _, found = findings(BLURRED, darker, match_intensity=True)
    assert not found["intensity"].bad
    report = next(iter_reports(array_pairs(BLURRED, darker), match_intensity=True))
    sampler = PatchSampler([report.usable], 64, 1, IntensityConvention(), seed=0)
    seen, sharp = sampler.draw(0, 0)
    assert sharp.mean() == pytest.approx(seen.mean(), abs=0.02)
    coarse = [ndimage.gaussian_filter(patch[0], 4).std() for patch in (sharp, seen)]
    assert coarse[0] == pytest.approx(coarse[1], rel=0.05)


def test_annotations_must_fit_the_image():
    _, found = findings(BLURRED, SHARP, annotations=np.ones((5, 5), np.uint8))
    assert "must have the size of the image" in found["annotations"].message
    _, found = findings(BLURRED, SHARP, annotations=np.full(SHARP.shape, 2, np.uint8))
    assert "leave out the whole image" in found["annotations"].message
    _, found = findings(BLURRED, SHARP, annotations=np.ones(SHARP.shape))
    assert "whole numbers" in found["annotations"].message


def test_annotations_must_fit_a_sharp_image_without_partner():
    (pair,) = array_pairs(None, SHARP, np.ones((5, 5), np.uint8))
    with pytest.raises(TrainingError, match="must have the size of the image"):
        sharp_planes(pair, 1)


def test_images_that_show_something_in_different_places_are_unrelated():
    left, right = np.zeros((2, 900, 900), np.uint16)
    left[:50, :50], right[-50:, -50:] = SHARP[:50, :50], SHARP[:50, :50]
    _, found = findings(left, right)
    assert found["unrelated"].bad


def test_a_bad_folder_is_named(tmp_path):
    with pytest.raises(TrainingError, match="There is no folder"):
        check_pairs(tmp_path, tmp_path / "nowhere")
    with pytest.raises(TrainingError, match="has no images"):
        list_pairs([tmp_path])
