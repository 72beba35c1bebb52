"""The result of an evaluation of explanations on disk: figures as JSON, and one self-contained HTML page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from napari_alnct.batch.explain_eval_pictures import ExamplePicture
from napari_alnct.batch.explain_eval_views import (
    check_views,
    false_positive_text,
    number,
    overview,
    preferred_text,
    shown_row,
    subgroup_lines,
)
from napari_alnct.core.notice import NOTICE
from napari_alnct.io.atomic_file import replacing_text
from napari_alnct.io.png_files import data_address

TEMPLATES, TEMPLATE = Path(__file__).with_name("templates"), "explain_eval.html.j2"
JSON_FILE, HTML_FILE = "explain_eval.json", "explain_eval.html"


def write_results(folder: Path, document: Mapping[str, Any], pictures: Sequence[ExamplePicture]) -> tuple[Path, Path]:
    """Write both files; each appears complete or not at all.

    Parameters
    ----------
    folder : Path
        Must exist.
    document : mapping
        Of `explain_eval.result_document`.
    pictures : sequence of ExamplePicture
        Examples.

    Returns
    -------
    tuple of (Path, Path)
        JSON and HTML.
    """
    data, page = folder / JSON_FILE, folder / HTML_FILE
    with replacing_text(data) as stream:
        json.dump(document, stream, indent=1, allow_nan=False)
        stream.write("\n")
    with replacing_text(page) as stream:
        stream.write(render(document, pictures))
    return data, page


def render(document: Mapping[str, Any], pictures: Sequence[ExamplePicture]) -> str:
    """Give the page as HTML, every text escaped.

    Parameters
    ----------
    document : mapping
        Of `explain_eval.result_document`.
    pictures : sequence of ExamplePicture
        Examples.

    Returns
    -------
    str
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    table, shown = document["table"], shown_row(document)
    headings, lines = overview(table)
    off = document["off centre, median (mm)"]
    return environment.get_template(TEMPLATE).render(
        title=f"Explanations of {document['model']['name']}: evaluation",
        notice=NOTICE,
        made=datetime.now(UTC).strftime("%Y-%m-%d"),
        document=document,
        table=table,
        shown=shown,
        preferred=preferred_text(document),
        off_centre="" if off is None else number(off, 1),
        headings=headings,
        lines=list(zip(lines, table["rows"], strict=True)),
        groups=subgroup_lines(shown),
        false_positives=false_positive_text(shown),
        pictures=[_view(picture) for picture in pictures],
        check_views=check_views,
    )


def _view(picture: ExamplePicture) -> dict[str, Any]:
    return {
        "sort": picture.example.sort,
        "row": picture.example.row,
        "text": picture.example.text,
        "panels": [data_address(panel, "image/png") for panel in picture.panels],
        "limit": number(picture.limit),
        "unit": picture.unit,
    }
