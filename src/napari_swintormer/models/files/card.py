"""The model card: the description of a model, stored in the header of its weights file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    model_validator,
)

from napari_swintormer import __version__
from napari_swintormer.errors import SettingsError, one_line
from napari_swintormer.imaging.intensity import IntensityConvention
from napari_swintormer.models.network.network_settings import SwintormerSettings
from napari_swintormer.models.prior.prior_settings import PriorSettings
from napari_swintormer.settings.deblur_settings import Blend

if TYPE_CHECKING:
    from pathlib import Path

FORMAT_VERSION: Final = 1

DUAL_PIXEL: Final = ("right", "left")
"""The views of a dual-pixel camera, in the order of the network's input."""

# A card is read from files of strangers: every field has a bound.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]
Line = Annotated[str, Field(max_length=300)]
Text = Annotated[str, Field(max_length=5000)]


class TrainingData(BaseModel):
    """One source of training images: its name, its licence, and how many images were used."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Line
    licence: Line
    images: int = Field(ge=0)


class ModelCard(BaseModel):
    """The description of a model; stored as JSON in the header of the weights file.

    Attributes
    ----------
    format_version, version
        Versions of this description, and of the weights; newer descriptions are refused.
    name
        Name in the catalogue: letters, digits, ``.``, ``_`` and ``-``.
    title, summary
        Text for users: one line, and what the model is good and not good for.
    architecture, network
        The network and its sizes.
    views
        What the views show, in the order of the network's input; the residual is added to the
        first. None for two views means `DUAL_PIXEL`, as in the authors' code.
    prior
        The prior for the network's prior channels, or None; a compact one only for one view.
    tile_size, overlap
        Side and overlap of the tiles that the model works best on, in pixels.
    blend
        Weights where tiles overlap, as in
        `napari_swintormer.settings.deblur_settings.DeblurSettings`.
    intensity
        How intensities of an image become the unit range that the model was trained on.
    clip_output
        Whether restored tiles are clipped to [0, 1], as in the training of the released models.
        Models without it keep what is brighter than the range.
    blur
        What a network for a known blur does where nobody tells the blur: ``"auto"`` measures it,
        and with ``"unknown"`` the network finds it, as it has learned on pairs.
    training_data, licence
        Sources of the training images, and licence of the weights.
    metrics
        Measurements: name of the figure → value.
    created_with
        Software that wrote the file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = FORMAT_VERSION
    name: Name
    version: Line = "1"
    title: Line = ""
    summary: Text = ""
    architecture: Literal["swintormer"] = "swintormer"
    network: SwintormerSettings
    views: Annotated[tuple[Line, ...], Field(max_length=8)] | None = None
    prior: PriorSettings | None = None
    tile_size: int = Field(ge=16, le=16384)
    overlap: int = Field(ge=0, le=16383)
    blend: Blend = "smooth"
    intensity: IntensityConvention = IntensityConvention()
    clip_output: bool = False
    blur: Literal["auto", "unknown"] = "auto"
    training_data: Annotated[tuple[TrainingData, ...], Field(max_length=1000)] = ()
    licence: Line = ""
    metrics: Annotated[dict[Line, FiniteFloat], Field(max_length=1000)] = {}
    created_with: Line = f"napari-swintormer {__version__}"

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.overlap >= self.tile_size:
            raise ValueError(
                f"overlap must be smaller than tile_size "
                f"(got overlap={self.overlap}, tile_size={self.tile_size})"
            )
        if self.views is not None and len(self.views) != self.network.views:
            raise ValueError(f"the network has {self.network.views} views (got {self.views})")
        if self.prior is not None:
            if self.network.views != 1 and self.prior.kind == "compact":
                raise ValueError(
                    f"a compact prior needs one view (the network has {self.network.views})"
                )
            given = (self.prior.channels, self.prior.prior_channels)
            wanted = (self.network.channels, self.network.prior_channels)
            if given != wanted:
                raise ValueError(
                    f"channels of the image and of the prior must be {wanted}, as in the network "
                    f"(got {given})"
                )
        return self

    @property
    def second_view(self) -> str | None:
        """What the second of two views shows; None for networks of other numbers of views."""
        return (self.views or DUAL_PIXEL)[1] if self.network.views == 2 else None

    @property
    def finds_blur(self) -> bool:
        """Whether the network finds a blur that nobody tells."""
        return not self.network.known_blur or self.network.deconvolution is not None

    def check_views(self, n_views: int) -> None:
        """Raise `SettingsError` unless the network takes this number of views, 1 or 2."""
        if self.network.views > 2:
            raise SettingsError(
                f"The model {self.name!r} restores a scene from {self.network.views} views at "
                "once. Use a model of one view, or of two."
            )
        if n_views < self.network.views:
            first, second = self.views or DUAL_PIXEL
            raise SettingsError(
                f"The model {self.name!r} restores a scene from 2 views (got one image). Give the "
                f"{first} view as the image and the {second} view as second_view, or use a model "
                "of one view."
            )
        if n_views > self.network.views:
            raise SettingsError(
                f"The model {self.name!r} restores a single image (got a second_view). Leave out "
                "second_view, or use a model of two views."
            )

    def check_described(self) -> None:
        """Raise `SettingsError` if the network takes a prior that the card does not describe."""
        if self.network.prior_channels and self.prior is None:
            raise SettingsError(
                f"The model {self.name!r} needs a prior of {self.network.prior_channels} channels "
                "beside the image, and its card does not describe one. Use a model without prior, "
                "or one that this package trained with its prior."
            )

    def check_prior(self, source: str | None, steps: int | None, seed: int) -> None:
        """Raise `SettingsError` if the prior cannot be sampled with these options."""
        assert self.prior is not None
        if source not in (None, "off") and self.prior.kind == "compact":
            raise SettingsError(
                f"The prior of the model {self.name!r} lies in its own weights file (got "
                f"prior={source!r}). Leave prior out, or use prior='off'."
            )
        if steps is not None and not 1 <= steps < self.prior.start:
            raise SettingsError(
                f"num_inference_steps must be from 1 to {self.prior.start - 1} for the model "
                f"{self.name!r} (got num_inference_steps={steps}). "
                f"It was made for {self.prior.num_inference_steps}."
            )
        if seed < 0:
            raise SettingsError(f"seed must not be negative (got seed={seed}). Use 0 or more.")


class ForeignNetwork(BaseModel):
    """What the engine must know about a network of others.

    Attributes
    ----------
    kind, architecture
        ``"spandrel"`` for weights, ``"torchscript"`` and ``"export"`` for programs of torch; and
        the name of the architecture, for people.
    multiple, minimum, square, largest
        Sizes of tiles: multiples of `multiple`, at least `minimum`, squares if `square`, at most
        `largest`, which is None for any size.
    dim
        Channels that memory is planned with; the true number is unknown.
    views, prior_channels
        Always one view and no prior.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["spandrel", "torchscript", "export"]
    architecture: Line
    channels: Literal[1, 3]
    multiple: int = Field(1, ge=1, le=16384)
    minimum: int = Field(1, ge=1, le=16384)
    square: bool = False
    largest: int | None = Field(None, ge=1, le=16384)
    dim: int = Field(48, ge=1, le=4096)
    views: Literal[1] = 1
    prior_channels: Literal[0] = 0

    @property
    def known_blur(self) -> bool:
        """Whether the network takes a told blur: none of others does."""
        return False


class ForeignCard(ModelCard):
    """Card of a network of others."""

    architecture: Line = ""  # type: ignore[assignment]
    network: ForeignNetwork  # type: ignore[assignment]


def first_problem(error: ValidationError) -> str:
    """Describe the first problem of a card or settings: the key, and what is wrong with it."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"]) or "card"
    return f"at key {key!r}: {one_line(first['msg'].removeprefix('Value error, '))}"


def card_name(path: Path, default: str) -> str:
    """Make a name for the catalogue from the name of a file."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", path.stem).lstrip("._-")[:64] or default


def foreign_card(path: Path, network: ForeignNetwork) -> ForeignCard:
    """Describe a network of others, whose file holds no description."""
    tile = network.largest or max(512 // network.multiple, 1) * network.multiple
    return ForeignCard(
        name=card_name(path, "network"),
        title=f"{network.architecture} ({path.name})"[:300],
        summary="A network of others; works best on images like those it was trained on.",
        architecture=network.architecture,
        network=network,
        tile_size=max(tile, 16),
        overlap=max(tile, 16) // 8,
        intensity=IntensityConvention(scope="image", low=0, high=100),
        clip_output=True,
    )
