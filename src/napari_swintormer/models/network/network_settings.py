"""Sizes of a Swintormer network, as a model's card stores them; imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

BLUR_MAPS = 3
"""Maps that describe a known blur: its size, how sure that is, and the noise of the image."""

SoftmaxForm = Literal["plain", "released"]
AttentionForm = Literal["mixed", "channel", "window"]

# Settings are read from weights files, so every number is bounded: a small file must not be able
# to ask for a network that fills the memory.
_Blocks = Annotated[int, Field(ge=1, le=16)]
_Heads = Annotated[int, Field(ge=1, le=32)]
_Radius = Annotated[float, Field(ge=0.1, le=16)]
_Dilation = Annotated[int, Field(ge=1, le=64)]


class DeconvolutionSettings(BaseModel):
    """Sizes of the deconvolution before the network.

    The default filters gain most on synthetic blur, as the best mixture for each image.

    Attributes
    ----------
    disks, gaussians
        Blurs that the filters undo: radii of disks and standard deviations of Gaussians, in pixels.
    noise
        Power of the noise relative to the image; frequencies with less signal are not restored.
    gamma
        The filters also work in light, ``image ** gamma``. None for linear images.
    reach
        Largest distance of a filter's pixels from its centre.
    dim
        Channels of the layers that choose among the filters.
    dilations
        Dilation of the convolution of each block, in grid points of 16 pixels. They grow, because
        blur is often the same over large areas and even areas do not show it.
    knows_kind
        Whether it is told which images are photos.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    disks: Annotated[tuple[_Radius, ...], Field(max_length=32)] = (1.5, 2.25, 3.0, 4.0, 6.0)
    gaussians: Annotated[tuple[_Radius, ...], Field(max_length=32)] = (0.6, 1.1, 1.75, 3.0)
    noise: float = Field(0.015, ge=1e-4, le=10)
    gamma: float | None = Field(2.0, gt=1, le=4)
    reach: int = Field(16, ge=2, le=64)
    dim: int = Field(96, ge=1, le=512)
    dilations: Annotated[tuple[_Dilation, ...], Field(max_length=16)] = (1, 2, 4, 8)
    knows_kind: bool = False

    @model_validator(mode="after")
    def _has_filters(self) -> Self:
        if not self.disks and not self.gaussians:
            raise ValueError("a bank of filters needs a disk or a Gaussian (got none)")
        return self

    @property
    def n_filters(self) -> int:
        """Number of the filters."""
        return len(self.disks) + len(self.gaussians)

    @property
    def n_results(self) -> int:
        """Number of residuals: twice the number of filters if they also work in light."""
        return self.n_filters * (1 if self.gamma is None else 2)


class SwintormerSettings(BaseModel):
    """Sizes of a Swintormer network; the defaults are the paper's network of 25.2 M parameters.

    Attributes
    ----------
    channels
        Channels of one view, and of the restored image.
    views
        Inputs of one scene: 1, or 2 for the left and right image of a dual-pixel camera.
    prior_channels
        Channels of the prior, which follows the views; 0 for a network without prior.
    dim
        Channels at the first level (half the resolution); level ``i`` has ``dim * 2**i``.
    num_blocks, num_heads
        Transformer blocks and attention heads of the four levels, finest first.
    num_refinement_blocks
        Blocks after the decoder, with ``2 * dim`` channels.
    ffn_expansion
        Hidden channels of the feed-forward layers, relative to the channels of the level.
    window_size
        Side of the attention windows, in pixels of the level.
    softmax
        ``"plain"``; or ``"released"`` for weights trained with the authors' code, which divides by
        ``1 + sum(exp(x - max(x)))``.
    attention
        ``"mixed"``: half of the channels attend over the pixels of a window, half over the
        channels. ``"window"``, ``"channel"``: all attend over pixels or all over channels, as in
        the paper's ablation.
    deconvolution
        The deconvolution before the network, or None as in the paper.
    known_blur
        Whether the network continues from an image filtered with a known blur. It then takes the
        filtered views, the views, and `BLUR_MAPS` maps that describe the blur. With a
        deconvolution, that gives the filtered image where the blur is not known. A prior is
        added to the filtered image.
    unclear
        Whether a second network of these sizes, without prior, restores images whose blur is not
        known. The deconvolution is then a part of that one only.
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
    known_blur: bool = False
    unclear: bool = False

    @model_validator(mode="after")
    def _one_known_view(self) -> Self:
        fits = self.views == 1 and self.prior_channels in (0, self.channels)
        if self.known_blur and not fits:
            raise ValueError(
                "a network for a known blur has one view, and no prior or one of as many channels "
                f"(got views={self.views}, channels={self.channels} and "
                f"prior_channels={self.prior_channels})"
            )
        return self

    @model_validator(mode="after")
    def _second_finds_blur(self) -> Self:
        if self.unclear and not (self.known_blur and self.deconvolution is not None):
            raise ValueError(
                "a second network for unclear blur goes with a network for a known blur, and has a "
                f"deconvolution (got known_blur={self.known_blur} and "
                f"deconvolution={self.deconvolution})"
            )
        return self

    @model_validator(mode="after")
    def _heads_divide_channels(self) -> Self:
        # for every form of attention, so that networks which differ in it only can be compared
        for level, (dim, heads) in enumerate(zip(self.dims, self.num_heads, strict=True), start=1):
            if dim % (2 * heads):
                raise ValueError(
                    f"half the channels of a level must divide into its heads (got {dim} channels "
                    f"and num_heads={heads} at level {level}). "
                    f"Use a number of heads that divides {dim // 2}, or another dim."
                )
        return self

    @model_validator(mode="after")
    def _filters_fit_into_images(self) -> Self:
        if self.deconvolution is not None and self.deconvolution.reach >= self.multiple:
            raise ValueError(
                f"the reach of filters must be smaller than the smallest image, {self.multiple} "
                f"pixels (got reach={self.deconvolution.reach}). Use larger windows."
            )
        return self

    @property
    def for_unclear(self) -> SwintormerSettings:
        """Sizes of the second network."""
        return self.model_copy(update={"unclear": False, "prior_channels": 0})

    @property
    def all_told(self) -> bool:
        """Whether the network itself must be told the blur of every image."""
        return self.known_blur and (self.unclear or self.deconvolution is None)

    @property
    def dims(self) -> tuple[int, int, int, int]:
        """Channels of the four levels, finest first."""
        return (self.dim, 2 * self.dim, 4 * self.dim, 8 * self.dim)

    @property
    def in_channels(self) -> int:
        """Channels of the network's input: the views, then the prior or what blur is known."""
        known = self.channels + BLUR_MAPS if self.known_blur else 0
        return self.channels * self.views + self.prior_channels + known

    @property
    def multiple(self) -> int:
        """Divisor of the input's height and width, so that level 4 has whole windows."""
        return 2 * 8 * self.window_size
