"""How far the bundled model's explanations can be trusted: measures, then writes EXPLAINABILITY.md.

    make model-explain                                       # unseen phantoms
    make model-explain DATA=../shared/data FOLDS=runs/folds  # and held-out nodules, by the models of the folds
    python benchmarks/explainability.py --write-only         # the document again, from the figures at hand

A run that was stopped goes on. Figures: benchmarks/results/explainability*.json; pictures: docs/images.
"""

from __future__ import annotations

import argparse
import json
import signal
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from napari_alnct.batch.explain_eval import measure_all, result_document
from napari_alnct.batch.explain_eval_cases import PhantomSource, ScanSource
from napari_alnct.batch.explain_eval_journal import ExplainJournal
from napari_alnct.batch.explain_eval_measuring import Bench
from napari_alnct.batch.explain_eval_pack import PackSource
from napari_alnct.batch.explain_eval_pictures import Example, ExamplePicture, choose_examples, draw_examples
from napari_alnct.batch.explain_eval_plan import ExplainEvalWish, Models, make_bench, run_identity
from napari_alnct.batch.explain_eval_views import (
    check_views,
    false_positive_text,
    number,
    overview,
    preferred_text,
    shown_row,
    subgroup_lines,
)
from napari_alnct.core.checkpoint import read_checkpoint
from napari_alnct.evaluation.explanation_table import MapRow, evaluation_table
from napari_alnct.models.catalogue import find_model

ROOT = Path(__file__).resolve().parents[1]
RESULTS, IMAGES, DOCUMENT = ROOT / "benchmarks" / "results", ROOT / "docs" / "images", ROOT / "EXPLAINABILITY.md"
PHANTOMS, NODULES = RESULTS / "explainability.json", RESULTS / "explainability_nodules.json"
WORK = ROOT / "runs" / "explainability"
COMMAND = "make model-explain"
FEW = 20


def measure(models: Models, source: ScanSource, wish: ExplainEvalWish, folder: Path) -> tuple[dict[str, Any], Bench]:
    began, bench = time.process_time(), make_bench(models, wish)
    folder.mkdir(parents=True, exist_ok=True)

    def tell(text: str, done: int, total: int) -> None:
        print(f"{done} of {total} scans, {time.process_time() - began:.0f} CPU seconds: {text}", flush=True)

    with ExplainJournal(folder, run_identity(models, source, bench, wish)) as journal:
        is_resumed = len(journal) > 0
        records = measure_all(bench, source, wish, journal, on_progress=tell)
    document = result_document(records, models, source, bench, wish)
    document["CPU seconds"] = None if is_resumed else round(time.process_time() - began)
    return document, bench


def measure_phantoms(options: argparse.Namespace) -> None:
    entry = find_model(options.model)
    checkpoint = read_checkpoint(entry.path, sha256=entry.sha256)
    source = PhantomSource(n_scans=options.cases, prepare=checkpoint.recipe.prepare)
    wish = ExplainEvalWish(
        methods=tuple(options.methods),
        nodules_per_scan=options.nodules,
        occlusion_per_scan=options.occlusion,
        device=options.device,
    )
    document, bench = measure(Models(checkpoint=checkpoint, name=entry.name), source, wish, WORK / "phantoms")
    others = [row.name for row in bench.activation_rows]
    chosen = choose_examples(document["records"], shown_row(document)["name"], others)
    document["examples"] = [write_picture(one) for one in draw_examples(chosen, bench, source)]
    write(PHANTOMS, document)


def write_picture(picture: ExamplePicture) -> dict[str, Any]:
    example: Example = picture.example
    names = [f"explanation_{example.sort}_{k}.png" for k in (1, 2)]
    for name, panel in zip(names, picture.panels, strict=True):
        (IMAGES / name).write_bytes(panel)
    return {"sort": example.sort, "row": example.row, "text": example.text, "files": names, "limit": picture.limit,
            "unit": picture.unit}  # fmt: skip


def measure_nodules(options: argparse.Namespace) -> None:
    """Judge each fold's model on what it held out, and all together."""
    documents = []
    for path in sorted(options.folds.glob("fold_*/*.safetensors")):
        checkpoint = read_checkpoint(path)
        source = PackSource.of(options.data, checkpoint.recipe, n_turns=options.turns)
        wish = ExplainEvalWish(
            methods=tuple(options.methods),
            nodules_per_scan=options.nodules,
            occlusion_per_scan=0,
            device=options.device,
        )
        made, _ = measure(Models(checkpoint=checkpoint, name=path.stem), source, wish, WORK / path.parent.name)
        documents.append(made)
    if not documents:
        raise SystemExit(f"no model in {options.folds.name}/fold_*; train them with make model-folds")
    joined = documents[0] | {"records": [record for one in documents for record in one["records"]]}
    joined["model"] = {"name": ", ".join(one["model"]["name"] for one in documents), "sha256": ""}
    joined["data"] = " ".join(f"{one['model']['name']}: {one['data']}" for one in documents)
    seconds = [one["CPU seconds"] for one in documents]
    joined["CPU seconds"] = None if None in seconds else sum(seconds)
    keys = ("name", "method", "layer", "stride")
    rows = [MapRow(**{key: row[key] for key in keys}) for row in documents[0]["table"]["rows"]]
    joined["table"] = evaluation_table(joined["records"], rows)
    write(NODULES, joined)


def write(path: Path, document: dict[str, Any]) -> None:
    """Write the figures; the records of single candidates stay in the journal."""
    kept = {key: value for key, value in document.items() if key != "records"}
    path.write_text(json.dumps(kept, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def table(headings: list[str], lines: list[list[str]]) -> list[str]:
    rows = [headings, ["---"] * len(headings), *lines]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows] + [""]


def section(title: str, document: dict[str, Any]) -> list[str]:
    figures, shown = document["table"], shown_row(document)
    views = check_views(shown)
    headings, lines = overview(figures)
    seconds = document["CPU seconds"]
    took = "Measured in several runs." if seconds is None else f"{seconds} CPU seconds."
    small = f" **A small run: {figures['n_nodules']} nodules say little.**" if figures["n_nodules"] < FEW else ""
    few = f" {figures['n_scans']} scans are few: intervals are too narrow." if figures["n_scans"] < 20 else ""
    return [
        f"## {title}", "",
        f"{document['data']} **n = {figures['n_nodules']} true positives** (logit above 0) in {figures['n_scans']} "
        f"scans; {figures['n_false_positives']} false positives. Patches lie off the nodule's centre by up to "
        f"{document['settings']['jitter_mm']:g} mm along each axis, as far as the network still says nodule (median "
        f"{number(document['off centre, median (mm)'], 1)} mm). 95 % intervals: {document['settings']['n_samples']} "
        f"bootstraps over scans.{few}{small} {took}", "",
        f"### The map offered first: {shown['name']}", "",
        f"{shown['n_met']} of {shown['n_with_target']} targets met. {preferred_text(document)}", "",
        *table(
            ["Row", "Figure", "Value", "95 % interval", "n", "Target", "Met", "Note"],
            [[v.id, v.label, v.value, v.ci95, v.n, v.target, f"**{v.verdict}**" if v.verdict else "", v.note]
             for v in views],
        ),
        "### All maps", "",
        "The last three know nothing of the network. A dash: not run, or no answer. F1 with lung as fill.", "",
        *table(headings, lines),
        f"### By size and type (L6): {shown['name']}", "",
        *table(["Group", "n", "L1 maximum in the nodule", "L2 evidence inside", "L4 peak error (mm)"],
               subgroup_lines(shown)),
        false_positive_text(shown), "",
    ]  # fmt: skip


def missed(document: dict[str, Any]) -> list[str]:
    return [
        f"- {v.id} {v.label}: {v.value}, target {v.target}{f' ({v.note})' if v.note else ''}"
        for v in check_views(shown_row(document))
        if v.verdict == "miss"
    ]


def pictures(document: dict[str, Any]) -> list[str]:
    lines = [
        "## Examples",
        "",
        "Axial slices through the nodule (left) and through the maximum of the map (right); the nodule's outline in "
        "cyan, support in orange, evidence against in blue, one scale for all.",
        "",
    ]
    for one in document["examples"]:
        shown = " ".join(f"![{one['sort']}](docs/images/{name})" for name in one["files"])
        scale = f"Scale: +-{number(one['limit'])} ({one['unit']})."
        lines += [f"**{one['sort'].capitalize()}**, {one['row']}: {one['text']}. {scale}", "", shown, ""]
    return lines


def write_document() -> None:
    document = json.loads(PHANTOMS.read_text(encoding="utf-8"))
    nodules = json.loads(NODULES.read_text(encoding="utf-8")) if NODULES.is_file() else None
    model, versions = document["model"], document["versions"]
    methods = ", ".join(document["settings"]["methods"]) or "all"
    lines = [
        "# How far the explanations can be trusted", "",
        f"> {document['statement']}", "",
        f"Model: **{model['name']}** (SHA-256 `{model['sha256'][:12]}`), score explained: {document['score']}. Written "
        f"on {datetime.now(UTC):%Y-%m-%d} by `{COMMAND}` with napari-alnct {versions['napari-alnct']}, torch "
        f"{versions['torch']}, methods: {methods}; do not edit by hand. Any other "
        "model: `napari-alnct-train explain-eval --out-dir FOLDER "
        "--model MODEL`.", "",
        "Targets were fixed before measuring and are shown also where they are missed. L rows say whether a map is "
        "plausible to a reader, F rows whether it is true to the network; they are never merged. No reader study has "
        "been made.", "",
        "## What failed", "",
        f"On unseen phantoms, {shown_row(document)['name']}:", "",
        *(missed(document) or ["- nothing that was run"]), "",
        *(["On held-out nodules:", "", *(missed(nodules) or ["- nothing that was run"]), ""] if nodules else []),
        *section("Unseen phantoms", document),
    ]  # fmt: skip
    if nodules is None:
        how = f"`{COMMAND} DATA=folder FOLDS=runs/folds`"
        what = "the models of the leave-scans-out folds on nodules and scans that they never saw"
        lines += ["## Held-out nodules", "", f"Not run. {how} adds {what}.", ""]
    else:
        lines += section("Held-out nodules, models of the leave-scans-out folds", nodules)
    lines += [
        *pictures(document),
        "## Exact checks of the code",
        "",
        "Tests of the package, run with every change.",
        "",
    ]
    lines += table(["Row", "Check"], [[check["id"], check["label"]] for check in document["exact checks"]])
    DOCUMENT.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    print(f"written: {DOCUMENT.name}")


def run() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default")
    parser.add_argument("--cases", type=int, default=10)
    parser.add_argument("--nodules", type=int, default=3, help="most true positives per scan")
    parser.add_argument("--occlusion", type=int, default=1, help="of these with occlusion")
    parser.add_argument("--methods", nargs="*", default=[], help="default: all")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--data", type=Path, help="data pack: also held-out nodules, with --folds")
    parser.add_argument("--folds", type=Path, default=Path("runs/folds"))
    parser.add_argument("--turns", type=int, default=2, help="how often nodules are put into each held-out scan")
    parser.add_argument("--only", choices=("phantoms", "nodules"), help="measure one part, keep the other")
    parser.add_argument("--write-only", action="store_true")
    options = parser.parse_args()
    if not options.write_only and options.only != "nodules":
        measure_phantoms(options)
    if not options.write_only and options.only != "phantoms" and options.data is not None:
        measure_nodules(options)
    write_document()


if __name__ == "__main__":
    run()
