"""Work in steps: generators that yield after each step and return a result."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")

Stepwise = Generator[None, None, T]


def run_to_end(work: Stepwise[T]) -> T:
    """Run all steps and return the result."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            result: T = done.value
            return result


def counted(work: Stepwise[T]) -> Stepwise[tuple[T, int]]:
    """Run all steps; return the result and how many they were."""
    steps = 0
    while True:
        try:
            next(work)
        except StopIteration as done:
            result: T = done.value
            return result, steps
        steps += 1
        yield
