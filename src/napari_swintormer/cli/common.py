"""What several commands share: groups whose errors are sentences, options, Ctrl-C."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from napari_swintormer.errors import SwintormerError
from napari_swintormer.settings.deblur_settings import DeblurSettings

BAD_INPUT, STOPPED = 2, 130


class Group(TyperGroup):
    """Commands whose errors are sentences."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; turn what the user can put right into an exit code."""
        try:
            return super().invoke(ctx)
        except SwintormerError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(BAD_INPUT) from error
        except KeyboardInterrupt as error:
            typer.echo("Stopped.", err=True)
            raise typer.Exit(STOPPED) from error


DEFAULT = DeblurSettings()

Device = Annotated[
    str, typer.Option(help="auto, cpu, cuda, cuda:1, mps; several GPUs: cuda:0,cuda:1.")
]
Precision = Annotated[str, typer.Option(help="auto, fp32, tf32, bf16 or fp16.")]
Seed = Annotated[int, typer.Option(help="Seed of all random numbers.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")]


@contextmanager
def resumable(best: Path | None = None) -> Iterator[None]:
    """Say how to go on after Ctrl-C, and where the best weights so far are."""
    try:
        yield
    except KeyboardInterrupt as error:
        typer.echo("Stopped; the same command with --resume goes on where it was.", err=True)
        if best is not None and best.is_file():
            typer.echo(f"The best weights so far are in {best}.", err=True)
        raise typer.Exit(STOPPED) from error
