"""Settings and folders shared by widget, command line and API.

The defaults stand here and nowhere else; a test compares the three interfaces against them.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import platformdirs

DEFAULT_MODEL = "swintormer-small"
"""Where no image is at hand to choose a model for."""
AUTOMATIC_MODEL = "auto"
"""The built-in model for this kind of image, see `models.catalogue.choose_model`."""
SAMPLES_FOR_UNCERTAINTY = 4
SAMPLES_MAX = 64
"""Of one run; their differences are held in memory."""
STRENGTH_MAX = 2.0
"""Models are careful where they are not sure of the blur: many images want more than they say."""
STRENGTHS = (0.0, 0.5, 1.0, 1.5, STRENGTH_MAX)
"""That are tried side by side."""

Blend = Literal["uniform", "smooth"]
Device = str  # "auto", "cpu", "cuda", "cuda:1", "cuda:0,cuda:1", "mps"
Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]
Preset = Literal["fast", "balanced", "best"]


@dataclass(frozen=True)
class DeblurSettings:
    """How an image is deblurred; None means "as the model says".

    Attributes
    ----------
    model
        Name in the catalogue or path of a weights file; None or ``"auto"`` chooses by the image.
    axes
        One letter of ``TCZYXS`` per image dimension, None to guess from the shape.
    planes
        Planes to deblur, such as ``"Z=2:5"``; the result holds no others, and they are what they
        are in the result of the whole image. None for all.
    preset
        ``"fast"``, ``"balanced"`` or ``"best"`` fills in overlap, steps and samples where they are
        None, see `napari_swintormer.runs.presets`.
    tile_size, overlap
        Side of the square tiles and overlap of neighbours, in pixels. The paper's best is 512
        with 292 (stride 220). In pixels that the network sees, see `scale`.
    blend
        Weights where tiles overlap: ``"uniform"`` as in the paper, ``"smooth"`` falls off
        towards the border of the tile.
    batch_size
        Tiles in one forward pass; None chooses by device.
    device
        ``"auto"`` takes CUDA, then MPS, then the CPU. Several GPUs, as in ``"cuda:0,cuda:1"``,
        share a run.
    precision
        ``"auto"`` takes the fastest that the device computes well. ``"tf32"`` is fp32 with products
        of rounded factors, several times as fast on NVIDIA GPUs.
    seed
        Seed of everything that is sampled; not negative.
    num_inference_steps
        Steps in which a model's prior is sampled; more cost more.
    samples
        How many priors are drawn; the result is the mean of what they lead to, and costs as many
        times more. None draws one, and four with `uncertainty`.
    uncertainty
        Also tell the standard deviation of the samples at every pixel; wants two samples or more.
    prior
        ``"off"`` leaves the prior of the model out. For models with the paper's prior also where
        its parameters are: an id on the Hugging Face hub, a folder, or a ``.ckpt`` file.
    strength
        How much of what the model changes is put into the result, 0 to `STRENGTH_MAX`: 0 leaves the
        image as it is, 1 is what the model says, more goes further the same way.
    scale
        The image is restored at ``1 / scale`` of its size: 1, 2 or 4. For blur that is too wide for
        the model at full size; detail finer than that stays as it is. Tiles are as large for the
        network, and `scale` times as large in the image.
    """

    model: str | None = None
    axes: str | None = None
    planes: str | None = None
    preset: Preset | None = None
    tile_size: int | None = None
    overlap: int | None = None
    blend: Blend | None = None
    batch_size: int | None = None
    device: Device = "auto"
    precision: Precision = "auto"
    seed: int = 0
    num_inference_steps: int | None = None
    samples: int | None = None
    uncertainty: bool = False
    prior: str | None = None
    strength: float = 1.0
    scale: int = 1


@dataclass(frozen=True)
class Preferences:
    """What a user sets once for a computer; widget and command line use it, the API does not.

    Attributes
    ----------
    model
        Name or path of the model that is proposed; ``"auto"`` proposes one for each image.
    device, precision
        What ``"auto"`` stands for; ``"auto"`` leaves that to the computer.
    memory_share
        Share of the GPU's free memory that a run may plan with, 0.1 to 0.95.
    cache_folder
        Where results of large images and other things that can be lost are kept; empty for the
        usual place.
    """

    model: str = AUTOMATIC_MODEL
    device: Device = "auto"
    precision: Precision = "auto"
    memory_share: float = 0.85
    cache_folder: str = ""


def preferences() -> Preferences:
    """Read the user's preferences; what is missing or damaged in the file counts as not set."""
    try:
        stored = json.loads(preferences_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return Preferences()
    stored = stored if isinstance(stored, dict) else {}
    known: dict[str, Any] = asdict(Preferences())
    for name, default in known.items():
        value = stored.get(name)
        known[name] = value if type(value) is type(default) else default
    return Preferences(**known)


def preferences_file() -> Path:
    """File of the user's preferences, a JSON object."""
    return home() / "settings.json"


def with_preferences(settings: DeblurSettings) -> DeblurSettings:
    """Put the user's preferences where settings leave the choice."""
    preferred = preferences()
    return replace(
        settings,
        model=settings.model or preferred.model,
        device=preferred.device if settings.device == "auto" else settings.device,
        precision=preferred.precision if settings.precision == "auto" else settings.precision,
    )


def home() -> Path:
    """Folder of everything the user owns; ``SWINTORMER_HOME`` moves it."""
    override = os.environ.get("SWINTORMER_HOME")
    return Path(override) if override else Path(platformdirs.user_data_dir("napari-swintormer"))


def models_folder() -> Path:
    """Folder of the user's own models: copying a weights file into it imports the model."""
    return home() / "models"


def cache_folder() -> Path:
    """Folder of what can be deleted without loss: measured speeds, results on show, pyramids."""
    if preferred := preferences().cache_folder:
        return Path(preferred).expanduser()
    override = os.environ.get("SWINTORMER_HOME")
    return (
        Path(override) / "cache"
        if override
        else Path(platformdirs.user_cache_dir("napari-swintormer"))
    )
