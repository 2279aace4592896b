"""A handle on one run."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ftlab.api.display import Answers, BeforeAfter, Comparison, Strengths, in_jupyter
from ftlab.config import RunConfig, load_config
from ftlab.config.evaluation import names
from ftlab.core.run_directory import RunDirectory
from ftlab.core.run_results import PreferencesJson, RewardsJson
from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError, InputError
from ftlab.evaluation.metrics.own import name_files
from ftlab.report import notebook as reproduce

if TYPE_CHECKING:
    import pandas

    from ftlab.export.export import Exported
    from ftlab.export.push import Upload
    from ftlab.training.status import RunStatus

_REFRESH_SECONDS = 1.0
Figures = TypeVar("Figures")


class Run:
    """A handle on one run. The run continues when the notebook is closed; find it again with `Run.find(id)`."""

    def __init__(self, directory: RunDirectory, workspace: Workspace):
        self._run, self._workspace = directory, workspace
        self._shown_in: int | None = None  # the notebook cell in which `wait` has shown it

    @classmethod
    def find(cls, run_id: str = "last", workspace: str | os.PathLike[str] | None = None) -> Run:
        """The run with the id `run_id` (or a prefix of it, or `last`). Raises InputError when there is none."""
        run = Workspace.open(workspace).run(run_id)
        return cls(run, Workspace.of(run))

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
        """Block until the run has finished, with a live loss curve in Jupyter; returns the run.

        Interrupting the cell does not stop the run; `stop` does. Raises FtlabError when the run failed.
        """
        display = _LiveDisplay() if show and in_jupyter() is not None else None
        while True:
            current = self.status
            if display is not None:
                display.show(self._html())
            if not current.is_active:
                break
            time.sleep(_REFRESH_SECONDS)
        if display is not None:
            # A cell that ends with `run.wait()` would show the same curve a second time.
            self._shown_in = _cell_number()
        if current.state == "failed":
            raise_failure(current)
        return self

    def stop(self) -> str:
        """Ask the run to save and stop; a second call kills it. Returns a sentence on what happens."""
        from ftlab.training import supervisor

        return supervisor.stop(self._run).message

    def resume(self) -> Run:
        """Continue from the last checkpoint after a stop or a failure. Raises InputError when the run is complete."""
        from ftlab.evaluation.loaded import release_for
        from ftlab.training import supervisor

        supervisor.resume(self._run, self._workspace)
        release_for(load_config(self._run.config_file).launcher.device)
        return self

    def evaluate(
        self,
        *,
        others: Sequence[Run | str] = (),
        max_rows: int | None = None,
        reward_model: Run | str | None = None,
        data: str | None = None,
        strength: float | None = None,
        against: str | Sequence[str] = (),
        embeddings: str | None = None,
        send: bool = False,
        price_in: float | None = None,
        price_out: float | None = None,
        price_per_hour: float | None = None,
        **settings: Any,
    ) -> Comparison | dict[str, Any]:
        """Like `ftlab.evaluate` for this run, compared with `others`."""
        from ftlab.evaluation.compare import evaluate_whole, material_against, plans_to_send
        from ftlab.evaluation.embeddings import read_embeddings
        from ftlab.evaluation.outside import read_against
        from ftlab.evaluation.request import Request
        from ftlab.training.supervisor import evaluating_here

        own = settings.get("own_metrics")
        name_files(own if isinstance(own, (list, tuple)) else names(own))
        root = self._workspace.root
        beside = [run if isinstance(run, Run) else Run.find(run, root) for run in others]
        judge = Run.find(reward_model, root) if isinstance(reward_model, str) else reward_model
        named = [against] if isinstance(against, str) else list(against)
        request = Request(
            others=[RunDirectory(run.directory) for run in beside],
            suite=data,
            max_rows=max_rows,
            settings=settings,
            strength=strength,
            against=[read_against(each, price_in=price_in, price_out=price_out) for each in named],
            embeddings=None if embeddings is None else read_embeddings(embeddings, price_in),
            price_per_hour=price_per_hour,
            reward_model=RunDirectory(judge.directory) if judge is not None else None,
        )
        if request.sends or request.against:
            plans = plans_to_send(self._run, request, material_against(self._run, request))
            if not send and any(planned.open for planned in plans):
                lines = [line for planned in plans for line in planned.lines()]
                raise InputError(f"Nothing was sent yet. {' '.join(lines)}", try_="add send=True if you agree")
        with evaluating_here(self._run):
            results = evaluate_whole(self._run, request)
        if "comparison" not in results:
            return dict(results)
        whole = results.pop("comparison") | results
        return Comparison(whole, None if whole["question"]["name"] else self._run)

    def chat(self, message: str, **settings: Any) -> Answers:
        """The answers of both models to one message; `settings` are those of `ftlab.evaluation.duet.Duet.stream`."""
        from ftlab.evaluation.duet import load_duet

        *_, last = load_duet(RunDirectory(self.directory)).stream(message, **settings)
        return Answers(message, last.base, last.adapted, last.cut, last.notes)

    def comparison(self) -> Comparison:
        """The comparison of base and adapted model. Raises FtlabError before the first evaluation."""
        comparison = self._run.comparison()
        if comparison is None:
            raise FtlabError(f"The run {self.id} has not been evaluated", try_="run.evaluate()")
        return Comparison(comparison, self._run)

    def remedies(self) -> dict[str, RunConfig]:
        """Configurations that may reduce the forgetting or memorization of this run, most promising first, for
        `train(config)`."""
        from ftlab.config import with_settings
        from ftlab.evaluation.remedies import remedies

        comparison, config = self._run.comparison(), load_config(self._run.config_file)
        fitting = remedies(comparison, config) if comparison else []
        return {remedy.title: with_settings(config, remedy.changes) for remedy in fitting if remedy.needs is None}

    def strengths(self, **settings: Any) -> Strengths:
        """Score the strengths 0.25, 0.5, 0.75 and 1, and propose one; stored answers are reused.

        `settings` are those of `ftlab.evaluation.strengths.measure_strengths`: grid, max_rows, settings, progress.
        """
        from ftlab.evaluation.strengths import measure_strengths
        from ftlab.training.supervisor import evaluating_here

        with evaluating_here(self._run):
            return Strengths(measure_strengths(self._run, **settings))

    @property
    def strength(self) -> float:
        """The strength chosen for chat, exports and blind tests; 1 is as trained."""
        from ftlab.models.strength import chosen_strength

        return chosen_strength(self._run)

    def choose_strength(self, strength: float) -> float:
        """Choose the strength for chat, exports and blind tests; 1 resets the choice. No weights change."""
        from ftlab.evaluation.strengths import choose

        return choose(self._run, strength)

    def predictions(self) -> pandas.DataFrame:
        """The held-out rows with reference and both answers."""
        import pandas

        return pandas.DataFrame(self._run.predictions())

    def report(self, *, price_per_hour: float | None = None) -> Path:
        """Write the one-page report, with the cost if the price of the machine is given; returns its path."""
        from ftlab.report.report import write_report

        return write_report(self._run, price_per_hour=price_per_hour)

    def export(
        self,
        to: str | os.PathLike[str] | None = None,
        *,
        merge: bool = False,
        dtype: str | None = None,
        strength: float | None = None,
        licence: str | None = None,
        gguf: str | None = None,
    ) -> Exported:
        """Export the adapter (with `merge`, a merged model) to a folder that loads without ftlab, and verify it.

        With `gguf`, a GGUF file of this type (f16, q8_0, q4_k_m ...) for llama.cpp and Ollama instead. `strength`
        scales the change made by training (default: the one chosen for the run). `to` defaults to the run's own folder.
        Raises FtlabError when the export answers differently from the run.
        """
        from ftlab.export.export import Kind, export_run, fresh_export

        kind: Kind = "gguf" if gguf else "merged" if merge else "adapter"
        settings: dict[str, Any] = {"dtype": dtype, "strength": strength, "licence": licence}
        if to is None and not gguf:
            return fresh_export(self._run, kind, **settings)
        return export_run(self._run, Path(to or self._run.export_folder(kind)), kind=kind, gguf=gguf, **settings)

    def push(
        self,
        repository: str,
        *,
        merge: bool = False,
        dtype: str | None = None,
        strength: float | None = None,
        dry_run: bool = True,
        **settings: Any,
    ) -> Upload:
        """Upload the result to `repository` (owner/name) on the Hub, private by default; `dry_run` only previews it.

        `settings` are those of `ftlab.export.push.push`: data, report, private. The token is that of `hf auth login`.
        """
        from ftlab.export.push import push

        made = self.export(merge=merge, dtype=dtype, strength=strength)
        return push(self._run, made, repository, dry_run=dry_run, **settings)

    def to_notebook(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Write a notebook that repeats this run exactly and compares the figures; returns its path.

        Raises FtlabError before the run has finished.
        """
        from ftlab.report.notebook import write_notebook

        return write_notebook(self._run, self._workspace, Path(path) if path else None)

    def preferences(self) -> PreferencesJson:
        """The win rate of the chosen answer on held-out pairs. Raises FtlabError if it was not measured."""
        return self._measured("preferences", self._run.preferences())

    def rewards(self) -> RewardsJson:
        """The mean reward of answers to held-out prompts, before and after. Raises FtlabError like `preferences`."""
        return self._measured("rewards", self._run.rewards())

    def before_after(self) -> BeforeAfter:
        """Answers of base, start and run to the same held-out prompts. Raises FtlabError like `preferences`."""
        return BeforeAfter(
            self._measured("answers before and after", self._run.before_after()), self._run.before_after_answers()
        )

    def _measured(self, what: str, figures: Figures | None) -> Figures:
        if figures is None:
            stage = self.config.stage
            raise FtlabError(f"The run {self.id} (stage {stage}) has no {what}", try_="run.evaluate()")
        return figures

    def __repr__(self) -> str:
        current = self.status
        steps = f", step {current.step} of {current.total_steps}" if current.total_steps else ""
        return f"Run({self.id}: {current.state}{steps})"

    def _repr_html_(self) -> str | None:
        return None if self._shown_in is not None and self._shown_in == _cell_number() else self._html()

    def _html(self) -> str:
        from ftlab.ui.notebook import run_html

        return run_html(self._run)


def raise_failure(status: RunStatus) -> None:
    """Raise the cause of a failed run as one readable error."""
    error = status.error or {"what": "The run failed.", "why": None, "try": None}
    kind = InputError if error.get("kind") == "input" else FtlabError
    failure = FtlabError(error["what"], why=error.get("why"), try_=error.get("try"))
    failure.exit_code = kind.exit_code
    raise failure


class _LiveDisplay:
    """An output of a notebook that is redrawn when its content changes."""

    def __init__(self) -> None:
        from IPython.display import HTML, display

        self._html, self._last = HTML, ""
        self._handle = display(HTML(""), display_id=True)

    def show(self, html: str) -> None:
        if html != self._last:
            self._last = html
            self._handle.update(self._html(html))


def _cell_number() -> int | None:
    shell = in_jupyter()
    return None if shell is None else shell.execution_count


def same_versions(recorded: Mapping[str, str | None], *, strict: bool = True) -> reproduce.Differing:
    """The packages whose version differs from the one `recorded`. Raises FtlabError naming them if `strict`."""
    return reproduce.same_versions(recorded, strict=strict)


def same_data(
    config: RunConfig, recorded: Sequence[Mapping[str, Any]], *, workspace: str | os.PathLike[str] | None = None
) -> None:
    """Raise InputError when the sha256 of the data of `config` differs from the one `recorded`."""
    reproduce.same_data(config, recorded, Workspace.open(workspace))


def compare_metrics(run: Run, recorded: Mapping[str, float], *, tolerance: float = 0.0) -> reproduce.Figures:
    """Compare the figures of `run` with those `recorded`; `tolerance` is relative, and 0 requires equality."""
    return reproduce.compare_figures(RunDirectory(run.directory), recorded, tolerance)
