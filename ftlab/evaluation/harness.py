"""lm-evaluation-harness on the sides of a comparison: its tasks, its numbers, and tests on its rows."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ftlab.config import RunConfig
from ftlab.config.stages import PRETRAINING
from ftlab.core.comparison import DifferenceJson, MeasureJson, stored_form
from ftlab.core.files import write_json
from ftlab.core.jobs import Stopped
from ftlab.core.run_directory import RunDirectory
from ftlab.core.run_results import TasksJson, TasksSettingsJson
from ftlab.core.words import install
from ftlab.errors import FtlabError, InputError, nearest, shorten
from ftlab.evaluation.batches import Progress, silent
from ftlab.evaluation.keeping import suite_name
from ftlab.evaluation.sides import Side, adapted_side, base_side, config_of, result_identity, tokenizer_of, visit
from ftlab.evaluation.significance import row_difference, share_interval

PREFIX = "harness/"  # of the names of these measures
_TITLES = {"acc": "accuracy", "acc_norm": "accuracy by length", "exact_match": "exact match"}
# The harness calls its measures `name,filter`.
_SHARES = ("acc", "acc_norm", "exact_match", "em")


def measures_of(base: Mapping[str, Any], adapted: Mapping[str, Any]) -> list[MeasureJson]:
    """A measure for every task and score of the harness, with intervals, and a paired test if each question has its own
    score."""
    measures: list[MeasureJson] = []
    hidden = _summed_up(base)
    for task, scores in base["results"].items():
        if task in hidden:
            continue
        samples = {
            side: _by_question(of["samples"].get(task, [])) for side, of in (("base", base), ("adapted", adapted))
        }
        for key, value in scores.items():
            name, _, filtered = key.partition(",")
            if not filtered or name.endswith("_stderr") or not isinstance(value, int | float):
                continue
            values = {"base": float(value), "adapted": float(adapted["results"][task][key])}
            errors = {
                side: of["results"][task].get(f"{name}_stderr,{filtered}")
                for side, of in (("base", base), ("adapted", adapted))
            }
            rows = {side: of.get((name, filtered)) for side, of in samples.items()}
            intervals, difference = _compared(values, errors, rows)
            measures.append(
                {
                    "name": f"{PREFIX}{task}/{name}" + ("" if filtered == "none" else f"/{filtered}"),
                    "title": f"{task}: {_TITLES.get(name, name)}" + ("" if filtered == "none" else f" ({filtered})"),
                    "unit": "%" if name in _SHARES else "",
                    "better": _better(base["higher_is_better"].get(task, {}).get(name)),
                    "help": f"The task {task} of lm-evaluation-harness.",
                    "rule": f"lm-evaluation-harness, {key}, task version {base['versions'].get(task)}",
                    "group": "general",
                    "kind": "share" if name in _SHARES else "score",
                    "values": {**values},
                    "intervals": intervals,
                    "differences": {"adapted": difference},
                    "rows": base["n-samples"].get(task, {}).get("effective"),
                    "detail": None,
                }
            )
    return measures


def _summed_up(results: Mapping[str, Any]) -> set[str]:
    """The tasks that are part of a group, such as the 57 subjects of mmlu, which the score of the group represents."""
    hidden: set[str] = set()
    waiting = list(results.get("groups", {}))
    while waiting:
        members = results["group_subtasks"].get(waiting.pop(), [])
        waiting += [name for name in members if name not in hidden]
        hidden.update(members)
    return hidden


def _better(higher: bool | None) -> Literal["higher", "lower"] | None:
    return None if higher is None else "higher" if higher else "lower"


def _by_question(samples: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], list[float] | None]:
    """(measure, filter): the scores of the questions in order. None if one is not a number (corpus measures)."""
    by_measure: dict[tuple[str, str], list[float] | None] = {}
    for sample in sorted(samples, key=lambda sample: sample["doc_id"]):
        for name in sample["metrics"]:
            place, value = (name, sample["filter"]), sample[name]
            scores = by_measure.setdefault(place, [])
            if scores is not None and isinstance(value, int | float):
                scores.append(float(value))
            else:
                by_measure[place] = None
    return by_measure


def _compared(
    values: Mapping[str, float], errors: Mapping[str, Any], rows: Mapping[str, list[float] | None]
) -> tuple[dict[str, list[float] | None], DifferenceJson]:
    """The intervals of both sides, and the difference of the adapted model."""
    base, adapted = rows["base"], rows["adapted"]
    change = values["adapted"] - values["base"]
    if not base or not adapted or len(base) != len(adapted):
        intervals = {side: _by_error(values[side], errors[side]) for side in values}
        return intervals, {"value": change, "interval": None, "p": None, "test": None}
    right = all(value in (0.0, 1.0) for value in (*base, *adapted))
    # The value comes from the harness, which may weight questions.
    difference = row_difference(base, adapted, binary=right)
    difference["value"] = change
    return {
        side: share_interval(of) if right else _by_error(values[side], errors[side])
        for side, of in (("base", base), ("adapted", adapted))
    }, difference


def _by_error(value: float, error: Any) -> list[float] | None:
    """The normal 95% interval from a standard error."""
    return [value - 1.96 * error, value + 1.96 * error] if isinstance(error, int | float) else None


def evaluate_tasks(
    run: RunDirectory,
    tasks: Sequence[str],
    *,
    limit: int | None = None,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> TasksJson:
    """Evaluate base and adapted model of `run` on `tasks`: names known to the harness, task files, or folders of them.

    `limit` is the maximum number of questions per task. Prompts use the chat template if the tokenizer has one, except
    for plain text models. Writes `harness.json` to the run and returns it: `measures` (group general), `settings`,
    `seconds`. The measures are also added to comparison.json, if there is one. With fewer questions of the same tasks
    than before, or different task settings, results go to a separate folder; measures of other tasks are added. Raises
    InputError if the extra is not installed or a task does not exist, FtlabError if a task cannot be run, Stopped when
    `should_stop` says so.
    """
    from ftlab.models.load import text_length

    began = time.monotonic()
    require()
    tell = progress or silent
    tell("reading the tasks", 0, 0)
    names, manager = find_tasks(tasks)
    config = config_of(run)
    sides = [base_side(run, config), adapted_side(run, config, first=True)]
    tell("loading the libraries", 0, 0)
    tokenizer = tokenizer_of(sides[1])
    chat = bool(tokenizer.chat_template) and config.stage != PRETRAINING
    settings: dict[str, Any] = {"limit": limit, "num_fewshot": None, "apply_chat_template": chat}
    results: dict[str, Any] = {}

    def work(side: Side, model: Any) -> None:
        tell(f"tasks for {side.spoken}", 0, 0)
        lm = _wrapped(model, tokenizer, config, text_length(config), should_stop)
        results[side.name] = _carried_out(lm, names, manager, settings)

    visit(sides, work, lambda what: tell(f"loading {what}", 0, 0))
    result: TasksJson = {
        "run": run.id,
        "created": time.time(),
        "tasks": list(tasks),
        "weights": result_identity(run)[0],
        "seconds": round(time.monotonic() - began, 2),
        "measures": measures_of(results["base"], results["adapted"]),
        "settings": {
            "limit": limit,
            "num_fewshot": None,
            "apply_chat_template": chat,
            "lm_eval": _version(),
            "versions": results["base"]["versions"],
        },
    }
    earlier = run.harness()
    if earlier and earlier.get("weights") == result["weights"]:
        again = [
            measure for measure in earlier["measures"] if measure["name"] in {new["name"] for new in result["measures"]}
        ]
        if again and not _as_much(result["settings"], earlier["settings"]):
            name = "-".join(["tasks", *map(suite_name, tasks), *([f"{limit}-questions"] if limit else [])])[:80]
            write_json(run.question(name).harness_file, result)
            return result
        kept = [measure for measure in earlier["measures"] if measure not in again]
    else:
        kept = []
    whole: TasksJson = {**result, "measures": kept + result["measures"]}
    write_json(run.harness_file, whole)
    comparison = run.comparison()
    if comparison and "measures" in comparison:
        others = [measure for measure in comparison["measures"] if not measure["name"].startswith(PREFIX)]
        write_json(run.comparison_file, stored_form({**comparison, "measures": others + whole["measures"]}))
    return result


def _as_much(now: TasksSettingsJson, before: TasksSettingsJson) -> bool:
    """Whether the tasks have the same settings as `before`, with at least as many questions each (None: all)."""
    limits = [settings["limit"] or float("inf") for settings in (now, before)]
    return limits[0] >= limits[1] and now["num_fewshot"] == before["num_fewshot"]


def kept_measures(run: RunDirectory) -> list[MeasureJson]:
    """The task measures for the current weights of `run`. Empty if no tasks were run."""
    stored = run.harness()
    return stored["measures"] if stored and stored["weights"] == result_identity(run)[0] else []


def require() -> None:
    """Raise InputError if lm-evaluation-harness is not installed."""
    from importlib.util import find_spec

    if find_spec("lm_eval") is None:
        raise InputError("lm-evaluation-harness is an optional extra and is not installed", try_=install("harness"))


def find_tasks(tasks: Sequence[str]) -> tuple[list[str], Any]:
    """The names of `tasks` and the TaskManager that knows them. Raises InputError for an unknown one."""
    from lm_eval.tasks import TaskManager

    folders = [Path(task).expanduser() for task in tasks if Path(task).expanduser().exists()]
    named = [task for task in tasks if not Path(task).expanduser().exists()]
    for task in named:
        if task.startswith((".", "~")) or "/" in task or task.endswith((".yaml", ".yml")):
            raise InputError("There is no such file or folder of lm-evaluation-harness tasks", given=task)
    with _quiet():
        own = TaskManager(
            include_path=[str(place if place.is_dir() else place.parent) for place in folders] or None,
            include_defaults=False,
        )
        manager = own if not named else TaskManager(include_path=own.include_path)
    names = [name for place in folders for name in _names_in(place, own)]
    for name in named:
        if name not in manager.task_index:
            close = nearest(name, manager.all_tasks)
            raise InputError(
                "lm-evaluation-harness knows no such task",
                given=name,
                allowed="a name of its list, a YAML file of a task, or a folder of such files",
                try_=close and f"did you mean {close}?",
            )
        names.append(name)
    return list(dict.fromkeys(names)), manager


def _names_in(place: Path, manager: Any) -> list[str]:
    def lies_here(file: Any) -> bool:
        path = Path(str(file)).resolve()
        return path == place.resolve() if place.is_file() else path.is_relative_to(place.resolve())

    names = [name for name in manager.all_subtasks if (file := manager.task_index[name].yaml_path) and lies_here(file)]
    if not names:
        raise InputError(
            "No lm-evaluation-harness task was found here",
            given=str(place),
            allowed="YAML files with a line `task: NAME`, as docs/new_task_guide.md of the harness describes them",
        )
    return names


def _wrapped(
    model: Any, tokenizer: Any, config: RunConfig, context: int | None, should_stop: Callable[[], bool] | None
) -> Any:
    """`model` wrapped for the harness. Raises Stopped when `should_stop` says so."""
    from lm_eval.models.huggingface import HFLM

    class Stoppable(HFLM):
        def _model_call(self, *arguments: Any, **named: Any) -> Any:
            _check(should_stop)
            return super()._model_call(*arguments, **named)

        def _model_generate(self, *arguments: Any, **named: Any) -> Any:
            _check(should_stop)
            return super()._model_generate(*arguments, **named)

    with _quiet():
        return Stoppable(
            pretrained=model,
            tokenizer=tokenizer,
            backend="causal",
            max_length=context,
            batch_size=config.evaluation.batch_size,
            trust_remote_code=False,
        )


def _check(should_stop: Callable[[], bool] | None) -> None:
    if should_stop and should_stop():
        raise Stopped


def _carried_out(lm: Any, names: list[str], manager: Any, settings: dict[str, Any]) -> dict[str, Any]:
    from lm_eval import simple_evaluate

    from ftlab.core.hub import is_offline, unreachable

    try:
        with _quiet():
            results = simple_evaluate(
                model=lm,
                tasks=list(names),
                task_manager=manager,
                bootstrap_iters=1000,
                confirm_run_unsafe_code=False,
                **settings,
            )
    except (Stopped, FtlabError):
        raise
    except Exception as error:
        # Tasks are written by third parties: any error in one becomes a readable message, not a traceback.
        if isinstance(error, ConnectionError) or (is_offline() and "Offline" in type(error).__name__):
            raise unreachable("data set", ", ".join(names), error) from error
        raise FtlabError(
            f"The task failed: {type(error).__name__}: {shorten(error, 300)}",
            why=", ".join(names),
            try_="run lm-evaluation-harness by itself for details: lm_eval --tasks ... --model hf",
        ) from error
    return results


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the harness's logging of its own settings; its errors are raised."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _version() -> str:
    from importlib.metadata import version

    return version("lm_eval")
