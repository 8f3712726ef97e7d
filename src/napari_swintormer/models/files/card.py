"""The model card: the whole description of a model, kept inside its weights file."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from napari_swintormer import __version__
from napari_swintormer.errors import SettingsError
from napari_swintormer.imaging.intensity import IntensityConvention
from napari_swintormer.models.network.network_settings import SwintormerSettings
from napari_swintormer.models.prior.prior_settings import PriorSettings
from napari_swintormer.settings.deblur_settings import Blend

FORMAT_VERSION: Final = 1

DUAL_PIXEL: Final = ("right", "left")
"""The views of a dual-pixel camera, in the order that networks take them."""

# A card is data from a stranger's file: every field has a bound.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]
Line = Annotated[str, Field(max_length=300)]
Text = Annotated[str, Field(max_length=5000)]


class TrainingData(BaseModel):
    """One source of training images.

    Attributes
    ----------
    name
        Where the images come from.
    licence
        Under which licence they may be used.
    images
        How many were used.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Line
    licence: Line
    images: int = Field(ge=0)


class ModelCard(BaseModel):
    """What a weights file says about itself; one JSON in the header of the file.

    Attributes
    ----------
    format_version
        Version of this description; a newer one than ours is refused.
    name
        Name in the catalogue: letters, digits, ``.``, ``_`` and ``-``.
    version
        Version of the weights.
    title, summary
        What a user reads: one line, and what the model is good for and what not.
    architecture, network
        The network and its sizes.
    views
        What the views of a network of several show, in the order of its input; the residual is
        added to the first. None of two stands for `DUAL_PIXEL`, as in the authors' code.
    prior
        What is sampled for the network's prior channels, or None for a network without prior; only
        of one view.
    tile_size, overlap
        Side of the tiles that the model works best on and their overlap, in pixels.
    blend
        Weights where tiles overlap, ``"smooth"`` or ``"uniform"``.
    intensity
        How intensities of an image become the unit range that the model was trained on.
    clip_output
        Whether restored tiles are cut to [0, 1]; the released models were trained so, ours
        are not, and keep what is brighter than the range.
    training_data
        Where the training images come from.
    licence
        Licence of the weights.
    metrics
        What was measured on the model: name of the figure → value.
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
    training_data: Annotated[tuple[TrainingData, ...], Field(max_length=1000)] = ()
    licence: Line = ""
    metrics: Annotated[dict[Line, FiniteFloat], Field(max_length=1000)] = {}
    created_with: Line = f"napari-swintormer {__version__}"

    @model_validator(mode="after")
    def _tiles_fit(self) -> Self:
        if self.overlap >= self.tile_size:
            raise ValueError(
                f"overlap must be smaller than tile_size "
                f"(got overlap={self.overlap}, tile_size={self.tile_size})"
            )
        return self

    @model_validator(mode="after")
    def _views_fit(self) -> Self:
        if self.views is not None and len(self.views) != self.network.views:
            raise ValueError(f"the network has {self.network.views} views (got {self.views})")
        return self

    @model_validator(mode="after")
    def _prior_fits(self) -> Self:
        if self.prior is not None:
            if self.network.views != 1:
                raise ValueError(f"a prior is of one view (the network has {self.network.views})")
            given = (self.prior.channels, self.prior.prior_channels)
            wanted = (self.network.channels, self.network.prior_channels)
            if given != wanted:
                raise ValueError(
                    f"the prior has {given[0]} channels for the image and {given[1]} for the "
                    f"network, which wants {wanted[0]} and {wanted[1]}"
                )
        return self

    @property
    def second_view(self) -> str | None:
        """What the second view of a network of two shows; None of other networks."""
        return (self.views or DUAL_PIXEL)[1] if self.network.views == 2 else None

    def check_views(self, n_views: int) -> None:
        """Refuse a scene that has not the views that the network takes.

        Parameters
        ----------
        n_views
            1 for an image, 2 with a second view.

        Raises
        ------
        SettingsError
            The message says what would work.
        """
        if self.network.views > 2:
            raise SettingsError(
                f"The model {self.name!r} restores a scene from {self.network.views} views at "
                "once. Use a model of one view, or of two."
            )
        if n_views < self.network.views:
            first, second = self.views or DUAL_PIXEL
            raise SettingsError(
                f"The model {self.name!r} restores a scene from 2 views, and there is one image. "
                f"Give the {first} view as the image and the {second} one as second_view, or use a "
                "model of one view."
            )
        if n_views > self.network.views:
            raise SettingsError(
                f"The model {self.name!r} restores a single image (got a second_view, too). Leave "
                "second_view out, or use a model of two views."
            )

    def check_described(self) -> None:
        """Refuse a model that needs what its card does not describe.

        Raises
        ------
        SettingsError
            The network takes a prior that the card does not name.
        """
        if self.network.prior_channels and self.prior is None:
            raise SettingsError(
                f"The model {self.name!r} needs a prior of {self.network.prior_channels} channels "
                "beside the image, and its card does not say which. Use a model without prior, or "
                "one that was trained with its prior by this package."
            )

    def check_prior(self, source: str | None, steps: int | None, seed: int) -> None:
        """Refuse wishes for the prior that cannot be fulfilled; for models that have one.

        Parameters
        ----------
        source, steps, seed
            See `napari_swintormer.models.restorer.PriorUse`.

        Raises
        ------
        SettingsError
            The message says what would work.
        """
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
    """A network of others: what the engine must know of it.

    Attributes
    ----------
    kind
        ``"spandrel"``: weights of an architecture that spandrel builds; ``"torchscript"`` and
        ``"export"``: programs of torch.
    architecture
        Its name, for people.
    channels
        Of the image, 1 or 3.
    multiple, minimum, square, largest
        Tiles are enlarged to multiples, to at least the minimum, and to squares; they may be no
        larger than the largest, which is None for any size.
    dim
        Channels that memory is planned with; nobody knows before it runs.
    views, prior_channels
        There are no others.
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


class ForeignCard(ModelCard):
    """Card of a network of others; its attributes mean what those of `ModelCard` do."""

    architecture: Line = ""  # type: ignore[assignment]
    network: ForeignNetwork  # type: ignore[assignment]
