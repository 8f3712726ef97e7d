"""Small images with real blur: to look at, to try, and to train on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SampleImage:
    """A bundled image.

    Attributes
    ----------
    name, title
        A word to choose it by, and what a menu shows.
    path
        The file.
    source, licence
        Where it comes from and under which licence it may be used; see also ``NOTICE``.
    """

    name: str
    title: str
    path: Path
    source: str
    licence: str


def sample_images() -> list[SampleImage]:
    """List the bundled images: a photograph, microscopy, a focal stack, and a pair to train on."""
    folder = Path(__file__).parent
    return [
        SampleImage(
            name="circuit-board",
            title="Circuit board, macro photograph with shallow focus (512 × 512, RGB, 8 bit)",
            path=folder / "circuit_board.png",
            source="github.com/PetteriAimonen/focus-stack",
            licence="MIT",
        ),
        SampleImage(
            name="actin",
            title="Actin fibres, wide-field fluorescence (512 × 512, 16 bit)",
            path=folder / "actin.tif",
            source="github.com/haesleinhuepf/BioImageAnalysisNotebooks",
            licence="CC BY 4.0",
        ),
        SampleImage(
            name="algae",
            title="Algae, five focal planes of a bright-field microscope (256 × 256, RGB, 8 bit)",
            path=folder / "algae.ome.tif",
            source="github.com/midcash/Algae-Microscopic-Multi-Focus-Image-Fusion",
            licence="MIT",
        ),
        *(
            SampleImage(
                name=f"mitochondria-{half}",
                title=f"Mitochondria, fluorescence, {where} (288 × 192, 16 bit)",
                path=folder / f"mitochondria_{half}.tif",
                source="github.com/ZJUOPTKuangLab/DFNN",
                licence="MIT",
            )
            for half, where in (("blurred", "0.75 µm above the focus"), ("sharp", "in focus"))
        ),
    ]
