"""The verbs of a notebook: inspect, check, preflight, train, evaluate, chat, launch. All call what the tabs call."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftlab.config import STARTER, RunConfig, build_config, load_config
from ftlab.errors import FtlabError, InputError
from ftlab.run_directory import RunDirectory
from ftlab.workspace import Workspace

if TYPE_CHECKING:
    import pandas

    from ftlab.chat.duet import Answers
    from ftlab.data.checks import Report
    from ftlab.data.inspection import Inspection
    from ftlab.training.preflight.finding import Preflight
    from ftlab.training.status import RunStatus

_REFRESH_SECONDS = 1.0


class Run:
    """A handle on one run. Its process goes on when the notebook is closed; find it again with `Run.find(id)`."""

    def __init__(self, directory: RunDirectory, workspace: Workspace):
        self._run, self._workspace = directory, workspace

    @classmethod
    def find(cls, run_id: str = "last", workspace: str | os.PathLike[str] | None = None) -> Run:
        """The run called `run_id` (or the beginning of its id, or `last`). Raises InputError when there is none."""
        opened = Workspace.open(workspace)
        return cls(opened.run(run_id), opened)

    @property
    def id(self) -> str:
        return self._run.id

    @property
    def directory(self) -> Path:
        return self._run.path

    @property
    def config(self) -> RunConfig:
        return load_config(self._run.config_file)

    @property
    def status(self) -> RunStatus:
        from ftlab.training import supervisor

        return supervisor.status(self._run)

    @property
    def metrics(self) -> pandas.DataFrame:
        """One row per logged event: step, epoch, loss, eval_loss, learning_rate, tokens_per_second ..."""
        import pandas

        return pandas.DataFrame(self._run.metrics())

    @property
    def verification(self) -> dict[str, Any] | None:
        return self._run.verification()

    def wait(self, *, show: bool = True) -> Run:
        """Block until the run has ended, with its live curve in Jupyter; returns the run.

        Interrupting the cell leaves the run training; `stop` ends it. Raises FtlabError when the run failed.
        """
        display = _live_display() if show else None
        while True:
            current = self.status
            if display is not None:
                display.update(self)
            if not current.is_active:
                break
            time.sleep(_REFRESH_SECONDS)
        if current.state == "failed":
            raise_failure(current)
        return self

    def stop(self) -> str:
        """Ask the run to save and stop; a second call kills it. Returns what happens, in words."""
        from ftlab.training import supervisor

        return supervisor.stop(self._run)

    def resume(self) -> Run:
        """Train on from the last checkpoint after a stop or a failure. Raises InputError when it had ended well."""
        from ftlab.chat.duet import release_for
        from ftlab.training import supervisor

        supervisor.resume(self._run, self._workspace)
        release_for(load_config(self._run.config_file).launcher.device)
        return self

    def evaluate(
        self,
        *,
        max_rows: int | None = None,
        reward_model: Run | str | None = None,
        data: str | None = None,
        **settings: Any,
    ) -> dict[str, Any]:
        return evaluate(self, max_rows=max_rows, reward_model=reward_model, data=data, **settings)

    def export(self, to: str | os.PathLike[str], *, merge: bool = False, dtype: str | None = None) -> Path:
        """Write the adapter (with `merge` the whole model, in `dtype`) to the folder `to`, and verify it in a process
        without ftlab. Returns the folder. Raises FtlabError when it says something else than this run."""
        from ftlab.sharing.export import export_run

        return export_run(self._run, Path(to), kind="merged" if merge else "adapter", dtype=dtype).folder

    def chat(self, message: str, **settings: Any) -> Answers:
        return chat(self, message, **settings)

    def comparison(self) -> pandas.DataFrame:
        """Base against adapted, one row per measure. Raises FtlabError before there was an evaluation."""
        import pandas

        from ftlab.sharing.report import comparison_table

        comparison = self._run.comparison()
        if comparison is None:
            raise FtlabError(f"The run {self.id} has not been evaluated", try_="run.evaluate()")
        table = pandas.DataFrame(comparison_table(comparison))
        return table[["measure", "base", "adapted", "change"]].set_index("measure")

    def remedies(self) -> dict[str, RunConfig]:
        """Runs that may help against what this one forgot or learnt by heart, the likeliest first: `train(config)`."""
        from ftlab.config import with_settings
        from ftlab.evaluation.remedies import remedies

        comparison, config = self._run.comparison(), load_config(self._run.config_file)
        found = remedies(comparison, config) if comparison else []
        return {one.title: with_settings(config, one.changes) for one in found if one.needs is None}

    def predictions(self) -> pandas.DataFrame:
        """The held-out rows with reference and both answers."""
        import pandas

        return pandas.DataFrame(self._run.predictions())

    def report(self) -> Path:
        """Write the one-page report; returns the path of the HTML file."""
        from ftlab.sharing.report import write_report

        return write_report(self._run)

    def __repr__(self) -> str:
        current = self.status
        steps = f", step {current.step} of {current.total_steps}" if current.total_steps else ""
        return f"Run({self.id}: {current.state}{steps})"

    def _repr_html_(self) -> str:
        from ftlab.ui.notebook import run_html

        return run_html(self._run)


def inspect(source: str, *, workspace: str | os.PathLike[str] | None = None, **settings: Any) -> Inspection:
    """Look at a sample, a file or a Hub data set: rows, columns, detected format, split sizes.

    `settings` are those of the section `data` of a run. Raises InputError saying what cannot be used and why.
    """
    from ftlab.data.inspection import inspect as inspect_data

    data = build_config({"data": {"source": str(source), **settings}}).data
    return inspect_data(data, Workspace.open(workspace))


def check(
    source: str,
    *,
    base: str | None = STARTER,
    max_length: int | None = None,
    prompts: Sequence[str] | None = None,
    workspace: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Report:
    """What is wrong with a data set: duplicates, leaks, personal data, damage, lengths, and what to do about it.

    Tokens are counted as `base` does (None: not at all) against `max_length`. `prompts` of the real world are compared
    with those of training. `settings` are those of the section `data` of a run. Raises InputError as `inspect` does.
    """
    from ftlab.data.checks import check as check_data

    data = build_config({"data": {"source": str(source), **settings}}).data
    tokenizer = None
    if base is not None:
        from ftlab.models.load import load_tokenizer

        tokenizer = load_tokenizer(base)
    return check_data(
        data,
        tokenizer=tokenizer,
        base=base or "",
        max_length=max_length,
        prompts=prompts,
        workspace=Workspace.open(workspace),
    )


def preflight(
    config: RunConfig | str | os.PathLike[str] | None = None,
    *,
    workspace: str | os.PathLike[str] | None = None,
    price_per_hour: float | None = None,
    **settings: Any,
) -> Preflight:
    """Measure a run before it starts: peak memory, time, cost, and warnings in words.

    The run is given as to `train`, and refused with the same InputError.
    """
    from ftlab.training.preflight.measure import run_preflight

    return run_preflight(_configured(config, settings), Workspace.open(workspace), price_per_hour=price_per_hour)


def train(
    config: RunConfig | str | os.PathLike[str] | None = None,
    *,
    workspace: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Run:
    """Start a run and return at once; `Run.wait` blocks until it has ended.

    `config` is a RunConfig or the path of a YAML file; without it `settings` are the sections of a run, e.g.
    `data={"source": "file.jsonl"}, optimisation={"epochs": 3}`. Raises InputError before anything is started when a
    setting or the data cannot be used.
    """
    from ftlab.chat.duet import release_for
    from ftlab.training import supervisor

    config = _configured(config, settings)
    opened = Workspace.open(workspace)
    run = supervisor.submit(config, opened)
    release_for(config.launcher.device)  # a chat before this run may hold the memory that it needs
    return Run(run, opened)


def _configured(config: RunConfig | str | os.PathLike[str] | None, settings: dict[str, Any]) -> RunConfig:
    if config is not None and settings:
        raise InputError(
            "Give a configuration or single settings, not both",
            given=f"config and {', '.join(settings)}",
            try_="change the configuration itself",
        )
    if config is None:
        return build_config(settings)
    return config if isinstance(config, RunConfig) else load_config(os.fspath(config))


def evaluate(
    run: Run | str | Sequence[Run | str],
    *,
    max_rows: int | None = None,
    reward_model: Run | str | None = None,
    data: str | None = None,
    workspace: str | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Compare a run with its base on the held-out rows, here and now; returns what is in comparison.json.

    Several runs are compared with the base of the first, on its rows; `data` (a sample, a file, a Hub id) takes the
    place of these. `settings` are those of the section evaluation, e.g. prompted=True, measures="exact_match, bleu".
    Of runs that learn from preferences or rewards, `preferences` and `before_after` (answers of base, start and run)
    stand beside it; a `reward_model` then judges those answers, and nothing else is done. What a model has said before
    is not asked again.
    """
    from ftlab.evaluation.whole import evaluate_whole

    runs = [run] if isinstance(run, Run | str) else list(run)
    if not runs:
        raise InputError("There is no run to evaluate", given="an empty list")
    found = [one if isinstance(one, Run) else Run.find(one, workspace) for one in runs]
    judge = Run.find(reward_model, found[0]._workspace.root) if isinstance(reward_model, str) else reward_model
    first, *others = [RunDirectory(one.directory) for one in found]
    results = evaluate_whole(
        first,
        max_rows=max_rows,
        reward_model=RunDirectory(judge.directory) if judge is not None else None,
        others=others,
        suite=data,
        settings=settings,
    )
    return results.pop("comparison", {}) | results


def chat(run: Run | str, message: str, *, workspace: str | None = None, **settings: Any) -> Answers:
    """Both models' answers to one message. `settings` are those of `ftlab.chat.duet.Duet.stream`."""
    from ftlab.chat.duet import load_duet

    found = run if isinstance(run, Run) else Run.find(run, workspace)
    *_, last = load_duet(RunDirectory(found.directory)).stream(message, **settings)
    return last


def launch(workspace: str | os.PathLike[str] | None = None, **settings: Any) -> Any:
    """Open the app; `settings` are those of `ftlab.ui.app.launch` (host, port, share)."""
    from ftlab.ui.app import launch as launch_app

    return launch_app(workspace, **settings)


def raise_failure(status: RunStatus) -> None:
    """Raise what made a run fail as one readable error."""
    error = status.error or {"what": "The run failed.", "why": None, "try": None}
    kind = InputError if error.get("kind") == "input" else FtlabError
    failure = FtlabError(error["what"], why=error.get("why"), try_=error.get("try"))
    failure.exit_code = kind.exit_code
    raise failure


def _live_display() -> Any | None:
    """A display that can be updated, inside Jupyter; None elsewhere."""
    try:
        from IPython import get_ipython
        from IPython.display import display
    except ImportError:
        return None
    shell = get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        return None
    return display(display_id=True)
