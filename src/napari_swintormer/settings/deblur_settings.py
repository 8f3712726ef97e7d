# ruff: noqa: RUF009 (`option` makes a field)
"""The options of a deblurring: each one is spelled here, and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict, get_args

from napari_swintormer.settings.options import option

DEFAULT_MODEL = "swintormer"
"""The built-in model."""
AUTOMATIC_MODEL = "auto"
"""Stands for the built-in model."""
FILTER_MODEL = "filter"
"""Stands for the filter that undoes a blur, without a network behind it."""
UNKNOWN_BLUR: Literal["unknown"] = "unknown"
"""Word for a blur that the network finds by itself, place by place."""
SAMPLES_FOR_UNCERTAINTY = 4
SAMPLES_MAX = 64
"""Most samples in one run: the differences between them are held in memory."""
STRENGTH_MAX = 2.0
"""More than 1 is useful: models change too little where they are not sure of the blur."""
STRENGTHS = (0.0, 0.5, 1.0, 1.5, STRENGTH_MAX)
"""Strengths that the plugin and the benchmarks try side by side."""
STACK_OPTIONS = (
    "depth",
    "na",
    "immersion",
    "sample_index",
    "specimen_depth",
    "wavelength",
    "pixel_size",
    "z_step",
    "modality",
    "psf",
    "iterations",
)
"""Options that only the restoration of a stack as a volume uses."""
TILE_SIZE_MAX = 16384
"""Largest tile that a model card can name, in pixels."""


class WritesJson(Protocol):
    """Something that can be written as JSON, such as a blur."""

    def to_json(self) -> dict[str, Any]:
        """Give plain values."""


if TYPE_CHECKING:
    BlurWish = str | float | WritesJson
else:
    BlurWish = str  # the command line gives text

Measured = Literal["auto", "auto-shared"]
MEASURED: tuple[Measured, ...] = get_args(Measured)
"""Words for a blur that is measured on the image."""

Blend = Literal["uniform", "smooth"]
Device = str  # "auto", "cpu", "cuda", "cuda:1", "cuda:0,cuda:1", "mps"
Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]
ImageKind = Literal["photo", "microscopy"]
Preset = Literal["fast", "balanced", "best"]
Depth = Literal["auto", "volume", "planes"]
Modality = Literal["widefield", "confocal", "spinning-disk", "light-sheet"]


@dataclass(frozen=True)
class DeblurSettings:
    """How an image is deblurred; None leaves an option to the model, the device or the image."""

    model: str | None = option(
        None,
        "Name of a model, path of a weights file, or filter.",
        "The default is the built-in model. filter undoes the blur without a network.",
        flags=("--model", "-m"),
        label="Model",
    )
    axes: str | None = option(
        None,
        "Axes of the image: one letter of TCZYXS for each dimension.",
        "Y and X lie in the plane, Z is depth, T is time, C are channels and S the colours of "
        "one pixel. The default is what the file says, or a guess from the shape.",
        label="Axes",
    )
    planes: str | None = option(
        None,
        "Planes to deblur, such as Z=2:5; the default is all planes.",
        "The result holds these planes only. Each plane gets the same result as in a run over "
        "the whole stack.",
        label="Planes",
    )
    kind: ImageKind | None = option(
        None,
        "What the image is: photo or microscopy.",
        "It decides how a blur is undone: that of a photo in its light as well, that of a "
        "micrograph in its intensities alone. By default the looks of an 8-bit colour image decide "
        "what it is. Any other image is microscopy.",
    )
    preset: Preset | None = option(
        None,
        "fast, balanced or best: sets overlap, steps and samples where they are not given.",
        "Balanced takes the values of the model. Fast takes half of the model's overlap and a "
        "quarter of its prior's steps. Best takes the overlap of the paper, 57 % of the tile, "
        "and the mean of four samples.",
        label="Preset",
        choices={"fast": "Fast", "balanced": "Balanced", "best": "Best"},
    )
    tile_size: int | None = option(
        None,
        "Side of the square tiles that go through the network, in pixels.",
        "The default is the model's; it works best on the size that it was trained on. With "
        "scale, these are pixels of the smaller image.",
        label="Tile size",
        low=1,
        high=TILE_SIZE_MAX,
    )
    overlap: int | None = option(
        None,
        "Overlap of neighbouring tiles, in pixels.",
        "More overlap takes longer and averages more results at each pixel. The default is the "
        "model's; the paper's best is 292 for tiles of 512.",
        label="Overlap",
        low=0,
        high=TILE_SIZE_MAX,
    )
    blend: Blend | None = option(
        None,
        "Weights where tiles overlap: smooth or uniform.",
        "Smooth weights fall towards the border of a tile. Uniform weights give the plain mean "
        "of the paper. The default is the model's.",
        label="Blending",
        choices={"smooth": "Smooth", "uniform": "Uniform mean"},
    )
    batch_size: int | None = option(
        None,
        "Number of tiles that go through the network at once.",
        "More tiles are faster on a GPU and need more memory. The default suits the device.",
        label="Batch size",
        low=1,
    )
    device: Device = option(
        "auto",
        "Device of the network: auto, cpu, cuda, cuda:1, xpu, mps; several GPUs as cuda:0,cuda:1.",
        "auto takes an NVIDIA or AMD GPU if there is one, else one of Intel or Apple, or the CPU.",
        label="Device",
        choices={
            "auto": "Automatic",
            "cpu": "CPU",
            "cuda": "NVIDIA or AMD GPU",
            "xpu": "Intel GPU",
            "mps": "Apple GPU",
        },
    )
    precision: Precision = option(
        "auto",
        "Precision of the network: auto, fp32, tf32, bf16 or fp16.",
        "auto takes the fastest that the device computes well. tf32 is fp32 with rounded factors "
        "in products, which is several times as fast on NVIDIA GPUs.",
        label="Precision",
        choices={
            "auto": "Automatic",
            "fp32": "32-bit float",
            "tf32": "TF32 (NVIDIA GPU)",
            "bf16": "bfloat16",
            "fp16": "16-bit float",
        },
    )
    seed: int = option(
        0,
        "Seed of the sampled prior.",
        "It is not negative. The same seed gives the same result.",
        label="Seed",
        low=0,
        high=2**31 - 1,
    )
    num_inference_steps: int | None = option(
        None,
        "Number of steps in which the model's prior is sampled.",
        "More steps take longer. The default is the model's, which suits it best; the paper's "
        "prior gets better with more.",
        label="Steps",
        low=1,
    )
    samples: int | None = option(
        None,
        "Number of priors to sample; the result is the mean over them.",
        "The time grows with the number. The default is 1, and 4 with uncertainty.",
        label="Samples",
        low=1,
        high=SAMPLES_MAX,
    )
    uncertainty: bool = option(
        False,
        "Also give the standard deviation of the samples at every pixel.",
        "It is high where the model made details up. It needs 2 samples or more. A file of it is "
        "called NAME-deviation.",
        label="Uncertainty",
    )
    prior: str | None = option(
        None,
        "off restores without the model's prior; else where the paper's prior is stored.",
        "Off is quicker. The paper's prior is stored under an id on the Hugging Face hub, in a "
        "folder or in a .ckpt file. The default is what the model says.",
        label="Prior",
    )
    blur: BlurWish | None = option(
        None,
        "Blur to undo: 3.2px, motion:14@30, a PSF file, auto, auto-shared, unknown or none.",
        "A number is the radius of a defocus in pixels, and motion has a length and a direction in "
        "degrees. auto measures the blur of each plane, auto-shared one blur for all planes and "
        "images. unknown lets the network find the blur, place by place. The API also takes a "
        "Blur. The default is auto; for a model that is not told the blur it is unknown.",
    )
    strength: float = option(
        1.0,
        f"Factor on the change that the model makes, from 0 to {STRENGTH_MAX:g}.",
        "0 leaves the image as it is, and 1 is the result of the model. More helps where the "
        "result is still soft.",
        label="Strength",
        low=0.0,
        high=STRENGTH_MAX,
    )
    scale: int = option(
        1,
        "Restore at 1/scale of the size, for wide blur: 1, 2 or 4.",
        "This is for blur that is too wide for the model at full size. Finer detail stays as it "
        "is.",
        label="Scale",
        choices={1: "Full size", 2: "Half size", 4: "Quarter size"},
    )
    depth: Depth = option(
        "auto",
        "How a stack along Z is restored: auto, volume or planes.",
        "volume restores all planes together by 3-D Richardson-Lucy with the point-spread function "
        "of the microscope. planes restores each plane with the model. auto takes volume where the "
        "microscope is known and no model is named.",
        label="Depth",
        choices={"auto": "Automatic", "volume": "Volume", "planes": "Plane by plane"},
    )
    na: float | None = option(
        None,
        "Numerical aperture of the objective, for a volume; the default is what the file says.",
        label="NA",
        low=0.01,
        high=1.9,
    )
    immersion: str | None = option(
        None,
        "Immersion of the objective, for a volume: air, water, glycerol, oil, or its index.",
        "The index is the refractive index, such as 1.41. The default is what the file says.",
        label="Immersion",
    )
    sample_index: float | None = option(
        None,
        "Refractive index of the specimen, for a volume; the default is that of the immersion.",
        label="Specimen index",
        low=1.0,
        high=2.0,
    )
    specimen_depth: float | None = option(
        None,
        "Depth below the cover glass in micrometres, of the middle of the volume.",
        "It matters where the index of the specimen differs from that of the immersion: then the "
        "point-spread function grows with depth. The default is 0.",
        label="Specimen depth (µm)",
        low=0,
        high=1000,
    )
    wavelength: float | None = option(
        None,
        "Wavelength of the recorded light in nanometres, for a volume.",
        "It holds for all channels. The default is what the file says of each channel.",
        label="Wavelength (nm)",
        low=200,
        high=2000,
    )
    pixel_size: float | None = option(
        None,
        "Side of a pixel in micrometres, for a volume; the default is what the file says.",
        label="Pixel size (µm)",
        low=0.001,
        high=1000,
    )
    z_step: float | None = option(
        None,
        "Distance of the planes in micrometres, for a volume; the default is what the file says.",
        label="Z step (µm)",
        low=0.001,
        high=1000,
    )
    modality: Modality | None = option(
        None,
        "Kind of microscope, for a volume: widefield, confocal, spinning-disk or light-sheet.",
        "The default is what the file says, or widefield.",
        label="Microscope",
        choices={
            "widefield": "Wide-field",
            "confocal": "Confocal",
            "spinning-disk": "Spinning disk",
            "light-sheet": "Light sheet",
        },
    )
    psf: str | None = option(
        None,
        "File of a measured point-spread function: 3-D for a volume, 2-D for planes.",
        "Its pixels have the size of those of the image, and its sides are odd.",
        label="PSF file",
    )
    iterations: int | None = option(
        None,
        "Number of Richardson-Lucy iterations for a volume; the default is found on the image.",
        label="Iterations",
        low=1,
        high=200,
    )


class DeblurOptions(TypedDict, total=False):
    """The keywords of `deblur`: the fields of `DeblurSettings` but `model`, for type checkers."""

    kind: ImageKind | None
    axes: str | None
    planes: str | None
    preset: Preset | None
    tile_size: int | None
    overlap: int | None
    blend: Blend | None
    batch_size: int | None
    device: Device
    precision: Precision
    seed: int
    num_inference_steps: int | None
    samples: int | None
    uncertainty: bool
    prior: str | None
    blur: BlurWish | None
    strength: float
    scale: int
    depth: Depth
    na: float | None
    immersion: str | None
    sample_index: float | None
    specimen_depth: float | None
    wavelength: float | None
    pixel_size: float | None
    z_step: float | None
    modality: Modality | None
    psf: str | None
    iterations: int | None
