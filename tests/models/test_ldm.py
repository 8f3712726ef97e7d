"""The paper's prior: recorded results, and files of every form."""

from __future__ import annotations

import json
import pickle
import sys
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from diffusers import VQModel
from safetensors.torch import load_file

from helpers.golden import ldm_denoiser, predicted_noise, read_golden, sampled
from helpers.tiny import sample_prior
from napari_swintormer.errors import FileError, WeightsError
from napari_swintormer.models.prior.autoencoder import load_encoder
from napari_swintormer.models.prior.compvis import convert_compvis
from napari_swintormer.models.prior.ldm import (
    NOTHING,
    LdmPrior,
    build_denoiser,
    load_prior,
    save_denoiser,
)
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


@pytest.fixture(scope="module")
def autoencoder():
    """An autoencoder as small as can be, in the form of diffusers."""
    torch.manual_seed(3)
    return VQModel(
        block_out_channels=(8, 8, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=2,
        num_vq_embeddings=8,
        norm_num_groups=4,
    ).eval()


def test_the_latent_of_a_sharp_image_has_its_size(autoencoder, denoiser, tmp_path):
    autoencoder.save_pretrained(tmp_path / "vqvae")
    denoiser.save_pretrained(tmp_path / "unet")
    image = torch.rand(1, 3, 8, 16)
    with torch.no_grad():
        latent = load_encoder(str(tmp_path))(image)
        beside = load_encoder(str(tmp_path / "unet"))(image)
        enlarged = F.interpolate(2 * image - 1, scale_factor=4, mode="bicubic")
        wanted = autoencoder.encode(enlarged).latents
    assert latent.shape == image.shape
    assert torch.equal(latent, wanted)
    assert torch.equal(beside, wanted)
    assert torch.equal(load_encoder(NOTHING)(image), 2 * image - 1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileError, match="holds no autoencoder"):
        load_encoder(str(tmp_path / "empty"))


def original_encoder(w, x, levels, blocks):
    """The encoder of the original code, in plain functions over its weights; groups of 32."""
    conv = lambda x, name, **more: F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], **more)  # noqa: E731

    def swish_norm(x, name, activate=True):
        x = F.group_norm(x, 32, w[f"{name}.weight"], w[f"{name}.bias"], 1e-6)
        return F.silu(x) if activate else x

    def block(x, name):
        y = conv(swish_norm(x, f"{name}.norm1"), f"{name}.conv1", padding=1)
        y = conv(swish_norm(y, f"{name}.norm2"), f"{name}.conv2", padding=1)
        shortcut = f"{name}.nin_shortcut"
        return y + (conv(x, shortcut) if f"{shortcut}.weight" in w else x)

    x = conv(x, "encoder.conv_in", padding=1)
    for level in range(levels):
        for number in range(blocks):
            x = block(x, f"encoder.down.{level}.block.{number}")
        if level < levels - 1:
            x = conv(F.pad(x, (0, 1, 0, 1)), f"encoder.down.{level}.downsample.conv", stride=2)
    x = block(x, "encoder.mid.block_1")
    y = swish_norm(x, "encoder.mid.attn_1.norm", activate=False)
    q, k, v = (conv(y, f"encoder.mid.attn_1.{part}").flatten(2) for part in "qkv")
    shares = torch.softmax(q.transpose(1, 2) @ k / q.shape[1] ** 0.5, dim=-1)
    attended = (v @ shares.transpose(1, 2)).view_as(y)
    x = block(x + conv(attended, "encoder.mid.attn_1.proj_out"), "encoder.mid.block_2")
    x = conv(swish_norm(x, "encoder.norm_out"), "encoder.conv_out", padding=1)
    return conv(x, "quant_conv")


def encoder_shapes(channels, blocks):
    """Shapes of the original encoder's weights."""
    shapes = {"encoder.conv_in": (channels[0], 3, 3, 3), "quant_conv": (3, 3, 1, 1)}
    before = channels[0]

    def block(name, inside, outside):
        shapes.update({f"{name}.norm1": (inside,), f"{name}.norm2": (outside,)})
        shapes.update({f"{name}.conv1": (outside, inside, 3, 3)})
        shapes.update({f"{name}.conv2": (outside, outside, 3, 3)})
        if inside != outside:
            shapes[f"{name}.nin_shortcut"] = (outside, inside, 1, 1)

    for level, own in enumerate(channels):
        for number in range(blocks):
            block(f"encoder.down.{level}.block.{number}", before, own)
            before = own
        if level < len(channels) - 1:
            shapes[f"encoder.down.{level}.downsample.conv"] = (own, own, 3, 3)
    block("encoder.mid.block_1", before, before)
    block("encoder.mid.block_2", before, before)
    shapes["encoder.mid.attn_1.norm"] = (before,)
    shapes |= {
        f"encoder.mid.attn_1.{n}": (before, before, 1, 1) for n in ("q", "k", "v", "proj_out")
    }
    return shapes | {"encoder.norm_out": (before,), "encoder.conv_out": (3, before, 3, 3)}


def test_the_autoencoder_of_a_checkpoint_encodes_as_the_original(weights, tmp_path):
    torch.manual_seed(0)
    state = {}
    for name, shape in encoder_shapes((32, 64), 2).items():
        state[f"{name}.weight"] = torch.randn(shape) * (0.1 if len(shape) > 1 else 1)
        state[f"{name}.bias"] = torch.randn(shape[0]) * 0.1
    path = tmp_path / "model.ckpt"
    both = {f"first_stage_model.{k}": v for k, v in state.items()}
    both["first_stage_model.decoder.conv_in.weight"] = torch.zeros(3)
    torch.save(
        {"state_dict": both | {f"model.diffusion_model.{k}": v for k, v in weights.items()}}, path
    )
    encoder, image = load_encoder(str(path)), torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        enlarged = F.interpolate(2 * image - 1, scale_factor=2, mode="bicubic")
        wanted = original_encoder(state, enlarged, levels=2, blocks=2)
        torch.testing.assert_close(encoder(image), wanted, rtol=1e-4, atol=1e-5)
    torch.save(weights, path)
    with pytest.raises(WeightsError, match="holds no autoencoder"):
        load_encoder(str(path))


def test_a_trained_denoiser_is_one_file(denoiser, tmp_path):
    save_denoiser(tmp_path / "d.safetensors", denoiser)
    state = load_prior(str(tmp_path / "d.safetensors"), SETTINGS).denoiser.state_dict()
    assert all(torch.equal(state[k], v) for k, v in denoiser.state_dict().items())


def test_windows_at_once_change_the_result_by_rounding_only(denoiser):
    settings = SETTINGS.model_copy(update={"window": 32, "shift": 16, "eta": 1.0})
    one, more = (LdmPrior(denoiser, settings) for _ in range(2))
    more.windows_at_once = 3
    images, noise = torch.rand(2, 3, 32, 64), TileNoise(1, [TileOrigin(0, 0, 0)] * 2)
    wanted, found = (sample_prior(prior, images, noise, 2) for prior in (one, more))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert (one.count_calls(32, 64, 2), more.count_calls(32, 64, 2)) == (6, 2)


def test_the_prior_of_two_views_is_that_of_their_mean(denoiser):
    prior, views = LdmPrior(denoiser, SETTINGS), torch.rand(2, 6, 8, 8)
    mean = views.unflatten(1, (2, 3)).mean(dim=1)
    assert torch.equal(prior.forward_features(views), prior.forward_features(mean))
