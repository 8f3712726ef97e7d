"""One spelling of an option for the API, the command line and the form of the plugin.

An option is a field of a frozen dataclass, such as `DeblurSettings`: the field has the type, the
default and, in its metadata, the words that people read. To add an option, add a field with
``option(...)`` as its default there, add its type to the TypedDict beside it, and use the field
where it matters. Keyword, flag and help text follow; a test compares them. The form needs a row.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

F = TypeVar("F", bound="Callable[..., Any]")
T = TypeVar("T")


@dataclass(frozen=True)
class Option:
    """The words about one field of a settings dataclass.

    Attributes
    ----------
    help
        One sentence: what the option does. The command line shows it.
    details
        Further sentences for the documentation of the API and the tooltip of the form.
    label
        Name of the row in the form; empty for an option that the form does not show.
    choices
        Values that the form offers, each with its label there.
    low, high
        Smallest and largest value; None where there is no such limit.
    flags
        Flags on the command line; empty for the name with dashes.
    name, type, default
        Name, type and default of the field; `options_of` fills them in. The default of a field that
        must be given is ``dataclasses.MISSING``.
    """

    help: str
    details: str = ""
    label: str = ""
    choices: Mapping[Any, str] = field(default_factory=dict)
    low: float | None = None
    high: float | None = None
    flags: tuple[str, ...] = ()
    name: str = ""
    type: Any = None
    default: Any = None

    @property
    def text(self) -> str:
        """The help and the details in one text."""
        return f"{self.help} {self.details}".strip()

    def tooltip(self, width: int = 85) -> str:
        """Return the text in lines of at most `width` characters."""
        return textwrap.fill(self.text, width)


def about(help: str, details: str = "", **words: Any) -> dict[str, Option]:
    """Make the metadata of a field; the arguments are attributes of `Option`."""
    return {"option": Option(help, details, **words)}


def option(default: T, help: str, details: str = "", **words: Any) -> T:
    """Make a field of a settings dataclass: its default, and attributes of `Option`."""
    made: T = field(default=default, metadata=about(help, details, **words))
    return made


def options_of(settings: type) -> dict[str, Option]:
    """Return the options of a settings dataclass by name; fields without metadata are left out."""
    names = vars(sys.modules[settings.__module__])
    return {
        each.name: replace(
            each.metadata["option"],
            name=each.name,
            # one by one: other fields may name types that only a type checker imports
            type=eval(each.type, names) if isinstance(each.type, str) else each.type,
            default=each.default,
        )
        for each in fields(settings)
        if "option" in each.metadata
    }


def signature_with(
    function: Callable[..., Any], options: Iterable[inspect.Parameter], *, eval_str: bool = False
) -> inspect.Signature:
    """Return the signature of a function with its ``**options`` replaced by keyword parameters."""
    own = inspect.signature(function, eval_str=eval_str)
    kinds = inspect.Parameter
    named = [p for p in own.parameters.values() if p.kind is not kinds.VAR_KEYWORD]
    first = [p for p in named if p.kind is not kinds.KEYWORD_ONLY]
    return own.replace(parameters=[*first, *options, *named[len(first) :]])


def documents_options(settings: type, *, without: Iterable[str] = ()) -> Callable[[F], F]:
    """Let ``help()`` of a function list the options that its ``**options`` stand for.

    Parameters
    ----------
    settings
        The dataclass that the function makes of its ``**options``.
    without
        Options that the function does not take, or names itself.
    """
    chosen = [known for name, known in options_of(settings).items() if name not in set(without)]

    def document(function: F) -> F:
        keywords = [
            inspect.Parameter(
                known.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=known.default,
                annotation=known.type,
            )
            for known in chosen
        ]
        function.__signature__ = signature_with(function, keywords)  # type: ignore[attr-defined]
        entries = [
            f"{known.name}\n{textwrap.indent(textwrap.fill(known.text, 92), '    ')}\n"
            for known in chosen
        ]
        listed = "".join(entries)
        function.__doc__ = re.sub(
            r"^\*\*options\n(?: +.*\n)+",
            lambda _: listed,
            inspect.cleandoc(function.__doc__ or ""),
            flags=re.MULTILINE,
        )
        return function

    return document
