"""The subcommand ``gradcam``: where a score came from, as maps, pictures and facts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter, validators

from napari_alnct.cli.count_bar import CountBar
from napari_alnct.cli.options import DEFAULT_READ_FLAGS, ReadFlags
from napari_alnct.cli.outputs import refuse_unwritable_folder
from napari_alnct.core.config import Device
from napari_alnct.core.notice import NOTICE

if TYPE_CHECKING:
    from napari_alnct.batch.explanation import Explained, ExplainWish
    from napari_alnct.batch.explanation_inputs import ExplainCase
    from napari_alnct.core.explain.explainer import Explainer

Method = Literal["gradcam", "gradcam++", "hirescam", "layercam", "integrated-gradients", "occlusion"]
Score = Literal["second-look", "first-stage"]
Most = Annotated[int, Parameter(validator=validators.Number(gte=1, lte=1000))]


def execute(
    *,
    ckpt: str = "default",
    patch: str | None = None,
    scan: Path | None = None,
    candidates: Path | None = None,
    out_dir: Path = Path("explanations"),
    method: Method | None = None,
    layer: str = "",
    score: Score | None = None,
    occlusion: bool = False,
    max_candidates: Most = 20,
    device: Device = "auto",
    reading: ReadFlags = DEFAULT_READ_FLAGS,
) -> int:
    r"""Explain scores: Grad-CAM and its relatives for a patch, or for the candidates of a scan.

    A map shows where the network's score for one candidate came from. It does not show that a nodule is there.
    For each candidate three files: .mha (signed map in logit units on the layer's own cells, in world mm), .png (three
    planes and slices with the map, one colour scale for all candidates of the run) and .json (logit, method, layer,
    checks); for the run summary.json. What the methods mean: docs/explanations.md.

    Parameters
    ----------
    ckpt
        Model: the name of a bundled one such as default, or a .safetensors file that train or train-detector wrote;
        a .pth file as eval takes it.
    patch
        A patch in HU that sample wrote: a .npy file, or a row of its table, such as patch_map.csv:12 (rows from 0).
    scan
        A scan file or DICOM folder, whose candidates are in the table given with --candidates.
    candidates
        Table that detect wrote, in LUNA16's columns; its rows of this scan count, the strongest first.
    out_dir
        Folder to write; made when missing.
    method
        How maps are made; by default the one that the evaluation chose.
    layer
        Layer of the network, such as encoder.stages.1; by default the one with cells of 2 voxels, for the first stage
        the last one with cells of 4. A name that is not offered brings the list.
    score
        Whose logit: of the second look (the classifier) or of the first stage (the detector's cell at the candidate).
        By default the second look's where the model has one.
    occlusion
        Check each map against occlusion, which needs no gradients: covers the surroundings with lung, box by box (some
        seconds a candidate), and tells when both disagree.
    max_candidates
        Candidates of a scan to explain at most.
    device
        Where the network runs; auto takes a CUDA GPU when there is one.

    Examples
    --------
    napari-alnct-train gradcam --ckpt models/best.safetensors --patch patches/val/example_pos.npy
    napari-alnct-train gradcam --ckpt models/best.safetensors --patch patches/val/patch_map.csv:12 --method gradcam
    napari-alnct-train gradcam --scan scan.mhd --candidates candidates.csv --occlusion --out-dir explanations
    napari-alnct-train gradcam --scan scan.mhd --candidates candidates.csv --score first-stage --layer merges.1
    """
    from napari_alnct.batch.explanation_inputs import refuse_both

    refuse_both(patch, scan, candidates)
    refuse_unwritable_folder(out_dir)

    from napari_alnct.batch.explanation import ExplainWish, explain_case, load_explainer, write_explanations
    from napari_alnct.core.explain.explainer import DEFAULT_METHOD

    explainer = load_explainer(ckpt, device)
    name = (score or explainer.score_names[0]).replace("-", " ")
    wish = ExplainWish(
        method=(method or DEFAULT_METHOD).replace("-", " "),
        layer=layer,
        score_name=name,
        has_occlusion_check=occlusion,
    )
    case = _case(explainer, wish, patch, scan, candidates, max_candidates, reading)
    with CountBar("explaining, %") as bar:
        explained = explain_case(case, explainer, wish, lambda _, share: bar.show(round(100 * share), 100))
        summary = write_explanations(out_dir, case, explained, wish, explainer)
    _tell(case, explained, explainer)
    print(f"Maps, pictures and facts: {out_dir} ({summary.name} lists them)")
    print(NOTICE)
    return 4 if any(one.evidence is None for one in explained) else 0


def _case(
    explainer: Explainer,
    wish: ExplainWish,
    patch: str | None,
    scan: Path | None,
    candidates: Path | None,
    most: int,
    reading: ReadFlags,
) -> ExplainCase:
    """Read what is to be explained, after what could be wrong with the wish was said."""
    from napari_alnct.batch.explanation_inputs import patch_case, scan_case
    from napari_alnct.core.explain.inputs import edge_vox

    network = explainer.network(wish.score_name)
    if wish.layer:
        explainer.check_layer(wish.score_name, wish.layer)
    if patch is not None:
        return patch_case(patch, explainer.prepare, edge_vox(network.settings), explainer.model_name)
    assert scan is not None
    assert candidates is not None
    return scan_case(scan, candidates, explainer.prepare, most=most, options=reading.options())


def _tell(case: ExplainCase, explained: list[Explained], explainer: Explainer) -> None:
    """Print a line for each candidate, and what must be known of the input."""
    for note in case.notes:
        print(f"note: {note}")
    for one in explained:
        if one.evidence is None:
            print(f"failed: {one.wanted.name}: {one.reason}")
            continue
        evidence, r = one.evidence, one.checks.agreement_with_occlusion
        parts = [f"{evidence.score_name}, logit {evidence.logit:+.2f}", f"{evidence.method} at {evidence.layer}"]
        parts += [f"agreement with occlusion {r:.2f}"] if r is not None else []
        parts += [one.remark] if one.remark else []
        print(f"{one.wanted.name}: {'; '.join(parts)}")
    if case.n_left_out:
        print(f"note: weaker candidates left out: {case.n_left_out}; see --max-candidates.")
