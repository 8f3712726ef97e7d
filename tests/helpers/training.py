"""Pairs for the Train widget, and what is made of them."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from napari_swintormer.models.files.weights import load_weights
from napari_swintormer.plugin.train.train_sources import FOLDERS


def stacks(planes=4, shape=(70, 80)):
    """A blurred and a sharp stack of the same structure."""
    sharp = np.stack(
        [
            ndimage.gaussian_filter(np.random.default_rng(k).standard_normal(shape), 1)
            for k in range(planes)
        ]
    )
    sharp = 20000 + 8000 * sharp
    blurred = ndimage.gaussian_filter(sharp, (0, 1.5, 1.5))
    return blurred.astype(np.uint16), sharp.astype(np.uint16)


def use_folders(form, folders):
    form.sources.setCurrentIndex(FOLDERS)
    form.sources.blurred_folder.value, form.sources.sharp_folder.value = folders


def weights(path):
    return load_weights(path)[1]
