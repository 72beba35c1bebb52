"""Widgets made from the settings dataclasses: one definition of each setting, its bounds and its help."""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from collections.abc import Collection
from dataclasses import fields
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from magicgui.widgets import create_widget

SettingsT = TypeVar("SettingsT")
Form = dict[str, Any]  # field name -> magicgui widget
CHOICE_LABELS = {
    "auto": "Automatic",
    "cpu": "CPU",
    "cuda": "GPU (CUDA)",
    "mps": "GPU (Apple)",
    "float32": "32 bit",
    "bfloat16": "16 bit (bfloat16)",
}


def make_form(cls: type, names: Collection[str]) -> Form:
    """Give one labelled widget per setting, at its default.

    Parameters
    ----------
    cls : type
        A settings dataclass of `core.config`.
    names : collection of str
        Fields to show.

    Returns
    -------
    dict of str to magicgui.widgets.Widget
        In the order of the dataclass; each has ``label``, ``value`` and its Qt widget in ``native``.
    """
    hints, tips = get_type_hints(cls, include_extras=True), field_help(cls)
    form: Form = {}
    for field in fields(cls):
        if field.name in names:
            annotation, options = _split(hints[field.name])
            options["tooltip"] = tips.get(field.name, "")
            widget = create_widget(name=field.name, annotation=annotation, value=field.default, options=options)
            if annotation is bool:
                widget.text = ""  # the label stands beside it
            form[field.name] = widget
    return form


def read_form(form: Form, cls: type[SettingsT], **others: Any) -> SettingsT:
    """Give the settings that a form shows.

    Parameters
    ----------
    form : dict of str to magicgui.widgets.Widget
        From `make_form` of the same class.
    cls : type
        The settings dataclass.
    **others
        Values of fields that are not in the form; the rest keep their defaults.

    Returns
    -------
    cls

    Raises
    ------
    SettingsError
        If a value lies outside its bounds.
    """
    return cls(**{name: widget.value for name, widget in form.items()}, **others)


@cache
def field_help(cls: type) -> dict[str, str]:
    """Give the sentence below each field of a settings dataclass.

    Parameters
    ----------
    cls : type
        A class whose source can be read.

    Returns
    -------
    dict of str to str
        Field name to sentence; empty when the source is not there.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except (OSError, TypeError):
        return {}
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    pairs = itertools.pairwise(body)
    return {
        first.target.id: str(second.value.value)
        for first, second in pairs
        if isinstance(first, ast.AnnAssign)
        and isinstance(first.target, ast.Name)
        and isinstance(second, ast.Expr)
        and isinstance(second.value, ast.Constant)
    }


def _split(hint: Any) -> tuple[Any, dict[str, Any]]:
    """Give the bare type and the magicgui options of an annotated field."""
    if get_origin(hint) is not Annotated:
        return hint, {}
    annotation, *extras = get_args(hint)
    options = dict(extras[0])
    if get_origin(annotation) is Literal:
        options["choices"] = [(CHOICE_LABELS.get(value, str(value)), value) for value in get_args(annotation)]
    elif annotation is float:
        options.setdefault("step", 0.1 if options.get("max", 100.0) <= 5 else 1.0)
    return annotation, options
