"""Flags of the command line, made from the fields of a settings dataclass."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING
from functools import wraps
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer

from napari_swintormer.settings.options import Option, options_of, signature_with

Command = Callable[..., None]


def with_options(settings: type, *names: str) -> Callable[[Command], Command]:
    """Give a command a flag for each option that its ``**options`` stand for.

    Parameters
    ----------
    settings
        The dataclass whose options become flags.
    *names
        The options that the command takes; none stands for all.
    """
    known = options_of(settings)
    chosen = [known[name] for name in names or known]
    tuples = {option.name for option in chosen if _item_of_tuple(option.type) is not None}

    def decorate(command: Command) -> Command:
        @wraps(command)
        def run(**given: Any) -> None:
            command(**{k: tuple(v or ()) if k in tuples else v for k, v in given.items()})

        signature = signature_with(command, map(_parameter, chosen), eval_str=True)
        run.__signature__ = signature  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
        return run

    return decorate


def _parameter(option: Option) -> inspect.Parameter:
    """Make the parameter that typer reads; values are checked later, as in the API."""
    kind, default = _plain(option.type), option.default
    if (item := _item_of_tuple(option.type)) is not None:
        kind, default = list[item], list(default)  # type: ignore[valid-type]
    flags = option.flags
    if kind is bool and not flags:
        flags = (f"--{option.name.replace('_', '-')}",)  # without a second flag --no-...
    return inspect.Parameter(
        option.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if default is MISSING else default,
        annotation=Annotated[kind, typer.Option(*flags, help=option.help)],
    )


def _item_of_tuple(kind: Any) -> Any:
    """Return the type of the items of ``tuple[X, ...]``; None for other types."""
    return _plain(get_args(kind)[0]) if get_origin(kind) is tuple else None


def _plain(kind: Any) -> Any:
    """Replace ``Literal[...]`` by the type of its values, also in a union."""
    if get_origin(kind) is Literal:
        return type(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        [some] = {_plain(part) for part in get_args(kind)} - {NoneType}  # typer takes no other
        return some | None if NoneType in get_args(kind) else some
    return kind
