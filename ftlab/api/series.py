"""What a series of notebooks needs around the steps: one workspace, runs that are taken over, runs side by side."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ftlab.api.run import Run
from ftlab.api.shown import BlindVerdict, Compared
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
    """Where the runs of a notebook live: on Google Drive in Colab, where they outlive the session; else `folder`.

    Colab asks for access to Drive. `drive` False stays on the disk of the Colab machine, which is lost with it.
    """
    if drive and "google.colab" in sys.modules:
        from google.colab import drive as google_drive  # only there

        google_drive.mount(_DRIVE)
        place = Path(_DRIVE) / "MyDrive" / "ftlab" / Path(folder).name
    else:
        place = Path(folder).expanduser().absolute()
    return Workspace.open(place).root


def resume_interrupted(workspace: Folder = None) -> list[Run]:
    """Train on, from their last checkpoints, all runs whose machine or process went away; returns them, oldest first.

    Runs that somebody stopped, or that failed for a reason of their own, are left alone. Those that are resumed wait
    for each other.
    """
    from ftlab.training import supervisor

    opened = Workspace.open(workspace)
    lost = [run for run in reversed(opened.runs()) if _is_lost(run)]
    for run in lost:
        supervisor.resume(run, opened)
    return [Run(run, opened) for run in lost]


def trained(config: RunConfig, run: Run | str | None = None, *, workspace: Folder = None, show: bool = True) -> Run:
    """A finished run to work with: the one named `run`; else the newest in the workspace that tuned the same base in
    the same way on the same data; else `config`, trained now. `run="new"` trains in any case.

    What was trained how long does not have to agree: print `run.config`. Raises as `Run.find`, `train` and `Run.wait`.
    """
    if isinstance(run, Run):
        return run
    opened = Workspace.open(workspace)
    if run not in (None, NEW):
        return Run.find(str(run), opened.root)
    match = next((known for known in opened.runs() if run is None and _is_like(known, config)), None)
    if match is not None:
        print(f'taken over from the workspace: {match.id} (run = "{NEW}" trains anew)')
        return Run(match, opened)
    return train(config, workspace=workspace).wait(show=show)


def compare(runs: Sequence[Run | str], *, measures: Sequence[str] | None = None, workspace: Folder = None) -> Compared:
    """Runs that were compared with the same base on the same rows, beside each other: what each reached and took.

    `measures` are names of measures; None takes the one that decided the first verdict, then general accuracy (of kinds
    that none of the runs replayed, and of kinds that one did), KL to the base and perplexity. Raises InputError when
    the runs were asked different rows, FtlabError when one was not evaluated.
    """
    import pandas

    from ftlab.config.methods import summary
    from ftlab.core.files import read_jsonl
    from ftlab.evaluation.figures import percent, value_text
    from ftlab.report.measures import by_same_kinds, verdict_text
    from ftlab.report.pictures import panels

    compared = [run if isinstance(run, Run) else Run.find(run, workspace) for run in runs]
    if not compared:
        raise InputError("There is no run to compare", given="an empty list")
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
    """What the votes of a blind test say. Raises FtlabError while they are to stay hidden."""
    from ftlab.arena.blind_tests import progress
    from ftlab.arena.store import open_store
    from ftlab.arena.tally import evaluate, shown

    store = open_store(Workspace.open(workspace))
    if shown(store, test_id) is None:
        now = progress(store, test_id)
        raise FtlabError(
            f"The tally is hidden: {now['votes']} of {now['planned']} planned votes are in",
            try_="wait for the planned number, or close the test",
        )
    return BlindVerdict(evaluate(store, test_id))


def rater_links(workspace: Folder = None) -> dict[str, dict[str, str]]:
    """The links of the raters of every open blind test, by its title and their names; serves their page here.

    In Colab, where nothing else can be reached, the page gets a public link of its own. Empty without an open test.
    """
    from ftlab.arena import links
    from ftlab.arena.blind_tests import list_tests
    from ftlab.arena.store import open_store
    from ftlab.ui import raters_page
    from ftlab.ui.rater import rater_address

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
            "These runs were not asked the same rows",
            given=", ".join(run.id for run in runs),
            try_="ftlab.evaluate([run, ...]) asks all of them the rows of the first",
        )


def _is_lost(run: RunDirectory) -> bool:
    from ftlab.training import supervisor

    current = supervisor.status(run)
    return current.state == "failed" and (current.error or {}).get("kind") == "gone"


def _is_like(run: RunDirectory, wanted: RunConfig) -> bool:
    """Whether `run` has ended well and tuned the same base in the same way on the same data as `wanted` says."""
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
    """What each run is called: its name where all have different ones, else its id without the time."""
    named = [run.config.name for run in runs]
    if all(named) and len(set(named)) == len(named):
        return [str(name) for name in named]
    return [run.id.split("-", 2)[-1] for run in runs]
