"""``python -m napari_swintormer`` is the command ``swintormer``."""

from napari_swintormer.cli import main

main()
