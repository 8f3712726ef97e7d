"""Arrows point down, and nothing heavy is imported before it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.util import resolve_name
from pathlib import Path

import pytest

import napari_swintormer

PACKAGE = Path(napari_swintormer.__file__).parent

# Each room may import the rooms of the lines above it, see docs/architecture.md. Rooms of one
# line do not know each other, but for the pairs in BESIDE.
LINES = [
    {"errors", "events", "openmp", "sample"},
    {"settings"},
    {"imaging", "tiling", "optics"},
    {"models"},
    {"engine"},
    {"runs", "terminal"},
    {"evaluation", "training"},
    {"api"},
    {"cli", "plugin"},
    {"__main__"},
]
BESIDE = {("evaluation", "training"), ("optics", "imaging")}
RANK = {part: rank for rank, line in enumerate(LINES) for part in line}
# Only the plugin knows napari and Qt; tiles know no tensors.
FORBIDDEN = {
    part: {"napari", "qtpy", "magicgui", "superqt"} for part in RANK if part != "plugin"
} | {"tiling": {"napari", "qtpy", "magicgui", "superqt", "torch", "zarr", "dask", "pydantic"}}
HEAVY = {
    "torch",
    "diffusers",
    "zarr",
    "dask",
    "skimage",
    "tifffile",
    "napari",
    "qtpy",
    "matplotlib",
}

MODULES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path, *, top_level: bool = False) -> set[str]:
    """Full names of the modules that a file imports; `top_level`: those it imports at once."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = ".".join([PACKAGE.name, *path.relative_to(PACKAGE).parts[:-1]])
    found: set[str] = set()
    nodes = [tree] if top_level else list(ast.walk(tree))
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            name = resolve_name("." * node.level + (node.module or ""), package)
            found |= {name} | {f"{name}.{alias.name}" for alias in node.names}
        elif top_level and isinstance(node, (ast.Module, ast.Try, ast.ClassDef)):
            nodes += node.body
    return found


def part(name: str) -> str | None:
    """Name the part of the package that a module belongs to; None for modules of others."""
    names = name.split(".")
    return names[1] if names[0] == PACKAGE.name and len(names) > 1 and names[1] in RANK else None


def test_arrows_point_down():
    wrong = []
    for path in MODULES:
        relative = path.relative_to(PACKAGE)
        own = relative.parts[0].removesuffix(".py")
        if own == "__init__":  # the public names
            continue
        names = imports(path)
        for other in {part(name) for name in names} - {None, own}:
            if RANK[other] >= RANK[own] and (own, other) not in BESIDE:
                wrong.append(f"{relative} imports {other}")
        foreign = {name.split(".")[0] for name in names} & FORBIDDEN.get(own, set())
        wrong += [f"{relative} imports {name}" for name in foreign]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", ["training", "evaluation"])
def test_training_imports_heavy_libraries_late(name):
    for path in (PACKAGE / name).rglob("*.py"):
        heavy = {module.split(".")[0] for module in imports(path, top_level=True)}
        assert not heavy & {"zarr", "dask", "skimage", "napari"}, path


def test_only_models_know_diffusers_and_import_it_late():
    for path in MODULES:
        known = {"diffusers", "huggingface_hub"}
        late = known if path.relative_to(PACKAGE).parts[0] == "models" else set()
        assert not known & {name.split(".")[0] for name in imports(path, top_level=True)}, path
        assert known & {name.split(".")[0] for name in imports(path)} <= late, path


LIGHT = [
    "napari_swintormer",
    "napari_swintormer.cli",
    "napari_swintormer.runs.job",
    "napari_swintormer.runs.planning",
    "napari_swintormer.models.catalogue",
    "napari_swintormer.sample",
    *(
        ".".join((PACKAGE.name, *path.relative_to(PACKAGE).with_suffix("").parts))
        for path in sorted((PACKAGE / "plugin").rglob("*.py"))
    ),
]


def test_light_modules_leave_torch_out():
    program = (
        "import importlib, sys\n"
        f"for name in {LIGHT!r}:\n"
        "    importlib.import_module(name)\n"
        "    assert 'torch' not in sys.modules, f'{name} imports torch'\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)


@pytest.mark.parametrize(
    "statement",
    [
        "import napari_swintormer",
        "from napari_swintormer import list_models; list_models()",
        "import napari_swintormer.cli",
    ],
)
def test_opening_costs_little(statement):
    program = f"import sys; {statement}; print(*sorted(m for m in sys.modules if '.' not in m))"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert not HEAVY & set(done.stdout.split())
