"""The methods compared on the same work: `python -m tests.benchmarks.methods [--methods "lora; ia3"] [--max-steps 8]`.

Each method tunes the starter on support_triage with replay, at its usual settings, in a process of its own, one after
the other, and is compared with the base on the 100 test rows and the general questions. Prints a Markdown table for
the README as it grows, and a JSON object as the last line. The full table takes about half an hour on two cores.

Exact match: of the test rows. General: of the general questions (the base answers 97%). Training: processor time of
the training process from its first to its last step, validations included; with OMP_NUM_THREADS=1 it does not depend
on what else the machine does. Peak memory: of the training process, Python and its libraries included, until
the result is saved. File: the result's safetensors.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from ftlab.config import build_config
from ftlab.models.methods import size_of
from ftlab.run_directory import RunDirectory
from ftlab.training import supervisor
from ftlab.workspace import Workspace

METHODS: dict[str, dict[str, Any]] = {
    "full": {"name": "full"},
    "lora": {"name": "lora"},
    "lora, pissa": {"name": "lora", "initialisation": "pissa"},
    "dora": {"name": "dora"},
    "qlora, nf4": {"name": "qlora"},
    "qlora, int8": {"name": "qlora", "quantisation": "int8"},
    "bottleneck, houlsby": {"name": "bottleneck"},
    "bottleneck, pfeiffer": {"name": "bottleneck", "placement": "pfeiffer"},
    "ia3": {"name": "ia3"},
    "prefix_tuning": {"name": "prefix_tuning"},
    "prompt_tuning": {"name": "prompt_tuning"},
}
_HEADER = [
    "method", "learning rate", "trained weights", "file", "training", "peak memory", "exact match", "general",
]  # fmt: skip
_BEFORE_THE_END = ("training", "saving a checkpoint", "saving the result")


def measure(method: dict[str, Any], workspace: Workspace, given: argparse.Namespace) -> dict[str, Any]:
    """Train and evaluate one method. `seconds` is None for a run that did not finish; `error` then says why."""
    config = build_config(
        {
            "data": {"source": "support_triage", "replay": "general_replay"},
            "method": method,
            "optimisation": {
                "max_steps": given.max_steps,
                "epochs": given.epochs,
                "learning_rate": given.learning_rate,
            },
            "evaluation": {"max_rows": given.max_rows},
        }
    )
    size = size_of(config.method, config.model)
    run = supervisor.submit(config, workspace)
    peak, seconds = follow(run)
    status, comparison, metrics = supervisor.status(run), run.comparison(), run.metrics()
    found: dict[str, Any] = {
        "method": method,
        "learning_rate": config.resolved().optimisation.learning_rate,
        "trained": size.trained,
        "share": size.share,
        "bytes": size.weights_bytes,
        "peak_bytes": peak,
        "seconds": seconds,
        "losses": [row["eval_loss"] for row in metrics if "eval_loss" in row],
        "error": status.error,
    }
    if comparison is not None:
        found |= {
            side: {name: comparison[side].get(name) for name in ("exact_match", "general_accuracy", "perplexity")}
            for side in ("base", "adapted")
        }
    return found


def follow(run: RunDirectory) -> tuple[int | None, float | None]:
    """Wait for the run: the highest resident memory of its process (bytes) and its processor time (seconds) while it
    trained."""
    peak, began, ended = None, None, None
    while (status := supervisor.status(run)).is_active:
        if status.pid and status.phase in _BEFORE_THE_END:
            peak = max(peak or 0, highest_memory(status.pid) or 0) or None
        if status.pid and status.phase == "training":
            with contextlib.suppress(psutil.Error):
                times = psutil.Process(status.pid).cpu_times()
                ended = times.user + times.system
                began = ended if began is None else began
        time.sleep(0.2)
    return peak, ended - began if began is not None and ended is not None else None


def highest_memory(pid: int) -> int | None:
    """The high-water mark where the system keeps one (Linux), else what it takes now."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        pass
    try:
        return psutil.Process(pid).memory_info().rss
    except psutil.Error:
        return None


def line(name: str, found: dict[str, Any]) -> str:
    def share(value: float | None, digits: int = 0) -> str:
        return "-" if value is None else f"{100 * value:.{digits}f}%"

    adapted = found.get("adapted", {})
    cells = [
        name,
        f"{found['learning_rate']:g}",
        f"{found['trained']:,} ({share(found['share'], 1)})",
        f"{found['bytes'] / 1e6:.2f} MB",
        "-" if found["seconds"] is None else f"{found['seconds']:.0f} s",
        "-" if found["peak_bytes"] is None else f"{found['peak_bytes'] / 2**20:.0f} MiB",
        share(adapted.get("exact_match")),
        share(adapted.get("general_accuracy")),
    ]
    if found["error"]:
        cells[0] += f": {found['error']['what']}"
    return row(cells)


def row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", help="names of the table, separated by semicolons; all without it")
    parser.add_argument("--max-steps", type=int)
    parser.add_argument("--epochs", type=float)
    parser.add_argument("--learning-rate", type=float, help="for finding a method's rate; without it the usual one")
    parser.add_argument("--max-rows", type=int, default=200)
    parser.add_argument("--workspace", type=Path)
    given = parser.parse_args()
    names = [name.strip() for name in given.methods.split(";")] if given.methods else list(METHODS)
    unknown = [name for name in names if name not in METHODS]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; known: {'; '.join(METHODS)}")
    workspace = Workspace.open(given.workspace or tempfile.mkdtemp())
    print(row(_HEADER) + "\n" + row(["---"] * len(_HEADER)), flush=True)
    found = {}
    for name in names:
        found[name] = measure(METHODS[name], workspace, given)
        print(line(name, found[name]), flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
