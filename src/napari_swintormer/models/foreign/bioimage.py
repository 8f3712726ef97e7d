"""Models in the format of the BioImage Model Zoo, for other programs and for publication there."""

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
from napari_swintormer.imaging.formats.boundary import disk_errors
from napari_swintormer.models.files.card import ModelCard
from napari_swintormer.models.prior.compact import build_network
from napari_swintormer.models.restorer import Restorer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from torch import Tensor

_PAPER = "Efficient Image Deblurring Networks based on Diffusion Models, arXiv 2401.05907"
_PAPER_URL = "https://arxiv.org/abs/2401.05907"
_TEST_SIDE = 128  # pixels, least side of the test image
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
    """Build a restorer with random parameters from the fields of a `ModelCard`.

    Exported packages name this function as their architecture.
    """
    described = ModelCard.model_validate(card)
    network = build_network(described.network, described.prior)
    return Restorer(described, network.state_dict())


def export_bioimage(card: ModelCard, state: Mapping[str, Tensor], target: Path) -> None:
    """Write a model as a package of the BioImage Model Zoo, a ``.zip`` file.

    The package holds the parameters, the name of the architecture in this Python package, a test
    image before and after, and a description that ``bioimageio.spec`` has validated. Raises
    `OutputError` if that is not installed, or the format cannot hold the model.
    """
    if find_spec("bioimageio") is None:
        raise OutputError(
            "The format of the BioImage Model Zoo needs bioimageio.spec. Install it with pip "
            'install "napari-swintormer[bioimage]", or export to .safetensors.'
        )
    if card.network.views != 1 or (card.prior is not None and card.prior.kind != "compact"):
        raise OutputError(
            f"The model {card.name!r} needs more than one image or a prior from another file. The "
            "format of the BioImage Model Zoo cannot hold that. Export it to .safetensors."
        )
    restorer = Restorer(card, state)
    image = _test_image(card)
    low, high = np.percentile(image, (card.intensity.low, card.intensity.high))
    unit = ((image - low) / (high - low + _EPSILON)).astype(np.float32)
    with torch.inference_mode():
        restored = restorer(torch.from_numpy(unit)).numpy()
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
    """Describe the files, validate the description, and pack everything."""
    from bioimageio.spec import ValidationContext, save_bioimageio_package
    from bioimageio.spec.model import v0_5

    with ValidationContext(root=files), warnings.catch_warnings():
        # bioimageio.spec tries several readings of its own output, and warns about each
        warnings.simplefilter("ignore", UserWarning)
        # the format allows few characters in a name
        title = re.sub(r"[^A-Za-z0-9_+\- ()]", "", card.title or card.name).strip()
        model = v0_5.ModelDescr(
            name=f"Swintormer - {title}"[:128],
            description=card.summary[:1024] or "Restores images that are out of focus.",
            documentation=v0_5.FileDescr(source=files / "README.md"),
            authors=[v0_5.Author(name="napari-swintormer")],
            cite=[v0_5.CiteEntry(text=_PAPER, url=v0_5.HttpUrl(_PAPER_URL))],
            license=_licence(card),
            tags=["deblurring", "image-restoration", "2d"],
            inputs=[_input(card, files)],
            outputs=[_output(card, files)],
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


def _input(card: ModelCard, files: Path) -> Any:
    from bioimageio.spec.model import v0_5

    multiple = card.network.multiple
    size = v0_5.ParameterizedSize(min=multiple, step=multiple)
    space = [v0_5.SpaceInputAxis(id=v0_5.AxisId(axis), size=size) for axis in "yx"]
    scaling = v0_5.ScaleRangeKwargs(
        axes=[v0_5.AxisId(axis) for axis in ("channel", "y", "x")],
        min_percentile=card.intensity.low,
        max_percentile=card.intensity.high,
        eps=_EPSILON,
    )
    return v0_5.InputTensorDescr(
        id=v0_5.TensorId("blurred"),
        axes=[v0_5.BatchAxis(), _channel_axis(card), *space],
        test_tensor=v0_5.FileDescr(source=files / "test_input.npy"),
        preprocessing=[v0_5.ScaleRangeDescr(kwargs=scaling)],
    )


def _output(card: ModelCard, files: Path) -> Any:
    from bioimageio.spec.model import v0_5

    def axis(name: str) -> Any:
        same = v0_5.SizeReference(tensor_id=v0_5.TensorId("blurred"), axis_id=v0_5.AxisId(name))
        return v0_5.SpaceOutputAxis(id=v0_5.AxisId(name), size=same)

    return v0_5.OutputTensorDescr(
        id=v0_5.TensorId("restored"),
        axes=[v0_5.BatchAxis(), _channel_axis(card), axis("y"), axis("x")],
        test_tensor=v0_5.FileDescr(source=files / "test_output.npy"),
    )


def _channel_axis(card: ModelCard) -> Any:
    from bioimageio.spec.model import v0_5

    names = ["red", "green", "blue"] if card.network.channels == 3 else ["intensity"]
    return v0_5.ChannelAxis(channel_names=[v0_5.Identifier(name) for name in names])


def _licence(card: ModelCard) -> Any:
    """Return the card's licence if the format knows it, else None."""
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
