"""Shared by the commands: groups that show errors as sentences, and Ctrl-C."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from napari_swintormer.errors import SwintormerError

BAD_INPUT, STOPPED = 2, 130
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")]


class Group(TyperGroup):
    """A group of commands that shows errors as sentences."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; turn a mistake of the user, or Ctrl-C, into an exit code."""
        try:
            return super().invoke(ctx)
        except SwintormerError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(BAD_INPUT) from error
        except KeyboardInterrupt as error:
            typer.echo("Stopped.", err=True)
            raise typer.Exit(STOPPED) from error


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
