"""What several tests of training do with a run."""

from __future__ import annotations

import dataclasses

import torch

from napari_swintormer.events import Progress
from napari_swintormer.models.files.weights import load_weights
from napari_swintormer.training.loop.train import iter_train


def elsewhere(settings, name, **changes):
    """Settings of another run in the same folder."""
    return dataclasses.replace(settings, out=settings.out.with_name(name), **changes)


def train(settings):
    """Train to the end; return the card and the weights."""
    list(iter_train(settings))
    return load_weights(settings.out)


def stop_after(settings, step):
    """Train until a step is done, and stop as a user does."""
    events = iter_train(settings)
    while not (
        isinstance(event := next(events), Progress) and (event.unit, event.done) == ("steps", step)
    ):
        pass
    events.close()


def weights_of(settings):
    return load_weights(settings.out)[1]


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def outcome(events):
    """Iterate a generator to its end, and give what it returns."""
    while True:
        try:
            next(events)
        except StopIteration as end:
            return end.value
