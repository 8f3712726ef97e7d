"""How much faster the network is than a plain transcription of the published attention.

Both run the same weights in the same process, turn by turn, so that whatever else the machine does
slows both; the ratio is taken turn by turn and its median is reported. The transcription computes
what the paper writes down and nothing more: NCHW tensors, softmax over explicit matrices, shift
mask and position bias made again in every call.

    python benchmarks/network_forward.py [--size 256] [--runs 7] [--model paper|small] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from napari_swintormer.models.settings import SwintormerSettings
from napari_swintormer.models.swintormer import Swintormer
from napari_swintormer.training.settings import NETWORKS

MODELS = NETWORKS | {"paper": SwintormerSettings(views=2)}


class Transcription:
    """The method as the paper describes it, on the weights of a `Swintormer`."""

    def __init__(self, network: Swintormer) -> None:
        self.weights = {name: weight.detach() for name, weight in network.state_dict().items()}
        self.settings = network.settings

    def __call__(self, x: Tensor) -> Tensor:
        sizes, heads = self.settings, self.settings.num_heads
        x = 2 * x - 1
        embedded = self.conv("embed", F.pixel_unshuffle(x, 2))
        features, skips = self.level("encoder.0", embedded, heads[0]), []
        for i in range(3):
            skips.append(features)
            features = F.pixel_unshuffle(self.conv(f"down.{i}", features), 2)
            features = self.level(f"encoder.{i + 1}", features, heads[i + 1])
        for i in (2, 1, 0):
            features = F.pixel_shuffle(self.conv(f"up.{i}", features), 2)
            features = torch.cat([features, skips[i]], dim=1)
            if i > 0:
                features = self.conv(f"reduce.{i - 1}", features)
            features = self.level(f"decoder.{i}", features, heads[i])
        features = self.level("refinement", features, heads[0])
        y = self.conv("output", features + self.conv("skip", embedded))
        return (F.pixel_shuffle(y, 2) + x[:, : sizes.channels] + 1) / 2

    def conv(self, name: str, x: Tensor, groups: int = 1) -> Tensor:
        weight = self.weights[f"{name}.weight"]
        weight = weight if weight.ndim == 4 else weight[:, :, None, None]
        return F.conv2d(x, weight, padding=weight.shape[-1] // 2, groups=groups)

    def level(self, name: str, x: Tensor, heads: int) -> Tensor:
        block = 0
        while f"{name}.{block}.attention_norm.weight" in self.weights:
            x = self.block(f"{name}.{block}", x, heads, shifted=block % 2 == 1)
            block += 1
        return x

    def block(self, name: str, x: Tensor, heads: int, *, shifted: bool) -> Tensor:
        x = x + self.attention(
            f"{name}.attention", self.norm(f"{name}.attention_norm", x), heads, shifted=shifted
        )
        y = self.conv(f"{name}.ffn.expand", self.norm(f"{name}.ffn_norm", x))
        left, right = y.chunk(2, dim=1)
        return x + self.conv(f"{name}.ffn.project", left * right)

    def norm(self, name: str, x: Tensor) -> Tensor:
        y = rearrange(x, "b c h w -> b (h w) c")
        y = F.layer_norm(
            y, y.shape[-1:], self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        )
        return rearrange(y, "b (h w) c -> b c h w", h=x.shape[2])

    def attention(self, name: str, x: Tensor, heads: int, *, shifted: bool) -> Tensor:
        w = self.settings.window_size
        height, width = x.shape[2:]
        if shifted:
            x = x.roll((-w // 2, -w // 2), (2, 3))
        windows = rearrange(x, "b c (ny wy) (nx wx) -> (b ny nx) c wy wx", wy=w, wx=w)
        qkv = self.conv(f"{name}.qkv", windows)
        qkv = self.conv(f"{name}.depthwise", qkv, groups=qkv.shape[1])
        over_pixels, over_channels = qkv.chunk(2, dim=1)

        q, k, v = rearrange(over_pixels, "n (t h c) y x -> t n h (y x) c", t=3, h=heads)
        scale = self.weights[f"{name}.logit_scale"].clamp(max=math.log(100)).exp()[:, None, None]
        logits = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1) * scale
        logits = logits + self.position_bias(name)
        if shifted:
            mask = self.shift_mask(height, width)
            logits = rearrange(logits, "(b m) h p k -> b m h p k", m=len(mask)) + mask[:, None]
            logits = rearrange(logits, "b m h p k -> (b m) h p k")
        attended = self.softmax(logits) @ v
        attended = rearrange(attended, "n h (y x) c -> n (h c) y x", y=w)

        q, k, v = rearrange(over_channels, "n (t h c) y x -> t n h c (y x)", t=3, h=heads)
        logits = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
        across = rearrange(self.softmax(logits) @ v, "n h c (y x) -> n (h c) y x", y=w)

        y = self.conv(f"{name}.merge", torch.cat([attended, across], dim=1))
        y = rearrange(y, "(b ny nx) c wy wx -> b c (ny wy) (nx wx)", ny=height // w, nx=width // w)
        return y.roll((w // 2, w // 2), (2, 3)) if shifted else y

    def softmax(self, logits: Tensor) -> Tensor:
        logits = (logits - logits.amax(dim=-1, keepdim=True)).exp()
        one = 1 if self.settings.softmax == "released" else 0
        return logits / (one + logits.sum(dim=-1, keepdim=True))

    def position_bias(self, name: str) -> Tensor:
        w = self.settings.window_size
        offset = 8 * torch.arange(1 - w, w) / (w - 1)
        offset = offset.sign() * (offset.abs() + 1).log2() / 3
        table = torch.stack(torch.meshgrid(offset, offset, indexing="ij"), dim=-1)
        hidden = F.linear(
            table,
            self.weights[f"{name}.position_bias.hidden.weight"],
            self.weights[f"{name}.position_bias.hidden.bias"],
        ).relu()
        bias = 16 * F.linear(hidden, self.weights[f"{name}.position_bias.heads.weight"]).sigmoid()
        y, x = torch.meshgrid(torch.arange(w), torch.arange(w), indexing="ij")
        y, x = y.flatten(), x.flatten()
        return bias[y[:, None] - y + w - 1, x[:, None] - x + w - 1].permute(2, 0, 1)

    def shift_mask(self, height: int, width: int) -> Tensor:
        w = self.settings.window_size
        region = torch.zeros(height, width)
        cuts = (slice(0, -w), slice(-w, -w // 2), slice(-w // 2, None))
        for i, rows in enumerate(cuts):
            for j, columns in enumerate(cuts):
                region[rows, columns] = 3 * i + j
        region = rearrange(region, "(ny wy) (nx wx) -> (ny nx) (wy wx)", wy=w, wx=w)
        return (region[:, :, None] != region[:, None, :]) * -100.0


def randomised(settings: SwintormerSettings) -> Swintormer:
    """Return a network whose every part matters to the output, ready for inference."""
    torch.manual_seed(0)
    network = Swintormer(settings).eval()
    torch.nn.init.trunc_normal_(network.output.weight, std=0.05)
    return network


def seconds(forward, x: Tensor) -> float:
    start = time.perf_counter()
    forward(x)
    return time.perf_counter() - start


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, default="paper")
    parser.add_argument("--softmax", choices=("plain", "released"), default="plain")
    parser.add_argument("--size", type=int, default=256, help="side of the image, in pixels")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()

    settings = MODELS[options.model].model_copy(update={"softmax": options.softmax})
    network = randomised(settings)
    transcription = Transcription(network)
    x = torch.rand(1, settings.in_channels, options.size, options.size)

    def bf16(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return network(x)

    with FlopCounterMode(display=False) as counter:
        expected = transcription(x)
    change = (expected - x[:, : settings.channels]).std()
    variants = {"transcription": transcription, "fp32": network, "bf16": bf16}
    times: dict[str, list[float]] = {name: [] for name in variants}
    errors = {name: float((v(x) - expected).std() / change) for name, v in variants.items()}
    for _ in range(options.runs):
        for name, variant in variants.items():
            times[name].append(seconds(variant, x))

    report = {
        "model": options.model,
        "parameters": sum(weight.numel() for weight in network.parameters()),
        "softmax": options.softmax,
        "size": options.size,
        "threads": torch.get_num_threads(),
        "gmac": counter.get_total_flops() / 2e9,
        "torch": torch.__version__,
        "variants": {
            name: {
                "milliseconds": 1e3 * statistics.median(taken),
                "faster": statistics.median(
                    plain / mine for plain, mine in zip(times["transcription"], taken, strict=True)
                ),
                "relative_error": errors[name],
            }
            for name, taken in times.items()
        },
    }
    print(
        f"{options.model}, {report['parameters'] / 1e6:.3f} M parameters, {options.size} x "
        f"{options.size}, {report['gmac']:.2f} G multiply-accumulates, {options.softmax} softmax, "
        f"{report['threads']} threads"
    )
    for name, row in report["variants"].items():
        print(
            f"{name:14} {row['milliseconds']:8.1f} ms  {row['faster']:5.2f} x  "
            f"relative error {row['relative_error']:.1e}"
        )
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    if errors["fp32"] > 1e-4:
        raise SystemExit("the network does not agree with the transcription")


if __name__ == "__main__":
    main()
