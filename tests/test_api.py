"""The public interface: arrays give arrays of the same kind, and files can be resumed."""

from __future__ import annotations

from types import SimpleNamespace

import dask.array as da
import numpy as np
import pytest

from napari_swintormer import deblur, load_model
from napari_swintormer.api import deblur_file
from napari_swintormer.errors import SettingsError
from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.imaging.formats.writing import write_image
from napari_swintormer.models.files.weights import file_sha256
from napari_swintormer.models.restorer import IdentityRestorer
from napari_swintormer.runs.planning import prepare
from napari_swintormer.settings.deblur_settings import DeblurSettings


@pytest.fixture(scope="module")
def model(tiny_weights):
    return load_model(tiny_weights)


def noise(shape, dtype):
    rng = np.random.default_rng(3)
    if np.dtype(dtype).kind == "f":
        return rng.normal(5, 2, shape).astype(dtype)
    return rng.integers(0, 250, shape).astype(dtype)


@pytest.mark.parametrize(
    ("shape", "dtype", "axes"),
    [
        ((70, 150, 3), "uint8", None),
        ((70, 90), ">u2", None),
        ((2, 50, 40), "float32", None),
        ((40, 50, 4), "uint16", None),
        ((30, 3, 40), "int16", "YCX"),
    ],
)
def test_the_result_has_the_shape_dtype_and_intensities_of_the_image(model, shape, dtype, axes):
    image = noise(shape, dtype)
    before = image.copy()
    result = deblur(image, model, axes=axes, precision="fp32")
    assert result.shape == image.shape
    assert result.dtype == image.dtype
    assert (result != image).any()
    assert np.abs(result.astype(float) - image).max() < 30
    np.testing.assert_array_equal(image, before)
    unchanged = deblur(image, IdentityRestorer(), axes=axes, tile_size=33, overlap=7)
    assert unchanged.tobytes() == image.tobytes()


def test_alpha_stays_and_colours_go_together(model):
    image = noise((40, 50, 4), "uint8")
    result = deblur(image, model, precision="fp32")
    np.testing.assert_array_equal(result[..., 3], image[..., 3])
    np.testing.assert_array_equal(
        result[..., :3], deblur(image[..., :3].copy(), model, precision="fp32")
    )


def test_a_name_a_path_and_a_restorer_give_the_same_result(model, tiny_weights):
    image = noise((60, 60), "uint8")
    expected = deblur(image, model, precision="fp32")
    np.testing.assert_array_equal(deblur(image, str(tiny_weights), precision="fp32"), expected)
    np.testing.assert_array_equal(deblur(image, tiny_weights, precision="fp32"), expected)
    lists = (image / 255).tolist()
    np.testing.assert_array_equal(
        deblur(lists, model, precision="fp32"), deblur(image / 255, model, precision="fp32")
    )


def test_a_function_with_channels_and_multiple_is_a_restorer():
    class Brighter:
        channels, multiple = 1, 1

        def __call__(self, tiles):
            return tiles + 0.5

    image = np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(64, 64)
    result = deblur(image, Brighter(), tile_size=32)
    assert (result[image < 0.4] > image[image < 0.4]).all()


def test_dask_in_dask_out_for_any_chunks(model, tiny_weights):
    image = noise((3, 70, 90), "uint16")
    expected = deblur(image, model, axes="CYX", precision="fp32")
    stack = da.from_array(image, chunks=(2, 13, 90))
    for chosen in (model, tiny_weights):
        result = deblur(stack, chosen, axes="CYX", precision="fp32")
        assert isinstance(result, da.Array)
        np.testing.assert_array_equal(result.compute(), expected)
        np.testing.assert_array_equal(result[1, 5:].compute(), expected[1, 5:])


def test_the_user_overrides_the_tiles_of_the_model(tiny_weights):
    image = SimpleNamespace(shape=(1000, 2000), dtype=np.dtype("uint16"))

    def tiles(**changes):
        job = prepare(image, DeblurSettings(model=str(tiny_weights), **changes))
        return job.settings.tile_size, job.settings.overlap, job.settings.blend

    assert tiles() == (64, 16, "smooth")
    assert tiles(tile_size=128) == (128, 32, "smooth")
    assert tiles(tile_size=128, overlap=5, blend="uniform") == (128, 5, "uniform")


def test_provenance_says_how_the_result_was_made(tiny_weights):
    image = np.zeros((40, 40), np.uint8)
    job = prepare(image, DeblurSettings(model=str(tiny_weights), device="cpu", precision="fp32"))
    made = job.provenance()
    assert made["model"] == "tiny"
    assert made["weights_sha256"] == file_sha256(tiny_weights)
    assert made["settings"]["overlap"] == 16
    assert made["settings"]["precision"] == "fp32"
    assert made == job.provenance()


def test_a_model_that_overflows_is_refused_in_one_sentence(tiny_weights):
    restorer = load_model(tiny_weights)
    restorer.network.output.weight.fill_(float("inf"))
    with pytest.raises(SettingsError, match="not finite"):
        deblur(noise((40, 40), "uint8"), restorer)


@pytest.mark.parametrize(
    ("name", "options"),
    [("out.ome.zarr", {}), ("out.ome.tif", {"compression": "zstd"}), ("out.npy", {})],
)
def test_a_file_keeps_pixels_axes_and_sizes(name, options, tmp_path):
    image = noise((2, 3, 50, 40), "uint16")
    source = tmp_path / "in.ome.tif"
    sizes, units = {"Y": 0.2, "X": 0.2}, {"Y": "micrometer", "X": "micrometer"}
    write_image(source, image, "ZCYX", sizes, units)
    made = deblur_file(source, tmp_path / name, IdentityRestorer(1), **options)
    assert made == tmp_path / name
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == sorted(
        {"in.ome.tif", name} - {"out.ome.zarr"}
    )
    with open_image(made, "ZCYX" if name == "out.npy" else None) as result:
        assert result.axes == "ZCYX"
        np.testing.assert_array_equal(result.data[...], image)
        if name != "out.npy":
            assert result.pixel_size == pytest.approx(sizes)


def test_a_run_without_a_finished_chunk_leaves_nothing(tiny_weights, tmp_path):
    broken = load_model(tiny_weights)
    broken.network.output.weight.fill_(float("inf"))
    np.save(tmp_path / "in.npy", noise((40, 40), "uint8"))
    out = tmp_path / "out.ome.zarr"
    with pytest.raises(SettingsError, match="not finite"):
        deblur_file(tmp_path / "in.npy", out, broken)
    assert list(tmp_path.glob("*out*")) == []
    deblur_file(tmp_path / "in.npy", out, tiny_weights, resume=True)
    assert out.is_dir()


def test_strength_is_a_factor_on_the_change(model):
    image = noise((70, 90), "float32")
    full, half, twice = (deblur(image, model, strength=s, precision="fp32") for s in (1, 0.5, 2))
    np.testing.assert_allclose(half - image, (full - image) / 2, atol=1e-5)
    # No clipping: a float image with negative pixels has no limits. Whether the brightest pixel
    # gets brighter depends on the random weights.
    np.testing.assert_allclose(twice, image + 2 * (full - image), atol=1e-5)
    assert deblur(image, model, strength=0).tobytes() == image.tobytes()
    lazy = deblur(da.from_array(image, chunks=40), model, strength=0.5, precision="fp32")
    np.testing.assert_array_equal(lazy, half)
    with pytest.raises(SettingsError, match=r"strength must be between 0 and 2 \(got .*=2.5\)"):
        deblur(image, model, strength=2.5)


def test_at_half_size_only_coarse_detail_changes(model):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 60000, (90, 101)).astype(np.uint16)
    whole = deblur(image, model, scale=2, precision="fp32")
    assert not np.array_equal(whole, deblur(image, model, precision="fp32"))
    change = whole[:90, :100].astype(float) - image[:90, :100]
    power = np.abs(np.fft.fft2(change)) ** 2
    fine = np.maximum(*np.meshgrid(*(np.abs(np.fft.fftfreq(n)) for n in (100, 90)))) > 0.35
    assert power[fine].mean() < 0.05 * power[~fine].mean()
    lazy = deblur(da.from_array(image, chunks=40), model, scale=2, precision="fp32")
    np.testing.assert_array_equal(lazy.compute(), whole)
    with pytest.raises(SettingsError, match=r"at 1/1, 1/2 or 1/4 of its size \(got scale=3\)"):
        deblur(image, model, scale=3)
