"""Tasks of lm-evaluation-harness (EleutherAI) for base and adapted model: what the field measures general skill with.

An extra: `pip install -e ".[harness]"`. A task is a YAML file of one's own, or one of the hundreds that come with the
harness, whose data it fetches from the Hub; code of models or data sets is never run. A task folder may bring Python
functions (`!function`), which do run: name only folders you trust.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ftlab.config import RunConfig
from ftlab.data.documents import STAGE
from ftlab.errors import FtlabError, InputError, nearest, shorten
from ftlab.evaluation.batches import Stopped
from ftlab.evaluation.harness_measures import PREFIX, measures_of
from ftlab.evaluation.keeping import suite_name
from ftlab.evaluation.sides import Side, adapted_side, base_side, config_of, result_identity, tokenizer_of, visit
from ftlab.files import write_json
from ftlab.run_directory import RunDirectory
from ftlab.wording import install

Progress = Callable[[str, int, int], None]


def evaluate_tasks(
    run: RunDirectory,
    tasks: Sequence[str],
    *,
    limit: int | None = None,
    examples: int | None = None,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Ask base and adapted model of `run` the `tasks`: names that the harness knows, task files, or folders of them.

    `limit` is the number of questions of each task at most, `examples` how many stand before each (else what the task
    says). Prompts go through the chat template where the tokenizer has one, except for plain text models. Writes
    `harness.json` into the run and returns it: `measures` (group general), `settings`, `seconds`; the measures are put
    into comparison.json too, where there is one. Fewer questions of the same tasks than before, or the tasks asked
    otherwise, lie in a folder beside it; of other tasks the measures are added.
    Raises InputError when the extra is missing or there is no such task, FtlabError when a task cannot be carried out,
    Stopped when `should_stop` says so.
    """
    from ftlab.models.load import text_length

    began = time.monotonic()
    require()
    tell = progress or (lambda phase, done, total: None)
    tell("reading the tasks", 0, 0)
    names, manager = find_tasks(tasks)
    config = config_of(run)
    sides = [base_side(run, config), adapted_side(run, config, first=True)]
    tell("loading the libraries", 0, 0)
    tokenizer = tokenizer_of(sides[1])
    chat = bool(tokenizer.chat_template) and config.stage != STAGE
    settings = {"limit": limit, "num_fewshot": examples, "apply_chat_template": chat}
    results: dict[str, Any] = {}

    def work(side: Side, model: Any) -> None:
        tell(f"tasks for {side.spoken}", 0, 0)
        lm = _wrapped(model, tokenizer, config, text_length(config), should_stop)
        results[side.name] = _carried_out(lm, names, manager, settings)

    visit(sides, work, lambda what: tell(f"loading {what}", 0, 0))
    found = {
        "run": run.id,
        "created": time.time(),
        "tasks": list(tasks),
        "weights": result_identity(run)[0],
        "seconds": round(time.monotonic() - began, 2),
        "measures": measures_of(results["base"], results["adapted"]),
        "settings": settings | {"lm_eval": _version(), "versions": results["base"]["versions"]},
    }
    earlier = run.harness() or {}
    if earlier.get("weights") == found["weights"]:
        again = [one for one in earlier["measures"] if one["name"] in {new["name"] for new in found["measures"]}]
        if again and not _as_much(found["settings"], earlier["settings"]):
            name = "-".join(["tasks", *map(suite_name, tasks), *([f"{limit}-questions"] if limit else [])])[:80]
            write_json(run.question(name).harness_file, found)
            return found
        kept = [one for one in earlier["measures"] if one not in again]
    else:
        kept = []
    whole = found | {"measures": kept + found["measures"]}
    write_json(run.harness_file, whole)
    comparison = run.comparison()
    if comparison and "measures" in comparison:
        others = [measure for measure in comparison["measures"] if not measure["name"].startswith(PREFIX)]
        write_json(run.comparison_file, comparison | {"measures": others + whole["measures"]})
    return found


def _as_much(now: dict[str, Any], before: dict[str, Any]) -> bool:
    """Whether the tasks are asked as they were `before`, with as many questions of each at least (None: all)."""
    limits = [one["limit"] or float("inf") for one in (now, before)]
    return limits[0] >= limits[1] and now["num_fewshot"] == before["num_fewshot"]


def kept_measures(run: RunDirectory) -> list[dict[str, Any]]:
    """The measures of the tasks that the result of `run`, as it is now, was asked; none where it was not."""
    found = run.harness()
    return found["measures"] if found and found["weights"] == result_identity(run)[0] else []


def require() -> None:
    """Raise InputError when lm-evaluation-harness is not installed."""
    from importlib.util import find_spec

    if find_spec("lm_eval") is None:
        raise InputError("lm-evaluation-harness is not installed; it is an extra", try_=install("harness"))


def find_tasks(tasks: Sequence[str]) -> tuple[list[str], Any]:
    """The names of `tasks` and the TaskManager that knows them. Raises InputError for one that is not there."""
    from lm_eval.tasks import TaskManager

    folders = [Path(task).expanduser() for task in tasks if Path(task).expanduser().exists()]
    named = [task for task in tasks if not Path(task).expanduser().exists()]
    for task in named:
        if task.startswith((".", "~")) or "/" in task or task.endswith((".yaml", ".yml")):
            raise InputError("There is no such file or folder of lm-evaluation-harness tasks", given=task)
    with _quiet():
        own = TaskManager(
            include_path=[str(one if one.is_dir() else one.parent) for one in folders] or None, include_defaults=False
        )
        manager = own if not named else TaskManager(include_path=own.include_path)
    names = [name for one in folders for name in _names_in(one, own)]
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

    found = [name for name in manager.all_subtasks if (file := manager.task_index[name].yaml_path) and lies_here(file)]
    if not found:
        raise InputError(
            "There is no task of lm-evaluation-harness here",
            given=str(place),
            allowed="YAML files with a line `task: NAME`, as docs/new_task_guide.md of the harness describes them",
        )
    return found


def _wrapped(
    model: Any, tokenizer: Any, config: RunConfig, context: int | None, should_stop: Callable[[], bool] | None
) -> Any:
    """`model` as the harness wants it; it ends when `should_stop` says so."""
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

    from ftlab.hub import is_offline, unreachable

    try:
        with _quiet():
            found = simple_evaluate(
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
        # Tasks are other people's descriptions: whatever is wrong with one is for a person to read, not a traceback.
        if isinstance(error, ConnectionError) or (is_offline() and "Offline" in type(error).__name__):
            raise unreachable("data set", ", ".join(names), error) from error
        raise FtlabError(
            f"The task cannot be carried out: {type(error).__name__}: {shorten(error, 300)}",
            why=", ".join(names),
            try_="lm-evaluation-harness says more when it is run by itself: lm_eval --tasks ... --model hf",
        ) from error
    return found


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the harness logs of its own settings; its errors are raised."""
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
