"""What several commands share: groups whose errors are sentences, options, Ctrl-C."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from napari_swintormer.errors import SwintormerError
from napari_swintormer.settings.deblur_settings import STRENGTH_MAX, DeblurSettings

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

Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="Name of a model, or path of a weights file; chosen by the image if left out.",
    ),
]
TileSize = Annotated[
    int | None, typer.Option(help="Side of the tiles in pixels; the model's if left out.")
]
Overlap = Annotated[
    int | None, typer.Option(help="Overlap of neighbouring tiles; the model's if left out.")
]
Blend = Annotated[
    str | None, typer.Option(help="smooth or uniform weights; the model's if left out.")
]
BatchSize = Annotated[int | None, typer.Option(help="Tiles at once; chosen by device if left out.")]
Device = Annotated[
    str, typer.Option(help="auto, cpu, cuda, cuda:1, mps; several GPUs: cuda:0,cuda:1.")
]
Precision = Annotated[str, typer.Option(help="auto, fp32, tf32, bf16 or fp16.")]
Seed = Annotated[int, typer.Option(help="Of everything random.")]
Strength = Annotated[
    float,
    typer.Option(
        help=f"How much of the change to apply: 1 what the model says, 0 to {STRENGTH_MAX:g}."
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]


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
