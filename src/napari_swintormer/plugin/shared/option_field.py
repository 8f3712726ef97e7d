"""Makes the field of a form from an option: kind, label, choices, limits, default and tooltip."""

from __future__ import annotations

from typing import Any, get_args

from magicgui.widgets import CheckBox, ComboBox, FloatSpinBox, LineEdit, SpinBox

from napari_swintormer.settings.options import Option

_LARGEST = 2**31 - 1  # limit of Qt's fields for numbers


def option_field(option: Option, hint: str = "", kind: Any = None, **changes: Any) -> Any:
    """Make the field of an option.

    Parameters
    ----------
    option
        As `napari_swintormer.settings.options.options_of` returns it.
    hint
        Sentence about the form, after the explanation of the option.
    kind
        Class of the field. The default is a list for an option with choices, else a check box, a
        number or a line of text, by the type of the option.
    **changes
        Arguments of the field in place of those of the option, such as ``value`` or ``choices``.
    """
    arguments: dict[str, Any] = {
        "label": option.label,
        "tooltip": f"{option.tooltip()}\n{hint}".strip(),
    }
    if isinstance(option.default, bool | int | float | str) and "choices" not in changes:
        arguments["value"] = option.default
    kinds = {option.type, *get_args(option.type)}
    if option.choices or "choices" in changes:
        kind = kind or ComboBox
        arguments["choices"] = choices_of(option)
    elif bool in kinds:
        kind = kind or CheckBox  # shows the label as its text
    elif int in kinds or float in kinds:
        kind = kind or (SpinBox if int in kinds else FloatSpinBox)
        arguments["min"] = 0 if option.low is None else option.low
        arguments["max"] = _LARGEST if option.high is None else option.high
    return (kind or LineEdit)(**(arguments | changes))


def choices_of(option: Option) -> list[tuple[str, Any]]:
    """Return the choices of an option as magicgui takes them: labels with their values."""
    return [(label, value) for value, label in option.choices.items()]
