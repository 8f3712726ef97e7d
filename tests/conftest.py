"""Fixtures that several parts share: tiny random weights, a home of one's own, fixed seeds."""

from __future__ import annotations

import os
import signal
import sys
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import pytest

from helpers.tiny import tiny_card

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytest_plugins = ["helpers.slow"]

# One thread here and in the processes that tests start: threads that wait for each other cost time.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_reaches_children() -> None:
    # Shells start what runs in the background with SIGINT ignored, and children inherit that.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _fixed_seeds() -> None:
    import torch

    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 (libraries use the old one)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep models and caches of the tests apart from the user's."""
    folder = tmp_path / "swintormer-home"
    monkeypatch.setenv("SWINTORMER_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def make_weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write a weights file of a tiny random network that changes what it is given."""

    def make(name: str = "tiny", channels: int = 3, **changes: object) -> Path:
        import torch

        from napari_swintormer.models.files.weights import save_weights
        from napari_swintormer.models.network.swintormer import Swintormer

        card = tiny_card(channels, name=name, **changes)
        torch.manual_seed(1)
        network = Swintormer(card.network)
        path = tmp_path_factory.mktemp("weights") / f"{name}.safetensors"
        save_weights(path, network.state_dict(), card)
        return path

    return make


@pytest.fixture(scope="session")
def tiny_weights(make_weights: Callable[..., Path]) -> Path:
    """Weights file of a tiny model for RGB and grey images."""
    return make_weights()


@pytest.fixture(scope="module")
def spandrel() -> Iterator[ModuleType]:
    """Skip where it is not installed; it is with `make test`.

    Stands in for torchvision, of which two architectures that are not used want three names: the
    one of the registry does not import beside a torch for the CPU, and then takes diffusers down
    with it.
    """
    names = ["torchvision", "torchvision.transforms", "torchvision.transforms.functional"]
    stubs = [ModuleType(name) for name in names]
    stubs[0].transforms, stubs[1].functional = stubs[1], stubs[2]  # type: ignore[attr-defined]
    for wanted in ("InterpolationMode", "rotate", "normalize"):
        setattr(stubs[2], wanted, type(wanted, (), {"BILINEAR": None, "NEAREST": None}))
    with pytest.MonkeyPatch.context() as patch:
        for name, stub in zip(names, stubs, strict=True):
            patch.setitem(sys.modules, name, stub)
        pytest.importorskip("spandrel_extra_arches")
        yield pytest.importorskip("spandrel")
