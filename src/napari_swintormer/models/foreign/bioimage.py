"""Models in the format of the BioImage Model Zoo: for other programs, and to be published there."""

from __future__ import annotations

import re
import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from napari_swintormer import __version__
from napari_swintormer.errors import OutputError
from napari_swintormer.imaging.formats.writing import disk_errors
from napari_swintormer.models.files.card import ModelCard
from napari_swintormer.models.prior.compact import build_network
from napari_swintormer.models.restorer import Restorer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from torch import Tensor

_PAPER = "Efficient Image Deblurring Networks based on Diffusion Models, arXiv 2401.05907"
_PAPER_URL = "https://arxiv.org/abs/2401.05907"
_TEST_SIDE = 128  # pixels of the image that shows other programs what to expect, at least
_EPSILON = 1e-6
_DOCUMENTATION = """# {title}

{summary}

Restores images that are out of focus. Takes images whose intensities the preprocessing has brought
to the unit range, and returns them sharper, in the same range. Needs the Python package
`napari-swintormer` {version} or newer, which restores large images tile by tile, measures dark
images more carefully, and gives results in the data type of the input.

# Validation

{metrics}
"""


def build_restorer(card: Mapping[str, Any]) -> Restorer:
    """Build a restorer with random parameters: the architecture that an exported model names.

    Parameters
    ----------
    card
        Fields of `napari_swintormer.models.files.card.ModelCard`.
    """
    described = ModelCard.model_validate(card)
    network = build_network(described.network, described.prior)
    return Restorer(described, network.state_dict())


def export_bioimage(card: ModelCard, state: Mapping[str, Tensor], target: Path) -> None:
    """Write a model as a package of the BioImage Model Zoo.

    The package holds the parameters, the architecture by its name in this Python package, a test
    image before and after, and a description that ``bioimageio.spec`` has validated.

    Parameters
    ----------
    card, state
        The model, as `napari_swintormer.models.files.weights.load_weights` gives it.
    target
        File to write or replace, ending in ``.zip``.

    Raises
    ------
    OutputError
        ``bioimageio.spec`` is not installed, the model has no place in the format, or the file
        cannot be written.
    """
    if find_spec("bioimageio") is None:
        raise OutputError(
            "The format of the BioImage Model Zoo needs bioimageio.spec. Install it with pip "
            'install "napari-swintormer[bioimage]", or export to .safetensors.'
        )
    if card.network.views != 1 or (card.prior is not None and card.prior.kind != "compact"):
        raise OutputError(
            f"The model {card.name!r} needs more than one image or a prior from elsewhere, which "
            "the BioImage Model Zoo has no place for. Export it to .safetensors."
        )
    restorer = Restorer(card, state)
    image = _test_image(card)
    with torch.inference_mode():
        restored = restorer(torch.from_numpy(_to_unit(image, card))).numpy()
    with disk_errors(target), tempfile.TemporaryDirectory(dir=target.parent) as folder:
        files = Path(folder)
        np.save(files / "test_input.npy", image)
        np.save(files / "test_output.npy", restored)
        torch.save(restorer.state_dict(), files / "weights.pt")
        metrics = [f"- {name}: {value:g}" for name, value in card.metrics.items()]
        text = _DOCUMENTATION.format(
            title=card.title or card.name,
            summary=card.summary,
            version=__version__,
            metrics="\n".join(metrics) or "Nothing was measured on this model.",
        )
        (files / "README.md").write_text(text, encoding="utf-8")
        _package(card, files).replace(target)


def _package(card: ModelCard, files: Path) -> Path:
    """Describe the files, check the description, and pack all of it."""
    from bioimageio.spec import ValidationContext, save_bioimageio_package
    from bioimageio.spec.model import v0_5

    side = v0_5.ParameterizedSize(min=card.network.multiple, step=card.network.multiple)
    names = ["red", "green", "blue"] if card.network.channels == 3 else ["intensity"]

    def axes(kind: Any, sizes: Any) -> list[Any]:
        channels = v0_5.ChannelAxis(channel_names=[v0_5.Identifier(name) for name in names])
        both = [kind(id=v0_5.AxisId(axis), size=sizes(axis)) for axis in "yx"]
        return [v0_5.BatchAxis(), channels, *both]

    def same_as_input(axis: str) -> Any:
        return v0_5.SizeReference(tensor_id=v0_5.TensorId("blurred"), axis_id=v0_5.AxisId(axis))

    intensity = card.intensity
    scaled = v0_5.ScaleRangeDescr(
        kwargs=v0_5.ScaleRangeKwargs(
            axes=[v0_5.AxisId(axis) for axis in ("channel", "y", "x")],
            min_percentile=intensity.low,
            max_percentile=intensity.high,
            eps=_EPSILON,
        )
    )
    with ValidationContext(root=files), warnings.catch_warnings():
        # bioimageio.spec tries several ways of reading what it writes, and tells of each
        warnings.simplefilter("ignore", UserWarning)
        model = v0_5.ModelDescr(
            name=_name(card),
            description=card.summary[:1024] or "Restores images that are out of focus.",
            documentation=v0_5.FileDescr(source=files / "README.md"),
            authors=[v0_5.Author(name="napari-swintormer")],
            cite=[v0_5.CiteEntry(text=_PAPER, url=v0_5.HttpUrl(_PAPER_URL))],
            license=_licence(card),
            tags=["deblurring", "image-restoration", "2d"],
            inputs=[
                v0_5.InputTensorDescr(
                    id=v0_5.TensorId("blurred"),
                    axes=axes(v0_5.SpaceInputAxis, lambda _: side),
                    test_tensor=v0_5.FileDescr(source=files / "test_input.npy"),
                    preprocessing=[scaled],
                )
            ],
            outputs=[
                v0_5.OutputTensorDescr(
                    id=v0_5.TensorId("restored"),
                    axes=axes(v0_5.SpaceOutputAxis, same_as_input),
                    test_tensor=v0_5.FileDescr(source=files / "test_output.npy"),
                )
            ],
            weights=v0_5.WeightsDescr(
                pytorch_state_dict=v0_5.PytorchStateDictWeightsDescr(
                    source=files / "weights.pt",
                    pytorch_version=v0_5.Version(torch.__version__.partition("+")[0]),
                    architecture=v0_5.ArchitectureFromLibraryDescr(
                        callable=v0_5.Identifier("build_restorer"),
                        import_from="napari_swintormer.models.foreign.bioimage",
                        kwargs={"card": card.model_dump(mode="json", exclude_none=True)},
                    ),
                )
            ),
        )
        return Path(save_bioimageio_package(model, output_path=files / "package.zip"))


def _name(card: ModelCard) -> str:
    """Title, in the letters and of the length that the format allows."""
    allowed = re.sub(r"[^A-Za-z0-9_+\- ()]", "", card.title or card.name)
    return f"Swintormer - {allowed.strip()}"[:128]


def _licence(card: ModelCard) -> Any:
    """Give the card's licence where it is one that the format knows."""
    from bioimageio.spec.model import v0_5
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(v0_5.LicenseId).validate_python(card.licence)
    except ValidationError:
        return None


def _test_image(card: ModelCard) -> NDArray[np.float32]:
    """Draw waves that get finer to one side, ``(1, C, Y, X)``, in counts of a camera."""
    side = -(-_TEST_SIDE // card.network.multiple) * card.network.multiple
    y, x = np.mgrid[:side, :side] / side
    waves = [np.sin(40 * x * x * (1 + k / 4)) * np.cos(9 * y) for k in range(card.network.channels)]
    return (1000 + 400 * np.stack(waves)[np.newaxis]).astype(np.float32)


def _to_unit(image: NDArray[np.float32], card: ModelCard) -> NDArray[np.float32]:
    """Do what the description tells other programs to do before."""
    low, high = np.percentile(image, (card.intensity.low, card.intensity.high))
    unit: NDArray[np.float32] = ((image - low) / (high - low + _EPSILON)).astype(np.float32)
    return unit
