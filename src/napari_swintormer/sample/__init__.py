"""Small images with real blur: to look at, to try, and to train on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SampleImage:
    """A bundled image: a word to choose it by, what a menu shows, and where it comes from."""

    name: str
    title: str
    path: Path
    source: str
    licence: str


def sample_images() -> list[SampleImage]:
    """List the bundled images: photographs, microscopy, two stacks, and a pair to train on."""
    folder = Path(__file__).parent

    def sample(name: str, file: str, title: str, repository: str, licence: str) -> SampleImage:
        return SampleImage(name, title, folder / file, f"github.com/{repository}", licence)

    board = "Circuit board, macro photograph with shallow focus (512 × 512, RGB, 8 bit)"
    shaken = "Circuit board, photograph blurred by a made camera shake (512 × 512, RGB, 8 bit)"
    actin = "Actin fibres, wide-field fluorescence (512 × 512, 16 bit)"
    algae = "Algae, five focal planes of a bright-field microscope (256 × 256, RGB, 8 bit)"
    mitochondria = "Mitochondria, fluorescence, {} (288 × 192, 16 bit)"
    blurred, sharp = (mitochondria.format(at) for at in ("0.75 µm above the focus", "in focus"))
    dfnn, notebooks = "ZJUOPTKuangLab/DFNN", "haesleinhuepf/BioImageAnalysisNotebooks"
    stack = "PetteriAimonen/focus-stack"
    fusion = "midcash/Algae-Microscopic-Multi-Focus-Image-Fusion"
    return [
        sample("circuit-board", "circuit_board.png", board, stack, "MIT"),
        sample("shaken-board", "shaken_board.jpg", shaken, stack, "MIT"),
        sample("actin", "actin.tif", actin, notebooks, "CC BY 4.0"),
        sample("algae", "algae.ome.tif", algae, fusion, "MIT"),
        sample("mitochondria-blurred", "mitochondria_blurred.tif", blurred, dfnn, "MIT"),
        sample("mitochondria-sharp", "mitochondria_sharp.tif", sharp, dfnn, "MIT"),
        SampleImage(
            "nuclei-stack",
            "Nuclei and fibres, drawn, a wide-field stack of NA 1.2 (22 × 100 × 100, 16 bit)",
            folder / "nuclei_stack.ome.tif",
            "drawn by recipes/make_sample_stack.py",
            "CC0 1.0",
        ),
    ]
