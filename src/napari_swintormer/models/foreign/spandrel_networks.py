"""Weights of networks of others: spandrel finds the architecture by the names of the tensors.

The weights are read as data; nothing in the file is run.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

from napari_swintormer.errors import WeightsError, one_line
from napari_swintormer.models.files.card import ForeignCard, ForeignNetwork, foreign_card
from napari_swintormer.models.files.weights import read_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor, nn


def recognise(path: Path, state: Mapping[str, Tensor]) -> tuple[ForeignCard, nn.Module]:
    """Build the network that the tensors of a file belong to, on the CPU, and describe it.

    Raises `WeightsError` if spandrel is not installed, does not know the network, or the network
    does not restore images of one or three channels at their own size.
    """
    try:
        from spandrel import MAIN_REGISTRY, ImageModelDescriptor, ModelLoader
    except (ImportError, RuntimeError) as error:  # a torchvision for another torch raises both
        missing = getattr(error, "name", None) == "spandrel"
        why = "is not installed" if missing else f"cannot be loaded ({one_line(error)})"
        raise WeightsError(
            f"{path} holds no network of this package. Networks of others are recognised by the "
            f"package spandrel, which {why}. Use pip install napari-swintormer[zoo], and the "
            "torchvision made for the installed torch."
        ) from error
    if find_spec("spandrel_extra_arches") is not None:  # architectures with licences of their own
        from spandrel_extra_arches import EXTRA_REGISTRY

        MAIN_REGISTRY.add(*EXTRA_REGISTRY, ignore_duplicates=True)
    try:
        descriptor = ModelLoader(registry=MAIN_REGISTRY).load_from_state_dict(dict(state))
    except Exception as error:  # whatever an architecture raises when shapes do not fit
        raise WeightsError(
            f"{path} holds no network that this package or spandrel knows ({one_line(error)}). "
            "Restormer and some others need the package spandrel_extra_arches as well."
        ) from error
    channels = (descriptor.input_channels, descriptor.output_channels)
    image = isinstance(descriptor, ImageModelDescriptor)
    if not image or descriptor.scale != 1 or channels not in ((1, 1), (3, 3)):
        raise WeightsError(
            f"{path} holds a {descriptor.architecture.name} that cannot restore an image at its "
            f"own size (scale {descriptor.scale}, {channels[0]} channels in, {channels[1]} out). "
            "Use a network for deblurring or denoising of 1 or 3 channels."
        )
    sizes = descriptor.size_requirements
    network = ForeignNetwork(
        kind="spandrel",
        architecture=descriptor.architecture.name,
        channels=channels[0],
        multiple=max(sizes.multiple_of, 1),
        minimum=max(sizes.minimum, 1),
        square=sizes.square,
    )
    return foreign_card(path, network), descriptor.model


@lru_cache(maxsize=4)  # a plan is made anew whenever a setting changes
def describe_tensors(path: Path, _sha256: str) -> ForeignCard:
    """Return the card of a file of tensors; recognises each file once."""
    return recognise(path, read_tensors(path))[0]
