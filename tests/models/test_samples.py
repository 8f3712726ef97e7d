"""Several samples of the prior: their mean, their deviation, and stopping between their steps."""

from __future__ import annotations

from contextlib import closing
from itertools import count

import dask
import dask.array as da
import numpy as np
import pytest
import torch

from helpers.tiny import random_network, sample_tiles, tiny_card, tiny_prior_card
from napari_swintormer import deblur, load_model
from napari_swintormer.api import deblur_file
from napari_swintormer.errors import OutputError, SettingsError
from napari_swintormer.events import ChunkFinished, Progress
from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.models.files.weights import save_weights
from napari_swintormer.models.prior.ldm import LdmPrior
from napari_swintormer.models.prior.noise import TileOrigin
from napari_swintormer.models.prior.prior_settings import LdmPriorSettings
from napari_swintormer.models.restorer import PriorUse, Restorer
from napari_swintormer.models.scaled import ScaledRestorer
from napari_swintormer.runs.file import FileRun
from napari_swintormer.runs.planning import prepare
from napari_swintormer.settings.deblur_settings import DeblurSettings

FP32 = {"precision": "fp32", "device": "cpu"}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("samples") / "with-prior.safetensors"
    card = tiny_prior_card()
    save_weights(path, random_network(card).state_dict(), card)
    return path


@pytest.fixture(scope="module")
def restorer(file):
    return load_model(file)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).normal(100, 20, (90, 101)).astype("float32")


@pytest.fixture(scope="module")
def samples(restorer, image):
    """A tile, restored with each of three samples alone."""
    tile, start = torch.from_numpy(image[None, None, :70, :80] / 200), TileOrigin(0, 0, 0)
    return tile, [restorer(tile, [start._replace(sample=i)]) for i in range(3)]


def test_one_sample_is_the_default(file, image):
    assert np.array_equal(deblur(image, file, **FP32), deblur(image, file, samples=1, **FP32))


def test_the_blurred_image_is_encoded_once_for_all_samples(restorer):
    batches = []
    encoder = restorer.network.prior.blurred_encoder
    handle = encoder.register_forward_hook(
        lambda _module, given, _answer: batches.append(len(given[0]))
    )
    several = restorer.with_prior(PriorUse(samples=4, uncertainty=True))
    on_grid, off_grid = TileOrigin(0, 64, 128), TileOrigin(0, 65, 128)
    several(torch.rand(3, 3, 64, 64), [off_grid, on_grid, on_grid])
    handle.remove()
    assert batches == [3]


def test_a_restorer_gives_mean_and_deviation(restorer, samples):
    tile, singles = samples
    # `in_steps` numbers the samples itself, so all samples above are the first
    several = restorer.with_prior(PriorUse(samples=3, uncertainty=True))
    answer = several(tile, [TileOrigin(0, 0, 0)])
    assert answer.shape == (1, 3, 70, 80)
    mean, contrasts = answer[:, :1], answer[:, 1:]
    plain = restorer.with_prior(PriorUse(samples=3))(tile, [TileOrigin(0, 0, 0)])
    assert torch.equal(mean, plain)
    torch.testing.assert_close(singles[0], restorer(tile, [TileOrigin(0, 0, 0)]))
    assert float(contrasts.std()) > 0


def independent(restorer, image, n):
    """Deblur with each of `n` samples alone, chosen by its number."""

    class Numbered(Restorer):
        def _sample(self, features, origins):
            numbered = [p._replace(sample=self.number) for p in origins]
            return super()._sample(features, numbered)

    results = []
    for number in range(n):
        one = Numbered(restorer.card, restorer.network.state_dict())
        one.number = number
        results.append(deblur(image, one, **FP32))
    return np.stack(results)


@pytest.mark.parametrize("strength", [1.0, 0.3])
def test_mean_and_deviation_are_those_of_the_blended_samples(restorer, image, strength):
    singles = independent(restorer, image, 3)
    singles = image + strength * (singles - image)
    settings = {"samples": 3, "strength": strength, **FP32}
    result, deviation = deblur(image, restorer, uncertainty=True, **settings)
    assert np.array_equal(result, deblur(image, restorer, **settings))
    np.testing.assert_allclose(result, singles.mean(axis=0), rtol=1e-5)
    assert deviation.dtype == np.float32
    wanted = singles.std(axis=0, ddof=1)
    np.testing.assert_allclose(deviation, wanted, rtol=1e-3, atol=1e-4 * wanted.max())
    assert wanted.mean() > 0.1


def test_unchanged_pixels_have_no_deviation(file):
    image = np.random.default_rng(1).normal(0.5, 0.1, (50, 60, 4)).astype("float32")
    image[7, 9, :3] = np.nan
    _, deviation = deblur(image, file, axes="YXS", uncertainty=True, samples=2, **FP32)
    assert deviation.shape == image.shape
    assert not deviation[..., 3].any()  # alpha
    assert not deviation[7, 9].any()
    assert (deviation[..., :3] > 0).mean() > 0.9


@pytest.mark.parametrize("chunks", [(17, 101), (64, 30)])
def test_chunks_change_neither_result_nor_deviation(restorer, image, chunks):
    settings = {"uncertainty": True, "samples": 2, **FP32}
    whole = deblur(image, restorer, **settings)
    lazy = deblur(da.from_array(image, chunks=chunks), restorer, **settings)
    assert all(isinstance(array, da.Array) for array in lazy)
    for found, wanted in zip(dask.compute(*lazy), whole, strict=True):
        assert np.array_equal(found, wanted)


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        ({"samples": 0}, "samples must be from 1"),
        ({"samples": 10**6}, "samples must be from 1"),
        ({"uncertainty": True, "samples": 1}, "samples=2 or more"),
        ({"uncertainty": True, "prior": "off"}, "Without a prior"),
        ({"samples": 2, "prior": "off"}, r"Without a prior .*samples=2"),
        ({"preset": "quick"}, "no such preset"),
    ],
)
def test_impossible_numbers_of_samples_are_refused(image, file, wish, says):
    with pytest.raises(SettingsError, match=says) as caught:
        deblur(image, file, **wish)
    assert "\n" not in str(caught.value)


def test_a_model_without_prior_has_no_uncertainty(image, tiny_weights):
    with pytest.raises(SettingsError, match=r"same \(got uncertainty=True\). Use a model with"):
        deblur(image, tiny_weights, uncertainty=True)


def pixels(path):
    with open_image(path) as image:
        return np.asarray(image.data[...])


@pytest.mark.parametrize("name", ["out.ome.zarr", "out.tif"])
def test_a_stopped_run_goes_on_to_the_same_deviation(name, file, tmp_path):
    stack = np.random.default_rng(0).normal(100, 20, (2, 60, 70)).astype("float32")
    np.save(tmp_path / "in.npy", stack)
    wish = {"axes": "ZYX", "uncertainty": True, "samples": 2, **FP32}
    whole = deblur(stack, file, **wish)
    settings, dst = DeblurSettings(model=str(file), **wish), tmp_path / name
    with closing(FileRun(tmp_path / "in.npy", dst, settings).events()) as events:
        assert any(isinstance(event, ChunkFinished) for event in events)  # and stop there
    with pytest.raises(OutputError, match="unfinished run"):
        deblur_file(tmp_path / "in.npy", dst, file, **wish)
    deblur_file(tmp_path / "in.npy", dst, file, resume=True, **wish)
    beside = dst.with_name(name.replace("out", "out-deviation"))
    for path, wanted in zip((dst, beside), whole, strict=True):
        assert np.array_equal(pixels(path), wanted)
    assert not list(tmp_path.glob(".*"))


def test_a_run_killed_between_the_two_files_is_completed(file, image, tmp_path, monkeypatch):
    np.save(tmp_path / "in.npy", image)
    wish = {"uncertainty": True, "samples": 2, **FP32}
    settings, dst = DeblurSettings(model=str(file), **wish), tmp_path / "out.tif"
    beside = tmp_path / "out-deviation.tif"
    with closing(FileRun(tmp_path / "in.npy", dst, settings).events()) as events:
        while not beside.exists():
            next(events)
    assert not dst.exists()
    made = pixels(beside)
    deblur_file(tmp_path / "in.npy", dst, file, resume=True, **wish)
    assert np.array_equal(pixels(dst), deblur(image, file, **wish)[0])
    assert np.array_equal(pixels(beside), made)


class Slow(torch.nn.Module):
    """A fake denoiser that counts its calls."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, z, t):
        self.calls += 1
        return type("Answer", (), {"sample": z[:, :3] * 0.1})


def paper_restorer(window, shift, steps):
    card = tiny_card()
    network = card.network.model_copy(update={"prior_channels": 3})
    prior = LdmPriorSettings(window=window, shift=shift, num_inference_steps=steps)
    card = card.model_copy(update={"network": network, "prior": prior, "tile_size": 96})
    restorer = Restorer(card, random_state(card))
    restorer.prior = LdmPrior(Slow(), prior)
    return restorer


def random_state(card):
    from napari_swintormer.models.prior.compact import build_network

    return build_network(card.network, card.prior).state_dict()


def test_a_slow_prior_reports_and_stops_between_windows():
    restorer = paper_restorer(window=48, shift=24, steps=50)
    image = np.random.default_rng(0).random((96, 96), np.float32)
    steps = restorer.count_steps(96, 96)
    assert steps == 50 * 9 + 1
    job = prepare(image, DeblurSettings(**FP32), restorer)
    out = image.copy()
    with closing(job.run(out)) as events:
        told = [event for _, event in zip(range(20), events, strict=False)]
    assert all(isinstance(event, Progress) and event.done == 0 for event in told)
    assert [(event.step, event.steps) for event in told] == [(i, steps) for i in range(1, 21)]
    shares = [event.share for event in told]
    assert shares == sorted(shares)
    assert 0 < shares[-1] < 0.05
    assert restorer.prior.denoiser.calls == 20  # no further window
    assert np.array_equal(out, image)


def counted(work):
    """Return the result of some work, and how often it yields."""
    for n in count():
        try:
            next(work)
        except StopIteration as done:
            return done.value, n


def test_the_steps_match_their_count_and_the_result_of_the_call(restorer):
    tiles = torch.rand(2, 3, 70, 64)
    use = PriorUse(samples=3, num_inference_steps=2)
    for model in (restorer.with_prior(use), paper_restorer(48, 24, 3)):
        answer, yields = counted(model.in_steps(tiles, [TileOrigin(0, 3, 5)] * 2))
        assert yields == model.count_steps(70, 64)
        assert torch.equal(answer, model(tiles, [TileOrigin(0, 3, 5)] * 2))


def test_fifty_deterministic_steps_are_the_same_twice():
    restorer = paper_restorer(window=48, shift=24, steps=50)
    prior = restorer.prior
    prior.settings = prior.settings.model_copy(update={"eta": 0.0})
    tiles, origins = torch.rand(1, 3, 64, 64), [TileOrigin(0, 10, 20)]
    one, two = (sample_tiles(restorer, tiles, origins) for _ in range(2))
    assert torch.equal(one, two)
    other = sample_tiles(restorer, tiles, [TileOrigin(0, 10, 20, sample=1)])
    assert float((other - one).abs().mean()) > 0.01


def test_a_smaller_image_is_sampled_in_the_same_steps(restorer):
    """Mean and contrasts of a model at half the size, at an origin that is no multiple of two."""
    scaled = ScaledRestorer(restorer.with_prior(PriorUse(samples=2, uncertainty=True)), 2)
    tiles, origins = torch.rand(1, 3, 61, 70), [TileOrigin(0, 3, 5)]
    answer, n = counted(scaled.in_steps(tiles, origins))
    assert n == scaled.count_steps(61, 70)
    mean = ScaledRestorer(restorer.with_prior(PriorUse(samples=2)), 2)(tiles, origins)
    assert torch.equal(answer[:, :3], mean)
    assert answer.shape == (1, 6, 61, 70)
    assert 0 < float(answer[:, 3:].abs().mean()) < 0.5


@pytest.mark.gpu
def test_samples_on_a_real_gpu_are_those_of_the_cpu(restorer, image):
    wish = {"uncertainty": True, "samples": 2, "precision": "fp32", "batch_size": 2}
    here, there = (deblur(image, restorer, device=device, **wish) for device in ("cpu", "cuda"))
    for found, wanted in zip(there, here, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3 * np.abs(wanted).max())


def test_presets_cost_more_and_more(file, tiny_weights):
    image = np.zeros((500, 500), np.uint8)

    def plan(preset, path):
        settings = DeblurSettings(model=str(path), preset=preset)
        job = prepare(image, settings)
        return job.settings.num_inference_steps, job.plan.samples, job.plan.n_tiles

    fast, balanced, best = (plan(p, file) for p in ("fast", "balanced", "best"))
    assert balanced == plan(None, file)
    assert (fast[:2], balanced[:2], best[:2]) == ((1, 1), (4, 1), (4, 4))
    assert fast[2] < balanced[2] < best[2]
    assert [plan(p, tiny_weights)[2] for p in ("fast", "balanced", "best")] == [
        n for *_, n in (fast, balanced, best)
    ]
    own = DeblurSettings(model=str(file), preset="best", overlap=3, samples=2)
    assert prepare(image, own).settings.overlap == 3
    assert prepare(image, own).plan.samples == 2


def test_the_plan_counts_samples_and_their_sums(file):
    image = np.zeros((3000, 3000), np.uint8)

    def plan(**wishes):
        return prepare(image, DeblurSettings(model=str(file), **wishes)).plan

    one, mean, sure = plan(), plan(samples=4), plan(samples=4, uncertainty=True)
    assert one.host_bytes < mean.host_bytes < sure.host_bytes
    # three contrasts of blocks of 1024 pixels and of their margins
    assert sure.host_bytes - mean.host_bytes > 3 * 4 * 2 * 1024**2
    assert sure.disk_bytes == 5 * one.disk_bytes
    assert "4 times" in prepare(image, DeblurSettings(model=str(file), samples=4)).describe()
