"""The command ``evaluate``, which compares methods on data sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_swintormer.cli.common import Overwrite, resumable
from napari_swintormer.cli.flags import with_options
from napari_swintormer.errors import SettingsError
from napari_swintormer.settings.deblur_settings import DEFAULT_MODEL, DeblurSettings

if TYPE_CHECKING:
    from napari_swintormer.evaluation.evaluation import Evaluation


@with_options(DeblurSettings, "device", "precision")
def evaluate(
    data: Annotated[
        list[str] | None,
        typer.Argument(help="Data sets, each as PROTOCOL=PATH, such as dpdd-single8=DPDD."),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            "-m",
            help="Model with options, such as swintormer:tile_size=512,ensemble=8, or "
            "unsharp-mask, wiener, richardson-lucy; for stacks volume, richardson-lucy-3d, "
            "redlionfish. Repeat the option for more methods.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("evaluation"),
    metric: Annotated[
        list[str] | None,
        typer.Option(help="Metric beyond PSNR, SSIM and MAE: ssim3d, ms_ssim, gmsd, lpips, frc."),
    ] = None,
    centre: Annotated[
        int | None, typer.Option(help="Side in pixels of the middle that is scored; all if unset.")
    ] = None,
    title: Annotated[str, typer.Option(help="Title of the report.")] = "Evaluation",
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an earlier evaluation.")
    ] = False,
    overwrite: Overwrite = False,
    table: Annotated[
        str | None,
        typer.Option(
            help="complexity: what networks and priors cost, without data sets; ablation: each "
            "model with the paper's tiles and with several steps of its prior."
        ),
    ] = None,
    protocols: Annotated[
        bool, typer.Option("--protocols", help="List the protocols and their folders.")
    ] = False,
    **options: Any,
) -> None:
    """Compare methods on data sets with published protocols, and write a report."""
    if protocols:
        typer.echo(_protocols())
        return
    settings = DeblurSettings(**options)
    chosen = method or [DEFAULT_MODEL]
    if table is not None and table != "ablation":
        typer.echo(_table(table, data or [], chosen, settings))
        return
    with resumable():
        evaluation = _plan(data or [], chosen, table == "ablation", out, metric, centre, settings)
        _run(evaluation, title, resume=resume, overwrite=overwrite)


def _protocols() -> str:
    from napari_swintormer.evaluation.data.protocols import PROTOCOLS

    texts = []
    for protocol in PROTOCOLS.values():
        folders = "; or ".join(map(str, protocol.layouts)) or "blurred, sharp; or a CSV file"
        texts.append(f"{protocol.name}: {protocol.about}\n  folders: {folders}\n")
    return "\n".join(texts)


def _table(name: str, data: list[str], models: list[str], settings: DeblurSettings) -> str:
    from napari_swintormer.engine.devices import resolve_devices
    from napari_swintormer.evaluation.benchmark.complexity import complexity_table
    from napari_swintormer.models.catalogue import load_model

    if name != "complexity" or data:
        raise SettingsError(
            f"There is no such table (got {name!r}, with {len(data)} data sets). Use --table "
            "complexity without data sets, or --table ablation."
        )
    device, *_ = resolve_devices(settings.device)
    return complexity_table([load_model(model).to(device) for model in models], device)


def _plan(
    data: list[str],
    methods: list[str],
    ablate: bool,
    out: Path,
    metrics: list[str] | None,
    centre: int | None,
    settings: DeblurSettings,
) -> Evaluation:
    """Find the data sets and load the models."""
    from napari_swintormer.evaluation.evaluation import Evaluation, find_data_set
    from napari_swintormer.evaluation.methods.methods import ablation, parse_method

    if ablate:
        methods = [variant for text in methods for variant in ablation(text)]
    if not data:
        raise SettingsError(
            "There is nothing to evaluate on. Name data sets, such as folders=path/to/pairs; "
            "`swintormer evaluate --protocols` lists the protocols."
        )
    if centre is not None and centre < 1:
        raise SettingsError(f"centre must be at least 1 pixel (got centre={centre}).")
    return Evaluation(
        tuple(find_data_set(text) for text in data),
        tuple(parse_method(text, settings) for text in dict.fromkeys(methods)),
        out,
        None if metrics is None else tuple(metrics),
        centre,
    )


def _run(evaluation: Evaluation, title: str, *, resume: bool, overwrite: bool) -> None:
    from napari_swintormer.evaluation.reports.evaluation_report import write_report
    from napari_swintormer.terminal import finish

    finish(evaluation.events(resume=resume, overwrite=overwrite), "Evaluating")
    for path in write_report(evaluation.folder, title, evaluation.rows):
        typer.echo(str(path))
