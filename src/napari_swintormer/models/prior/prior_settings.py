"""Settings of a prior, as a model's card stores them; imports no torch."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from napari_swintormer.models.network.network_settings import SwintormerSettings

Solver = Literal["ddim", "ancestral", "dpm++", "unipc"]

LDM_SOURCE = "CompVis/ldm-super-resolution-4x-openimages"
LDM_BYTES = 4 * 113_622_563
"""Bytes of its parameters in memory."""
LDM_BYTES_PER_PIXEL = 9000
"""Peak memory of a window in float32, beside the parameters (8985 measured)."""
STEPS_MAX = 1000
"""Steps of the diffusion process, and so the most steps that sampling can take."""


class CompactPriorSettings(BaseModel):
    """A small prior whose parameters lie in the weights file of the model.

    Attributes
    ----------
    encoder
        Sizes of the network that encodes the blurred image at 1/2 and 1/4 of its size.
    latent_channels
        Channels of the latent, a map at 1/4 of the resolution.
    denoiser_blocks
        Blocks of the denoiser.
    start
        Step at which sampling starts: latents are noised for this many steps.
    num_inference_steps
        Default number of deterministic steps.
    solver
        ``"ddim"``; or a solver of diffusers, ``"dpm++"`` or ``"unipc"``.
    from_radius
        For a known blur: the root mean square of its distance from the centre, in pixels, from
        which on the prior is sampled. Narrower blur needs no prior.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["compact"] = "compact"
    encoder: SwintormerSettings
    latent_channels: int = Field(16, ge=1, le=64)
    denoiser_blocks: int = Field(2, ge=1, le=16)
    start: int = Field(400, ge=1, le=STEPS_MAX)
    num_inference_steps: int = Field(1, ge=1, le=STEPS_MAX)
    solver: Literal["ddim", "dpm++", "unipc"] = "ddim"
    from_radius: float = Field(0.0, ge=0, le=64)

    @model_validator(mode="after")
    def _encoder_takes_one_image(self) -> Self:
        if self.encoder.views != 1 or self.encoder.prior_channels:
            raise ValueError(
                f"the encoder of a prior takes one image and no prior (got views="
                f"{self.encoder.views} and prior_channels={self.encoder.prior_channels})"
            )
        return self

    @property
    def channels(self) -> int:
        """Channels of the image."""
        return self.encoder.channels

    @property
    def prior_channels(self) -> int:
        """Channels of the network's prior input."""
        return self.channels


class LdmPriorSettings(BaseModel):
    """The paper's prior: a latent diffusion model for super-resolution, 113.6 M parameters.

    Its latent has three channels and the size of the image; the network takes it undecoded.

    Attributes
    ----------
    source
        Default address of its parameters on the Hugging Face hub; empty if they lie in a file.
    sha256
        SHA-256 of the file of its parameters that the network was trained with; empty if unknown.
    num_inference_steps
        Default number of steps.
    eta
        Noise of the steps; 1 in the released script, 0 is deterministic.
    solver
        ``"ddim"`` as in the released script; ``"ancestral"`` as in the paper's text; or a solver of
        diffusers, ``"dpm++"`` or ``"unipc"``.
    window, shift
        Side of the denoiser's windows and the step between them, in pixels; predictions of
        overlapping windows are blended at every step.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["ldm_sr"] = "ldm_sr"
    source: str = Field(
        LDM_SOURCE, pattern=r"^([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)?$", max_length=96
    )
    sha256: str = Field("", pattern=r"^([0-9a-f]{64})?$")
    num_inference_steps: int = Field(20, ge=1, le=STEPS_MAX)
    eta: float = Field(1.0, ge=0, le=1)
    solver: Solver = "ddim"
    window: int = Field(128, ge=32, le=4096, multiple_of=8)
    shift: int = Field(64, ge=8, le=4096, multiple_of=8)

    # the image, the network's prior input, and the step of pure noise that sampling starts from
    channels: ClassVar[int] = 3
    prior_channels: ClassVar[int] = 3
    start: ClassVar[int] = STEPS_MAX


PriorSettings = Annotated[CompactPriorSettings | LdmPriorSettings, Field(discriminator="kind")]
