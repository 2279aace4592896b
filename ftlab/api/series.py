"""Helpers for a series of notebooks: a shared workspace, reused runs, runs side by side."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ftlab.api.display import BlindVerdict, Compared
from ftlab.api.run import Run
from ftlab.api.verbs import train
from ftlab.config import RunConfig, load_config
from ftlab.core.comparison import decided_by
from ftlab.core.run_directory import RunDirectory
from ftlab.core.words import duration
from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError, InputError

Folder = str | os.PathLike[str] | None
_DRIVE = "/content/drive"
NEW = "new"


def workspace_folder(folder: str | os.PathLike[str] = "workspace", *, drive: bool = True) -> Path:
    """The workspace of a notebook: on Google Drive in Colab, where it outlives the session; else `folder`.

    Colab asks for access to Drive. `drive=False` uses the disk of the Colab machine, which is lost with it. Raises
    FtlabError if access to Drive is declined.
    """
    if drive and "google.colab" in sys.modules:
        from google.colab import drive as google_drive  # exists only in Colab

        try:
            google_drive.mount(_DRIVE)
        except Exception as error:  # Colab has types of its own for access that was declined
            raise FtlabError(
                "Google Drive was not mounted",
                why=str(error),
                try_="run the cell again and allow access, or set drive = False: runs are then lost with the session",
            ) from error
        place = Path(_DRIVE) / "MyDrive" / "ftlab" / Path(folder).name
    else:
        place = Path(folder).expanduser().absolute()
    return Workspace.open(place).root


def resume_interrupted(workspace: Folder = None) -> list[Run]:
    """Resume all runs whose machine or process died, from their last checkpoints; returns them, oldest first.

    Runs that were stopped, or that failed with an error, are not resumed. The resumed runs train one at a time.
    """
    from ftlab.training import supervisor

    opened = Workspace.open(workspace)
    lost = [run for run in reversed(opened.runs()) if _is_lost(run)]
    for run in lost:
        supervisor.resume(run, opened)
    return [Run(run, opened) for run in lost]


def trained(config: RunConfig, run: Run | str | None = None, *, workspace: Folder = None, show: bool = True) -> Run:
    """A finished run to work with: the one named `run`; else the newest in the workspace with the same base, method and
    data; else a new run of `config`. `run="new"` always trains.

    Other settings, such as the number of steps, may differ: print `run.config`. Raises like `Run.find`, `train` and
    `Run.wait`.
    """
    if isinstance(run, Run):
        return run
    opened = Workspace.open(workspace)
    if run not in (None, NEW):
        return Run.find(str(run), opened.root)
    match = next((known for known in opened.runs() if run is None and _is_like(known, config)), None)
    if match is not None:
        print(f'reused from the workspace: {match.id} (run = "{NEW}" trains again)')
        return Run(match, opened)
    return train(config, workspace=workspace).wait(show=show)


def compare(runs: Sequence[Run | str], *, measures: Sequence[str] | None = None, workspace: Folder = None) -> Compared:
    """Runs that were compared with the same base on the same rows, side by side: scores and cost.

    `measures` are names of measures; None uses the one that decided the first verdict, then general accuracy (for kinds
    that no run replayed, and for kinds that one did), KL to the base and perplexity. Raises InputError when the runs
    were evaluated on different rows, FtlabError when one was not evaluated.
    """
    import pandas

    from ftlab.config.sections import summary
    from ftlab.core.files import read_jsonl
    from ftlab.evaluation.figures import percent, value_text
    from ftlab.report.charts import panels
    from ftlab.report.measures import by_same_kinds, verdict_text

    compared = [run if isinstance(run, Run) else Run.find(run, workspace) for run in runs]
    if not compared:
        raise InputError("No runs to compare", given="an empty list")
    comparisons = [run.comparison().json for run in compared]
    _check_rows(compared)
    asked = [read_jsonl(RunDirectory(run.directory).probes_file) for run in compared]
    alike = by_same_kinds(list(zip(comparisons, asked, strict=True)))
    titles = _titles(compared)
    decided = decided_by(comparisons[0])
    usual = [*([decided] if decided else []), "general_accuracy", "general_accuracy_replayed", "base_kl", "perplexity"]
    drawn = panels(list(zip(titles, alike, strict=True)), list(dict.fromkeys(measures or usual)))
    rows, cells = [], []
    for place, (title, run) in enumerate(zip(titles, compared, strict=True)):
        status = run.status
        # In each panel the base stands first.
        dots = [panel.dots[place - len(compared)] for panel in drawn]
        share = (status.trained_parameters or 0) / (status.total_parameters or 1)
        rows.append(
            {"run": title, "method": summary(run.config.method), "trained weights": status.trained_parameters}
            | {panel.measure["name"]: dot.value for panel, dot in zip(drawn, dots, strict=True)}
            | {"seconds": status.seconds, "id": run.id}
        )
        weights = f"{status.trained_parameters:,} ({percent(round(share, 3))})" if status.trained_parameters else "–"
        values = [value_text(panel.measure, dot.value) for panel, dot in zip(drawn, dots, strict=True)]
        cells.append([title, weights, *values, duration(status.seconds) if status.seconds else "–"])
    head = ["Run", "Trained weights", *(panel.measure["title"] for panel in drawn), "Took"]
    verdicts = [f"{title}: {verdict_text(comparison)}" for title, comparison in zip(titles, comparisons, strict=True)]
    return Compared(pandas.DataFrame(rows).set_index("run"), drawn, verdicts, [head, *cells])


def blind_verdict(test_id: str, workspace: Folder = None) -> BlindVerdict:
    """The verdict of a blind test. Raises FtlabError while the tally is hidden."""
    from ftlab.arena.blind_tests import progress, votes_in_words
    from ftlab.arena.store import open_store
    from ftlab.arena.tally import evaluate, revealed_now

    store = open_store(Workspace.open(workspace))
    if revealed_now(store, test_id) is None:
        raise FtlabError(
            f"The tally is hidden: {votes_in_words(progress(store, test_id))} cast",
            try_="wait for the planned number, or close the test",
        )
    return BlindVerdict(evaluate(store, test_id))


def rater_links(workspace: Folder = None) -> dict[str, dict[str, str]]:
    """The raters' links of every open blind test, by title and name; serves their page from this process.

    In Colab, whose machines cannot be reached otherwise, the page gets a public link. Empty without an open test.
    """
    from ftlab.arena import links
    from ftlab.arena.blind_tests import list_tests
    from ftlab.arena.store import open_store
    from ftlab.ui.rater import serving as raters_page
    from ftlab.ui.rater.page import rater_address

    opened = Workspace.open(workspace)
    if not raters_page.has_tests(opened):
        return {}
    store = open_store(opened)
    tests = [item for item in list_tests(store) if item.state == "open"]
    if not tests:
        return {}
    url = raters_page.serve(opened).url
    return {
        test.title: {item.pseudonym: rater_address(url, item.token) for item in links.links(store, test.id)}
        for test in tests
    }


def _check_rows(runs: Sequence[Run]) -> None:
    asked = [
        sorted(str(row.get("messages") or row.get("document")) for row in RunDirectory(run.directory).predictions())
        for run in runs
    ]
    if any(rows != asked[0] for rows in asked[1:]):
        raise InputError(
            "These runs were not evaluated on the same rows",
            given=", ".join(run.id for run in runs),
            try_="ftlab.evaluate([run, ...]) evaluates all of them on the rows of the first",
        )


def _is_lost(run: RunDirectory) -> bool:
    from ftlab.training import supervisor

    current = supervisor.status(run)
    return current.state == "failed" and (current.error or {}).get("kind") == "gone"


def _is_like(run: RunDirectory, wanted: RunConfig) -> bool:
    """Whether `run` is complete and has the same base, method and data as `wanted`."""
    from ftlab.training import supervisor

    try:
        config = load_config(run.config_file)
    except FtlabError:
        return False  # of another version of ftlab
    return (
        run.has_result
        and _what(config.resolved()) == _what(wanted.resolved())
        and supervisor.status(run).state == "completed"
        and (run.comparison() is not None or not wanted.evaluation.after_training)
    )


def _what(config: RunConfig) -> dict[str, Any]:
    data = config.data.model_dump(exclude={"replay_fraction", "replay_text_fraction"})
    return {"stage": config.stage, "model": config.model.base, "start": config.model.start, "data": data} | {
        "method": config.method.name
    }


def _titles(runs: Sequence[Run]) -> list[str]:
    """The title of each run: its name if all names differ, else its id without the time."""
    named = [run.config.name for run in runs]
    if all(named) and len(set(named)) == len(named):
        return [str(name) for name in named]
    return [run.id.split("-", 2)[-1] for run in runs]
