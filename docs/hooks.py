"""Tables of options for the documentation, made from the settings that the package uses."""

from __future__ import annotations

import dataclasses
import re
from importlib import import_module
from typing import Any

from napari_swintormer.settings.options import options_of


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace ``<!-- options of MODULE.CLASS -->`` by a table of the options."""
    return re.sub(r"<!-- options of ([\w.]+)\.(\w+) -->", _table, markdown)


def _table(match: re.Match[str]) -> str:
    settings = getattr(import_module(f"napari_swintormer.{match[1]}"), match[2])
    rows = ["| option | default | what it does |", "|---|---|---|"]
    for name, option in options_of(settings).items():
        required = option.default is dataclasses.MISSING
        default = "" if required else f"`{option.default!r}`"
        text = option.text.replace("|", "\\|")
        rows.append(f"| `{name}` | {default} | {text} |")
    return "\n".join(rows)
