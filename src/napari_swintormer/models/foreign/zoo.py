"""Networks of others as restorers: state dicts that spandrel recognises, and programs of torch.

A state dict is data: it is read without running anything, and spandrel builds the network that its
keys and shapes belong to. TorchScript files and exported programs *are* programs: to load one is to
run code of whoever made it. They are opened only after the user has said so for this very file
(`trust`), which is remembered by its SHA-256.
"""

from __future__ import annotations

import json
import re
import zipfile
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from napari_swintormer.errors import FileError, SettingsError, WeightsError
from napari_swintormer.imaging.intensity import IntensityConvention
from napari_swintormer.models.files.card import ForeignCard, ForeignNetwork
from napari_swintormer.settings.preferences import home

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor, nn

PROGRAM_SUFFIXES = (".pt2", ".torchscript", ".ts")
_MULTIPLES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_PROBE = 128  # pixels: programs are tried on tiles of a little more
_HOW = "pip install napari-swintormer[zoo]"


def is_program(path: Path) -> bool:
    """Whether a file is a TorchScript file or an exported program; looks at its names alone."""
    try:
        with zipfile.ZipFile(path) as file:
            names = file.namelist()
    except (OSError, zipfile.BadZipFile):
        return False
    script = any("/code/" in name for name in names)
    return script or any(name.endswith("archive_format") for name in names)


# ---- state dicts -------------------------------------------------------------------------------


def recognise(path: Path, state: Mapping[str, Any]) -> tuple[ForeignCard, nn.Module]:
    """Build the network that a state dict belongs to.

    Parameters
    ----------
    path
        File that it comes from, for messages.
    state
        What the file holds, tensors only.

    Returns
    -------
    card, network
        Its description, and the network with these parameters, on the CPU.

    Raises
    ------
    WeightsError
        spandrel is not there, does not know the network, or it does not restore an image of one or
        three channels at its own size.
    """
    try:
        from spandrel import MAIN_REGISTRY, ImageModelDescriptor, ModelLoader
    except (ImportError, RuntimeError) as error:  # a torchvision of another torch raises both
        missing = getattr(error, "name", None) == "spandrel"
        why = "is not installed" if missing else f"cannot be loaded ({_one_line(error)})"
        raise WeightsError(
            f"{path} holds no network of this package. Networks of others are recognised by the "
            f"package spandrel, which {why}. Use {_HOW}, and the torchvision made for the "
            "installed torch."
        ) from error
    _add_extra_architectures(MAIN_REGISTRY)
    try:
        descriptor = ModelLoader(registry=MAIN_REGISTRY).load_from_state_dict(dict(state))
    except Exception as error:  # whatever an architecture raises when shapes do not fit
        raise WeightsError(
            f"{path} holds no network that this package or spandrel knows ({_one_line(error)}). "
            "Restormer and some others need the package spandrel_extra_arches as well."
        ) from error
    channels = (descriptor.input_channels, descriptor.output_channels)
    image = isinstance(descriptor, ImageModelDescriptor)
    if not image or descriptor.scale != 1 or channels not in ((1, 1), (3, 3)):
        raise WeightsError(
            f"{path} holds a {descriptor.architecture.name} that cannot restore an image at its "
            f"own size (scale {descriptor.scale}, {channels[0]} channels in, {channels[1]} out). "
            "Use a network for deblurring or denoising of 1 or 3 channels."
        )
    rules = descriptor.size_requirements
    network = ForeignNetwork(
        kind="spandrel",
        architecture=descriptor.architecture.name,
        channels=channels[0],
        multiple=max(rules.multiple_of, 1),
        minimum=max(rules.minimum, 1),
        square=rules.square,
    )
    return _card(path, network), descriptor.model


def _add_extra_architectures(registry: Any) -> None:
    """Add the architectures with licences of their own, where their package is installed."""
    from importlib.util import find_spec

    if find_spec("spandrel_extra_arches") is not None:
        from spandrel_extra_arches import EXTRA_REGISTRY

        registry.add(*EXTRA_REGISTRY, ignore_duplicates=True)


# ---- programs ----------------------------------------------------------------------------------


def trust(path: Path, sha256: str) -> ForeignCard:
    """Run a program to find out its rules, and remember that the user trusts this very file.

    Raises
    ------
    WeightsError
        It is damaged, or gives no image of the size that it is given.
    """
    card = _card(path, _probe(path, open_program(path)))
    record = home() / "trusted" / f"{sha256}.json"
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(card.model_dump_json(), encoding="utf-8")
    return card


def trusted_card(path: Path, sha256: str) -> ForeignCard:
    """Card of a program that the user trusts; without torch.

    Raises
    ------
    SettingsError
        The user has not said so.
    """
    record = home() / "trusted" / f"{sha256}.json"
    if not record.is_file():
        raise SettingsError(
            f"{path} is a program (TorchScript or exported): to load it is to run code of whoever "
            f"made it. If you trust it, run `swintormer models import --run-code {path}` once, or "
            "use weights instead of a program."
        )
    try:
        return ForeignCard.model_validate(json.loads(record.read_text(encoding="utf-8")))
    except ValueError as error:
        raise FileError(f"{record} is damaged; delete it and import the model again.") from error


def open_program(path: Path) -> Callable[..., Any]:
    """Load a program, which runs its code: only after `trusted_card`, or to `trust` it.

    Raises
    ------
    WeightsError
        It is damaged, or of another version of torch.
    """
    import torch

    try:
        if _is_script(path):
            script: Callable[..., Any] = torch.jit.load(path, map_location="cpu").eval()  # type: ignore[no-untyped-call]
            return script
        return torch.export.load(path).module()
    except Exception as error:  # whatever the two formats raise
        raise WeightsError(f"{path} cannot be loaded as a program ({_one_line(error)}).") from error


def _is_script(path: Path) -> bool:
    with zipfile.ZipFile(path) as file:
        return any("/code/" in name for name in file.namelist())


def _probe(path: Path, program: Callable[..., Any]) -> ForeignNetwork:
    """Find the smallest multiple that the sides of a program's tiles must be of."""
    import torch

    kind: Literal["torchscript", "export"] = "torchscript" if _is_script(path) else "export"
    for channels in (3, 1):
        for multiple in _MULTIPLES:
            side = _PROBE + multiple if multiple < _PROBE else multiple
            tile = torch.rand(1, channels, side, side)
            try:
                with torch.inference_mode():
                    restored = program(tile)
            except Exception:
                continue
            if isinstance(restored, torch.Tensor) and restored.shape == tile.shape:
                largest = None if _takes(program, channels, 2 * side) else side
                return ForeignNetwork(
                    kind=kind,
                    architecture=kind,
                    channels=channels,
                    multiple=multiple if largest is None else side,
                    largest=largest,
                )
    raise WeightsError(
        f"{path} does not give an image of the size that it is given, for tiles of 1 or 3 channels "
        f"and sides of {_PROBE + 1} to {_MULTIPLES[-1]} pixels. Use a network for deblurring."
    )


def _takes(program: Callable[..., Any], channels: int, side: int) -> bool:
    import torch

    try:
        with torch.inference_mode():
            program(torch.rand(1, channels, side, side))
    except Exception:
        return False
    return True


# ---- what both share ---------------------------------------------------------------------------


@lru_cache(maxsize=4)  # a plan is made anew whenever a setting changes
def described(path: Path, _sha256: str, read: Callable[[Path], Any]) -> ForeignCard:
    """Card of a state dict, recognised once per file."""
    return recognise(path, read(path))[0]


def _card(path: Path, network: ForeignNetwork) -> ForeignCard:
    name = re.sub(r"[^A-Za-z0-9._-]", "-", path.stem).lstrip("._-") or "network"
    tile = network.largest or max(512 // network.multiple, 1) * network.multiple
    return ForeignCard(
        name=name[:64],
        title=f"{network.architecture} ({path.name})"[:300],
        summary="A network of others; works best on images like those it was trained on.",
        architecture=network.architecture,
        network=network,
        tile_size=max(tile, 16),
        overlap=max(tile, 16) // 8,
        intensity=IntensityConvention(scope="image", low=0, high=100),
        clip_output=True,
    )


def _one_line(message: object) -> str:
    return " ".join(str(message).split())[:200].rstrip(".")


def state_tensors(content: Any, path: Path) -> dict[str, Tensor]:
    """Tensors of a file's state dict, out of ``params_ema`` and the like.

    Raises
    ------
    WeightsError
        The file holds something else.
    """
    from torch import Tensor

    for key in ("params_ema", "params", "state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise WeightsError(
            f"{path} holds no state dict. Use a file that maps names to tensors, directly or under "
            "params_ema, params, state_dict or model."
        )
    return {str(k).removeprefix("module."): v for k, v in content.items()}
