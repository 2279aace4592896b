"""Where comparisons are stored: the run's own in evaluation/, every other question in a folder beside it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ftlab.config import RunConfig
from ftlab.config.evaluation import EvaluationConfig
from ftlab.core.comparison import ComparisonJson, QuestionJson, stored_form
from ftlab.core.files import DamagedFile, disk_full, json_text, jsonl_text, write_together
from ftlab.core.run_directory import Question, RunDirectory
from ftlab.errors import FtlabError
from ftlab.models.strength import AS_TRAINED, strength_name

# They change neither what is asked nor what is made of the answers; the rows that come of `max_rows` are told apart.
_NO_PART = {"max_rows", "batch_size", "after_training", "before_training"}


@dataclass(frozen=True)
class Asked:
    """A question by its `name` (empty: the run's own) and in words, as comparison.json keeps it."""

    name: str
    text: str

    def place(self, run: RunDirectory) -> RunDirectory | Question:
        return run.question(self.name) if self.name else run

    def described(self) -> QuestionJson:
        return {"name": self.name, "text": self.text}


def question_of(
    own: RunConfig,
    used: RunConfig,
    *,
    rows: int,
    available: int,
    suite: str | None = None,
    others: Sequence[str] = (),
    strength: float = AS_TRAINED,
) -> Asked:
    """The question that asks `rows` of `available` rows by the settings `used`, where `own` are those of the run.

    It is the run's own where it asks the same rows, sides and measures of the run as trained. `suite` is the data set
    that takes the place of the held-out rows, `others` are the ids of further runs. The name is the same for the same
    question.
    """
    changed = _changed(own.evaluation, used.evaluation)
    other_rows = rows != min(available, own.evaluation.max_rows)
    of = f" of {available:,}" if rows < available else ""
    text = [f"{rows:,}{of} {f'rows of {_file_name(suite)}' if suite else 'held-out rows'}"]
    if not (suite or others or changed or other_rows or strength_name(strength)):
        return Asked("", text[0])
    parts = [suite_name(suite)] if suite else []
    if at := strength_name(strength):
        parts.append(at.replace(" ", "-"))
        text.append(f"at {at}")
    parts += [f"{rows}-rows"] if other_rows else []
    if "prompted" in changed:
        parts.append("prompted")
        text.append("with the prompted base" if changed["prompted"] else "without the prompted base")
    if others:
        parts += ["with", *([suite_name(others[0])[:30]] if len(others) == 1 else [str(len(others)), "runs"])]
        text.append(f"with {', '.join(others)}")
    other_changes = {name: value for name, value in changed.items() if name != "prompted"}
    parts += [name.replace("_", "-") for name in other_changes]
    text += [f"{EvaluationConfig.model_fields[name].title}: {_shown(value)}" for name, value in other_changes.items()]
    # What the words do not tell apart, a number does.
    rest = [suite if suite and re.search(r"[/.\\]", suite) else None, list(others), other_changes]
    name = "-".join(parts)[:80]
    return Asked(f"{name}-{_digest(rest)}" if any(rest) else name, "; ".join(text))


def question_of_rows(own: RunConfig, max_rows: int | None, available: int) -> Asked:
    """As `question_of`, where only the number of rows (or pairs, or prompts) can be chosen."""
    rows = min(max_rows or own.evaluation.max_rows, available)
    return question_of(own, own, rows=rows, available=available)


def write_comparison(
    run: RunDirectory,
    asked: Asked,
    comparison: ComparisonJson,
    predictions: list[dict[str, Any]],
    probes: list[dict[str, Any]],
) -> None:
    """The comparison comes last: whoever sees a new one finds everything it speaks of."""
    target = asked.place(run)
    texts = {target.predictions_file: jsonl_text(predictions), target.probes_file: jsonl_text(probes)}
    try:
        write_together(texts | {target.comparison_file: json_text(stored_form(comparison))})
        for file in target.older_scores:
            file.unlink(missing_ok=True)
    except OSError as error:
        with contextlib.suppress(OSError):
            target.evaluation.rmdir()  # of a new question, which is empty
        raise disk_full(error, run.path) or FtlabError(
            f"The results cannot be written: {error.strerror}", why=str(target.evaluation), try_="free some disk space"
        ) from error


def also_asked(run: RunDirectory) -> list[tuple[str, str, str]]:
    """Name, question and verdict of everything that was asked of `run` beside its own comparison, the newest first."""
    asked = []
    for place in reversed(run.questions()):
        try:
            comparison = place.comparison()
        except DamagedFile as error:
            asked.append((place.name, place.name, f"damaged: {error.how}"))
            continue
        verdicts = comparison.get("verdicts", {}) if comparison else {}
        verdict = verdicts.get("adapted_vs_prompted") or (comparison.get("verdict") if comparison else None)
        asked.append((place.name, place.asked(), verdict["text"] if verdict else ""))
    return asked


def suite_name(suite: str) -> str:
    """A name for a folder: of a path the file's name."""
    last = suite.rstrip("/").split("/")[-1].rpartition(".")
    return re.sub(r"[^a-z0-9_]+", "-", (last[0] or last[2]).lower()).strip("-")[:60] or "suite"


def _changed(own: EvaluationConfig, used: EvaluationConfig) -> dict[str, Any]:
    before, now = own.model_dump(mode="json"), used.model_dump(mode="json")
    return {name: value for name, value in now.items() if name not in _NO_PART and value != before[name]}


def _shown(value: Any) -> str:
    """Of a setting, and of files on this machine only the names."""
    if value is None or isinstance(value, bool):
        return {True: "on", False: "off", None: "none"}[value]
    return _file_name(str(value))


def _file_name(suite: str) -> str:
    return suite.rstrip("/").split("/")[-1] if suite.startswith(("/", ".", "~")) else suite


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:6]
