"""Models and classical methods, named in a line."""

import numpy as np
import pytest
import torch

from helpers.tiny import tiny_prior_card
from napari_swintormer.api import deblur
from napari_swintormer.errors import SettingsError
from napari_swintormer.evaluation.data.pair_images import open_pair
from napari_swintormer.evaluation.evaluation import find_data_set
from napari_swintormer.evaluation.methods.cost import count
from napari_swintormer.evaluation.methods.methods import BEST_SIGMA, ablation, parse_method
from napari_swintormer.evaluation.methods.told_blur import FOUND
from napari_swintormer.evaluation.reports import pages
from napari_swintormer.evaluation.reports.evaluation_report import score_table
from napari_swintormer.models.catalogue import load_model
from napari_swintormer.models.files.weights import save_weights
from napari_swintormer.models.prior.compact import build_network
from napari_swintormer.settings.deblur_settings import DeblurSettings


def test_methods_that_know_the_blur_gain_most(pairs, evaluate, tmp_path):
    methods = ("richardson-lucy:sigma=1.2,iterations=20", "richardson-lucy-psf:iterations=20")
    rows = evaluate(tmp_path / "out", *methods, *BEST_SIGMA, "wiener-psf")
    gains = {
        method: np.mean([r.scores["psnr"] for r in rows if r.method == method])
        for method in dict.fromkeys(row.method for row in rows)
    }
    assert gains["richardson-lucy-psf:iterations=20"] > gains["blurred"] + 3
    assert gains["richardson-lucy-psf:iterations=20"] > gains[methods[0]]
    assert gains["wiener-psf"] > gains["blurred"]
    for best, method in BEST_SIGMA.items():
        told = {r.image: r.scores["psnr"] for r in rows if r.method == best}
        plain = {r.image: r for r in evaluate(tmp_path / method, method)[1::2]}
        assert all(told[image] >= row.scores["psnr"] for image, row in plain.items())


def test_models_run_with_any_tiles_and_in_all_orientations(
    one_pair, evaluate, tmp_path, tiny_weights
):
    tiles = f"{tiny_weights}:tile_size=32,overlap=16"
    ensemble = f"{tiny_weights}:ensemble=8"
    rows = evaluate(tmp_path / "out", str(tiny_weights), tiles, ensemble)
    found = {r.method: r.scores["psnr"] for r in rows}
    assert len(set(found.values())) == 4
    data_set = find_data_set(f"folders={one_pair}")
    eight = parse_method(f"{tiny_weights}:ensemble=8", DeblurSettings(device="cpu"))
    with open_pair(data_set.pairs[0], data_set.protocol) as pair:
        restored = eight.restore(pair).astype(int)
        turned = pair.__class__(
            "YX", np.asarray(pair.blurred).T.copy(), pair.sharp, data_set.protocol
        )
        assert np.abs(eight.restore(turned).T.astype(int) - restored).max() <= 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("swintormer:tiles=3", "tile_size"),
        ("swintormer:tile_size=big", "must be a number"),
        ("swintormer:ensemble=4", "ensemble must be 1 or 8"),
        ("unsharp-mask:iterations=3", "sigma"),
    ],
)
def test_an_impossible_method_is_refused_in_a_sentence(text, says):
    with pytest.raises(SettingsError, match=says):
        parse_method(text, DeblurSettings())


def test_samples_of_a_prior_are_averaged(pairs, tmp_path):
    card = tiny_prior_card()
    network = build_network(card.network, card.prior)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    file = tmp_path / "sampled.safetensors"
    save_weights(file, network.state_dict(), card)
    data_set = find_data_set(f"folders={pairs}")
    settings = DeblurSettings(device="cpu", precision="fp32")
    with open_pair(data_set.pairs[0], data_set.protocol) as pair:
        one, both = (
            parse_method(f"{file}:{options}", settings).restore(pair)
            for options in ("seed=0", "samples=2")
        )
        wanted = deblur(pair.blurred, file, samples=2, device="cpu", precision="fp32")
    assert (one != both).any()
    np.testing.assert_array_equal(both, wanted)


def test_the_ablation_varies_the_steps_of_a_prior(tmp_path):
    card, file = tiny_prior_card(), tmp_path / "sampled.safetensors"
    save_weights(file, build_network(card.network, card.prior).state_dict(), card)
    varied = ablation(f"{file}:samples=2")
    assert varied[-1].endswith("samples=2,num_inference_steps=8")
    assert any(one.endswith("prior=off") for one in varied)


def test_cost_counts_every_pixel_of_every_tile(one_pair, evaluate, tmp_path, tiny_weights):
    tiles = ("tile_size=64,overlap=0", "tile_size=32,overlap=0,ensemble=8")
    rows = evaluate(tmp_path / "out", *(f"{tiny_weights}:{t}" for t in tiles), "wiener")
    network = load_model(tiny_weights).network
    with torch.no_grad():
        network(torch.zeros(1, 3, 32, 32))  # makes what is prepared once
    per_pixel = count(lambda: network(torch.zeros(1, 3, 64, 64))) / 64**2
    # images of 80 x 70 pixels take 2 x 2 tiles of 64, or 3 x 3 of 32 in eight orientations
    expected = [per_pixel * n / (80 * 70) for n in (4 * 64**2, 8 * 9 * 32**2)]
    assert [row.macs_per_pixel for row in rows[1:3]] == pytest.approx(expected)
    assert rows[0].macs_per_pixel is rows[3].macs_per_pixel is None
    assert f" {expected[1] / 1e3:.1f} |" in pages.markdown([score_table(rows)])


def test_cost_counts_every_step_of_a_prior(one_pair, evaluate, tmp_path):
    card = tiny_prior_card()
    file = tmp_path / "sampled.safetensors"
    save_weights(file, build_network(card.network, card.prior).state_dict(), card)
    ways = ("num_inference_steps=2", "num_inference_steps=4", "num_inference_steps=8", "prior=off")
    rows = evaluate(tmp_path / "out", *(f"{file}:{way}" for way in ways))
    two, four, eight, off = (row.macs_per_pixel for row in rows[1:5])
    assert eight - four == pytest.approx(2 * (four - two))
    assert off < two < four


def test_a_told_blur_gains_and_a_wrong_one_gains_less(pairs, evaluate, tmp_path):
    wide, found, classic = "blur-told:size=1.4", "blur-auto", "wiener-found"
    disk = "blur-told:kind=disk"
    rows = evaluate(tmp_path / "out", "blur-told", wide, disk, found, classic)
    gains = {
        method: np.mean([r.scores["psnr"] for r in rows if r.method == method])
        for method in dict.fromkeys(row.method for row in rows)
    }
    assert gains["blur-told"] > gains["blurred"] + 1
    assert gains["blur-told"] > gains[wide]
    assert gains[disk] > gains["blurred"]
    assert gains[disk] != gains["blur-told"]
    assert gains[found] > gains["blurred"] - 0.5
    assert gains[classic] > gains["blurred"] - 0.5
    scores = [row.scores for row in rows if row.method == found]
    assert all(score.keys() >= set(FOUND) for score in scores)
