"""Commands around training: ``train`` and ``pairs``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from napari_swintormer.cli.common import BAD_INPUT, resumable
from napari_swintormer.cli.flags import with_options
from napari_swintormer.settings.options import options_of
from napari_swintormer.training.train_settings import TrainSettings

_NOT_TEXT = {"network", "deconvolution", "prior", "training_data"}


@with_options(TrainSettings, "blurred", "dual_pixel", "annotations", "register", "match_intensity")
def pairs(
    *,
    sharp: Annotated[
        Path | None, typer.Option(help="Folder of the sharp partners, with equal names.")
    ] = None,
    **options: Any,
) -> None:
    """Check pairs before training: shift, intensities, which is sharper, sizes, partners."""
    from rich.console import Console
    from rich.table import Table

    from napari_swintormer.training.data.check import check_pairs

    reports = check_pairs(sharp=sharp, **options)
    table = Table("pair", "shift y, x", "gain", "details", "findings", box=None, pad_edge=False)
    for report in reports:
        found = "\n".join(escape(finding.message) for finding in report.findings)
        colour = "red" if report.bad else "yellow" if found else "green"
        table.add_row(escape(report.name), *report.measured, f"[{colour}]{found or 'good'}[/]")
    Console().print(table)
    bad = sum(report.bad for report in reports)
    typer.echo(f"\n{len(reports) - bad} of {len(reports)} pairs can be trained on.")
    if bad:
        raise typer.Exit(BAD_INPUT)


@with_options(TrainSettings, *(name for name in options_of(TrainSettings) if name not in _NOT_TEXT))
def train(
    *,
    network: Annotated[
        str | None, typer.Option(help="Network to train from nothing: small or paper.")
    ] = None,
    prior: Annotated[
        str | None, typer.Option(help="Prior to train with: ldm, that of the paper.")
    ] = None,
    **options: Any,
) -> None:
    """Train a model on pairs of blurred and sharp images, or on sharp images alone."""
    from napari_swintormer.terminal import finish
    from napari_swintormer.training.loop.train import iter_train
    from napari_swintormer.training.loop.trainer import BEST
    from napari_swintormer.training.train_presets import named_network, named_prior

    sizes = named_network(network)
    settings = TrainSettings(network=sizes, prior=named_prior(prior), **options)
    with resumable(settings.run_folder / BEST):
        finish(iter_train(settings), "Training")
    typer.echo(str(settings.out))
