"""The paper's prior: recorded results, and files of every form."""

from __future__ import annotations

import json
import pickle
import sys
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file

from helpers.golden import ldm_denoiser, predicted_noise, read_golden, sampled
from helpers.tiny import sample_prior
from napari_swintormer.errors import FileError, WeightsError
from napari_swintormer.models.prior.compvis import convert_compvis
from napari_swintormer.models.prior.ldm import LdmPrior, build_denoiser, load_prior
from napari_swintormer.models.prior.noise import TileNoise, TileOrigin
from napari_swintormer.models.prior.prior_settings import LdmPriorSettings
from napari_swintormer.models.prior.sampling import SamplingPlan, Schedule, sample
from napari_swintormer.models.stepwise import run_to_end

RELEASED = {
    "in_channels": 6,
    "out_channels": 3,
    "block_out_channels": (160, 320, 320, 640),
    "layers_per_block": 2,
    "down_block_types": ("DownBlock2D",) * 3 + ("AttnDownBlock2D",),
    "up_block_types": ("AttnUpBlock2D",) + ("UpBlock2D",) * 3,
    "attention_head_dim": 32,
}
SETTINGS = LdmPriorSettings()


@pytest.fixture(scope="module")
def golden():
    """Return the results and the weights of the original code."""
    return read_golden("ldm_unet_small")


@pytest.fixture(scope="module")
def weights(golden):
    return golden[1]


@pytest.fixture(scope="module")
def denoiser(weights):
    return ldm_denoiser(weights)


def relative(found, wanted):
    return float((found - wanted).norm() / wanted.norm())


def test_the_predicted_noise_is_the_recorded_one(golden, denoiser):
    tensors, _ = golden
    assert relative(predicted_noise(denoiser, tensors), tensors["eps_t37"]) < 1e-4


@pytest.mark.parametrize("steps", [5, 20])
def test_sampling_gives_the_recorded_results(golden, denoiser, steps):
    tensors, _ = golden
    assert relative(sampled(denoiser, tensors, steps), tensors[f"z0_ddim{steps}"]) < 1e-4


@pytest.fixture
def checkpoint(weights, tmp_path, monkeypatch):
    """A checkpoint like those of the original code, with averages and classes of its training."""
    module = ModuleType("trainer_callbacks")
    module.Saver = type("Saver", (), {"__module__": "trainer_callbacks"})
    monkeypatch.setitem(sys.modules, "trainer_callbacks", module)
    saver = module.Saver()
    saver.best = 3
    state = {f"model.diffusion_model.{k}": v for k, v in weights.items()}
    state["first_stage_model.encoder.weight"] = torch.zeros(3)
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": state, "epoch": 2, "callbacks": {module.Saver: saver}}, path)
    monkeypatch.delitem(sys.modules, "trainer_callbacks")
    return path


def test_a_checkpoint_of_the_original_code_is_read_as_data(checkpoint, denoiser):
    prior = load_prior(str(checkpoint), SETTINGS)
    state = prior.denoiser.state_dict()
    assert all(torch.equal(state[k], v) for k, v in denoiser.state_dict().items())
    assert len(prior.sha256) == 64
    assert "trainer_callbacks" not in sys.modules


def test_averaged_weights_are_preferred(weights):
    state = {f"model.diffusion_model.{k}": v for k, v in weights.items()}
    averages = {k: v + 1 for k, v in weights.items()}
    names = {k: "model_ema.diffusion_model" + k.replace(".", "") for k in weights}
    state |= {names[k]: v for k, v in averages.items()}
    _, converted = convert_compvis({"state_dict": state})
    assert torch.equal(converted["conv_in.bias"], averages["input_blocks.0.0.bias"])


class Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_nothing_in_a_checkpoint_is_executed(tmp_path):
    victim = tmp_path / "victim"
    path = tmp_path / "evil.ckpt"
    torch.save({"state_dict": Attack(str(victim))}, path, pickle_module=pickle)
    with pytest.raises(WeightsError):
        load_prior(str(path), SETTINGS)
    assert not victim.exists()


def test_a_folder_of_diffusers_is_read(denoiser, tmp_path):
    denoiser.save_pretrained(tmp_path / "unet")
    for folder in (tmp_path, tmp_path / "unet"):
        state = load_prior(str(folder), SETTINGS).denoiser.state_dict()
        assert all(torch.equal(state[k], v) for k, v in denoiser.state_dict().items())


def test_a_folder_with_the_attention_names_of_2022_is_read(denoiser, tmp_path):
    """The public model is such a folder, and its weights are a pickle."""
    denoiser.save_pretrained(tmp_path)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = load_file(tmp_path / "diffusion_pytorch_model.safetensors")
    for now, before in old.items():
        state = {k.replace(f".{now}.", f".{before}."): v for k, v in state.items()}
    assert "mid_block.attentions.0.proj_attn.bias" in state
    (tmp_path / "diffusion_pytorch_model.safetensors").unlink()
    torch.save(state, tmp_path / "diffusion_pytorch_model.bin")
    found = load_prior(str(tmp_path), SETTINGS).denoiser.state_dict()
    assert all(torch.equal(found[k], v) for k, v in denoiser.state_dict().items())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"block_out_channels": [10**9] * 4}, "at key 'block_out_channels.0'"),
        ({"down_block_types": ["os.system"] * 4}, "at key 'down_block_types.0'"),
        ({"block_out_channels": "many"}, "no U-Net of a prior at key 'block_out_channels'"),
        ({"block_out_channels": [32, 64, 64, 96]}, "has the shape"),
        ({"layers_per_block": 1}, "unexpected key"),
        ({"layers_per_block": 3}, "lacks the key"),
        ({"norm_num_groups": 7}, "cannot be built"),
    ],
)
def test_a_hostile_folder_is_refused(denoiser, tmp_path, change, says):
    denoiser.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(WeightsError, match=says) as caught:
        load_prior(str(tmp_path), SETTINGS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"out.2.weight": None}, "'out.2.weight'"),
        ({"middle_block.1.qkv.bias": None}, "lacks the key 'mid_block.attentions.0.to_k.bias'"),
        ({"label_emb.weight": torch.zeros(2)}, "unexpected key 'label_emb.weight'"),
        ({"time_embed.0.weight": torch.zeros(3, 3)}, "shape"),
        ({"input_blocks.1.0.out_layers.3.weight": None}, "no U-Net that can be built"),
    ],
)
def test_wrong_checkpoints_are_named(weights, tmp_path, change, says):
    path = tmp_path / "model.ckpt"
    torch.save({k: v for k, v in (weights | change).items() if v is not None}, path)
    with pytest.raises(WeightsError, match=says) as caught:
        load_prior(str(path), SETTINGS)
    assert str(path) in str(caught.value)


def test_missing_priors_end_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FileError, match=r"could not be fetched .* prior='off'") as caught:
        load_prior("nobody/no-such-prior", SETTINGS)
    assert "\n" not in str(caught.value)
    with pytest.raises(FileError, match="no checkpoint"):
        load_prior(str(tmp_path / "gone.ckpt"), SETTINGS)
    with pytest.raises(FileError, match="no U-Net"):
        load_prior(str(tmp_path), SETTINGS)


def test_large_tiles_are_fused_from_windows_at_every_step(denoiser):
    """Windows with equal input give the result of one window, wherever they overlap."""
    settings = SETTINGS.model_copy(update={"window": 32, "shift": 16, "eta": 1.0})
    flat = torch.full((1, 3, 32, 32), 0.3)
    flat_noise = lambda _step, like: torch.ones_like(like)  # noqa: E731
    one = sample_prior(LdmPrior(denoiser, settings), flat, flat_noise, 2)
    # two windows side by side that do not overlap
    apart = settings.model_copy(update={"shift": 32})
    two = sample_prior(LdmPrior(denoiser, apart), flat.repeat(1, 1, 1, 2), flat_noise, 2)
    torch.testing.assert_close(two, one.repeat(1, 1, 1, 2), rtol=1e-4, atol=1e-4)
    # overlapping windows: each pixel is the weighted mean of the predictions for it
    predict = LdmPrior(denoiser, settings)._predict
    inputs = torch.randn(1, 6, 32, 48)
    fused = run_to_end(predict(inputs, 500))
    left, right = (denoiser(inputs[..., x : x + 32], 500).sample for x in (0, 16))
    lower = torch.minimum(left[..., 16:], right[..., :16])
    upper = torch.maximum(left[..., 16:], right[..., :16])
    torch.testing.assert_close(fused[..., :16], left[..., :16], rtol=1e-4, atol=1e-5)
    assert bool((fused[..., 16:32] >= lower - 1e-4).all())
    assert bool((fused[..., 16:32] <= upper + 1e-4).all())
    # pixels near the border of a window count less
    share = (fused - right_on(right, fused))[..., 16] / (left[..., 16] - right[..., 0])
    assert float(share.median()) == pytest.approx(0.9, abs=0.07)


def right_on(right, fused):
    """The right window's prediction where it lies, zero elsewhere."""
    out = torch.zeros_like(fused)
    out[..., 16:] = right
    return out


def test_a_sample_depends_on_its_origin_and_seed_only(denoiser):
    prior = LdmPrior(denoiser, SETTINGS)
    images = torch.rand(2, 3, 32, 32)
    origins = [TileOrigin(0, 0, 0), TileOrigin(0, 5, 9)]
    both = sample_prior(prior, images, TileNoise(1, origins), 3)
    assert torch.equal(both, sample_prior(prior, images, TileNoise(1, origins), 3))
    second = sample_prior(prior, images[1:], TileNoise(1, origins[1:]), 3)
    torch.testing.assert_close(second, both[1:], rtol=1e-4, atol=1e-4)
    assert relative(sample_prior(prior, images, TileNoise(2, origins), 3), both) > 0.1


def test_the_released_size_builds_and_makes_a_step():
    denoiser = build_denoiser(RELEASED).eval()
    assert sum(p.numel() for p in denoiser.parameters()) == pytest.approx(113.6e6, abs=0.1e6)
    z, blurred = torch.randn(1, 3, 64, 64), torch.rand(1, 3, 64, 64)
    plan = SamplingPlan.leading(Schedule.make(), 1, prediction="noise")

    def predict(z, t):
        yield
        return denoiser(torch.cat([z, blurred], dim=1), t).sample

    with torch.inference_mode():
        z0 = run_to_end(sample(predict, z, plan, lambda _step, like: torch.zeros_like(like)))
    assert z0.shape == z.shape
    assert bool(z0.isfinite().all())
