"""Where pairs come from beside two folders of pictures: dual-pixel cameras and OME-Zarr."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tifffile
import torch
import zarr
from scipy import ndimage

from napari_swintormer import check_pairs, deblur, load_model, train
from napari_swintormer.errors import SettingsError, TrainingError
from napari_swintormer.imaging.intensity import IntensityConvention
from napari_swintormer.models.files.weights import read_card
from napari_swintormer.training.data.listing import list_dual_pixel
from napari_swintormer.training.data.pairs import PlanePair
from napari_swintormer.training.data.patches import PatchSampler
from napari_swintormer.training.loop.train import iter_train

NAMES = ("a", "b", "c")


@pytest.fixture
def dual_pixel(tmp_path):
    """Scenes of 16-bit colours whose views are blurred to either side."""
    folder = tmp_path / "dual"
    for name, offset in (("inputL", -1), ("inputR", 1), ("target", 0)):
        (folder / name).mkdir(parents=True)
        for number, stem in enumerate(NAMES):
            image = np.random.default_rng(number).standard_normal((64, 72, 3))
            image = 30_000 + 40_000 * ndimage.gaussian_filter(image, (1.5, 1.5, 0))
            if offset:
                image = ndimage.uniform_filter1d(image, 5, axis=1, origin=2 * offset)
            image = np.clip(image, 0, 65535).astype(np.uint16)
            tifffile.imwrite(folder / name / f"{stem}.tif", image, photometric="rgb")
    return folder


def test_the_card_of_a_network_of_two_views_names_their_order(settings, dual_pixel, tmp_path):
    both = dataclasses.replace(settings, sharp=(), synthesize=None, dual_pixel=dual_pixel)
    list(iter_train(both))
    card = read_card(both.out)
    assert card.network.in_channels == 6
    assert card.views == ("right", "left")
    model = load_model(both.out)
    tiles = torch.rand(2, 6, 40, 50)
    assert model(tiles).shape == (2, 3, 40, 50)
    swapped = torch.cat([tiles[:, 3:], tiles[:, :3]], dim=1)
    assert not torch.equal(model(tiles), model(swapped))
    with pytest.raises(SettingsError, match="2 views"):
        deblur(np.zeros((40, 50, 3), np.uint8), both.out)
    single = {"from_model": "swintormer", "out": tmp_path / "no.safetensors"}
    with pytest.raises(TrainingError, match=r"2 view\(s\), and the model takes 1"):
        train(dual_pixel=dual_pixel, **single)
    further = dataclasses.replace(
        both, network=None, from_model=str(both.out), out=tmp_path / "further.safetensors", steps=1
    )
    list(iter_train(further))
    assert read_card(further.out).views == ("right", "left")


def test_all_images_of_a_dual_pixel_pair_are_checked(dual_pixel):
    assert not [report for report in check_pairs(dual_pixel=dual_pixel) if report.findings]
    left = dual_pixel / "inputL" / "b.tif"
    tifffile.imwrite(left, np.full((64, 72, 3), 7, np.uint16), photometric="rgb")
    tifffile.imwrite(dual_pixel / "inputL" / "a.tif", np.zeros((9, 9, 3), np.uint16))
    (dual_pixel / "inputL" / "c.tif").unlink()
    found = {report.name: report.findings[0] for report in check_pairs(dual_pixel=dual_pixel)}
    assert found["a.tif"].kind == "size"
    assert "b.tif: the left view is constant" in found["b.tif"].message
    assert found["c.tif"].kind == "unmatched"
    with pytest.raises(TrainingError, match="There is no folder"):
        list_dual_pixel(dual_pixel / "inputL")


def test_the_views_of_a_mirrored_patch_are_swapped(tmp_path):
    """What the left view sees, mirrored, is what the right view sees of the mirrored scene."""
    sharp = np.random.default_rng(0).integers(0, 60_000, (64, 64), dtype=np.uint16)
    files = []
    for name, shift in (("target", 0), ("right", 3), ("left", -3)):
        files.append(tmp_path / f"{name}.tif")
        tifffile.imwrite(files[-1], np.roll(sharp, shift, axis=1))
    pair = PlanePair(files[0], files[1], 0, (64, 64), "microscopy", "g", "s", second=files[2])
    # of the whole image: a patch that is shrunk is moved by less
    sampler = PatchSampler([pair], 64, 1, IntensityConvention(scope="image"), seed=0)
    for step in range(12):
        views, target = sampler.draw(step, 0)
        assert views.shape == (2, 64, 64)
        right, left = views
        inner = slice(8, 56)

        def moved(view, target=target[0][:, inner]):
            cost = {d: np.abs(view[:, 8 + d : 56 + d] - target).sum() for d in range(-5, 6)}
            return min(cost, key=cost.get)

        assert [moved(right), moved(left)] == [3, -3]


def write_ome_zarr(path, stack):
    root = zarr.open_group(path, mode="w", zarr_format=3)
    root.create_array("0", data=stack, chunks=(1, 32, 32))
    axes = [{"name": name, "type": "space"} for name in "zyx"]
    scale = {"type": "scale", "scale": [1.0, 1.0, 1.0]}
    level = {"path": "0", "coordinateTransformations": [scale]}
    root.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [level]}]}


def test_ome_zarr_stacks_are_pairs_by_name_or_by_themselves(tmp_path, settings):
    stack = np.stack(
        [ndimage.gaussian_filter(np.random.default_rng(k).random((64, 72)), 1) for k in range(3)]
    )
    sharp = (60_000 * stack).astype(np.uint16)
    blurred = (60_000 * ndimage.gaussian_filter(stack, (0, 1.5, 1.5))).astype(np.uint16)
    folders = tmp_path / "blurred stacks", tmp_path / "sharp stacks"
    for folder, images in zip(folders, (blurred, sharp), strict=True):
        folder.mkdir()
        tifffile.imwrite(folder / "cells.tif", images, photometric="minisblack")
    write_ome_zarr(tmp_path / "out of focus.ome.zarr", blurred)
    write_ome_zarr(tmp_path / "in focus.ome.zarr", sharp)
    alone = check_pairs(tmp_path / "out of focus.ome.zarr", tmp_path / "in focus.ome.zarr")
    assert [report.name for report in alone] == [
        f"out of focus.ome.zarr, plane {k}" for k in range(3)
    ]
    assert not [report for report in alone if report.bad]
    (folders[1] / "cells.tif").unlink()
    write_ome_zarr(folders[1] / "cells.ome.zarr", sharp)
    mixed = check_pairs(*folders)  # a TIFF whose partner is an OME-Zarr image
    assert [report.comparison for report in mixed] == [report.comparison for report in alone]
    from_zarr = dataclasses.replace(
        settings,
        sharp=(tmp_path / "in focus.ome.zarr",),
        blurred=tmp_path / "out of focus.ome.zarr",
        synthesize=None,
        steps=2,
    )
    list(iter_train(from_zarr))
    assert from_zarr.out.is_file()
