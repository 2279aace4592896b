"""A custom measure: a Python file with one class, an `evaluate.Metric`, named by its path.

The file is executed. The app runs only files in the folder metrics of the workspace; elsewhere only files named in the
current command or call run. Files named in a stored configuration do not run: it may be someone else's. The file needs
`_info` (its description becomes the help text) and `_compute`, which gets all `predictions` and `references` (texts)
and returns a dict whose first number is the value. Optional in the dict: `per_row`, a list with the value of each row.
Optional in the class: `title`, `unit`, `better` ("higher", "lower" or None).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ftlab.config.evaluation import names
from ftlab.core.comparison import MeasureJson
from ftlab.errors import FtlabError, InputError
from ftlab.evaluation import significance
from ftlab.evaluation.metrics.table import BUILT_IN, Measure, of_rows, of_values

if TYPE_CHECKING:
    from ftlab.config import RunConfig

# The variable that names the only folder whose files may run. The app sets it for itself and for its runs.
ONLY_FOLDER = "FTLAB_METRICS_FOLDER"
# Otherwise: the files named in this command, {path: sha256}, which its child processes inherit.
NAMED_FILES = "FTLAB_METRIC_FILES"
_RESAMPLES = 200
_SECONDS = 60


@dataclass(frozen=True)
class OwnMetric:
    """An `evaluate.Metric` made from the file `path`, and its class."""

    path: Path
    metric: Any

    def total(self, answers: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
        """The metric's value over all answers. Raises FtlabError, naming the line, if its code fails."""
        return _guarded(self, lambda: self.metric.compute(predictions=list(answers), references=list(references)))

    def value(self, answers: Sequence[str], references: Sequence[str]) -> float:
        """Only the value, without the checks of `evaluate`: fast enough for every row and every draw."""
        result = _guarded(self, lambda: self.metric._compute(predictions=list(answers), references=list(references)))
        return _first_number(self, result)[1]


def name_files(paths: Iterable[str]) -> None:
    """Allow the metric files `paths` to run, in their current form, in this process and its child processes.

    For files that a person names in a command or a call, never for names read from a file.
    """
    named = _named()
    for path in paths:
        file = Path(path).expanduser().resolve()
        if file.is_file():
            named[str(file)] = _sha256(file)
    os.environ[NAMED_FILES] = json.dumps(named)


def name_files_of(config: RunConfig) -> None:
    """`name_files` for `config`, except files named only in a stored file."""
    if not config.code_is_stored:
        name_files(names(config.evaluation.own_metrics))


def may_run(path: str | Path) -> bool:
    """Whether the metric file `path` is in the app's folder, where the owner put it, or named in this command."""
    file = _resolved(path)
    if only := os.environ.get(ONLY_FOLDER):
        return file.is_relative_to(Path(only).resolve())
    return file.is_file() and _named().get(str(file)) == _sha256(file)


def check_may_run(path: str | Path) -> Path:
    """The metric file `path`. Raises InputError if it does not exist or may not run."""
    file, only, allowed = _resolved(path), os.environ.get(ONLY_FOLDER), may_run(path)
    if only and not allowed:
        raise InputError(
            "The app only runs metric files from one folder",
            given=str(path),
            allowed=f"a file in {only}",
            try_="put it there, or evaluate on the command line",
        )
    if file.suffix != ".py" or not file.is_file():
        raise InputError(
            "There is no such metric file", given=str(path), allowed="the path of a Python file (.py) with one class"
        )
    if not allowed:
        changed = str(file) in _named()
        raise InputError(
            "The metric file has changed since you named it"
            if changed
            else "A metric file is code, and the name of this one comes from a stored configuration: it is not run",
            given=str(path),
            try_=f"look at it, then name it: --metric {path} with evaluate, --set evaluation.own_metrics={path} with "
            f'train, evaluation={{"own_metrics": "{path}"}} in Python',
        )
    return file


def load_own(path: str | Path) -> OwnMetric:
    """The metric in the file `path`. Raises InputError if it may not run, does not contain exactly one metric, or its
    code fails."""
    import evaluate

    file = check_may_run(path)
    name = f"ftlab_metric_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}"
    module = ModuleType(name)
    module.__file__ = str(file)
    sys.modules[name] = module  # dataclasses look up their module there
    try:
        exec(compile(file.read_bytes(), str(file), "exec"), module.__dict__)
    except Exception as error:
        raise InputError(f"The metric file cannot be run: {_at(file, error)}", given=str(path)) from error
    classes = [
        member
        for member in vars(module).values()
        if isinstance(member, type) and issubclass(member, evaluate.Metric) and member.__module__ == name
    ]
    if len(classes) != 1:
        raise InputError(
            f"The metric file has {len(classes) or 'no'} classes that are an evaluate.Metric",
            given=str(path),
            allowed="exactly one: class MyMetric(evaluate.Metric)",
        )
    try:
        metric = classes[0](keep_in_memory=True)
    except Exception as error:
        raise InputError(f"The metric cannot be created: {_at(file, error)}", given=str(path)) from error
    return OwnMetric(file, metric)


def measure_own(
    path: str,
    answers: Mapping[str, Sequence[str]],
    references: Sequence[str],
    *,
    clusters: Sequence[int] | None = None,
) -> tuple[MeasureJson, dict[str, list[float | None]] | None]:
    """The measure in the file `path` for each side, and its values by row (None if it has none).

    If the metric gives `per_row`, or is the mean of its values for single rows, it is tested like any other. Otherwise
    answers are resampled and exchanged 200 times each.
    """
    own = load_own(path)
    totals = {side: own.total(texts, references) for side, texts in answers.items()}
    named = {side: _first_number(own, total) for side, total in totals.items()}
    info = _info(own, next(iter(named.values()))[0])
    values = {side: value for side, (_, value) in named.items()}
    began = time.monotonic()
    rows = _rows(own, totals, answers, references)
    if rows is not None:
        if all(value in (0, 1) for of_side in rows.values() for value in of_side):
            info = replace(info, kind="share", unit="%")
        return of_rows(info, rows, total=values, clusters=clusters), rows
    for of_side in answers.values():
        own.value(of_side, references)
    # Draws for each side, two values for each exchange of each later side.
    calls = _RESAMPLES * (3 * len(answers) - 2)
    if calls * (time.monotonic() - began) / max(1, len(answers)) > _SECONDS:
        return of_values(info, values, len(references)), None
    texts = {side: list(of_side) for side, of_side in answers.items()}
    intervals, changes, p = significance.resampled(texts, list(references), own.value, _RESAMPLES, clusters)
    test = f"approximate randomisation, {_RESAMPLES} exchanges"
    return of_values(info, values, len(references), intervals=intervals, changes=changes, p=p, test=test), None


def _rows(
    own: OwnMetric, totals: Mapping[str, Any], answers: Mapping[str, Sequence[str]], references: Sequence[str]
) -> dict[str, list[float | None]] | None:
    """The values of single rows, if the metric is their mean."""
    rows: dict[str, list[float | None]] = {}
    for side, texts in answers.items():
        if "per_row" in totals[side]:
            rows[side] = [None if value is None else float(value) for value in totals[side]["per_row"]]
            if len(rows[side]) != len(references):
                given_rows = f"{len(rows[side])} values in per_row for {len(references)} answers"
                raise FtlabError(f"The metric {own.path.name} gives {given_rows}")
            continue
        try:
            alone = [own.value([answer], [reference]) for answer, reference in zip(texts, references, strict=True)]
        except FtlabError:
            return None  # a correlation, for example, has no value for a single row
        if not math.isclose(sum(alone) / len(alone), _first_number(own, totals[side])[1], rel_tol=1e-6, abs_tol=1e-9):
            return None
        rows[side] = list(alone)
    return rows


def _info(own: OwnMetric, key: str) -> Measure:
    kind = type(own.metric)
    better: Any = getattr(kind, "better", "higher")  # whatever its author wrote
    if better not in ("higher", "lower", None):
        raise InputError(
            f"The metric {own.path.name} does not say which way is better", given=better, allowed="higher, lower, None"
        )
    description = " ".join(str(own.metric.info.description).split())
    return Measure(
        f"own_{key}" if key in BUILT_IN else key,
        str(getattr(kind, "title", key.replace("_", " ").capitalize())),
        description or f"Your own measure, {own.path.name}.",
        f"own metric {own.path.name}, sha256 {_sha256(own.path)[:12]}",
        unit=str(getattr(kind, "unit", "")),
        better=better,
        kind="score",
    )


def _first_number(own: OwnMetric, result: Any) -> tuple[str, float]:
    if isinstance(result, dict):
        for key, value in result.items():
            # numpy's numbers have item(), lists do not.
            value = value.item() if hasattr(value, "item") and getattr(value, "size", 1) == 1 else value
            if isinstance(value, (int, float)):
                if not math.isfinite(value):
                    break
                return str(key), float(value)
    raise FtlabError(
        f"The metric {own.path.name} returns no number",
        why=f"it returned {str(result)[:100]}",
        try_='return a dict such as {"politeness": 0.5} from _compute',
    )


def _guarded(own: OwnMetric, work: Callable[[], Any]) -> Any:
    try:
        return work()
    except Exception as error:
        raise FtlabError(f"The metric {own.path.name} failed: {_at(own.path, error)}") from error


def _at(file: Path, error: Exception) -> str:
    """The error and the last line of `file` that led to it."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    if isinstance(error, SyntaxError):
        lines = [error.lineno]
    where = f" (line {lines[-1]})" if lines else ""
    return f"{type(error).__name__}: {error}{where}"


def _resolved(path: str | Path) -> Path:
    only = os.environ.get(ONLY_FOLDER)
    return (Path(only) / path if only else Path(path).expanduser()).resolve()


def _named() -> dict[str, str]:
    return json.loads(os.environ.get(NAMED_FILES) or "{}")


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
