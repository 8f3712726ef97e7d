"""How the benchmarks of the field measure: what is read, how it is compared, as published.

A protocol is facts, taken from the published evaluation scripts, which differ in ways that move a
result by more than methods do: the full scale that files are divided by, clamping, rounding,
cropping, the window of the SSIM, alignment before comparing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from napari_swintormer.errors import SettingsError
from napari_swintormer.evaluation.data.pair_files import (
    Layout,
    paired,
    published,
    realblur,
    split_dpdd,
)

if TYPE_CHECKING:
    from pathlib import Path

    from napari_swintormer.evaluation.data.pair_files import PairFiles

Match = Literal["affine", "realblur"]
Window = Literal["uniform", "gaussian"]

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

    Attributes
    ----------
    name
        What the command line calls it.
    about
        In a paragraph, for the report.
    layouts
        Folders that the data set comes in; none for pairs of any folder.
    full_scale
        Bits of the range that pixel values are divided by, 8 or 16: methods then see [0, 1], and
        nothing is rounded. None leaves images in their own units and data type.
    ssim
        Window: ``"uniform"`` of 7 pixels with sample covariances (the default of scikit-image), or
        ``"gaussian"`` of σ 1.5 as Wang et al. (2004) define it.
    clamp
        Whether restored images are cut to [0, 1].
    rounded
        Whether restored images are rounded to 8 bits first, as after saving them.
    multiple
        Images are cropped, at the end of each axis, to multiples of this.
    match
        What is done before comparing: one gain and offset, or RealBlur's alignment.
    metrics
        Beyond PSNR, SSIM and MAE, if nothing else is asked for.
    """

    name: str
    about: str
    layouts: tuple[Layout, ...] = ()
    full_scale: Literal[8, 16] | None = 8
    ssim: Window = "uniform"
    clamp: bool = True
    rounded: bool = False
    multiple: int = 1
    match: Match | None = None
    metrics: tuple[str, ...] = ()

    @property
    def dual_pixel(self) -> bool:
        """Whether methods are given a left and a right image."""
        return any(layout.views for layout in self.layouts)

    def scenes(self, root: Path, name: str | None = None) -> list[PairFiles]:
        """List the images of a data set; opens none.

        Parameters
        ----------
        root
            Where the data set lies.
        name
            Of the set, in tables; the protocol's, or the folder's for pairs of any folder.

        Raises
        ------
        FileError
            The data set is not there, or not complete.
        """
        if not self.layouts:
            return paired(root, name or root.stem)
        if self.match == "realblur" and (listed := realblur(root, name or self.name)):
            return listed
        scenes = published(root, name or self.name, self.layouts)
        return split_dpdd(scenes) if self.name.startswith(("dpdd", "ifan")) else scenes


_ALL = (
    Protocol(
        "dpdd-dual16",
        "DPDD, left and right view of a dual-pixel camera, 16 bit: values divided by "
        "65535, results cut to [0, 1] and not rounded; PSNR over all channels; SSIM with a "
        "uniform window of 7 pixels; MAE; 76 images, of which 37 indoor and 39 outdoor.",
        _DPDD,
        full_scale=16,
        metrics=("lpips",),
    ),
    Protocol(
        "dpdd-single8",
        "DPDD, single image, 8 bit: 16-bit files lose their low byte, values divided by 255; else "
        "as dpdd-dual16.",
        _DPDD_SINGLE,
        metrics=("lpips",),
    ),
    Protocol(
        "realdof",
        "RealDOF, scored as dpdd-single8 is, without parts.",
        _REALDOF,
        metrics=("lpips",),
    ),
    Protocol(
        "ifan",
        "The evaluation of IFAN on DPDD or RealDOF: 8 bit, images cropped to multiples of "
        "8, results not cut to [0, 1] before PSNR; SSIM with a uniform window of 7 pixels.",
        (*_DPDD_SINGLE, *_REALDOF),
        clamp=False,
        multiple=8,
        metrics=("lpips",),
    ),
    Protocol(
        "gopro",
        "GoPro (also HIDE): results rounded to 8 bits; PSNR over all channels; SSIM with a "
        "Gaussian window of σ 1.5, the mean over the channels. The scripts "
        "of the papers take the three colours for the third axis of a volume: that is the metric "
        "`ssim3d`.",
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
        "Pairs in their own units and data type: the data range is the distance of the 0.1 and "
        "99.9 percentiles of the sharp image; SSIM with a Gaussian window of σ 1.5.",
        full_scale=None,
        ssim="gaussian",
        clamp=False,
        metrics=("ms_ssim", "gmsd"),
    ),
    Protocol(
        "microscopy",
        "As folders, after one gain and one offset have fitted every image to the sharp one (two "
        "exposures differ in brightness, which is not blur). FRC: the finest period, in pixels, at "
        "which the image still correlates with the sharp one (Fourier ring correlation above 1/7).",
        full_scale=None,
        ssim="gaussian",
        clamp=False,
        match="affine",
        metrics=("ms_ssim", "gmsd", "frc"),
    ),
)
PROTOCOLS = {protocol.name: protocol for protocol in _ALL}


def find_protocol(name: str) -> Protocol:
    """Give a protocol by its name.

    Raises
    ------
    SettingsError
        There is none of this name.
    """
    if name not in PROTOCOLS:
        raise SettingsError(
            f"There is no protocol {name!r}. Use one of {', '.join(PROTOCOLS)}, as in "
            "folders=path/to/pairs."
        )
    return PROTOCOLS[name]
