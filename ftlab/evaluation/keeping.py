"""A comparison on disk: of the held-out split in the run's folder, of another suite in a folder of its own there."""

from __future__ import annotations

import re
from typing import Any

from ftlab.errors import FtlabError
from ftlab.files import write_json, write_jsonl
from ftlab.run_directory import RunDirectory


def write_comparison(
    run: RunDirectory,
    suite: str | None,
    comparison: dict[str, Any],
    predictions: list[dict[str, Any]],
    probes: list[dict[str, Any]],
) -> None:
    """The comparison comes last: whoever sees a new one finds everything it speaks of."""
    target = run.suite(suite_name(suite)) if suite else run
    try:
        write_jsonl(target.predictions_file, predictions)
        write_jsonl(target.probes_file, probes)
        if not suite:
            for side in ("base", "adapted"):
                write_json(run.scores_file(side), comparison[side])
        write_json(target.comparison_file, comparison)
    except OSError as error:
        raise FtlabError(
            f"The results cannot be written: {error.strerror}", why=str(run.evaluation), try_="free some disk space"
        ) from error


def suite_name(suite: str) -> str:
    """A name for a folder: of a path the file's name."""
    last = suite.rstrip("/").split("/")[-1].rpartition(".")
    return re.sub(r"[^a-z0-9_]+", "-", (last[0] or last[2]).lower()).strip("-")[:60] or "suite"
