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


@pytest.fixture
def folder() -> Path:
    return cache_folder()


def test_remember_and_recall(folder: Path) -> None:
    assert recall_speed(KEY) is None
    remember_speed(KEY, 1000)
    remember_speed(speed_key("abc", replace(CPU, precision="fp32")), 500)
    remember_speed(KEY, 2000)
    assert recall_speed(KEY) == 2000
    assert [file.name for file in folder.iterdir()] == ["speeds.json"]


@pytest.mark.parametrize("damage", ["", "{", "[1]", '{"%s": "fast"}', '{"%s": -1.0}', "\ud83d"])
def test_damaged_file_is_forgotten(folder: Path, damage: str) -> None:
    folder.mkdir(parents=True)
    text = damage.replace("%s", KEY)
    (folder / "speeds.json").write_bytes(text.encode("utf-16", "surrogatepass"))
    assert recall_speed(KEY) is None
    (folder / "speeds.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    assert recall_speed(KEY) is None
    remember_speed(KEY, 3.0)
    assert recall_speed(KEY) == 3.0


def test_folder_that_cannot_be_made_is_no_error(home: Path) -> None:
    home.write_text("a file where the folder should be")
    remember_speed(KEY, 3.0)
    assert recall_speed(KEY) is None


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
    assert recall_speed(KEY) == pytest.approx(10 * 10 * 10)
