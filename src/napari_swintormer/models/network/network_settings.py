"""The sizes of a Swintormer network; imports no torch, so that a model's card can hold them."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

SoftmaxForm = Literal["plain", "released"]
AttentionForm = Literal["mixed", "channel", "window"]

# The settings are read from weights files, so every number is bounded: a file of a few bytes must
# not be able to ask for a network that fills the memory.
_Blocks = Annotated[int, Field(ge=1, le=16)]
_Heads = Annotated[int, Field(ge=1, le=32)]
_Radius = Annotated[float, Field(ge=0.1, le=16)]
_Dilation = Annotated[int, Field(ge=1, le=64)]


class DeconvolutionSettings(BaseModel):
    """A deconvolution before the network, see `napari_swintormer.models.network.deconvolution`.

    The default filters were chosen by how much a mixture of their results, the best one for each
    image, wins on synthetic blur.

    Attributes
    ----------
    disks, gaussians
        Blurs that the filters undo: radii of disks and standard deviations of Gaussians, in pixels.
    noise
        Power of the noise over that of the image: what the blur left less of is not brought back.
    gamma
        Exponent of the intensity curve: the filters work in light, ``image ** gamma``, too. None
        for networks that see linear images alone.
    reach
        Pixels that a filter sees in every direction.
    dim
        Channels of what chooses among the filters.
    dilations
        Of its blocks, one for each: how many places, of 16 pixels, from one to the next that a
        block puts together. They widen, since most blur is the same far around, and much of an
        image is too even to tell by itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    disks: Annotated[tuple[_Radius, ...], Field(max_length=32)] = (1.5, 2.25, 3.0, 4.0, 6.0)
    gaussians: Annotated[tuple[_Radius, ...], Field(max_length=32)] = (0.6, 1.1, 1.75, 3.0)
    noise: float = Field(0.015, ge=1e-4, le=10)
    gamma: float | None = Field(2.0, gt=1, le=4)
    reach: int = Field(16, ge=2, le=64)
    dim: int = Field(96, ge=1, le=512)
    dilations: Annotated[tuple[_Dilation, ...], Field(max_length=16)] = (1, 2, 4, 8)

    @model_validator(mode="after")
    def _some_filters(self) -> Self:
        if not self.disks and not self.gaussians:
            raise ValueError("a bank of filters needs a disk or a Gaussian (got none)")
        return self

    @property
    def n_filters(self) -> int:
        """Number of the filters."""
        return len(self.disks) + len(self.gaussians)

    @property
    def n_results(self) -> int:
        """Number of their results: twice as many where they work in light, too."""
        return self.n_filters * (1 if self.gamma is None else 2)


class SwintormerSettings(BaseModel):
    """Sizes of a Swintormer network; the defaults are those of the paper's 25.2 M parameters.

    Attributes
    ----------
    channels
        Channels of one view, and of the restored image.
    views
        Inputs of one scene: 1, or 2 for the left and right image of a dual-pixel camera.
    prior_channels
        Channels of the prior that follow the views; 0 for a network without prior.
    dim
        Channels at the first level (half the resolution); level ``i`` has ``dim * 2**i``.
    num_blocks, num_heads
        Transformer blocks and attention heads of the four levels, finest first.
    num_refinement_blocks
        Blocks after the decoder, with ``2 * dim`` channels.
    ffn_expansion
        Hidden channels of the feed-forward part, relative to those of the level.
    window_size
        Side of the attention windows, in pixels of the level.
    softmax
        ``"plain"``, or ``"released"`` for weights trained with the authors' code, which divides by
        ``1 + sum(exp(x - max(x)))``.
    attention
        ``"mixed"``: half of the channels attends over the pixels of a window, half over the
        channels. ``"window"`` and ``"channel"``: all of them over pixels, or over channels, as in
        the paper's ablation.
    deconvolution
        What is done to the image before, or None as in the paper.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    channels: int = Field(3, ge=1, le=16)
    views: int = Field(1, ge=1, le=8)
    prior_channels: int = Field(0, ge=0, le=64)
    dim: int = Field(48, ge=2, le=192)
    num_blocks: tuple[_Blocks, _Blocks, _Blocks, _Blocks] = (2, 4, 6, 8)
    num_heads: tuple[_Heads, _Heads, _Heads, _Heads] = (1, 2, 4, 8)
    num_refinement_blocks: int = Field(4, ge=0, le=16)
    ffn_expansion: float = Field(2.66, ge=0.5, le=8)
    window_size: int = Field(16, ge=2, le=32, multiple_of=2)
    softmax: SoftmaxForm = "plain"
    attention: AttentionForm = "mixed"
    deconvolution: DeconvolutionSettings | None = None

    @model_validator(mode="after")
    def _heads_divide_channels(self) -> Self:
        # whatever the attention, so that networks which differ in it alone can be compared
        for level, (dim, heads) in enumerate(zip(self.dims, self.num_heads, strict=True), start=1):
            if dim % (2 * heads):
                raise ValueError(
                    f"half the channels of a level must divide into its heads (got {dim} channels "
                    f"and num_heads={heads} at level {level}). "
                    f"Use a number of heads that divides {dim // 2}, or another dim."
                )
        return self

    @model_validator(mode="after")
    def _images_are_wider_than_filters(self) -> Self:
        if self.deconvolution is not None and self.deconvolution.reach >= self.multiple:
            raise ValueError(
                f"filters must reach less far than the smallest image, {self.multiple} pixels "
                f"(got reach={self.deconvolution.reach}). Use larger windows."
            )
        return self

    @property
    def dims(self) -> tuple[int, int, int, int]:
        """Channels of the four levels, finest first."""
        return (self.dim, 2 * self.dim, 4 * self.dim, 8 * self.dim)

    @property
    def in_channels(self) -> int:
        """Channels of the network's input: the views, first view first, then the prior."""
        return self.channels * self.views + self.prior_channels

    @property
    def multiple(self) -> int:
        """Height and width of the input must be multiples of this: whole windows at level 4."""
        return 2 * 8 * self.window_size
