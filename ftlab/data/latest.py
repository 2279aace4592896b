"""Which base the next training is likely to use: that of the latest run of the workspace."""

from __future__ import annotations

from ftlab.config import load_config
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
