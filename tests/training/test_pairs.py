"""Images are found, checked and split by source."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from napari_swintormer.errors import TrainingError
from napari_swintormer.training.data.listing import list_pairs
from napari_swintormer.training.data.pairs import (
    PlanePair,
    array_pairs,
    drawing_weights,
    fingerprint,
    sharp_planes,
    split_validation,
)


def plane_pair(name: str, folder: str = "a") -> PlanePair:
    file = Path(folder) / name
    group, source = name.split("_")[0], name.rsplit("_t", 1)[0]
    return PlanePair(file, None, 0, (9, 9), "photo", f"{folder}/{group}", f"{folder}/{source}")


def find_plane_pairs(folder: Path, kind: str = "auto", channels: int = 3) -> list[PlanePair]:
    pairs, _ = list_pairs([folder], kinds=[kind])
    return [plane for pair in pairs for plane in sharp_planes(pair, channels)]


def test_pairs_are_matched_by_name(write_images):
    sharp = write_images("sharp", ["b.png", "a.png"])
    blurred = write_images("blurred", ["a.png", "b.jpg"])
    masks = write_images("masks", ["b.png"])
    pairs, unmatched = list_pairs([sharp], blurred, masks)
    assert not unmatched
    assert [(p.sharp.name, p.blurred.name) for p in pairs] == [
        ("a.png", "a.png"),
        ("b.png", "b.jpg"),
    ]
    assert [p.annotations for p in pairs] == [None, masks / "b.png"]
    kinds = ["auto", "photo"]
    mixed, _ = list_pairs([sharp, write_images("more", ["a.png"])], blurred, kinds=kinds)
    assert [p.blurred and p.blurred.name for p in mixed] == ["a.png", "b.jpg", None]


def test_every_plane_of_a_stack_is_a_pair(tmp_path):
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((5, 20, 30), np.uint16))
    planes = find_plane_pairs(tmp_path)
    assert [s.plane for s in planes] == [0, 1, 2, 3, 4]
    assert {s.source for s in planes} == {f"{tmp_path}/stack"}
    assert {s.kind for s in planes} == {"microscopy"}


def test_kinds_are_guessed_on_request_only(write_images):
    colour, grey = write_images("colour", ["a.png"]), write_images("grey", ["a.png"], (48, 56))
    cases = [(colour, "auto"), (grey, "auto"), (colour, "microscopy")]
    found = [find_plane_pairs(folder, kind)[0].kind for folder, kind in cases]
    assert found == ["photo", "microscopy", "microscopy"]


@pytest.mark.parametrize(
    ("sharp", "blurred", "message"),
    [
        (["a.png", "b.png"], ["a.png"], "b.png has no partner in"),
        (["a.png"], ["a.png", "c.png"], "c.png has no partner in"),
        (["a.png"], ["a.png", "a.jpg"], "a.png has 2 partners in"),
    ],
)
def test_a_missing_partner_is_named(write_images, sharp, blurred, message):
    folders = write_images("sharp", sharp), write_images("blurred", blurred)
    _, unmatched = list_pairs([folders[0]], folders[1])
    assert len(unmatched) == 1
    assert message in unmatched[0]


def test_every_array_needs_its_partner():
    image = np.zeros((9, 9))
    assert [p.name for p in array_pairs([image, image], [image, image])] == ["image 0", "image 1"]
    with pytest.raises(TrainingError, match="got 2 blurred and 1 sharp images"):
        array_pairs([image, image], image)


def test_folders_that_cannot_be_used_are_named(tmp_path):
    with pytest.raises(TrainingError, match=r"There is no folder .*nowhere"):
        find_plane_pairs(tmp_path / "nowhere")
    with pytest.raises(TrainingError, match="has no images"):
        find_plane_pairs(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(TrainingError, match=r"Training cannot use .*broken\.png"):
        find_plane_pairs(tmp_path)


@given(st.lists(st.integers(1, 4), min_size=2, max_size=30), st.just(0.0) | st.floats(0.25, 0.99))
def test_crops_of_one_source_stay_together(crops, share):
    planes = [plane_pair(f"x_{i}_t{k}.png") for i, n in enumerate(crops) for k in range(n)]
    train, held_out = split_validation(planes, share, 8)
    assert Counter(train + held_out) == Counter(planes)
    assert train
    assert not {s.source for s in train} & {s.source for s in held_out}
    assert split_validation(planes, share, 8) == (train, held_out)
    assert len({s.source for s in held_out}) == min(
        int(np.ceil(share * len(crops))), len(crops) - 1
    )


@given(st.integers(8, 90), st.integers(8, 90), st.floats(0.01, 0.9))
def test_a_part_of_a_single_image_is_held_out(height, width, share):
    one = PlanePair(Path("a"), None, 0, (height, width), "photo", "a/a", "a/a")
    train, held_out = split_validation([one], share, 16)
    if max(height, width) < 32:
        assert (train, held_out) == ([one], [])
        return
    seen = np.zeros((height, width), int)
    for plane in (*train, *held_out):
        (top, bottom), (left, right) = plane.bounds
        assert max(bottom - top, right - left) >= 16
        seen[top:bottom, left:right] += 1
    assert np.all(seen == 1)
    assert len(train) == len(held_out) == 1


def test_a_long_series_does_not_dominate():
    planes = [plane_pair(f"nuclei_{i}.png") for i in range(100)] + [plane_pair("worms_0.png")]
    planes += [plane_pair(f"photo_{i}.png", "b") for i in range(7)]
    weights = drawing_weights(planes)
    assert sum(weights) == pytest.approx(1)
    assert sum(weights[101:]) == pytest.approx(0.5)
    assert sum(weights[:100]) == pytest.approx(10 * weights[100])
    paired = [dataclasses.replace(p, blurred=p.sharp) for p in planes[:10]]
    mixed = drawing_weights([*paired, *planes[10:]], pair_share=0.2)
    assert sum(mixed[:10]) == pytest.approx(0.2)
    np.testing.assert_allclose(
        np.divide(mixed[10:], mixed[10]), np.divide(weights, weights[10])[10:]
    )


def test_other_images_have_another_fingerprint():
    planes = [plane_pair("a.png"), plane_pair("b.png")]
    assert fingerprint(planes) == fingerprint(list(planes))
    assert fingerprint(planes) != fingerprint(planes[:1])
