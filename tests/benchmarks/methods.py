"""The methods compared on the same work: `python -m tests.benchmarks.methods [--base smollm2] [--methods "lora; ia3"]`.

Each method tunes the base at its usual settings, in a process of its own, one after the other, and is compared with
the base on rows that it has not seen. On the starter that is support_triage with replay. On a real base it is
support_triage (240 tickets, two epochs, 40 unseen ones) and 20 intents of banking77 (200 messages, 40 of them unseen;
two epochs), without replay. Prints a Markdown table as it grows, and a JSON object as the last line. Half an hour on
two cores for the starter, an hour for SmolLM2.

Exact match: of the unseen rows. General and replayed (starter): of the general questions, of kinds that were not
replayed and of kinds that were (the base: 97% of both). Lost (real bases): how many more bits a byte the answers of 20
questions of GSM8K take than the base takes, in percent. Training: processor time of the training process from its first
to its last step, validations included; with OMP_NUM_THREADS=1 it hardly depends on what else the machine does. Peak
memory: of the training process, Python and its libraries included, until the result is saved. File: the result's
safetensors.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from ftlab.config import STARTER, build_config, load_config
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.models.methods import size_of
from ftlab.training import supervisor

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
    "method", "learning rate", "trained weights", "file", "training", "peak memory", "exact match",
    "general", "replayed",
]  # fmt: skip
_HEADER_REAL = ["method", "task", *_HEADER[1:-2], "lost"]
_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
_INTENTS, _EACH = 20, 10
_GENERAL_ROWS = 20
_BEFORE_THE_END = ("training", "saving a checkpoint", "saving the result")


def measure(method: dict[str, Any], work: dict[str, Any], workspace: Workspace, given: Any) -> dict[str, Any]:
    """Train and evaluate one method. `seconds` is None for a run that did not finish; `error` then says why."""
    optimisation = {"max_steps": given.max_steps, "epochs": given.epochs, "learning_rate": given.learning_rate}
    own = work.get("optimisation", {})
    config = build_config(
        work
        | {
            "method": method,
            "optimisation": own | {name: value for name, value in optimisation.items() if value is not None},
            "evaluation": {"max_rows": given.max_rows} | work.get("evaluation", {}),
        }
    )
    size = size_of(config.method, config.model)
    run = supervisor.submit(config, workspace)
    peak, seconds = follow(run)
    status, comparison, metrics = supervisor.status(run), run.comparison(), run.metrics()
    found: dict[str, Any] = {
        "method": method,
        "learning_rate": load_config(run.config_file).optimisation.learning_rate,
        "trained": size.trained,
        "share": size.share,
        "bytes": size.weights_bytes,
        "peak_bytes": peak,
        "seconds": seconds,
        "losses": [row["eval_loss"] for row in metrics if "eval_loss" in row],
        "error": status.error,
    }
    if comparison is not None:
        names = ("exact_match", "general_accuracy", "general_accuracy_replayed", "perplexity")
        found |= {side: {name: comparison[side].get(name) for name in names} for side in ("base", "adapted")}
        general = next((one for one in comparison["measures"] if one["name"] == "general_chat_bits_per_byte"), None)
        found["general_text"] = general and general["values"]
    return found


def work_of(base: str, folder: Path) -> dict[str, dict[str, Any]]:
    """The tasks of a base by name, as the sections of a run; their data are written to `folder`."""
    if base == STARTER:
        return {"support_triage": {"data": {"source": "support_triage", "replay": "general_replay"}}}
    with (_DATA / "banking77_train.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    intents = list(dict.fromkeys(row["category"] for row in rows))[:_INTENTS]
    chosen = [row for name in intents for row in [one for one in rows if one["category"] == name][:_EACH]]
    with (folder / "intents.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["text", "category"])
        writer.writeheader()
        writer.writerows(chosen)
    lines = (_DATA / "gsm8k_test.jsonl").read_text(encoding="utf-8").splitlines()[:_GENERAL_ROWS]
    general = folder / "general.jsonl"
    general.write_text("\n".join(lines), encoding="utf-8")
    common = {
        "model": {"base": base},
        "optimisation": {"epochs": 2, "evaluations_per_epoch": 1},
        "evaluation": {"max_rows": 40, "memorisation": False, "general_text": str(general)},
    }
    fractions = {"validation_fraction": 0.05, "test_fraction": 0.2, "stratify_by": "category"}
    return {
        "support_triage": common
        | {
            "data": {"source": "support_triage", "max_rows": 240},
            "evaluation": common["evaluation"] | {"max_rows": 40},
        },
        "20 intents": common | {"data": {"source": str(folder / "intents.csv"), **fractions}},
    }


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


def line(name: str, task: str | None, found: dict[str, Any]) -> str:
    def share(value: float | None, digits: int = 0) -> str:
        return "-" if value is None else f"{100 * value:.{digits}f}%"

    adapted, general = found.get("adapted", {}), found.get("general_text")
    lost = share(general["adapted"] / general["base"] - 1) if general else "-"
    cells = [
        name,
        *([task] if task else []),
        f"{found['learning_rate']:g}",
        f"{found['trained']:,} ({share(found['share'], 1)})",
        f"{found['bytes'] / 1e6:.2f} MB",
        "-" if found["seconds"] is None else f"{found['seconds']:.0f} s",
        "-" if found["peak_bytes"] is None else f"{found['peak_bytes'] / 2**20:,.0f} MiB",
        share(adapted.get("exact_match")),
        *([lost] if task else [share(adapted.get(f"general_accuracy{kinds}")) for kinds in ("", "_replayed")]),
    ]
    if found["error"]:
        cells[0] += f": {found['error']['what']}"
    return row(cells)


def row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default=STARTER, help="the starter (default), smollm2, a folder or a Hub id")
    parser.add_argument("--tasks", help="support_triage; 20 intents (real bases); all without it")
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
    tasks = work_of(given.base, workspace.root)
    if given.tasks:
        tasks = {name.strip(): tasks[name.strip()] for name in given.tasks.split(";")}
    header = _HEADER if given.base == STARTER else _HEADER_REAL
    print(row(header) + "\n" + row(["---"] * len(header)), flush=True)
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        for task, work in tasks.items():
            measured = measure(METHODS[name], work, workspace, given)
            found.setdefault(name, {})[task] = measured
            print(line(name, None if given.base == STARTER else task, measured), flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
