"""Read what the tabs show from the run directories. Polled every second, so a file is read only after it changes."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from ftlab.config import RunConfig, load_config
from ftlab.config.stages import SFT
from ftlab.core.comparison import ComparisonJson, read_comparison
from ftlab.core.files import DamagedFile, read_json, read_jsonl
from ftlab.core.jobs import StopResult
from ftlab.core.run_directory import Question, RunDirectory
from ftlab.core.run_results import BeforeAfterJson, JudgementJson, PreferencesJson, RewardsJson
from ftlab.core.workspace import Workspace
from ftlab.errors import ErrorJson, FtlabError, InputError
from ftlab.training import supervisor
from ftlab.training import supervisor as queue
from ftlab.training.status import RunStatus

T = TypeVar("T")

# (file, reader) -> (time of change and size, value). Only a cache: losing it costs time, nothing else.
_read: dict[tuple[Path, str], tuple[tuple[int, int] | None, Any]] = {}
# Files that are currently unusable. Drawing skips them, and the run is marked as damaged.
_damaged: dict[Path, tuple[tuple[int, int] | None, FtlabError]] = {}
# Runs being compared side by side. Cached, because computing the intervals takes a moment.
_beside: dict[tuple[Any, ...], tuple[ComparisonJson, list[dict[str, Any]]] | None] = {}
_MOST_BESIDE = 16


Kind = Literal["training", "evaluation"]


@dataclass(frozen=True)
class Job:
    """The job that is running or next in line."""

    run: RunDirectory
    kind: Kind
    status: RunStatus
    waiting: int  # how many more are queued behind it

    @property
    def key(self) -> str:
        return f"{self.kind}:{self.run.id}"


def status(run: RunDirectory) -> RunStatus:
    """The run's status. A run that has ended is not compared with the process table again."""
    return _ended(run.status_file) or supervisor.status(run)


def evaluation_status(run: RunDirectory) -> RunStatus | None:
    """The status of the evaluation that was started manually, None if there was none."""
    return _ended(run.evaluation_status_file) or supervisor.evaluation_status(run)


def config(run: RunDirectory) -> RunConfig | None:
    """The run's configuration, None if this version of ftlab cannot read it."""
    return _cached(run.config_file, load_config)


def damage(run: RunDirectory) -> list[FtlabError]:
    """Errors in the files of `run` that have been read so far."""
    current = status(run)
    for look in (config, comparison, manifest, environment, preferences, rewards, before_after, judgements):
        look(run)
    of_status = [FtlabError(**_words(current.error))] if current.state == "damaged" and current.error else []
    return of_status + [
        error for path, (stamp, error) in list(_damaged.items()) if run.path in path.parents and stamp == _stamp(path)
    ]


def set_aside(error: DamagedFile) -> bool:
    """Ignore the file that `error` names until it changes. False if it was ignored already."""
    stamp = _stamp(error.path)
    known = error.path in _damaged and _damaged[error.path][0] == stamp
    _damaged[error.path] = (stamp, error)
    for key in [key for key in _read if key[0] == error.path]:
        _read[key] = (stamp, None)
    return not known


def drawn(draw: Callable[[], T]) -> T:
    """The result of `draw`, without files that turn out to be damaged while it draws."""
    again: set[tuple[Path, Any]] = set()
    while True:
        try:
            return draw()
        except DamagedFile as error:
            set_aside(error)
            if (error.path, _stamp(error.path)) in again:
                raise
            again.add((error.path, _stamp(error.path)))


def _words(error: ErrorJson) -> dict[str, Any]:
    return {"what": error["what"], "why": error.get("why"), "try_": error.get("try")}


def manifest(run: RunDirectory) -> dict[str, Any]:
    return _cached(run.manifest_file, read_json) or {}


def environment(run: RunDirectory) -> dict[str, Any]:
    return _cached(run.environment_file, read_json) or {}


def verification(run: RunDirectory) -> dict[str, Any] | None:
    return _cached(run.verification_file, read_json)


def strength(run: RunDirectory) -> float:
    """The strength chosen for `run`; 1 if there is none, or it cannot be read."""
    from ftlab.models.strength import AS_TRAINED, chosen_strength

    if _cached(run.strength_file, read_json) is None:
        return AS_TRAINED
    try:
        return chosen_strength(run)
    except DamagedFile as error:
        set_aside(error)
        return AS_TRAINED


def name_file(run: RunDirectory) -> Path:
    """The file with the run's custom name; absent if the run has its generated one (`run_names`)."""
    return run.path / "name.json"


def given_name(run: RunDirectory) -> str:
    """The custom name of `run`; empty if there is none."""
    return str((_cached(name_file(run), read_json) or {}).get("name") or "")


def comparison(run: RunDirectory | Question) -> ComparisonJson | None:
    return _cached(run.comparison_file, read_comparison)


def metrics(run: RunDirectory) -> list[dict[str, Any]]:
    return _cached(run.metrics_file, read_jsonl) or []


def predictions(run: RunDirectory | Question) -> list[dict[str, Any]]:
    return _cached(run.predictions_file, _read_rows) or []


def probes(run: RunDirectory | Question) -> list[dict[str, Any]]:
    """The general questions, with the answers of each side."""
    return _cached(run.probes_file, _read_rows) or []


def side_by_side(runs: Sequence[RunDirectory]) -> tuple[ComparisonJson, list[dict[str, Any]]] | None:
    """The answers of several runs as one comparison and its rows; None if they did not answer the same rows."""
    if any(comparison(run) is None for run in runs):
        return None
    stamps = tuple((run.path, _stamp(run.comparison_file)) for run in runs)
    if stamps not in _beside:
        from ftlab.evaluation.verdict import side_by_side as compare

        if len(_beside) >= _MOST_BESIDE:
            _beside.clear()
        _beside[stamps] = compare(
            [(compared, predictions(run)) for run in runs if (compared := comparison(run)) is not None]
        )
    return _beside[stamps]


def preferences(run: RunDirectory) -> PreferencesJson | None:
    """How often the chosen answer wins on the held-out pairs."""
    return _cached(run.preferences_file, read_json)


def rewards(run: RunDirectory) -> RewardsJson | None:
    """The rewards of answers to held-out prompts, before and after."""
    return _cached(run.rewards_file, read_json)


def before_after(run: RunDirectory) -> BeforeAfterJson | None:
    """Length and repetition of the answers of base, start and run, and win rates."""
    return _cached(run.before_after_file, read_json)


def before_after_answers(run: RunDirectory) -> list[dict[str, Any]]:
    return _cached(run.before_after_answers_file, _read_rows) or []


def judgements(run: RunDirectory) -> list[JudgementJson]:
    """Judgments of the answers by other models, newest first."""
    return (_cached(run.judged_file, read_json) or {"judgements": []})["judgements"]


def judged_answers(run: RunDirectory) -> list[dict[str, Any]]:
    """Each request to such a judge and its reply."""
    return _cached(run.judged_answers_file, read_jsonl) or []


def samples(run: RunDirectory) -> list[dict[str, Any]]:
    """Answers sampled while learning from rewards."""
    return _cached(run.samples_file, read_jsonl) or []


def expected(run: RunDirectory) -> dict[str, Any]:
    """The estimates for `run` made before it started (Preflight.as_dict); empty if there are none."""
    return _cached(run.expected_file, read_json) or {}


def stage(run: RunDirectory) -> str:
    """The stage of `run`; sft if its settings cannot be read."""
    settings = config(run)
    return settings.stage if settings else SFT


def is_reward_model(run: RunDirectory) -> bool:
    """Whether `run` trains a reward model, which scores answers and writes none."""
    settings = config(run)
    return settings is not None and settings.is_reward_model


def parent(run: RunDirectory) -> str | None:
    """The run that `run` started from, None if it started from its base or from a folder."""
    settings = config(run)
    recorded = environment(run).get("parent_run")
    return recorded or (settings.model.start if settings else None)


def current_job(workspace: Workspace) -> Job | None:
    """The job that holds the device, else the one whose turn is next, else None."""
    active: list[tuple[bool, tuple[float, str], Job]] = []
    for run in workspace.runs():
        both: dict[Kind, RunStatus | None] = {"training": status(run), "evaluation": evaluation_status(run)}
        for kind, current in both.items():
            if current is not None and current.is_active:
                active.append((current.state == "queued", queue.position(run), Job(run, kind, current, 0)))
    if not active:
        return None
    job = min(active, key=lambda item: item[:2])[2]
    return Job(job.run, job.kind, job.status, len(active) - 1)


def stop(job_key: str, workspace: Workspace) -> StopResult:
    """Ask the job `job_key` to stop, or kill it if it was asked before."""
    kind, _, run_id = job_key.partition(":")
    run = workspace.run(run_id)
    return supervisor.stop_evaluation(run) if kind == "evaluation" else supervisor.stop(run)


def fingerprint(workspace: Workspace) -> str:
    """A text that changes when a run appears, disappears, changes state, gets scores or is used at a new strength."""
    parts = [str(workspace.root), time.strftime("%Y%m%d")]  # names say "today"
    for run in workspace.runs():
        evaluation = evaluation_status(run)
        files = (
            run.comparison_file,
            *(question.comparison_file for question in run.questions()),
            run.preferences_file,
            run.rewards_file,
            run.before_after_file,
            run.judged_file,
            run.strength_file,
            run.strengths_file,
            name_file(run),
        )
        scores = [_stamp(file) for file in files]
        parts.append(f"{run.id} {status(run).state} {evaluation and evaluation.state} {scores}")
    parts += sorted(map(str, _damaged))
    return "\n".join(parts)


def runs_with_result(workspace: Workspace) -> list[RunDirectory]:
    """The runs that can be evaluated, newest first."""
    return [run for run in workspace.runs() if run.has_result and not status(run).is_active]


def runs_that_answer(workspace: Workspace) -> list[RunDirectory]:
    """The runs that can chat. Excludes reward models, which score answers and write none."""
    return [run for run in runs_with_result(workspace) if not is_reward_model(run)]


def reward_models(workspace: Workspace) -> list[RunDirectory]:
    return [run for run in runs_with_result(workspace) if is_reward_model(run)]


def chosen_run(workspace: Workspace, run_id: str | None, *, answers: bool = False) -> RunDirectory:
    """The selected run; the newest with a result if the page has not sent its selection yet.

    `answers`: only a run that can chat. Raises InputError if there is none.
    """
    if run_id:
        run = workspace.run(run_id)
        if answers and is_reward_model(run):
            raise InputError(
                f"{run.id} is a reward model: it scores answers and writes none",
                try_="choose another run; its scores stand on the Evaluate tab",
            )
        return run
    newest = next(iter(runs_that_answer(workspace) if answers else runs_with_result(workspace)), None)
    if newest is None:
        raise InputError("There is no trained run yet", try_="train one on the Train tab first")
    return newest


def result_ready(run: RunDirectory) -> bool:
    return run.has_result and not status(run).is_active


def _ended(path: Path) -> RunStatus | None:
    values = _cached(path, _read_ended)
    return values if values is not None and not values.is_active else None


def _read_ended(path: Path) -> RunStatus | None:
    from ftlab.training.status import read_status

    try:
        return read_status(path)
    except (FileNotFoundError, DamagedFile):
        return None


def _cached(path: Path, reader: Callable[[Path], Any]) -> Any:
    key, stamp = (path, getattr(reader, "__qualname__", repr(reader))), _stamp(path)
    known = _read.get(key)
    if known is None or known[0] != stamp:
        try:
            known = (stamp, reader(path) if stamp is not None else None)
        except (FtlabError, RecursionError) as error:
            told = error if isinstance(error, FtlabError) else DamagedFile(path, "it is nested too deeply")
            _damaged[path] = (stamp, told)
            known = (stamp, None)
        _read[key] = known
    return known[1]


def _read_rows(path: Path) -> list[dict[str, Any]]:
    return read_jsonl(path, whole=True)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size


@functools.cache
def sample_titles() -> dict[str, str]:
    """Names and titles of the samples that can be trained on as they are."""
    from ftlab.samples import list_samples

    return {sample.name: sample.title for sample in list_samples() if sample.splits and sample.has_examples}
