"""Every protocol gives the scores of its definition, which is written out here."""

import csv
import math

import imagecodecs
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import correlate1d, gaussian_filter, shift, uniform_filter
from torch.nn import functional
from typer.testing import CliRunner

from helpers.tiny import tiny_card
from napari_swintormer.cli import app
from napari_swintormer.errors import FileError, ImageError
from napari_swintormer.evaluation.data.pair_files import PairFiles, split_dpdd
from napari_swintormer.evaluation.data.pair_images import open_pair
from napari_swintormer.evaluation.data.protocols import PROTOCOLS
from napari_swintormer.evaluation.methods.classical import unsharp_mask
from napari_swintormer.imaging.intensity import IntensityConvention
from napari_swintormer.models.files.weights import save_weights
from napari_swintormer.models.network.swintormer import Swintormer

SHAPE = (45, 54, 3)  # no multiples of the protocols' sizes


def _sharp(seed, shape=SHAPE):
    rng = np.random.default_rng(seed)
    image = gaussian_filter(rng.random(shape), (1, 1, 0)[: len(shape)])
    return (image - image.min()) / (image.max() - image.min())


def _blur(image, sigma=1.5):
    return gaussian_filter(image, (sigma, sigma, 0)[: image.ndim])


def _save(path, image, bits=8):
    path.parent.mkdir(parents=True, exist_ok=True)
    counts = np.rint(image * (2**bits - 1)).astype({8: np.uint8, 16: np.uint16}[bits])
    if bits == 16:
        path.write_bytes(imagecodecs.png_encode(counts))
    else:
        Image.fromarray(counts).save(path)
    return counts


def _tree(root, folders, bits=8, names=("a2", "a10"), sigma=1.5):
    """Save two pairs; give their (blurred, sharp) counts in natural order."""
    pairs = []
    for i, name in enumerate(names):
        sharp = _sharp(i)
        inputs = [_save(root / f / f"{name}.png", _blur(sharp, sigma), bits) for f in folders[:-1]]
        pairs.append((inputs[0], _save(root / folders[-1] / f"{name}_gt.png", sharp, bits)))
    return pairs


def _run(*args):
    result = CliRunner().invoke(app, ["evaluate", *map(str, args)])
    assert result.exit_code == 0, result.output
    return result


def _scores(out, method="blurred"):
    with (out / "scores.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["method"] == method]
    return [{k: float(v) for k, v in row.items() if k in FIGURES and v} for row in rows]


FIGURES = {"psnr", "ssim", "ssim3d", "mae", "gain", "frc", "ms_ssim", "gmsd", "seconds"}


# ---- the definitions ---------------------------------------------------------------------------


def _psnr(x, y, peak=1.0):
    return 10 * math.log10(peak**2 / np.mean((np.asarray(x, float) - y) ** 2))


def _ssim_map(x, y, mean, peak, unbiased=1.0):
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    mx, my = mean(x), mean(y)
    vx, vy = unbiased * (mean(x * x) - mx**2), unbiased * (mean(y * y) - my**2)
    vxy = unbiased * (mean(x * y) - mx * my)
    return (2 * mx * my + c1) * (2 * vxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))


def _ssim_uniform(x, y):
    """Compute scikit-image's default: 7 x 7 pixels, sample covariance, inner pixels."""
    maps = [
        _ssim_map(a, b, lambda p: uniform_filter(p, 7), 1.0, 49 / 48)[3:-3, 3:-3]
        for a, b in zip(np.moveaxis(x, 2, 0), np.moveaxis(y, 2, 0), strict=True)
    ]
    return np.mean(maps)


def _gaussian_mean(axes):
    taps = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    taps /= taps.sum()

    def mean(p):
        for axis in axes:
            p = correlate1d(p, taps, axis=axis, mode="nearest")
        return p

    return mean


def _ssim_gaussian(x, y, peak=1.0):
    similarity = _ssim_map(np.asarray(x, float), np.asarray(y, float), _gaussian_mean((0, 1)), peak)
    return similarity[5:-5, 5:-5].mean()


def _fit(x, y):
    design = np.stack([x.ravel(), np.ones(x.size)], axis=1).astype(float)
    (gain, offset), *_ = np.linalg.lstsq(design, y.ravel().astype(float))
    return gain * x + offset


# ---- the protocols -----------------------------------------------------------------------------


def _check(out, expected):
    found = _scores(out)
    assert len(found) == len(expected)
    for row, figures in zip(found, expected, strict=True):
        for name, value in figures.items():
            assert row[name] == pytest.approx(value, rel=2e-4), name


@pytest.mark.parametrize("layout", ["original", "restormer"])
def test_dpdd_of_two_views_in_16_bits(tmp_path, layout):
    folders = {
        "original": ["test_c/source", "test_l/source", "test_r/source", "test_c/target"],
        "restormer": [f"test/DPDD/{name}" for name in ("inputC", "inputL", "inputR", "target")],
    }[layout]
    pairs = _tree(tmp_path, folders, bits=16)
    _run(f"dpdd-dual16={tmp_path}", "--out", tmp_path / "out", "-m", "blurred")
    expected = []
    for blurred, sharp in pairs:
        x, y = blurred / 65535, sharp / 65535
        mae = np.mean([np.abs(x[..., c] - y[..., c]).mean() for c in range(3)])
        expected.append({"psnr": _psnr(x, y), "ssim": _ssim_uniform(x, y), "mae": mae})
    _check(tmp_path / "out", expected)


@pytest.mark.parametrize("order", ["left-right", "right-left"])
def test_a_network_of_two_views_gets_them_in_its_order(tmp_path, order):
    card = tiny_card()
    card = card.model_copy(
        update={
            "network": card.network.model_copy(update={"views": 2}),
            "views": tuple(order.split("-")),
            "intensity": IntensityConvention(low=0, high=100),
        }
    )
    network = Swintormer(card.network)
    save_weights(tmp_path / "dual.safetensors", network.state_dict(), card)
    folders = ["test_c/source", "test_l/source", "test_r/source", "test_c/target"]
    _tree(tmp_path, folders, bits=16)
    left, right, sharp = _sharp(7), _sharp(8), _sharp(0)
    for name in ("a2", "a10"):
        counts = [
            _save(tmp_path / folder / f"{name}.png", image, 16)
            for folder, image in zip(folders[1:3], (left, right), strict=True)
        ]
    model = tmp_path / "dual.safetensors"
    _run(f"dpdd-dual16={tmp_path}", "--out", tmp_path / "out", "-m", model, "--precision", "fp32")
    views = counts if order == "left-right" else counts[::-1]
    tensor = torch.from_numpy(np.concatenate(views, axis=2) / np.float32(65535)).permute(2, 0, 1)
    padded = functional.pad(tensor[None], (0, 64 - 54, 0, 64 - 45), mode="reflect")
    with torch.inference_mode():
        restored = network.eval()(padded)[0, :, :45, :54].permute(1, 2, 0).clamp(0, 1).numpy()
    found = _scores(tmp_path / "out", str(model))[0]
    assert found["psnr"] == pytest.approx(_psnr(restored, np.rint(sharp * 65535) / 65535), rel=1e-3)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("protocol", ["dpdd-single8", "realdof"])
def test_defocus_of_one_view_in_8_bits(tmp_path, protocol, bits):
    folders = {"dpdd-single8": ["test_c/source", "test_c/target"], "realdof": ["source", "target"]}
    pairs = _tree(tmp_path, folders[protocol], bits)
    _run(f"{protocol}={tmp_path}", "--out", tmp_path / "out", "-m", "blurred")
    unit = [[(image >> (bits - 8)) / 255 for image in pair] for pair in pairs]
    expected = [{"psnr": _psnr(x, y), "ssim": _ssim_uniform(x, y)} for x, y in unit]
    _check(tmp_path / "out", expected)


def test_ifan_crops_and_does_not_clamp(tmp_path):
    pairs = _tree(tmp_path, ["test_c/source", "test_c/target"], sigma=0.5)
    for protocol in ("ifan", "dpdd-single8"):
        _run(f"{protocol}={tmp_path}", "--out", tmp_path / protocol, "-m", "unsharp-mask:sigma=3")
    ifan, single = (
        _scores(tmp_path / protocol, "unsharp-mask:sigma=3")
        for protocol in ("ifan", "dpdd-single8")
    )
    for i, (blurred, sharp) in enumerate(pairs):
        x, y = (image[:40, :48] / np.float32(255) for image in (blurred, sharp))
        free = unsharp_mask(x, "YXS", sigma=3)
        assert free.max() > 1  # so that clipping makes a difference
        assert ifan[i]["psnr"] == pytest.approx(_psnr(free, y), rel=1e-4)
        assert ifan[i]["ssim"] == pytest.approx(_ssim_uniform(free.astype(float), y), rel=2e-4)
        whole = unsharp_mask(blurred / np.float32(255), "YXS", sigma=3).clip(0, 1)
        assert single[i]["psnr"] == pytest.approx(_psnr(whole, sharp / 255), rel=1e-4)


@pytest.mark.parametrize("layout", ["original", "restormer"])
def test_gopro_rounds_and_offers_the_ssim_of_the_scripts(tmp_path, layout):
    if layout == "original":
        pairs = [
            pair
            for sequence in ("GOPR1", "GOPR2")
            for pair in _tree(tmp_path / "test" / sequence, ["blur", "sharp"], names=("000001",))
        ]
    else:
        pairs = _tree(tmp_path, ["test/GoPro/input", "test/GoPro/target"])
    args = ["-m", "unsharp-mask", "--metric", "ssim3d"]
    _run(f"gopro={tmp_path}", "--out", tmp_path / "out", *args)
    expected = []
    for blurred, sharp in pairs:
        saved = unsharp_mask(blurred / np.float32(255), "YXS").clip(0, 1)
        saved = np.rint(saved * 255)  # as the scripts read it back
        channels = [_ssim_gaussian(saved[..., c], sharp[..., c], 255) for c in range(3)]
        volume = _ssim_map(saved, sharp.astype(float), _gaussian_mean((0, 1, 2)), 255)
        expected.append(
            {
                "psnr": _psnr(saved, sharp.astype(float), 255),
                "ssim": np.mean(channels),
                "ssim3d": volume.mean(),
            }
        )
    found = _scores(tmp_path / "out", "unsharp-mask")
    for row, figures in zip(found, expected, strict=True):
        for name, value in figures.items():
            assert row[name] == pytest.approx(value, rel=2e-4), name


def test_realblur_aligns_and_masks(tmp_path):
    cv2 = pytest.importorskip("cv2")
    lines = []
    for i in (1, 2):
        sharp = _sharp(i, (96, 110, 3))
        blurred = 0.8 * shift(_blur(sharp, 1), (1.5, -2, 0), mode="nearest")
        folder = tmp_path / f"scene{i}"
        counts = _save(folder / "gt" / "gt_1.png", sharp), _save(folder / "blur/b_1.png", blurred)
        lines.append((f"scene{i}/gt/gt_1.png scene{i}/blur/b_1.png", counts))
    text = "\n".join(line for line, _ in lines)
    (tmp_path / "RealBlur_J_test_list.txt").write_text(text)
    _run(f"realblur={tmp_path}", "--out", tmp_path / "out", "-m", "blurred")
    expected = []
    for _, (gt, blur) in lines:
        x, z = np.float32(gt / 255), np.float32(blur / 255)
        z = z * ((x * z).sum() / (z * z).sum())
        stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 100, 0)
        grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (x, z)]
        found = cv2.findTransformECC(
            *grey, np.eye(3, dtype=np.float32), cv2.MOTION_HOMOGRAPHY, stop, None, 5
        )[1]
        inverse = cv2.WARP_INVERSE_MAP
        moved = cv2.warpPerspective(
            z, found, (110, 96), flags=cv2.INTER_CUBIC + inverse, borderMode=cv2.BORDER_REFLECT
        )
        valid = cv2.warpPerspective(
            np.ones_like(z), found, (110, 96), flags=cv2.INTER_NEAREST + inverse
        )
        assert 0.9 < valid.mean() < 1
        error = ((x - moved) ** 2 * valid).sum() / valid.sum()
        inner = (slice(5, -5), slice(5, -5))
        similarity = []
        for c in range(3):
            a, b = (image[..., c].astype(float) for image in (x * valid, moved * valid))
            # scikit-image mirrors at the border, which the inner pixels do not see
            weighted = (_ssim_map(a, b, _gaussian_mean((0, 1)), 1.0) * valid[..., c])[inner]
            similarity.append(weighted.sum() / valid[..., c][inner].sum())
        expected.append({"psnr": -10 * math.log10(error), "ssim": np.mean(similarity)})
    _check(tmp_path / "out", expected)
    assert min(row["psnr"] for row in expected) > 23  # not aligned: below 20


@pytest.mark.parametrize("protocol", ["folders", "microscopy"])
def test_pairs_of_any_folder_in_their_own_units(tmp_path, protocol):
    expected = []
    for i, name in enumerate(("b10", "b9")):
        sharp = 400 + 3000 * _sharp(i, (171, 180))
        blurred = 0.5 * _blur(sharp) + 30
        for part, image in (("blurred", blurred), ("sharp", sharp)):
            path = tmp_path / "cells" / part / f"{name}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, image.astype(np.uint16))
        x, y = blurred.astype(np.uint16).astype(float), sharp.astype(np.uint16).astype(float)
        if protocol == "microscopy":
            x = _fit(x, y)
        peak = np.percentile(y, 99.9) - np.percentile(y, 0.1)
        expected.insert(
            0,
            {
                "psnr": _psnr(x, y, peak),
                "ssim": _ssim_gaussian(x, y, peak),
                "mae": np.abs(x - y).mean() / peak,
            },
        )
    _run(f"{protocol}={tmp_path}", "--out", tmp_path / "out", "-m", "blurred")
    _check(tmp_path / "out", expected)
    assert (
        "\nfolders,cells,b9,".replace("folders", protocol)
        in (tmp_path / "out/scores.csv").read_text()
    )
    if protocol == "microscopy":
        assert all(2 < row["frc"] < 20 for row in _scores(tmp_path / "out"))


def test_a_table_names_the_pairs(tmp_path):
    for name, shape in (("a", (9, 8, 3)), ("b", (9, 8, 3)), ("small", (9, 9))):
        _save(tmp_path / f"{name}.png", np.zeros(shape))
    table, protocol = tmp_path / "pairs.csv", PROTOCOLS["microscopy"]
    table.write_text("blurred,sharp,set\na.png,b.png,leaves\na.png,small.png,leaves\n")
    good, bad = protocol.pairs(table)
    assert (good.set, good.name, good.sharp) == ("leaves", "a", tmp_path / "b.png")
    with (
        pytest.raises(ImageError, match=r"same shape \(got \(9, 8, 3\) and \(9, 9\)\)"),
        open_pair(bad, protocol),
    ):
        pass
    table.write_text("blurred,reference,set\n")
    with pytest.raises(FileError, match=r"no column 'sharp' \(got \['blurred', 'reference'"):
        protocol.pairs(table)


def test_dpdd_has_37_indoor_and_39_outdoor_images(tmp_path):
    pairs = [PairFiles("dpdd", str(i), tmp_path, tmp_path) for i in range(76)]
    splits = [pair.split for pair in split_dpdd(pairs)]
    assert (splits.count("indoor"), splits.count("outdoor")) == (37, 39)
    assert (splits[0], splits[8], splits[75]) == ("outdoor", "indoor", "indoor")
    assert {pair.split for pair in split_dpdd(pairs[:75])} == {""}


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
def test_a_folder_without_the_data_set_is_refused_in_a_sentence(tmp_path, protocol):
    result = CliRunner().invoke(app, ["evaluate", f"{protocol}={tmp_path}", "--out", "x"])
    assert result.exit_code == 2
    assert str(tmp_path) in result.output
    assert result.output.startswith("error: ")
