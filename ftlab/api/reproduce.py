"""The verbs of a notebook that repeats a run exactly (`python -m ftlab notebook RUN`)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ftlab.api.run import Run
from ftlab.config import RunConfig
from ftlab.run_directory import RunDirectory
from ftlab.sharing import reproduce
from ftlab.workspace import Workspace


def same_versions(recorded: Mapping[str, str | None], *, strict: bool = True) -> reproduce.Differing:
    """The packages whose version here is not the one `recorded`. Raises FtlabError naming them, unless not `strict`."""
    return reproduce.same_versions(recorded, strict=strict)


def same_data(
    config: RunConfig, recorded: Sequence[Mapping[str, Any]], *, workspace: str | os.PathLike[str] | None = None
) -> None:
    """Raise InputError when the data that `config` names are not those `recorded`, by their sha256."""
    reproduce.same_data(config, recorded, Workspace.open(workspace))


def compare_metrics(run: Run, recorded: Mapping[str, float], *, tolerance: float = 0.0) -> reproduce.Figures:
    """The figures of `run` against those `recorded`; `tolerance` is relative, 0 means to the last digit."""
    return reproduce.compare_figures(RunDirectory(run.directory), recorded, tolerance)
