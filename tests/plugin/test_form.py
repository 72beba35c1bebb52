"""Forms from settings: every bound and default is the dataclass's own."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from napari_alnct.core.config import DetectionSettings, PrepareSettings, bounds
from napari_alnct.plugin._detection_form import BASIC_SETTINGS, MORE_SETTINGS
from napari_alnct.plugin._form import field_help, make_form, read_form

pytestmark = pytest.mark.gui


@pytest.mark.parametrize("cls", [PrepareSettings, DetectionSettings])
def test_untouched_form_gives_the_default_settings(qtbot: Any, cls: type) -> None:
    """Reading a fresh form gives exactly the defaults."""
    names = [field.name for field in fields(cls) if field.name != "threshold"]
    assert read_form(make_form(cls, names), cls) == cls()


def test_widgets_have_the_bounds_and_labels_of_the_fields(qtbot: Any) -> None:
    """Lowest, highest, label and help of each number are those of the dataclass."""
    form = make_form(PrepareSettings, [field.name for field in fields(PrepareSettings)])
    for widget in form.values():
        expected = bounds(PrepareSettings, widget.name)
        assert (widget.min, widget.max, widget.label) == (expected["min"], expected["max"], expected["label"])
        assert widget.tooltip == field_help(PrepareSettings)[widget.name] != ""


def test_changed_values_arrive(qtbot: Any) -> None:
    """What the user sets is what the job gets."""
    form = make_form(DetectionSettings, ("device", "second_look", "max_candidates"))
    form["device"].value, form["second_look"].value, form["max_candidates"].value = "cpu", False, 7
    settings = read_form(form, DetectionSettings)
    assert (settings.device, settings.second_look, settings.max_candidates) == ("cpu", False, 7)


def test_every_setting_is_in_the_detect_widget() -> None:
    """No setting is missing: the threshold is the slider, the rest is in the form."""
    names = {field.name for field in fields(DetectionSettings)}
    assert {*BASIC_SETTINGS, *MORE_SETTINGS, "threshold"} == names
