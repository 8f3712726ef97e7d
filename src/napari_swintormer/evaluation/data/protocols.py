"""The protocols of published benchmarks: which files they read, and how they compare images.

The facts come from the published evaluation scripts. They differ in the full scale, clamping,
rounding, cropping, the window of the SSIM and the alignment, and these differences can move a
result by more than the choice of the method does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from napari_swintormer.errors import SettingsError
from napari_swintormer.evaluation.data import pair_files
from napari_swintormer.evaluation.data.pair_files import Layout

if TYPE_CHECKING:
    from pathlib import Path

    from napari_swintormer.evaluation.data.pair_files import PairFiles
    from napari_swintormer.evaluation.metrics.similarity import Window

_TEST = ("", "test", "DPDD", "test/DPDD")
_DPDD = (
    Layout("test_c/source", "test_c/target", ("test_l/source", "test_r/source")),
    Layout("inputC", "target", ("inputL", "inputR"), _TEST),
)
_DPDD_SINGLE = (
    Layout("test_c/source", "test_c/target"),
    Layout("inputC", "target", under=_TEST),
)
_GOPRO = (
    Layout("*/blur", "*/sharp", under=("test", "")),
    Layout("input", "target", under=("", "test", "GoPro", "test/GoPro", "test/HIDE")),
)
_REALDOF = (
    Layout("source", "target", under=("", "RealDOF", "test/RealDOF")),
    Layout("input", "target", under=("", "RealDOF", "test/RealDOF")),
)
_REALBLUR = (Layout("input", "target", under=("", "test/RealBlur_J", "test/RealBlur_R")),)


@dataclass(frozen=True)
class Protocol:
    """How a data set is read and scored.

    With a `full_scale` of 8 or 16 bits, pixel values are divided by the largest value of so many
    bits, methods get [0, 1], and results are not rounded. Without, images keep the units and the
    data type of their files.
    """

    name: str  # on the command line
    about: str  # a paragraph for the report
    layouts: tuple[Layout, ...] = ()  # folders of the published set; none for pairs in any folder
    full_scale: Literal[8, 16] | None = 8
    ssim: Window = "uniform"
    clamp: bool = True  # clip restored images to [0, 1]
    rounded: bool = False  # round restored images to 8 bits first, as if they had been saved
    multiple: int = 1  # crop images at the end of each axis to multiples of so many pixels
    match: Literal["affine", "realblur"] | None = None  # fit intensities, or align, first
    volumes: bool = False  # pairs are stacks along Z, scored as volumes
    metrics: tuple[str, ...] = ()  # beyond PSNR, SSIM and MAE, if the user names none

    def pairs(self, root: Path) -> list[PairFiles]:
        """List the pairs of a data set in the folder `root`, without opening an image."""
        if not self.layouts:
            return pair_files.paired(root)
        if self.match == "realblur" and (listed := pair_files.realblur(root)):
            return listed
        pairs = pair_files.published(root, self.name, self.layouts)
        return pair_files.split_dpdd(pairs) if self.name.startswith(("dpdd", "ifan")) else pairs


_ALL = (
    Protocol(
        "dpdd-dual16",
        "DPDD, left and right view of a dual-pixel camera, 16 bit: values divided by "
        "65535, results clipped to [0, 1] and not rounded; PSNR over all channels; SSIM with a "
        "uniform window of 7 pixels; MAE; 76 images, 37 indoor and 39 outdoor.",
        _DPDD,
        full_scale=16,
        metrics=("lpips",),
    ),
    Protocol(
        "dpdd-single8",
        "DPDD, single image, 8 bit: 16-bit files lose their low byte, values divided by 255; "
        "otherwise like dpdd-dual16.",
        _DPDD_SINGLE,
        metrics=("lpips",),
    ),
    Protocol(
        "realdof",
        "RealDOF, scored like dpdd-single8, without parts.",
        _REALDOF,
        metrics=("lpips",),
    ),
    Protocol(
        "ifan",
        "The evaluation of IFAN on DPDD or RealDOF: 8 bit, images cropped to multiples of "
        "8, results not clipped to [0, 1] before PSNR; SSIM with a uniform window of 7 pixels.",
        (*_DPDD_SINGLE, *_REALDOF),
        clamp=False,
        multiple=8,
        metrics=("lpips",),
    ),
    Protocol(
        "gopro",
        "GoPro (also HIDE): results rounded to 8 bits; PSNR over all channels; SSIM with a "
        "Gaussian window of σ 1.5, the mean over the channels. The papers' scripts treat the "
        "three colours as the third axis of a volume: this is the metric `ssim3d`.",
        _GOPRO,
        ssim="gaussian",
        rounded=True,
    ),
    Protocol(
        "realblur",
        "RealBlur: results rounded to 8 bits, matched in intensity by one gain, aligned to the "
        "sharp image by a homography (ECC), scored where both images are valid; SSIM with a "
        "Gaussian window of σ 1.5.",
        _REALBLUR,
        ssim="gaussian",
        rounded=True,
        match="realblur",
    ),
    Protocol(
        "folders",
        "Pairs in their own units and data type: the data range is the distance between the 0.1 "
        "and 99.9 percentiles of the sharp image; SSIM with a Gaussian window of σ 1.5.",
        full_scale=None,
        ssim="gaussian",
        clamp=False,
        metrics=("ms_ssim", "gmsd"),
    ),
    Protocol(
        "microscopy",
        "Like folders, after one gain and one offset have fitted every image to the sharp one (two "
        "exposures differ in brightness, which is not blur). FRC: the finest period, in pixels, at "
        "which the image still correlates with the sharp one (Fourier ring correlation above 1/7).",
        full_scale=None,
        ssim="gaussian",
        clamp=False,
        match="affine",
        metrics=("ms_ssim", "gmsd", "frc"),
    ),
    Protocol(
        "stacks",
        "Stacks along Z, scored as volumes in their own units: one gain and one offset for the "
        "whole volume, then PSNR, correlation, and the mean SSIM of the planes (Gaussian window of "
        "σ 1.5); the data range is that of folders. FRC, lateral and axial: the finest periods, in "
        "pixels and in planes, at which the volume still correlates with the sharp one. A CSV file "
        "may have columns for the microscope: na, immersion, sample_index, specimen_depth, "
        "wavelength, pixel_size, z_step, modality, psf. A column planes, such as 8:37, names the "
        "planes that are scored; there the best offset of up to 3 whole planes counts.",
        full_scale=None,
        ssim="gaussian",
        clamp=False,
        match="affine",
        volumes=True,
    ),
)
PROTOCOLS = {protocol.name: protocol for protocol in _ALL}


def find_protocol(name: str) -> Protocol:
    """Return the protocol of a name."""
    if name not in PROTOCOLS:
        raise SettingsError(
            f"There is no protocol {name!r}. Use one of {', '.join(PROTOCOLS)}, as in "
            "folders=path/to/pairs."
        )
    return PROTOCOLS[name]
