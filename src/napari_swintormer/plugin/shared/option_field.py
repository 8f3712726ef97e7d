"""Makes the field of a form from an option: kind, choices, limits, default and tooltip."""

from __future__ import annotations

from typing import Any, get_args

from magicgui.widgets import CheckBox, ComboBox, FloatSpinBox, LineEdit, SpinBox
from magicgui.widgets.bases import ValueWidget

from napari_swintormer.settings.options import Option

_LARGEST = 2**31 - 1  # Qt's fields for numbers reach no further


def option_field(option: Option, **changes: Any) -> ValueWidget[Any]:
    """Make the field of an option.

    Parameters
    ----------
    option
        Of `options_of`.
    **changes
        Arguments of the field that differ from the option, such as ``value`` or ``choices``.
    """
    arguments: dict[str, Any] = {"tooltip": option.tooltip()}
    if isinstance(option.default, bool | int | float | str) and "choices" not in changes:
        arguments["value"] = option.default
    kinds = {option.type, *get_args(option.type)}
    limits = {
        "min": 0 if option.low is None else option.low,
        "max": _LARGEST if option.high is None else option.high,
    }
    kind: type[ValueWidget[Any]] = LineEdit
    if option.choices or "choices" in changes:
        kind = ComboBox
        arguments["choices"] = [(label, value) for value, label in option.choices.items()]
    elif bool in kinds:
        kind, arguments["text"] = CheckBox, option.label
    elif int in kinds or float in kinds:
        kind = SpinBox if int in kinds else FloatSpinBox
        arguments |= limits
    return kind(**(arguments | changes))
