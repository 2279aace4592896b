"""Checkpoints of a run: which one is whole, and how training goes on from it.

A run may be killed while it writes one, or copied to another machine: what is here looks at the files alone.
"""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftlab.files import read_jsonl, write_json, write_jsonl
from ftlab.run_directory import RunDirectory

_STATE = "trainer_state.json"  # written last by transformers' Trainer
_INDEX = "model.safetensors.index.json"
# One of each group has to be there.
_PARTS = (
    ("adapter_model.safetensors", "model.safetensors", _INDEX),
    ("optimizer.pt", "optimizer.bin", "latest"),  # the last is DeepSpeed's, and names the folder with its parts
    ("scheduler.pt",),
    (_STATE,),
)


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint; `step` counts optimiser steps, `tokens` what had been read until then."""

    path: Path
    step: int
    tokens: int
    state: dict[str, Any]

    @property
    def patience_used(self) -> int:
        """How many validations in a row had brought nothing better, for early stopping."""
        stored = self.state.get("stateful_callbacks", {}).get("EarlyStoppingCallback", {})
        stored = stored[-1] if isinstance(stored, list) and stored else stored
        return int(stored.get("attributes", {}).get("early_stopping_patience_counter", 0)) if stored else 0


def last_checkpoint(run: RunDirectory) -> Checkpoint | None:
    """The newest checkpoint of `run` that was written to its end; None when there is none."""
    for folder in sorted(_folders(run), key=_step_of, reverse=True):
        state = _json_in(folder, _STATE) if _is_whole(folder) else None
        if isinstance(state, dict) and state.get("global_step") == _step_of(folder):
            step = _step_of(folder)
            return Checkpoint(folder, step, _tokens_until(run, step), state)
    return None


def go_back_to(run: RunDirectory, checkpoint: Checkpoint | None) -> None:
    """Make the folder what it was at `checkpoint` (None: at the start): the curve ends there, and what came after or
    was cut off is gone. The path of the best checkpoint is set right where the folder was moved."""
    step = checkpoint.step if checkpoint else -1
    for folder in _folders(run):
        if _step_of(folder) > step:
            shutil.rmtree(folder, ignore_errors=True)
    remove_cut_off(run)
    kept = [row for row in read_jsonl(run.metrics_file) if isinstance(row.get("step"), int) and row["step"] <= step]
    # Always: behind half a line, which is no row, the next row would be lost.
    if run.metrics_file.exists():
        write_jsonl(run.metrics_file, kept)
    best = checkpoint.state.get("best_model_checkpoint") if checkpoint else None
    if checkpoint and best:
        here = run.checkpoints / re.split(r"[\\/]", best)[-1]
        if str(here) != best:
            state = checkpoint.state | {"best_model_checkpoint": str(here) if here.is_dir() else None}
            write_json(checkpoint.path / _STATE, state)


def remove_cut_off(run: RunDirectory) -> None:
    """Remove the checkpoints of `run` that were not written (or not removed) to their end."""
    for folder in _folders(run):
        if not _is_whole(folder) or _json_in(folder, _STATE) is None:
            shutil.rmtree(folder, ignore_errors=True)


def _json_in(folder: Path, name: str) -> Any:
    try:
        return json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # cut off while it was written
        return None


def _tokens_until(run: RunDirectory, step: int) -> int:
    """The tokens read until `step`, as they were logged: the Trainer does not keep them in its checkpoints."""
    logged = [row["tokens"] for row in run.metrics() if "tokens" in row and row.get("step", step + 1) <= step]
    return int(max(logged, default=0))


def _folders(run: RunDirectory) -> list[Path]:
    return [path for path in run.checkpoints.glob("checkpoint-*") if path.is_dir() and _step_of(path) >= 0]


def _step_of(folder: Path) -> int:
    number = folder.name.removeprefix("checkpoint-")
    return int(number) if number.isdigit() else -1


def _is_whole(folder: Path) -> bool:
    if not all(any((folder / name).is_file() for name in group) for group in _PARTS):
        return False
    index = _json_in(folder, _INDEX) if (folder / _INDEX).exists() else {"weight_map": {}}
    if index is None or not all((folder / name).is_file() for name in index["weight_map"].values()):
        return False
    return all(_has_its_end(file) for file in folder.iterdir())


def _has_its_end(file: Path) -> bool:
    """Whether a file of weights or of the optimizer is as long as it says: a copy or a crash may have cut it."""
    if file.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(file, framework="numpy"):
                return True
        except SafetensorError:
            return False
    # What torch saves is a zip archive, whose directory comes last.
    return zipfile.is_zipfile(file) if file.suffix in (".pt", ".pth", ".bin") else True
