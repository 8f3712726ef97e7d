"""Pages of headings, text, tables and pictures, as Markdown and as HTML."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em}
table{border-collapse:collapse;margin:1em 0}td,th{padding:.2em .7em;text-align:right}
td:first-child,th:first-child{text-align:left}tr{border-bottom:1px solid #ccc}img{max-width:100%}
details table{font-size:13px}"""


@dataclass(frozen=True)
class Table:
    """Cells of text: the first column is aligned to the left, the others to the right.

    If `folded` has a title, HTML shows the table after a click on it, and Markdown leaves it out.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    folded: str = ""


@dataclass(frozen=True)
class Heading:
    """A title; level 1 is the title of the page."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Picture:
    """A picture in a file beside the page."""

    file: str
    text: str


Part = str | Heading | Table | Picture


def markdown(parts: Iterable[Part]) -> str:
    """Write parts as Markdown."""
    texts = []
    for part in parts:
        if isinstance(part, Heading):
            texts.append(f"{'#' * part.level} {part.text}\n")
        elif isinstance(part, Picture):
            texts.append(f"![{part.text}]({part.file})\n")
        elif isinstance(part, str):
            texts.append(part + "\n")
        elif not part.folded:
            texts.append(markdown_table(part.header, part.rows))
    return "\n".join(texts)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a Markdown table: first column to the left, the others to the right."""
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def html(title: str, parts: Iterable[Part]) -> str:
    """Write parts as a page that needs no other files than its pictures."""
    texts = [f"<!doctype html><meta charset=utf-8><title>{escape(title)}</title>"]
    texts.append(f"<style>{_STYLE}</style>")
    for part in parts:
        if isinstance(part, Heading):
            texts.append(f"<h{part.level}>{escape(part.text)}</h{part.level}>")
        elif isinstance(part, Picture):
            texts.append(f'<img src="{escape(part.file)}" alt="{escape(part.text)}">')
        elif isinstance(part, str):
            texts.append(f"<p>{escape(part)}</p>")
        else:
            lines = [_html_row("th", part.header), *(_html_row("td", row) for row in part.rows)]
            table = "<table>" + "\n".join(lines) + "</table>"
            summary = f"<summary>{escape(part.folded)}</summary>"
            texts.append(f"<details>{summary}{table}</details>" if part.folded else table)
    return "\n".join(texts) + "\n"


def _html_row(tag: str, cells: Iterable[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"
