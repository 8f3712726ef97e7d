"""Shared by the commands: groups that show errors as sentences, and Ctrl-C."""

from __future__ import annotations

import logging
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from napari_swintormer.errors import SwintormerError

BAD_INPUT, STOPPED = 2, 130
_DEBUG = "--debug"
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")]


class Group(TyperGroup):
    """A group of commands that shows errors as sentences; ``--debug`` may stand anywhere."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Move ``--debug`` to the front, where the root command takes it."""
        if ctx.parent is None and _DEBUG in args:
            args = [_DEBUG, *(arg for arg in args if arg != _DEBUG)]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run a command; turn a mistake of the user, or Ctrl-C, into an exit code."""
        try:
            return super().invoke(ctx)
        except SwintormerError as error:
            if ctx.find_root().params.get("debug"):
                traceback.print_exception(error)
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(BAD_INPUT) from error
        except KeyboardInterrupt as error:
            typer.echo("Stopped.", err=True)
            raise typer.Exit(STOPPED) from error


def quiet_libraries() -> None:
    """Hide log lines and warnings of libraries, unless the user asks for them."""
    if _DEBUG not in sys.argv:
        logging.getLogger().addHandler(logging.NullHandler())
        if not sys.warnoptions:
            warnings.simplefilter("ignore")


@contextmanager
def resumable(best: Path | None = None) -> Iterator[None]:
    """After Ctrl-C, say how to resume, and where the best weights so far are."""
    try:
        yield
    except KeyboardInterrupt as error:
        typer.echo("Stopped. The same command with --resume continues.", err=True)
        if best is not None and best.is_file():
            typer.echo(f"The best weights so far are in {best}.", err=True)
        raise typer.Exit(STOPPED) from error
