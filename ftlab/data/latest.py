"""The base of the next training, which is likely that of the latest run, and the command that starts it."""

from __future__ import annotations

import shlex

from ftlab.config import STARTER, load_config
from ftlab.errors import InputError
from ftlab.workspace import Workspace


def latest_choice(workspace: Workspace) -> tuple[str, int, str] | None:
    """(base, max_length in tokens, id of the run) of the newest run; None when there is no run."""
    for run in workspace.runs():
        try:
            config = load_config(run.config_file)
        except InputError:  # a run of another version of ftlab, or one whose file was broken by hand
            continue
        return config.model.base, config.optimisation.max_length, run.id
    return None


def train_command(source: str, workspace: Workspace, base: str | None = None, *, max_length: int | None = None) -> str:
    """The line that trains on `source` in `workspace`, with `base`, else with the base of the latest run."""
    if base is None:
        base = (latest_choice(workspace) or (STARTER,))[0]
    line = f"python -m ftlab train --set data.source={shlex.quote(source)}"
    line += f" --set model.base={shlex.quote(base)}" if base != STARTER else ""
    line += f" --set optimisation.max_length={max_length}" if max_length else ""
    return line + workspace.flag
