"""Hand the result of a run over: what was trained, in one file, without what was needed on the way."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from ftlab.errors import FtlabError
from ftlab.run_directory import RunDirectory

# How the result came about travels with it.
_RECORDS = ("config_file", "manifest_file", "environment_file", "verification_file", "comparison_file")


def pack_result(run: RunDirectory) -> Path:
    """A zip of the run's adapter (or full model) and its records, without checkpoints; made again when it is old.

    The unpacked folder loads with plain peft or transformers; bottleneck adapters say in their README how they load.
    Raises FtlabError when the run has no result.
    """
    if not run.has_result:
        raise FtlabError(f"The run {run.id} has no trained model to hand over", try_="train it to an end first")
    result = run.adapter if (run.adapter / "adapter_config.json").exists() else run.model
    files = [(path, path.relative_to(result)) for path in sorted(result.rglob("*")) if path.is_file()]
    records = [getattr(run, name) for name in _RECORDS]
    files += [(path, Path("ftlab") / path.name) for path in records if path.exists()]
    target = run.packed_file
    if target.exists() and target.stat().st_mtime >= max(path.stat().st_mtime for path, _ in files):
        return target
    unfinished = target.with_suffix(".unfinished")
    # Trained weights hardly shrink: packing them costs minutes on a large model and saves a few percent.
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_STORED) as archive:
        for path, name in files:
            archive.write(path, Path(f"{run.id}-{result.name}") / name)
    os.replace(unfinished, target)
    return target
