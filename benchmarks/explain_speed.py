"""How fast explanations are, beside MONAI's and Captum's Grad-CAM on the same network and patches.

    python benchmarks/explain_speed.py [--rounds 3] [--threads 2] [--out benchmarks/results/explain_speed.json]
    PYTHONPATH=FOLDER python benchmarks/explain_speed.py            # with MONAI to compare, after
    python -m pip install --no-deps --target FOLDER monai==1.6.1    # which is no dependency of this project

The bundled model's classifier at its default layer, on 64-voxel patches of a phantom. *One patch*: from the prepared
scan to an evidence map; the bars are 0.3 s for a class-activation map and 20 s for occlusion of the central 40 mm on
2 cores. *100 candidates*: in batches of 8, from HU cubes to maps; MONAI and Captum get the network as it is loaded, and
once more the folded copy in channels-last order that we run ourselves, so that the map code alone is compared. Of MONAI
`compute_map` runs: without the enlargement and the stretch to each map's own range that its call adds.

Every row runs in a process of its own: peak memory is what it adds to that process after set-up. Wall times say little
while other work runs: CPU times of all threads and the load stand beside them. Threads that wait do not spin in any row
(PASSIVE below): two threads that have to share one core would take ten times as long, in a row picked by chance.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import numpy as np

PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
N_CANDIDATES, BATCH, ROUNDS_OF_ONE = 100, 8, 9
BARS_S = {"one Grad-CAM": 0.3, "one HiResCAM": 0.3, "one occlusion": 20.0}
OURS = "100 candidates, ours"
OTHERS = ("monai as loaded", "monai folded", "captum as loaded", "captum folded")
ROWS = (
    *BARS_S,
    "one integrated gradients",
    "one Grad-CAM, first stage",
    OURS,
    *(f"100 candidates, {o}" for o in OTHERS),
)


class Scene:
    """A prepared phantom, places in its lungs, and the explainer of the bundled model."""

    def __init__(self) -> None:
        from napari_alnct.core.checkpoint import read_checkpoint
        from napari_alnct.core.explain.explainer import Explainer
        from napari_alnct.core.preprocess import prepare
        from napari_alnct.data.phantom import make_phantom, small_settings
        from napari_alnct.models.catalogue import find_model

        self.model = find_model()
        self.checkpoint = read_checkpoint(self.model.path)
        self.explainer = Explainer(self.checkpoint, device="cpu")
        self.scan = prepare(make_phantom(small_settings(seed=3)).volume, self.explainer.prepare)
        spots = np.argwhere(self.scan.lungs.on_grid(self.scan.geometry))
        chosen = np.random.default_rng(0).choice(spots, N_CANDIDATES)
        self.places = [tuple(place) for place in self.scan.to_world(chosen).tolist()]
        self.layer = self.explainer.default_layer("second look")

    def explain(self, n: int, method: str, score: str = "second look") -> Callable[[], Any]:
        """Give the job of explaining the first n places."""
        given = {"method": method, "score_name": score}
        return lambda: self.explainer.explain(self.scan.hu, self.scan.geometry, self.places[:n], **given)

    def other(self, library: str, variant: str) -> Callable[[], Any]:
        """Give the job of another library on the same cubes."""
        import torch

        network = self.checkpoint.classifier if variant == "as loaded" else self.explainer.network("second look")
        seen = [self.explainer.input_of(self.scan.hu, self.scan.geometry, p, "second look").hu for p in self.places]
        make = monai_maps if library == "monai" else captum_maps
        maps = make(network, self.layer)
        prepare = self.explainer.prepare

        def job() -> None:
            from napari_alnct.core.network import scale_hu

            for first in range(0, N_CANDIDATES, BATCH):
                hu = torch.from_numpy(np.stack(seen[first : first + BATCH]))
                x = scale_hu(hu, prepare.low_hu, prepare.high_hu).unsqueeze(1)
                maps(x if variant == "as loaded" else x.contiguous(memory_format=torch.channels_last_3d))

        return job


def captum_maps(network: Any, layer: str) -> Callable[[Any], Any]:
    from captum.attr import LayerGradCam

    cam = LayerGradCam(network, dict(network.named_modules())[layer])
    return lambda x: cam.attribute(x.requires_grad_(), relu_attributions=False).detach()


def monai_maps(network: Any, layer: str) -> Callable[[Any], Any]:
    from monai.visualize import GradCAM
    from torch import nn

    class TwoDimensional(nn.Module):
        """MONAI wants (B, classes)."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: Any) -> Any:
            """Give (B, 1)."""
            return self.network(x).unsqueeze(1)

    cam = GradCAM(TwoDimensional(), target_layers=f"network.{layer}")
    return lambda x: cam.compute_map(x.requires_grad_(), class_idx=0)


def job_of(row: str, scene: Scene) -> tuple[Callable[[], Any], int]:
    """Give the job of a row and how often one round runs it."""
    if row.startswith("100"):
        what = row.split(", ")[1]
        return (scene.explain(N_CANDIDATES, "gradcam"), 1) if what == "ours" else (scene.other(*what.split(" ", 1)), 1)
    method = row.removeprefix("one ").split(",")[0].lower().replace("grad-cam", "gradcam")
    score = "first stage" if "first stage" in row else "second look"
    return scene.explain(1, method, score), ROUNDS_OF_ONE if "cam" in method and score == "second look" else 1


def measure(row: str, rounds: int, threads: int) -> dict[str, Any]:
    """Run one row here: median wall and CPU seconds, and the memory that it adds."""
    import torch

    torch.set_num_threads(threads)
    job, repeats = job_of(row, Scene())
    before = memory_mib("VmRSS", reset=True)
    job()  # warm-up; memory is counted from here
    wall, cpu = [], []
    for _ in range(rounds * repeats):
        began, began_cpu = perf_counter(), process_time()
        job()
        wall.append(perf_counter() - began)
        cpu.append(process_time() - began_cpu)
    added = memory_mib("VmHWM") - before
    return {"wall_s": round(median(wall), 4), "cpu_s": round(median(cpu), 4), "added_peak_mib": round(added)}


def memory_mib(key: str, *, reset: bool = False) -> float:
    """Give the resident memory (VmRSS) or its peak (VmHWM) of this process; Linux. The peak can be forgotten before."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) / 1024


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--row", choices=ROWS, help="measure this row in this process and print it")
    parser.add_argument("--out", default="benchmarks/results/explain_speed.json")
    options = parser.parse_args()
    if options.row:
        print(json.dumps(measure(options.row, options.rounds, options.threads)))
        return
    figures: dict[str, Any] = {"machine": f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}"}
    figures |= {"threads": options.threads, "load_1_min_before": round(os.getloadavg()[0], 1), "rows": {}}
    for row in ROWS:
        if "monai" in row and importlib.util.find_spec("monai") is None:
            figures["rows"][row] = "not measured: no monai; see --help"
            continue
        words = [
            sys.executable,
            __file__,
            "--row",
            row,
            "--rounds",
            str(options.rounds),
            "--threads",
            str(options.threads),
        ]
        done = subprocess.run(words, capture_output=True, text=True, check=True, env=os.environ | PASSIVE)
        figures["rows"][row] = json.loads(done.stdout.splitlines()[-1])
        print(row, figures["rows"][row], flush=True)
    figures |= {"load_1_min_after": round(os.getloadavg()[0], 1), "versions": versions(), **judged(figures["rows"])}
    with open(options.out, "w", encoding="utf-8") as file:
        file.write(json.dumps(figures, indent=1) + "\n")
    print(json.dumps({key: figures[key] for key in ("ratios_to_ours", "bars")}, indent=1))


def judged(rows: dict[str, Any]) -> dict[str, Any]:
    """Give the others' figures as multiples of ours, and the bars."""
    ours = rows[OURS]
    ratios = {
        row.split(", ")[1]: {key: round(value[key] / max(ours[key], 1e-9), 2) for key in ours}
        for row, value in rows.items()
        if row.startswith("100") and row != OURS and isinstance(value, dict)
    }
    bars = {
        row: {"bar_s": bar, "wall_s": rows[row]["wall_s"], "cpu_s": rows[row]["cpu_s"]} for row, bar in BARS_S.items()
    }
    return {"ratios_to_ours": ratios, "bars": bars}


def versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("torch", "captum", "monai"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


if __name__ == "__main__":
    run()
