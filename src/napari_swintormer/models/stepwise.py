"""Work that can be stopped between its steps: a generator that yields after each, and returns."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TypeVar

T = TypeVar("T")

Stepwise = Generator[None, None, T]


def finished(work: Stepwise[T]) -> T:
    """Do all the steps, and give what the work returns."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            result: T = done.value
            return result


def together(works: Sequence[Stepwise[T]]) -> Stepwise[list[T]]:
    """Make the steps of several works of equally many steps at the same time."""
    results: list[T] = []
    while not results:
        for work in works:
            try:
                next(work)
            except StopIteration as done:
                results.append(done.value)
        if not results:
            yield
    return results
