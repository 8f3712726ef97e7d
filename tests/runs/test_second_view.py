"""Scenes of two views get the same pixels from arrays, chunks, files and processes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import pytest
import tifffile
import torch
from pydantic import ValidationError
from torch.nn import functional
from typer.testing import CliRunner

from helpers.tiny import tiny_card, tiny_prior_card
from napari_swintormer import tiling
from napari_swintormer.api import deblur, deblur_file
from napari_swintormer.cli import app
from napari_swintormer.errors import ImageError, OutputError, SettingsError
from napari_swintormer.imaging.store.result import partial_folder
from napari_swintormer.models.files.card import ModelCard
from napari_swintormer.models.files.weights import load_weights
from napari_swintormer.models.network.swintormer import Swintormer
from napari_swintormer.runs.file import FileRun
from napari_swintormer.runs.folder import FolderRun
from napari_swintormer.settings.deblur_settings import DeblurSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

CPU: dict[str, Any] = {"device": "cpu", "precision": "fp32"}
BLOCK = 64


class Mix(torch.nn.Module):
    """A restorer of two views whose pixels depend on no others: its whole image is a formula."""

    multiple, views = 1, 2

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        first, second = tiles.chunk(2, dim=1)
        return first + 0.1 * second - 0.2 * first * second


class Watched:
    """An image that remembers the most pixels it was asked for at once."""

    def __init__(self, data: NDArray[Any]) -> None:
        self.data, self.most = data, 0
        self.shape, self.dtype, self.ndim = data.shape, data.dtype, data.ndim

    def __getitem__(self, index: Any) -> NDArray[Any]:
        part = self.data[index]
        self.most = max(self.most, part.size)
        return part


def views(*shape: int, dtype: str = "uint16") -> list[NDArray[Any]]:
    return [np.random.default_rng(n).integers(90, 60_000, shape).astype(dtype) for n in (1, 2)]


@pytest.fixture(scope="module")
def model(make_weights: Callable[..., Path]) -> Path:
    network = tiny_card().network.model_copy(update={"views": 2})
    return make_weights("dual", network=network, views=("right", "left"))


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiling.grid, "_SMALLEST_BLOCK", BLOCK)
    monkeypatch.setattr(tiling.grid, "_BLOCK_MULTIPLE", BLOCK)


@pytest.mark.parametrize(
    ("axes", "shape", "channels"),
    [
        ("YX", (150, 190), 1),
        ("ZYX", (2, 70, 90), 3),
        ("YXS", (90, 70, 4), 3),
        ("SYX", (3, 80, 90), 1),
    ],
)
@pytest.mark.usefixtures("small_blocks")
def test_tiles_of_both_views_have_the_same_origin(
    axes: str, shape: tuple[int, ...], channels: int
) -> None:
    first, second = views(*shape)
    watched, watched_second = Watched(first), Watched(second)
    tiles: dict[str, Any] = {"axes": axes, "tile_size": 32, "overlap": 9, **CPU}
    result = deblur(watched, Mix(channels), second_view=watched_second, **tiles)
    colours = slice(3) if axes == "YXS" else slice(None)
    a, b = (view[..., colours].astype(float) for view in (first, second))
    low, high = _range(first[..., colours] if channels == 3 else first)
    unit_a, unit_b = ((x - low) / (high - low) for x in (a, b))
    wanted = np.rint(a + (high - low) * (0.1 * unit_b - 0.2 * unit_a * unit_b))
    np.testing.assert_allclose(result[..., colours], wanted, atol=1)
    assert (result[..., colours] == wanted).mean() > 0.99
    if axes == "YXS":
        np.testing.assert_array_equal(result[..., 3], first[..., 3])
    # a block and the tiles that reach beyond it, of both views
    assert 0 < watched_second.most <= min(watched.most, channels * (BLOCK + 32) ** 2)
    chunks = tuple(min(n, 37) for n in shape)
    lazy = deblur(
        da.from_array(first, chunks), Mix(channels), second_view=da.from_array(second), **tiles
    )
    np.testing.assert_array_equal(lazy.compute(scheduler="synchronous"), result)
    planes = "Z=1" if "Z" in axes else None
    if planes:
        part = deblur(first, Mix(channels), second_view=second, planes=planes, **tiles)
        np.testing.assert_array_equal(part, result[1:])


def _range(image: NDArray[Any]) -> tuple[float, float]:
    """What single images have as their range: that of the first view is taken for both."""
    from napari_swintormer.imaging.intensity import IntensityConvention, measure_ranges
    from napari_swintormer.imaging.planes import Planes

    axes = {2: "YX", 3: "YXS" if image.shape[-1] == 3 else "ZYX"}[image.ndim]
    (measured, *_) = measure_ranges(Planes(image, axes, 3), IntensityConvention())
    return measured.low, measured.high


def test_the_network_gets_the_views_in_the_order_of_its_card(model: Path) -> None:
    right, left = views(60, 90, 3, dtype="float32")
    whole = {"tile_size": 128, "overlap": 0, **CPU}
    result = deblur(right, model, second_view=left, **whole)
    card, state = load_weights(model)
    network = Swintormer(card.network).eval()
    network.load_state_dict(dict(state))
    low, high = _range(right)
    tensors = [torch.from_numpy((v - low) / (high - low)).permute(2, 0, 1) for v in (right, left)]
    seen = torch.cat(tensors)[None].clamp(0, 1)
    padded = functional.pad(seen, (0, 96 - 90, 0, 64 - 60), mode="reflect")
    with torch.inference_mode():
        change = (network(padded)[0, :, :60, :90] - seen[0, :3]).permute(1, 2, 0).numpy()
    wanted = np.maximum(right + (high - low) * change, 0)  # the floor of an image without negatives
    np.testing.assert_allclose(result, wanted, rtol=1e-5, atol=0.1)
    assert not np.allclose(deblur(left, model, second_view=right, **whole), result)


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.usefixtures("small_blocks")
def test_files_arrays_and_chunks_give_the_same_bits(
    model: Path, tmp_path: Path, scale: int
) -> None:
    right, left = views(150, 130)
    for name, view in (("right", right), ("left", left)):
        tifffile.imwrite(tmp_path / f"{name}.tif", view)
    wishes: dict[str, Any] = {"scale": scale, **CPU}
    result = deblur(right, model, second_view=left, **wishes)
    assert (result != right).any()
    lazy = deblur(da.from_array(right, (40, 130)), model, second_view=left, **wishes)
    np.testing.assert_array_equal(lazy.compute(scheduler="synchronous"), result)
    settings = DeblurSettings(model=str(model), **wishes)
    out = tmp_path / "out.tif"
    run = FileRun(tmp_path / "right.tif", out, settings, second_view=tmp_path / "left.tif")
    events = run.events()
    while not (any(partial_folder(out).rglob("c/*")) if partial_folder(out).exists() else False):
        next(events)
    events.close()
    assert not out.exists()
    tifffile.imwrite(tmp_path / "other.tif", left // 2)
    with pytest.raises(OutputError, match="input"):  # the other half of what is there already
        list(replace(run, second_view=tmp_path / "other.tif", resume=True).events())
    list(replace(run, resume=True).events())
    np.testing.assert_array_equal(tifffile.imread(out), result)


def test_a_folder_takes_its_second_views_by_name(model: Path, tmp_path: Path) -> None:
    right, left = views(40, 50)
    for name, view in (("r", right), ("l", left)):
        (tmp_path / name).mkdir()
        tifffile.imwrite(tmp_path / name / "a.tif", view)
    settings = DeblurSettings(model=str(model), **CPU)
    run = FolderRun(tmp_path / "r", tmp_path / "out", settings, second_view=tmp_path / "l")
    list(run.events())
    result = deblur(right, model, second_view=left, **CPU)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / "a.tif"), result)
    with pytest.raises(SettingsError, match="2 views"):
        list(replace(run, second_view=None).events())
    with pytest.raises(OutputError, match="is the folder of the images"):
        list(replace(run, dst=tmp_path / "l").events())


def test_views_that_do_not_match_end_in_a_sentence(
    model: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    right, left = views(40, 50)
    with pytest.raises(SettingsError, match="Give the right view as the image and the left view"):
        deblur(right, model)
    with pytest.raises(SettingsError, match="restores a single image"):
        deblur(right, tiny_weights, second_view=left)
    with pytest.raises(SettingsError, match=r"takes 2 view\(s\) of a scene \(got 1\)"):
        deblur(right, Mix(1))
    for other in (left[:30], left.astype(np.uint8)):
        with pytest.raises(ImageError, match="same shape and data type"):
            deblur(right, model, second_view=other)
    assert deblur(right, model, second_view=left.astype(">u2"), **CPU).shape == right.shape
    network = tiny_card().network.model_copy(update={"views": 3})
    with pytest.raises(SettingsError, match="from 3 views at once"):
        tiny_card(network=network).check_views(1)
    described = tiny_prior_card().model_dump()
    described["network"]["views"] = 2
    with pytest.raises(ValidationError, match="prior needs one view"):
        ModelCard.model_validate(described)
    tifffile.imwrite(tmp_path / "a.tif", right)
    tifffile.imwrite(tmp_path / "b.tif", left)
    with pytest.raises(OutputError, match="is the input itself"):
        deblur_file(
            tmp_path / "a.tif",
            tmp_path / "b.tif",
            model,
            second_view=tmp_path / "b.tif",
            overwrite=True,
        )


def test_the_command_line_takes_the_second_view(model: Path, tmp_path: Path) -> None:
    right, left = views(40, 50)
    names = [tmp_path / f"{name}.tif" for name in ("right", "left", "out")]
    for name, view in zip(names, (right, left), strict=False):
        tifffile.imwrite(name, view)
    words = ["deblur", names[0], names[2], "--model", model, "--precision", "fp32"]
    refused = CliRunner().invoke(app, list(map(str, words)))
    assert refused.exit_code == 2
    assert refused.stderr.startswith("error: The model 'dual' restores a scene from 2 views")
    done = CliRunner().invoke(app, [*map(str, words), "--second-view", str(names[1])])
    assert done.exit_code == 0, done.stderr
    wanted = deblur(right, model, second_view=left, device="cpu", precision="fp32")
    np.testing.assert_array_equal(tifffile.imread(names[2]), wanted)
