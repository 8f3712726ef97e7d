"""The training of a model with a compact prior, stage by stage.

1. ``autoencoder``: the latent of an image, and the image out of it again. Starting from a model
   without prior this adds one; the network takes no notice of it yet.
2. ``denoiser``: predicts the clean latent (eq. 17, of ``z0`` instead of the noise); the autoencoder
   stays as it is.
3. ``network``: the network restores with what the prior samples; the prior stays as it is.
4. ``joint``: network, denoiser and the encoder of the blurred image together, through all steps.

Every stage reads a whole model and writes a whole model. All that is random is a pure function of
seed and step, so that a resumed training equals an uninterrupted one.
"""

from __future__ import annotations

import copy
import math
import time
from typing import TYPE_CHECKING, Any

from napari_swintormer.errors import TrainingError
from napari_swintormer.events import Event, Notice, Progress, Trained
from napari_swintormer.training.log import TrainingLog

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    import torch
    from torch import Tensor

    from napari_swintormer.models.card import ModelCard
    from napari_swintormer.models.prior import PriorSwintormer
    from napari_swintormer.training.pairs import Scene
    from napari_swintormer.training.patches import PatchSampler
    from napari_swintormer.training.settings import TrainSettings

_REPORT_EVERY = 50  # steps between two lines of the log
_PATCHES = 48  # for validation, and to measure the latent on
_SEED = 20_240_107  # of the noise in validation


def concerns_prior(settings: TrainSettings) -> bool:
    """Whether this is a stage of a training with prior; imports no torch."""
    if settings.stage != "network":
        return True
    if settings.from_model is None:
        return False
    from napari_swintormer.models.catalogue import find_model
    from napari_swintormer.models.weights import read_card

    path = find_model(settings.from_model)
    return path.suffix == ".safetensors" and read_card(path).prior is not None


def iter_stage(settings: TrainSettings) -> Generator[Event]:
    """Train one stage, see `napari_swintormer.training.train.iter_train`."""
    import torch

    from napari_swintormer.engine.devices import resolve_device, resolve_precision
    from napari_swintormer.models.weights import save_weights
    from napari_swintormer.training.begin import check_nothing_there, find_scenes
    from napari_swintormer.training.patches import PatchSampler, batches
    from napari_swintormer.training.prior_losses import Batch
    from napari_swintormer.training.state import LossMean
    from napari_swintormer.training.train import BEST, LAST, learning_rate, put_in_place

    device = resolve_device(settings.device)
    precision = resolve_precision(settings.precision, device)
    card, weights = start_with_prior(settings)
    earlier = _earlier_metrics(settings)
    if not settings.resume:
        check_nothing_there(settings)
    scenes, held_out, images, notices = find_scenes(settings, card)
    _check_complete(scenes)
    yield from notices

    state = _State(card, weights, settings, device)
    described = card.model_dump(include={"network", "prior"})
    decisive = settings.decisive() | {"stage": settings.stage, "images": images} | described
    first_step = state.restore(decisive) if settings.resume else 0
    log = TrainingLog(settings.run_folder, first_step)

    def patches(scenes: Any, seed: int) -> PatchSampler:
        size, channels = settings.patch_size, card.network.channels
        return PatchSampler(scenes, size, channels, card.intensity, seed, settings.synthesize)

    sampler = patches(scenes, settings.seed)
    validation = patches(held_out, _SEED).draw_all(_PATCHES) if held_out else None
    source = batches(sampler, settings.batch_size, first_step, settings.steps, settings.workers)
    step, losses, began = first_step, LossMean(), time.perf_counter()
    rate = learning_rate(step, settings)

    def write(name: str, report: Trained) -> None:
        network = state.measured(sampler) if settings.stage == "autoencoder" else state.ema
        metrics = {**earlier, **_metrics(settings, report)}
        card_now = card.model_copy(update={"metrics": metrics})
        save_weights(settings.run_folder / name, network.state_dict(), card_now)

    def report(*, validate: bool = True) -> Trained:
        """Write a line of the log, and the best weights."""
        scores = state.validate(validation, precision) if validate else None
        line = Trained(step, settings.steps, losses.take(), *(scores or (None, None)))
        if log.write(line, rate):
            write(BEST, line)
        return line

    if step == 0 and held_out:
        yield report()  # what training has to be better than
    try:
        for pair in source:
            # One step: the stage's loss in the chosen precision, AdamW, moving average.
            rate = learning_rate(step, settings)
            blurred, sharp = (torch.from_numpy(half).to(device) for half in pair)
            with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                batch = Batch(state.network, blurred, sharp, settings.seed, step)
                loss = state.stage.loss(batch)
            state.update(loss, rate, step)
            losses.add(loss)
            step += 1
            elapsed = time.perf_counter() - began
            eta = elapsed / (step - first_step) * (settings.steps - step)
            yield Progress(step, settings.steps, "steps", elapsed, eta)

            # Now and then a checkpoint, and a line of the log, some with a validation.
            if step % settings.checkpoint_every == 0 or step == settings.steps:
                state.save(step, decisive)
            validate = step % settings.validate_every == 0
            if step < settings.steps and (validate or step % _REPORT_EVERY == 0):
                yield report(validate=validate)
                if validate and settings.patience and log.since_best >= settings.patience:
                    yield Notice(
                        f"Stopped early: none of the last {log.since_best} validations was better."
                    )
                    break
    except GeneratorExit:
        state.save(step, decisive)
        write(LAST, Trained(step, 0, math.nan))
        raise
    finally:
        source.close()

    line = report()
    write(LAST, line)
    best = held_out and settings.keep == "best"
    put_in_place(settings.run_folder / (BEST if best else LAST), settings.out)
    yield line


def _check_complete(scenes: Sequence[Scene]) -> None:
    """Refuse annotations: of an image with holes there is no latent."""
    if any(scene.annotations is not None for scene in scenes):
        raise TrainingError(
            "A model with a prior cannot be trained with annotations. Leave them out, or cut the "
            "images."
        )


def start_with_prior(settings: TrainSettings) -> tuple[ModelCard, Mapping[str, Tensor]]:
    """Read the model to start from, and give it a prior if it has none.

    Raises
    ------
    TrainingError
        There is no model to start from, this stage comes too early for it, or it is to minimise or
        train something else than it does.
    """
    from napari_swintormer.models.prior_settings import CompactPriorSettings
    from napari_swintormer.training.begin import start_model

    if settings.from_model is None:
        raise TrainingError(
            f"The stage {settings.stage!r} of a training with prior needs a model to start from. "
            "Name one with --from; a model without prior will do for --stage autoencoder."
        )
    for name, only in (("loss", "l1"), ("parameters", "all")):
        if getattr(settings, name) != only:
            raise TrainingError(
                f"Every stage of a training with prior has losses and parameters of its own (got "
                f"{name}={getattr(settings, name)!r}). Leave {name} out."
            )
    card, weights = start_model(settings)
    assert weights is not None
    if card.prior is None and settings.stage == "autoencoder":
        prior = settings.prior or CompactPriorSettings(channels=card.network.channels)
        return add_prior(card, weights, prior, settings.seed)
    if card.prior is None or card.prior.kind != "compact":
        raise TrainingError(
            f"The model {settings.from_model!r} has no compact prior for the stage "
            f"{settings.stage!r} to train. Train --stage autoencoder first."
        )
    if settings.prior not in (None, card.prior):
        raise TrainingError("A model that is trained further keeps its prior: leave out prior.")
    return card, weights


def add_prior(
    card: ModelCard, weights: Mapping[str, Tensor], prior: Any, seed: int
) -> tuple[ModelCard, dict[str, Tensor]]:
    """Give a model without prior an untrained one, of which its network takes no notice yet."""
    import torch

    from napari_swintormer.models.prior import build_network

    network = card.network.model_copy(update={"prior_channels": prior.prior_channels})
    card = card.model_copy(update={"network": network, "prior": prior})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        state = build_network(card.network, card.prior).state_dict()
    embed = weights["embed.weight"]  # the prior's channels come last
    missing = state["embed.weight"].shape[1] - embed.shape[1]
    return card, state | dict(weights) | {
        "embed.weight": torch.nn.functional.pad(embed, (0, 0, 0, 0, 0, missing))
    }


class _State:
    """The networks, their moving average and the optimizer."""

    def __init__(
        self,
        card: ModelCard,
        weights: Mapping[str, Tensor],
        settings: TrainSettings,
        device: torch.device,
    ) -> None:
        import torch

        from napari_swintormer.models.prior import PriorSwintormer, build_network
        from napari_swintormer.training.prior_losses import STAGES

        self.settings, self.stage = settings, STAGES[settings.stage]
        network = build_network(card.network, card.prior)
        assert isinstance(network, PriorSwintormer)
        self.network = network
        self.network.load_state_dict(dict(weights))
        self.network.to(device).train()
        self.ema = copy.deepcopy(self.network).eval().requires_grad_(False)
        whole = settings.stage in ("network", "joint")  # beside the parts of the prior
        for name, parameter in self.network.named_parameters():
            own = name.startswith(self.stage.parts)
            parameter.requires_grad_(own or (whole and not name.startswith("prior.")))
        self.trained = [p for p in self.network.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.trained, lr=settings.learning_rate, weight_decay=settings.weight_decay
        )

    def update(self, loss: Tensor, rate: float, step: int) -> None:
        """Make one step down the gradient of `loss`, and move the average along."""
        import torch

        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.trained, self.settings.clip)
        self.optimizer.step()
        decay = min(self.settings.ema, (step + 1) / (step + 10))
        with torch.no_grad():
            for average, new in zip(self.ema.parameters(), self.network.parameters(), strict=True):
                average.lerp_(new, 1 - decay)

    def validate(self, pairs: Any, precision: torch.dtype) -> tuple[float, float] | None:
        """Measure the PSNR in dB of the stage's images and of the blurred ones, if any."""
        import torch

        from napari_swintormer.training.losses import psnr
        from napari_swintormer.training.prior_losses import Batch

        if pairs is None:
            return None
        blurred, sharp = (torch.from_numpy(half) for half in pairs)
        device = next(self.ema.parameters()).device
        images, size = [], self.settings.batch_size
        mixed = precision != torch.float32
        with torch.inference_mode(), torch.autocast(device.type, precision, enabled=mixed):
            parts = zip(torch.split(blurred, size), torch.split(sharp, size), strict=True)
            for i, (b, s) in enumerate(parts):
                batch = Batch(self.ema, b.to(device), s.to(device), _SEED, i)
                images.append(self.stage.image(batch).float().cpu())
        return psnr(torch.cat(images), sharp), psnr(blurred, sharp)

    def measured(self, sampler: PatchSampler) -> PriorSwintormer:
        """Return the average with its latent at mean 0 and deviation 1 over some sharp patches."""
        import torch

        network = copy.deepcopy(self.ema)
        prior, sharp = network.prior, sampler.draw_all(_PATCHES)[1]
        with torch.no_grad():
            latents = prior.encode(torch.from_numpy(sharp).to(prior.shift.device))
            deviation, mean = torch.std_mean(latents, dim=(0, 2, 3))
            prior.shift += mean * prior.scale
            prior.scale *= deviation.clamp_min(1e-6)
        return network

    def save(self, step: int, decisive: Mapping[str, Any]) -> None:
        """Write a checkpoint."""
        from napari_swintormer.training.checkpoint import Checkpoint, save_checkpoint

        checkpoint = Checkpoint(
            step=step,
            settings=decisive,
            network=self.network.state_dict(),
            ema=self.ema.state_dict(),
            optimizer=self.optimizer.state_dict(),
            at_once=self.settings.batch_size,
        )
        save_checkpoint(self.settings.run_folder, checkpoint)

    def restore(self, decisive: Mapping[str, Any]) -> int:
        """Take the state of the checkpoint and return the steps that it has done."""
        from napari_swintormer.training.checkpoint import check_same_settings, load_checkpoint

        folder = self.settings.run_folder
        checkpoint = load_checkpoint(folder)
        check_same_settings(folder, checkpoint, decisive)
        self.network.load_state_dict(dict(checkpoint.network))
        self.ema.load_state_dict(dict(checkpoint.ema))
        self.optimizer.load_state_dict(dict(checkpoint.optimizer))
        return checkpoint.step


def _earlier_metrics(settings: TrainSettings) -> dict[str, float]:
    """Read what the stages before have brought off the card of the model to start from."""
    from napari_swintormer.models.catalogue import find_model
    from napari_swintormer.models.weights import load_weights

    assert settings.from_model is not None
    return load_weights(find_model(settings.from_model))[0].metrics


def _metrics(settings: TrainSettings, report: Trained) -> dict[str, float]:
    """Say for the card what this stage has brought."""
    metrics = {f"stage {settings.stage}, steps": float(report.step)}
    if report.psnr is not None and report.psnr_blurred is not None:
        metrics[f"stage {settings.stage}, validation PSNR, dB"] = round(report.psnr, 3)
        metrics["validation PSNR of the blurred patches, dB"] = round(report.psnr_blurred, 3)
    return metrics
