"""Device code on a GPU that computes nothing: devices and types fit, and launches are few."""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

import numpy as np
import pytest

from helpers.fake_gpu import GPU, FakeProcessor, Recorder, fake_gpu, load_guard
from napari_swintormer.engine import runners
from napari_swintormer.engine.protocol import Tile
from napari_swintormer.engine.runners import RunnerRecipe
from napari_swintormer.models.catalogue import BUILT_IN_FOLDER, load_model
from napari_swintormer.models.prior.noise import TileOrigin
from napari_swintormer.models.restorer import PriorUse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    GpuOf = Callable[[], AbstractContextManager[Recorder]]

ONCE, SAMPLED = PriorUse(), PriorUse(samples=2, uncertainty=True, num_inference_steps=2)
# Every shipped model; all but the one with prior have the same layers.
WAYS = [
    ("microscopy", "fp32", 1, ONCE),
    ("photo-defocus", "bf16", 1, ONCE),
    ("photo-motion", "fp16", 2, ONCE),
    ("swintormer-small", "bf16", 2, ONCE),
    ("swintormer-prior", "bf16", 1, ONCE),
    ("swintormer-prior", "fp32", 1, SAMPLED),
]


@pytest.fixture(scope="module", autouse=True)
def _guard(tmp_path_factory: pytest.TempPathFactory) -> None:
    load_guard(tmp_path_factory.mktemp("guard"))


@pytest.fixture
def gpu_of(monkeypatch: pytest.MonkeyPatch) -> GpuOf:
    monkeypatch.setattr(runners, "processor_for", lambda *_, **__: FakeProcessor())
    monkeypatch.setattr(runners.devices, "resolve_device", lambda _: GPU)

    @contextmanager
    def gpu() -> Iterator[Recorder]:
        with fake_gpu(monkeypatch) as recorder:
            yield recorder
        assert recorder.operators
        assert not recorder.float64

    return gpu


def test_all_shipped_models_are_tried() -> None:
    names = {name for name, *_ in WAYS}
    assert {path.stem for path in BUILT_IN_FOLDER.glob("*.safetensors")} == names


@pytest.mark.parametrize(("name", "precision", "scale", "prior"), WAYS)
def test_shipped_models_stay_on_the_gpu_and_launch_little(
    name: str, precision: str, scale: int, prior: PriorUse, gpu_of: GpuOf
) -> None:
    recipe = RunnerRecipe(load_model(name), name, "cuda", precision, 8, prior=prior, scale=scale)
    tile = Tile(np.zeros((3, 512, 512), np.float32), TileOrigin(0, 13, 8))
    with gpu_of() as gpu:
        (changes,) = filter(None, recipe.make().changes([[tile] * 8]))
    assert [change.shape for change in changes] == [(3 * prior.depth, 512, 512)] * 8
    assert gpu.fetched == 0
    # with the preparation of the weights, which only the first batch needs
    assert gpu.launches <= (1500 if name != "swintormer-prior" else 3000 * prior.samples)
