"""The settings of a prior; imports no torch, so that a model's card can hold them."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from napari_swintormer.models.network.network_settings import SwintormerSettings

Solver = Literal["ddim", "ancestral", "dpm++", "unipc"]

LDM_SOURCE = "CompVis/ldm-super-resolution-4x-openimages"
LDM_BYTES = 4 * 113_622_563
"""Size of its parameters in memory."""
LDM_BYTES_PER_PIXEL = 9000
"""Most memory that the rest of it takes, of a window in 32-bit floats (8985 measured)."""
STEPS_MAX = 1000
"""Steps of the process that priors are trained on, and so the most that sampling can take."""


class CompactPriorSettings(BaseModel):
    """A small prior of our own, whose parameters lie in the weights file of the model.

    The latent of what the blurred image misses is a map of `latent_channels` at 1/4 of its
    resolution; the denoiser predicts it, clean, from its noised form and from what an encoder sees
    in the blurred image.

    Attributes
    ----------
    encoder
        Sizes of that encoder: a network like the one that restores, at half the size of the image.
    latent_channels
        Channels of the latent.
    denoiser_blocks
        Blocks of the denoiser, at the latent's resolution and as wide as what the encoder tells.
    start
        Step at which sampling starts, from zero noised so far.
    num_inference_steps
        Steps unless the user says otherwise; deterministic.
    solver
        ``"ddim"``, or one of diffusers: ``"dpm++"``, ``"unipc"``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["compact"] = "compact"
    encoder: SwintormerSettings
    latent_channels: int = Field(16, ge=1, le=64)
    denoiser_blocks: int = Field(2, ge=1, le=16)
    start: int = Field(400, ge=1, le=STEPS_MAX)
    num_inference_steps: int = Field(1, ge=1, le=STEPS_MAX)
    solver: Literal["ddim", "dpm++", "unipc"] = "ddim"

    @model_validator(mode="after")
    def _encoder_sees_one_image(self) -> Self:
        if self.encoder.views != 1 or self.encoder.prior_channels:
            raise ValueError(
                f"the encoder of a prior sees one image and no prior (got views="
                f"{self.encoder.views} and prior_channels={self.encoder.prior_channels})"
            )
        return self

    @property
    def channels(self) -> int:
        """Channels of the image."""
        return self.encoder.channels

    @property
    def prior_channels(self) -> int:
        """Channels that the network gets: those of an image."""
        return self.channels


class LdmPriorSettings(BaseModel):
    """The paper's prior: a latent diffusion model for super-resolution, 113.6 M parameters.

    Its latent has three channels on the image's own grid and goes to the network as it is.

    Attributes
    ----------
    source
        Where its parameters are, on the Hugging Face hub; the user may name another place.
    num_inference_steps
        Steps unless the user says otherwise.
    eta
        Noise that the steps add; 1 in the released script, 0 is deterministic.
    solver
        ``"ddim"`` as in the released script, ``"ancestral"`` as in the paper's text, or one of
        diffusers: ``"dpm++"``, ``"unipc"``.
    window, shift
        Sides of the windows that the denoiser sees at once and the step between them, in pixels;
        their predictions are blended at every step.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["ldm_sr"] = "ldm_sr"
    source: str = Field(
        LDM_SOURCE, pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$", max_length=96
    )
    num_inference_steps: int = Field(20, ge=1, le=STEPS_MAX)
    eta: float = Field(1.0, ge=0, le=1)
    solver: Solver = "ddim"
    window: int = Field(128, ge=32, le=4096, multiple_of=8)
    shift: int = Field(64, ge=8, le=4096, multiple_of=8)

    @property
    def channels(self) -> int:
        """Channels of the image."""
        return 3

    @property
    def prior_channels(self) -> int:
        """Channels that the network gets."""
        return 3

    @property
    def start(self) -> int:
        """Step at which sampling starts: from pure noise."""
        return STEPS_MAX


PriorSettings = Annotated[CompactPriorSettings | LdmPriorSettings, Field(discriminator="kind")]
