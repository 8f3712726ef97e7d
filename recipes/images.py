"""Sources of the sharp images that the shipped models were trained on, for their cards."""

from __future__ import annotations

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
