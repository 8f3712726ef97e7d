"""What networks and priors cost: parameters, multiply-accumulates, memory and time.

Multiply-accumulates are those of convolutions and matrix products, counted on the plain
transcription of the network. The network that runs caches constants and pads odd widths, which
changes the count by 0.2 %. The paper gives other figures for its network; docs/paper.md tells why.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from napari_swintormer.evaluation.benchmark.measures import PAPER_TILES
from napari_swintormer.evaluation.benchmark.timing import LiveBytes, seconds
from napari_swintormer.evaluation.benchmark.transcription import Transcription
from napari_swintormer.evaluation.methods.cost import count
from napari_swintormer.evaluation.reports.pages import markdown_table
from napari_swintormer.models.files.card import ForeignCard
from napari_swintormer.models.network.network_settings import SwintormerSettings
from napari_swintormer.models.network.swintormer import Swintormer
from napari_swintormer.models.prior.ldm import build_denoiser
from napari_swintormer.models.restorer import PriorUse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, nn

    from napari_swintormer.models.restorer import Restorer

SIDE = 256  # pixels, side of the image that costs are counted on
PUBLISHED = SwintormerSettings(views=2, softmax="released")
"""The default of the released code: the 25.18 M parameters of the paper's table."""

PUBLISHED_TEXT = PUBLISHED.model_copy(update={"num_blocks": (4, 6, 6, 8)})
"""The blocks per level that the paper's text gives."""

PAPER_STEPS = (5, 10, 20, 50)
# The denoiser of the public latent diffusion model for super-resolution.
_PRIOR = {
    "in_channels": 6,
    "out_channels": 3,
    "block_out_channels": (160, 320, 320, 640),
    "down_block_types": ("DownBlock2D",) * 3 + ("AttnDownBlock2D",),
    "up_block_types": ("AttnUpBlock2D",) + ("UpBlock2D",) * 3,
    "layers_per_block": 2,
    "attention_head_dim": 32,
    "norm_num_groups": 32,
}


@dataclass(frozen=True)
class Cost:
    """The cost of one network on an image of `SIDE` pixels; None where nothing was computed."""

    name: str
    parameters: int
    macs: int  # multiply-accumulates
    multiple: int  # tiles are enlarged to multiples of this
    seconds: float | None = None
    peak_bytes: int | None = None  # of one forward pass, beside the weights

    def macs_per_megapixel(self, tile_size: int, stride: int) -> float:
        """Multiply-accumulates for 10⁶ pixels of a large image in overlapping tiles."""
        side = -(-tile_size // self.multiple) * self.multiple
        return self.macs / SIDE**2 * side**2 / stride**2 * 1e6


def network_cost(name: str, settings: SwintormerSettings, device: torch.device) -> Cost:
    """Measure a network with random parameters."""
    network = Swintormer(settings).eval().to(device)
    views = torch.rand(1, settings.in_channels, SIDE, SIDE, device=device)
    macs = count(lambda: Transcription(network)(views))
    return _cost(name, network, views, settings.multiple, macs)


def model_costs(restorer: Restorer) -> Iterator[Cost]:
    """Measure a model: once as it is, or without and with its prior."""
    card = restorer.card
    device = next(restorer.parameters()).device
    tiles = torch.rand(1, restorer.channels, SIDE, SIDE, device=device)
    if isinstance(card, ForeignCard):
        yield _cost(card.name, restorer, tiles, restorer.multiple)
    elif card.prior is None:
        network = restorer.network.for_unclear
        sizes = network.settings
        views = torch.rand(1, sizes.in_channels, SIDE, SIDE, device=device)
        plain = Transcription(network)
        macs = count(lambda: plain(network.filtered(views) if sizes.known_blur else views))
        yield _cost(card.name, restorer, tiles, restorer.multiple, macs)
    else:
        steps = card.prior.num_inference_steps
        off, on = restorer.with_prior(PriorUse(source="off")), restorer.with_prior(PriorUse())
        yield _cost(f"{card.name}, prior off", off, tiles, restorer.multiple)
        yield _cost(f"{card.name}, prior in {steps} steps", on, tiles, restorer.multiple)


def prior_step() -> Cost:
    """Count one step of the paper's prior, from shapes alone."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with torch.device("meta"):
        denoiser = build_denoiser(_PRIOR)
    denoiser = denoiser.to_empty(device="cpu").eval()
    with FakeTensorMode(allow_non_fake_inputs=True):
        images = torch.empty(1, 6, SIDE, SIDE)
        macs = count(lambda: denoiser(images, 37))
    return Cost("the paper's prior, one step", _parameters(denoiser), macs, 8)


def complexity_table(restorers: list[Restorer], device: torch.device) -> str:
    """Write Markdown tables of the published network, its prior, and loaded models.

    Time and memory are measured on `device`, where the models are.
    """
    networks = [
        network_cost("published default, blocks 2 4 6 8, two views", PUBLISHED, device),
        network_cost("the paper's text, blocks 4 6 6 8, two views", PUBLISHED_TEXT, device),
        *(cost for restorer in restorers for cost in model_costs(restorer)),
    ]
    step = prior_step()
    header = ["network", "parameters (M)", f"GMACs at {SIDE} x {SIDE}", "ms", "peak memory (MB)"]
    header += [f"TMACs / megapixel, {size}/{stride}" for size, stride in PAPER_TILES]
    rows = [
        [
            cost.name,
            f"{cost.parameters / 1e6:.2f}",
            f"{cost.macs / 1e9:.2f}",
            "" if cost.seconds is None else f"{1e3 * cost.seconds:.0f}",
            "" if cost.peak_bytes is None else f"{cost.peak_bytes / 1e6:.0f}",
            *(f"{cost.macs_per_megapixel(*tiles) / 1e12:.2f}" for tiles in PAPER_TILES),
        ]
        for cost in (*networks, step)
    ]
    steps = [
        [f"T = {t}", f"{t * step.macs / 1e12:.2f}", f"{t * step.macs / networks[0].macs:.0f}"]
        for t in PAPER_STEPS
    ]
    return (
        f"Measured on {device.type}, {torch.get_num_threads()} threads; the last columns give tile "
        "size / stride.\n\n"
        + markdown_table(header, rows)
        + f"\nAll steps of the paper's prior, at {SIDE} x {SIDE}:\n\n"
        + markdown_table(["steps", "TMACs", "times the published network"], steps)
    )


def _cost(
    name: str, network: nn.Module, images: Tensor, multiple: int, macs: int | None = None
) -> Cost:
    def work() -> None:
        network(images)
        if images.device.type != "cpu":
            torch.accelerator.synchronize(images.device)

    with torch.no_grad():
        work()  # the first call fills caches
        macs = count(work) if macs is None else macs
        peak = _peak(work, images.device)
        taken = statistics.median(seconds(work) for _ in range(3))
    return Cost(name, _parameters(network), macs, multiple, taken, peak)


def _peak(work: Callable[[], object], device: torch.device) -> int:
    """Ask CUDA's allocator for the peak memory; elsewhere, add up the tensors alive at once."""
    if device.type != "cuda":
        memory = LiveBytes()
        with memory:
            work()
        return memory.peak
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    return torch.cuda.max_memory_allocated(device) - before


def _parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())
