"""Programs of torch as restorers: TorchScript files and exported programs.

Loading a program runs code of its author. It is loaded only after the user said to trust this very
file, which is recorded by its SHA-256.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from napari_swintormer.errors import FileError, SettingsError, WeightsError, one_line
from napari_swintormer.models.files.card import ForeignCard, ForeignNetwork, foreign_card
from napari_swintormer.models.files.kinds import Kind, detect
from napari_swintormer.settings.preferences import home

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_MULTIPLES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_PROBE = 128  # pixels: programs are tried on slightly larger tiles


def trusted_card(path: Path, sha256: str) -> ForeignCard:
    """Return the card of a program that the user trusts, without torch; else `SettingsError`."""
    record = _record(sha256)
    if not record.is_file():
        raise SettingsError(
            f"{path} is a program (TorchScript or exported): loading it runs code of its author. "
            f"If you trust it, run `swintormer models import --run-code {path}` once, or use "
            "weights instead of a program."
        )
    try:
        return ForeignCard.model_validate(json.loads(record.read_text(encoding="utf-8")))
    except ValueError as error:
        raise FileError(f"{record} is damaged; delete it and import the model again.") from error


def trust(card: ForeignCard, sha256: str) -> None:
    """Record that the user trusts the program with this SHA-256, and its card."""
    record = _record(sha256)
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(card.model_dump_json(), encoding="utf-8")


def _record(sha256: str) -> Path:
    return home() / "trusted" / f"{sha256}.json"


def open_program(path: Path) -> Callable[..., Any]:
    """Load a program, which runs its code: only with a `trusted_card`, or when the user says so.

    Raises `WeightsError` if it is damaged, or made for another version of torch.
    """
    import torch

    try:
        if detect(path) is Kind.TORCHSCRIPT:
            script: Callable[..., Any] = torch.jit.load(path, map_location="cpu").eval()  # type: ignore[no-untyped-call]
            return script
        return torch.export.load(path).module()
    except Exception as error:  # whatever the two formats raise
        raise WeightsError(f"{path} cannot be loaded as a program ({one_line(error)}).") from error


def probe_program(path: Path) -> ForeignCard:
    """Run a program on tiles of several sizes, and describe the sizes that it takes."""
    program, script = open_program(path), detect(path) is Kind.TORCHSCRIPT
    for channels in (3, 1):
        for multiple in _MULTIPLES:
            side = _PROBE + multiple if multiple < _PROBE else multiple
            if _restored_shape(program, channels, side) != (1, channels, side, side):
                continue
            any_size = _restored_shape(program, channels, 2 * side) is not None
            network = ForeignNetwork(
                kind="torchscript" if script else "export",
                architecture="torchscript" if script else "export",
                channels=channels,
                multiple=multiple if any_size else side,
                largest=None if any_size else side,
            )
            return foreign_card(path, network)
    raise WeightsError(
        f"{path} does not return an image of the size of its input, for tiles of 1 or 3 channels "
        f"and sides of {_PROBE + 1} to {_MULTIPLES[-1]} pixels. Use a network for deblurring."
    )


def _restored_shape(
    program: Callable[..., Any], channels: int, side: int
) -> tuple[int, ...] | None:
    """Run a program on a square; None if it fails, an empty shape if it returns no tensor."""
    import torch

    try:
        with torch.inference_mode():
            restored = program(torch.rand(1, channels, side, side))
    except Exception:  # whatever a program raises for a size that it does not take
        return None
    return tuple(restored.shape) if isinstance(restored, torch.Tensor) else ()
