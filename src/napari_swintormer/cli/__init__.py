"""The command line ``swintormer``.

Commands import torch only when they run. A mistake of the user ends in one line on standard error
and exit code 2; Ctrl-C ends in exit code 130, with a sentence on how to resume.
"""

from __future__ import annotations

from typing import Annotated

import typer

from napari_swintormer import __version__
from napari_swintormer.cli.blur_command import blur
from napari_swintormer.cli.common import Group, quiet_libraries
from napari_swintormer.cli.deblur_commands import benchmark, deblur, demo, psf, residual
from napari_swintormer.cli.evaluate_commands import evaluate
from napari_swintormer.cli.model_commands import info, models_app
from napari_swintormer.cli.settings_command import settings
from napari_swintormer.cli.train_commands import pairs, train

app = typer.Typer(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Remove defocus and motion blur from images of any size.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for command in (
    deblur,
    blur,
    psf,
    residual,
    pairs,
    train,
    evaluate,
    info,
    settings,
    demo,
    benchmark,
):
    app.command()(command)
app.add_typer(models_app, name="models")


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
    debug: Annotated[  # `Group` reads it
        bool, typer.Option("--debug", help="Show the details of an error, and log lines.")
    ] = False,
) -> None:
    if version:
        typer.echo(f"swintormer {__version__}")
        raise typer.Exit


def main() -> None:
    """Entry point of the command ``swintormer``."""
    quiet_libraries()
    app()
