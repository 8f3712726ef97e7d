"""Speeds are remembered for the next plan."""

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import pytest

from napari_swintormer.engine.remembered import (
    recall_speed,
    remember_speed,
    remembering_speed,
    speed_key,
)
from napari_swintormer.events import Event, Progress
from napari_swintormer.settings.deblur_settings import DeblurSettings
from napari_swintormer.settings.preferences import cache_folder
from napari_swintormer.tiling.plan import make_plan

CPU = DeblurSettings(device="CPU", precision="bf16", tile_size=512, batch_size=1)
KEY = speed_key("abc", CPU)
TILE = 512 * 512


@pytest.fixture
def folder() -> Path:
    return cache_folder()


def test_remember_and_recall(folder: Path) -> None:
    assert recall_speed(KEY, TILE) is None
    remember_speed(KEY, TILE, 900, first=True)
    assert recall_speed(KEY, TILE) == 900
    remember_speed(speed_key("abc", replace(CPU, precision="fp32")), TILE, 500)
    for speed in (1, 1000, 2000, 1e9, 1500, 1600):  # the first is forgotten
        remember_speed(KEY, TILE, speed)
    assert recall_speed(KEY, TILE) == 1600
    assert [file.name for file in folder.iterdir()] == ["speeds.json"]


@pytest.mark.parametrize("damage", ["", "{", "[1]", '{"%s": "fast"}', '{"%s": [-1.0]}', "\ud83d"])
def test_damaged_file_is_forgotten(folder: Path, damage: str) -> None:
    folder.mkdir(parents=True)
    text = damage.replace("%s", f"{KEY} 18")
    (folder / "speeds.json").write_bytes(text.encode("utf-16", "surrogatepass"))
    assert recall_speed(KEY, TILE) is None
    (folder / "speeds.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    assert recall_speed(KEY, TILE) is None
    remember_speed(KEY, TILE, 3.0)
    assert recall_speed(KEY, TILE) == 3.0


def test_a_tiny_image_does_not_teach_the_speed_of_large_ones() -> None:
    """A tile of 16 pixels takes as long as one of 256, so its speed would make 57 days of a run."""
    remember_speed(KEY, 16 * 16, 50)
    assert recall_speed(KEY, TILE) is None
    assert recall_speed(KEY, 16 * 20) == 50
    remember_speed(KEY, TILE, 4e5)
    assert recall_speed(KEY, TILE) == 4e5
    assert recall_speed(KEY, TILE * 2 // 3) == 4e5
    assert recall_speed(KEY, 16 * 16) == 50


def test_folder_that_cannot_be_made_is_no_error(home: Path) -> None:
    home.write_text("a file where the folder should be")
    remember_speed(KEY, TILE, 3.0)
    assert recall_speed(KEY, TILE) is None


def test_speed_of_a_run_leaves_out_the_first_batch() -> None:
    plan = make_plan((100, 100), dtype="uint8", tile_size=10, overlap=0)
    closed = []

    def run() -> Generator[Event, None, None]:
        try:
            for done in range(10, 101):
                yield Progress(done, 100, "tiles", 5 + 0.1 * (done - 10))
        finally:
            closed.append(True)

    events = remembering_speed(run(), plan, KEY)
    for event in events:
        if isinstance(event, Progress) and event.done == 30:
            break
    events.close()  # a stopped run tells a speed, too
    assert closed
    assert recall_speed(KEY, 100) == pytest.approx(10 * 10 * 10)
