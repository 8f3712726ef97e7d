"""Commands around training: ``train`` and ``pairs``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from napari_swintormer.cli.common import BAD_INPUT, Device, Precision, Seed, resumable
from napari_swintormer.training.train_settings import TrainSettings

Blurred = Annotated[
    Path | None, typer.Option(help="Folder with the blurred partner of each, of equal name.")
]
DualPixel = Annotated[
    Path | None,
    typer.Option(help="Folder of inputL, inputR and target, as of a dual-pixel camera."),
]
Annotations = Annotated[
    Path | None,
    typer.Option(help="Folder of masks of equal names: 1 where patches are taken, 2 left out."),
]
Register = Annotated[
    bool, typer.Option("--register", help="Move sharp images back by the shift that is found.")
]
MatchIntensity = Annotated[
    bool,
    typer.Option("--match-intensity", help="Bring sharp images to the blurred ones' intensities."),
]


def pairs(
    blurred: Annotated[Path | None, typer.Option(help="Folder of blurred images.")] = None,
    sharp: Annotated[
        Path | None, typer.Option(help="Folder of their sharp partners, of equal names.")
    ] = None,
    dual_pixel: DualPixel = TrainSettings.dual_pixel,
    annotations: Annotations = TrainSettings.annotations,
    register: Register = TrainSettings.register,
    match_intensity: MatchIntensity = TrainSettings.match_intensity,
) -> None:
    """Check pairs before training: shift, intensities, which is sharper, sizes, partners."""
    from rich.console import Console
    from rich.table import Table

    from napari_swintormer.training.data.check import check_pairs

    reports = check_pairs(
        blurred,
        sharp,
        dual_pixel=dual_pixel,
        annotations=annotations,
        register=register,
        match_intensity=match_intensity,
    )
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


def train(
    out: Annotated[Path, typer.Option(help="Weights file to write, .safetensors.")],
    sharp: Annotated[
        list[Path] | None, typer.Option(help="Folder of sharp images; may be repeated.")
    ] = None,
    blurred: Blurred = TrainSettings.blurred,
    dual_pixel: DualPixel = TrainSettings.dual_pixel,
    annotations: Annotations = TrainSettings.annotations,
    synthesize: Annotated[
        str | None,
        typer.Option(help="defocus, optics, motion or all: make the blurred images instead."),
    ] = TrainSettings.synthesize,
    kind: Annotated[
        list[str] | None,
        typer.Option(help="auto, photo or microscopy; one for all or one per folder --sharp."),
    ] = None,
    steps: Annotated[int, typer.Option(help="Training steps.")] = TrainSettings.steps,
    from_model: Annotated[
        str | None, typer.Option("--from", help="Model to start from, by name or path.")
    ] = TrainSettings.from_model,
    stage: Annotated[
        str,
        typer.Option(
            help="network; or of a prior: autoencoder, denoiser, network, joint; prior: all."
        ),
    ] = TrainSettings.stage,
    network: Annotated[
        str | None, typer.Option(help="small or paper: network to train from nothing.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Patches in a step.")] = TrainSettings.batch_size,
    patch_size: Annotated[
        int, typer.Option(help="Side of the patches in pixels.")
    ] = TrainSettings.patch_size,
    larger_patches: Annotated[
        list[int] | None,
        typer.Option(help="Side of the patches in a later part; may be repeated, growing."),
    ] = None,
    learning_rate: Annotated[
        float, typer.Option("--lr", help="Learning rate at its peak.")
    ] = TrainSettings.learning_rate,
    warmup: Annotated[
        int, typer.Option(help="Steps until the peak of the learning rate.")
    ] = TrainSettings.warmup,
    loss: Annotated[
        str,
        typer.Option(help="l1, charbonnier, frequency, perceptual; or 'l1 + 0.1 * frequency'."),
    ] = TrainSettings.loss,
    vgg19: Annotated[
        Path | None,
        typer.Option(help="File of VGG19's parameters for the perceptual loss; fetched if none."),
    ] = TrainSettings.vgg19,
    parameters: Annotated[
        str, typer.Option(help="all, deconvolution, decoder or output: what is trained.")
    ] = TrainSettings.parameters,
    register: Register = TrainSettings.register,
    match_intensity: MatchIntensity = TrainSettings.match_intensity,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave bad pairs out instead of refusing.")
    ] = TrainSettings.skip_bad,
    validate_every: Annotated[
        int, typer.Option(help="Steps between two validations.")
    ] = TrainSettings.validate_every,
    patience: Annotated[
        int | None, typer.Option(help="Validations without a better one that end the training.")
    ] = TrainSettings.patience,
    keep: Annotated[
        str, typer.Option(help="last or best: weights that are written in the end.")
    ] = TrainSettings.keep,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted training.")
    ] = TrainSettings.resume,
    seed: Seed = TrainSettings.seed,
    device: Device = TrainSettings.device,
    precision: Precision = TrainSettings.precision,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Log for TensorBoard, too.")
    ] = TrainSettings.tensorboard,
    title: Annotated[str, typer.Option(help="For the model card.")] = TrainSettings.title,
    summary: Annotated[
        str, typer.Option(help="For the model card: what the model is good for.")
    ] = TrainSettings.summary,
    licence: Annotated[
        str, typer.Option(help="For the model card: of the weights.")
    ] = TrainSettings.licence,
) -> None:
    """Train a model on pairs of blurred and sharp images, or on sharp images alone."""
    from napari_swintormer.training.loop.train import train as run_training
    from napari_swintormer.training.loop.trainer import BEST

    with resumable(out.with_suffix(".run") / BEST):
        made = run_training(
            blurred,
            sharp or (),
            out,
            dual_pixel=dual_pixel,
            annotations=annotations,
            synthesize=synthesize,  # type: ignore[arg-type] # refused there
            kind=kind or "auto",
            steps=steps,
            from_model=from_model,
            stage=stage,
            network=network,
            resume=resume,
            seed=seed,
            device=device,
            precision=precision,
            progress=True,
            batch_size=batch_size,
            patch_size=patch_size,
            larger_patches=tuple(larger_patches or ()),
            vgg19=vgg19,
            tensorboard=tensorboard,
            learning_rate=learning_rate,
            warmup=warmup,
            loss=loss,
            parameters=parameters,
            register=register,
            match_intensity=match_intensity,
            skip_bad=skip_bad,
            validate_every=validate_every,
            patience=patience,
            keep=keep,
            title=title,
            summary=summary,
            licence=licence,
        )
    typer.echo(str(made))
