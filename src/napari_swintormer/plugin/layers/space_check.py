"""Checks whether the memory and the disk have room for a result."""

from __future__ import annotations

import shutil
from math import prod
from pathlib import Path

import psutil

from napari_swintormer.runs.job import Job
from napari_swintormer.runs.stores import file_bytes, result_bytes
from napari_swintormer.settings.preferences import cache_folder
from napari_swintormer.tiling.plan import size_text

LARGEST_TEXTURE = 8192
"""Longest side in pixels of an image that practically every graphics card shows as one texture.

napari cuts a larger image into pieces, and allocates all of them.
"""
SHARE_OF_MEMORY = 0.25
"""Share of the free memory that a result may take; a larger result goes to disk."""


def fits_in_memory(job: Job) -> bool:
    """Say whether the result of a run is kept in memory instead of on disk."""
    free = psutil.virtual_memory().available
    return result_bytes(job) <= SHARE_OF_MEMORY * free and max(job.planes.shape) <= LARGEST_TEXTURE


def changes_fit_in_memory(job: Job) -> bool:
    """Say whether the changes of a run can be kept in memory beside its result."""
    needed = 4 * int(prod(job.planes.data.shape))
    return needed <= SHARE_OF_MEMORY * int(psutil.virtual_memory().available)


def shortage(job: Job, destination: Path | None = None) -> str | None:
    """Say what the computer lacks for a run and what would work; None if it lacks nothing.

    Without `destination` the result stays in memory or in the cache folder.
    """
    free = psutil.virtual_memory().available
    kept = result_bytes(job) if destination is None and fits_in_memory(job) else 0
    if job.plan.host_bytes + kept > free:
        return (
            f"This run takes {size_text(job.plan.host_bytes + kept)} of memory, and only "
            f"{size_text(free)} are free. Choose a smaller tile size or a batch size of 1, or "
            "close other programs."
        )
    if kept:
        return None
    if destination is None:
        return cache_shortage(job.plan.disk_bytes)
    needed, free = file_bytes(job, destination), shutil.disk_usage(destination.parent).free
    if needed <= free:
        return None
    return (
        f"{destination.name} may take {size_text(needed)}, and only {size_text(free)} are free on "
        "its disk. Free some space, or save to another disk."
    )


def cache_shortage(needed: int) -> str | None:
    """Say that the cache folder has no room for some bytes; None if it has."""
    cache = cache_folder()
    existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if needed <= free:
        return None
    return (
        f"The result may take {size_text(needed)} on the disk of {cache}, and only "
        f"{size_text(free)} are free. Free some space, or choose another cache folder in the "
        "Settings."
    )
