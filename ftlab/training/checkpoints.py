"""Checkpoints that survive kills, moves and damage, and a warm-up whose first rate is above zero."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftlab.core.files import read_jsonl, write_json, write_jsonl
from ftlab.core.run_directory import RunDirectory
from ftlab.core.words import listed
from ftlab.errors import FtlabError
from ftlab.models.identity import damaged_files, is_readable, keep_checksums

if TYPE_CHECKING:
    from transformers import Trainer
else:
    Trainer = object  # keeps this module light; each trainer lists one of TRL's trainers after `WarmsUp`

CHECKSUMS = "checksums.json"  # in each checkpoint: of its files
_STATE = "trainer_state.json"  # written last by transformers' Trainer
_INDEX = "model.safetensors.index.json"
# A complete checkpoint has at least one file of each group.
_PARTS = (
    ("adapter_model.safetensors", "model.safetensors", _INDEX),
    ("optimizer.pt", "optimizer.bin", "latest"),  # the last one is DeepSpeed's, and names the folder with its parts
    ("scheduler.pt",),
    (_STATE,),
)


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint. `step` counts optimizer steps, `tokens` the tokens that were read until then."""

    path: Path
    step: int
    tokens: int
    state: dict[str, Any]

    @property
    def patience_used(self) -> int:
        """The number of validations without improvement, for early stopping."""
        stored = self.state.get("stateful_callbacks", {}).get("EarlyStoppingCallback", {})
        stored = stored[-1] if isinstance(stored, list) and stored else stored
        return int(stored.get("attributes", {}).get("early_stopping_patience_counter", 0)) if stored else 0


def last_checkpoint(run: RunDirectory) -> Checkpoint | None:
    """The newest complete checkpoint of `run`, or None."""
    for folder in sorted(_folders(run), key=_step_of, reverse=True):
        state = _json_in(folder, _STATE) if _is_whole(folder) else None
        if isinstance(state, dict) and state.get("global_step") == _step_of(folder):
            step = _step_of(folder)
            return Checkpoint(folder, step, _tokens_until(run, step), state)
    return None


def go_back_to(run: RunDirectory, checkpoint: Checkpoint | None) -> list[str]:
    """Restore the folder to its state at `checkpoint` (None: at the start): later rows of the curve and later,
    incomplete and damaged checkpoints are removed, and the path of the best checkpoint is corrected if the folder was
    moved.

    Returns remarks for the user.
    """
    step = checkpoint.step if checkpoint else -1
    for folder in _folders(run):
        if _step_of(folder) > step:
            shutil.rmtree(folder, ignore_errors=True)
    remove_cut_off(run)
    for file in (run.metrics_file, run.samples_file):
        kept = [row for row in read_jsonl(file) if isinstance(row.get("step"), int) and row["step"] <= step]
        # In any case: a row appended to an incomplete line would be lost.
        if file.exists():
            write_jsonl(file, kept)
    best = checkpoint.state.get("best_model_checkpoint") if checkpoint else None
    if checkpoint and best:
        here = run.checkpoints / re.split(r"[\\/]", best)[-1]
        if not here.is_dir():
            # From now on, the best of the remaining and later checkpoints counts.
            lost = {"best_model_checkpoint": None, "best_metric": None, "best_global_step": None}
            _write_state(checkpoint, lost)
            return [
                f"{here.name}, the best checkpoint so far, is damaged or missing. The best later one is used instead, "
                "or the last."
            ]
        if str(here) != best:
            _write_state(checkpoint, {"best_model_checkpoint": str(here)})
    return []


def _write_state(checkpoint: Checkpoint, changes: dict[str, Any]) -> None:
    write_json(checkpoint.path / _STATE, checkpoint.state | changes)
    if (checkpoint.path / CHECKSUMS).exists():
        seal(checkpoint.path)


def remove_cut_off(run: RunDirectory) -> None:
    """Remove the checkpoints of `run` that are incomplete (half written or half removed) or damaged."""
    for folder in _folders(run):
        if not _is_whole(folder) or _json_in(folder, _STATE) is None:
            shutil.rmtree(folder, ignore_errors=True)


def _json_in(folder: Path, name: str) -> Any:
    try:
        return json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # cut off while it was written
        return None


def _tokens_until(run: RunDirectory, step: int) -> int:
    """The tokens read until `step`, from the log: the Trainer does not keep them in its checkpoints."""
    logged = [row["tokens"] for row in run.metrics() if "tokens" in row and row.get("step", step + 1) <= step]
    return int(max(logged, default=0))


def _folders(run: RunDirectory) -> list[Path]:
    return [path for path in run.checkpoints.glob("checkpoint-*") if path.is_dir() and _step_of(path) >= 0]


def _step_of(folder: Path) -> int:
    number = folder.name.removeprefix("checkpoint-")
    return int(number) if number.isdigit() else -1


def _is_whole(folder: Path) -> bool:
    """Whether the checkpoint is complete and undamaged."""
    return _is_complete(folder) and not _broken(folder)


def _broken(folder: Path) -> list[str]:
    """The damaged files of a checkpoint: those that differ from its checksums, or, without checksums, cannot be
    read."""
    damaged = damaged_files(folder / CHECKSUMS)
    if damaged is None:
        return sorted(file.name for file in folder.iterdir() if not is_readable(file))
    return damaged


def _is_complete(folder: Path) -> bool:
    if not all(any((folder / name).is_file() for name in group) for group in _PARTS):
        return False
    index = _json_in(folder, _INDEX) if (folder / _INDEX).exists() else {"weight_map": {}}
    return isinstance(index, dict) and all((folder / name).is_file() for name in index.get("weight_map", {}).values())


def seal(folder: Path) -> None:
    """Write the checksums of a checkpoint after all its files are written."""
    files = [file for file in folder.rglob("*") if file.is_file() and file.name != CHECKSUMS]
    keep_checksums(folder / CHECKSUMS, files)


def passed_over(run: RunDirectory, checkpoint: Checkpoint | None) -> list[str]:
    """A sentence for each damaged checkpoint of `run` that is newer than `checkpoint`, from which it resumes.

    A checkpoint that a kill left incomplete does not count as damaged.
    """
    step = checkpoint.step if checkpoint else -1
    instead = f"resumes from {checkpoint.path.name}" if checkpoint else "starts over"
    newer = [folder for folder in sorted(_folders(run), key=_step_of) if _step_of(folder) > step]
    broken = {folder.name: _broken(folder) for folder in newer if _is_complete(folder)}
    return [f"{name} is damaged ({listed(files)}): training {instead}." for name, files in broken.items() if files]


def check_sealed(folder: Path) -> None:
    """Raise FtlabError if the checkpoint in `folder`, whose weights are about to be loaded, is damaged."""
    if names := damaged_files(folder / CHECKSUMS):
        raise FtlabError(
            f"The best checkpoint of this run, {folder.name}, is damaged: {listed(names)}",
            try_="resume the run: it skips that checkpoint and uses a later one, the best or the last",
        )


class WarmsUp(Trainer):
    """A trainer of any stage whose first learning rate is above zero."""

    def _load_best_model(self) -> None:
        if (best := self.state.best_model_checkpoint) is not None:
            check_sealed(Path(best))
        super()._load_best_model()

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        is_new = self.lr_scheduler is None
        scheduler = super().create_scheduler(num_training_steps, optimizer)
        if is_new:
            start_above_zero(scheduler, self.args.get_warmup_steps(num_training_steps))
        return scheduler


def start_above_zero(scheduler: Any, warmup: int) -> None:
    """Make the rate of a new `scheduler` (a LambdaLR that begins at 0) rise from 1/(warmup + 1) to warmup/(warmup + 1)
    of its peak in the `warmup` steps. The rates of later steps stay."""

    def risen(usual: Any) -> Any:
        return lambda step: (step + 1) / (warmup + 1) if step < warmup else usual(step)

    if not warmup or any(usual(0) > 0 for usual in scheduler.lr_lambdas):
        return  # without a warm-up, or constant
    scheduler.lr_lambdas = [risen(usual) for usual in scheduler.lr_lambdas]
    for group, peak in zip(scheduler.optimizer.param_groups, scheduler.base_lrs, strict=True):
        group["lr"] = peak / (warmup + 1)
    scheduler._last_lr = [group["lr"] for group in scheduler.optimizer.param_groups]
