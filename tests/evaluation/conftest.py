"""Pairs of micrographs with known blur, and a way to evaluate methods on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from helpers.images import dots
from napari_swintormer.evaluation.evaluation import Evaluation, find_data_set
from napari_swintormer.evaluation.methods.methods import parse_method
from napari_swintormer.settings.deblur_settings import DeblurSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Write three pairs with their point-spread functions; the first one is blurred least."""
    root = tmp_path / "cells"
    for i, name in enumerate(("one", "three", "two")):
        sharp, sigma = dots(i), 0.8 + 0.4 * i
        point = np.zeros((25, 25))
        point[12, 12] = 1
        for part, image in (
            ("sharp", sharp.astype(np.uint16)),
            ("blurred", gaussian_filter(sharp, sigma).astype(np.uint16)),
            ("psf", gaussian_filter(point, sigma)),
        ):
            (root / part).mkdir(parents=True, exist_ok=True)
            np.save(root / part / f"{name}.npy", image)
    return root


@pytest.fixture
def one_pair(pairs: Path) -> Path:
    """Leave only the first pair, where further ones would show nothing new."""
    for file in [*pairs.glob("*/two.npy"), *pairs.glob("*/three.npy")]:
        file.unlink()
    return pairs


@pytest.fixture
def evaluate(pairs: Path) -> Callable[..., list]:
    """Evaluate methods on the pairs, on the CPU; gives the rows."""

    def run(out: Path, *methods: str, resume: bool = False) -> list:
        chosen = tuple(parse_method(text, DeblurSettings(device="cpu")) for text in methods)
        evaluation = Evaluation((find_data_set(f"folders={pairs}"),), chosen, out, ())
        events = list(evaluation.events(resume=resume))
        assert events[-1].done == events[-1].total
        return evaluation.rows

    return run
