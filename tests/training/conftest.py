"""Folders of small images to train on, and trainings that take no time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers.images import write_blobs
from helpers.tiny import TINY_NETWORK
from napari_swintormer.training.loop.train import iter_train
from napari_swintormer.training.train_settings import TrainSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari_swintormer.events import Event


@pytest.fixture(scope="module", autouse=True)
def _few_patches() -> Iterator[None]:
    """Validate on few patches: most of the time of a small training goes into validation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_swintormer.training.loop.validation._PATCHES", 4)
        patch.setattr("napari_swintormer.training.loop.trainer._FINISHING_PATCHES", 4)
        yield


@pytest.fixture
def write_images(tmp_path: Path) -> Callable[..., Path]:
    """Write 8-bit PNG images of smooth blobs into a folder, and return it."""
    return lambda folder, *more, **changes: write_blobs(tmp_path / folder, *more, **changes)


def small_training(folder: Path) -> TrainSettings:
    """Eight steps on four images, with a validation and checkpoints on the way."""
    return TrainSettings(
        sharp=(write_blobs(folder / "sharp", ["a.png", "b.png", "c.png", "d.png"]),),
        out=folder / "mine.safetensors",
        synthesize="defocus",
        network=TINY_NETWORK,
        steps=8,
        batch_size=2,
        patch_size=32,
        learning_rate=1e-3,
        warmup=2,
        held_out=0.25,
        device="cpu",
        precision="fp32",
        validate_every=4,
        checkpoint_every=3,
        title="Mine",
    )


@pytest.fixture
def settings(tmp_path: Path) -> TrainSettings:
    """Settings of a small training."""
    return small_training(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainSettings, list[Event]]:
    """Settings and events of a small training that has finished."""
    settings = small_training(tmp_path_factory.mktemp("finished"))
    return settings, list(iter_train(settings))
