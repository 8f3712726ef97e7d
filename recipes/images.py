"""The sharp images of the recipes: sources for the card of the shipped model, folders and files."""

from __future__ import annotations

import argparse
from pathlib import Path

from napari_swintormer.evaluation.data.synthetic import SUFFIXES
from napari_swintormer.models.files.card import TrainingData

MICROSCOPY = (
    TrainingData(name="Kaggle Data Science Bowl 2018 (BBBC038)", licence="CC0", images=217),
    TrainingData(name="NEUBIAS training resources", licence="CC BY 4.0", images=53),
    TrainingData(name="CellProfiler examples", licence="BSD-3-Clause", images=47),
    TrainingData(name="BCCD blood cells", licence="MIT", images=29),
    TrainingData(name="CEM dataset examples", licence="BSD-3-Clause", images=15),
    TrainingData(name="histolab fixtures", licence="Apache-2.0", images=14),
    TrainingData(name="OpenSlide CMU-1", licence="CC0", images=4),
    TrainingData(name="BioImageAnalysisNotebooks", licence="CC BY 4.0", images=11),
)
PHOTO = (
    TrainingData(name="scikit-image sample data", licence="CC0", images=22),
    TrainingData(name="Buddies of Budgie backgrounds", licence="CC0", images=92),
    TrainingData(name="elementary OS wallpapers", licence="CC0, public domain, CC-BY", images=97),
    TrainingData(name="Pop!_OS wallpapers", licence="public domain, CC-BY", images=62),
    TrainingData(name="gb82 image set", licence="CC0", images=15),
)


def parser_of_folders(description: str) -> argparse.ArgumentParser:
    """Make a parser of a folder of photos, one of micrographs, and the file to write."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--photo", type=Path, required=True, help="folder of sharp photos")
    parser.add_argument("--microscopy", type=Path, required=True, help="folder of micrographs")
    parser.add_argument("--out", type=Path, required=True, help=".npz file to write")
    return parser


def images_in(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
