"""What the command line prints: progress and messages to standard error, results to standard output."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import TypedDict

from ftlab.core.comparison import ComparisonJson, MeasureJson
from ftlab.core.run_results import BeforeAfterJson, PreferencesJson, RewardsJson, TasksJson
from ftlab.core.words import duration
from ftlab.errors import FtlabError, InputError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from ftlab.cli.json_forms import FailureForm, SaidForm
    from ftlab.core.run_directory import RunDirectory

_LINE_SECONDS = 5.0
_REWRITE_SECONDS = 0.1  # on a terminal
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class Form(TypedDict):
    """Any typed dict, such as those of `json_forms`; no plain dict."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def agreed(args: argparse.Namespace, planned: Form, lines: Sequence[str], *, needed: bool) -> bool:
    """Whether to send what the plan says, whose `lines` are shown first: by --yes, or by whoever is asked. With --json
    only `planned` is printed. Where nothing is `needed`, nobody is asked. Raises InputError where nobody can be."""
    for line in lines:
        say(line)
    if not needed or args.yes:
        return True
    if args.json:
        print_json(planned)
        return False
    if not sys.stdin.isatty():
        raise InputError("Nothing was sent: it needs your confirmation", try_="add --yes")
    return input("Send it? [y/N] ").strip().lower() in ("y", "yes")


class Interrupted(FtlabError):
    exit_code = 130


@contextlib.contextmanager
def keeping(*files: Path) -> Iterator[None]:
    """Say after Ctrl+C that replies are kept, where some came: one of `files`, which hold them, has grown."""
    before = [_size(file) for file in files]
    try:
        yield
    except KeyboardInterrupt:
        if [_size(file) for file in files] == before:
            raise
        kept = "Replies that had come are kept: the same command asks only for the rest"
        raise Interrupted("Interrupted", why=kept) from None


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def print_json(value: Form | DataclassInstance) -> None:
    """Print `value`, one of the forms of the command at hand in `json_forms.FORMS`."""
    print(json.dumps(value, ensure_ascii=False, default=_plain), flush=True)


def _plain(value: Any) -> Any:
    if hasattr(value, "as_dict"):
        return value.as_dict()
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)


def failure(error: FtlabError) -> FailureForm:
    """What `--json` prints for a command that failed."""
    value, allowed = getattr(error, "given", None), getattr(error, "allowed", None)
    message: SaidForm = {"what": error.what, "why": error.why, "given": value, "allowed": allowed, "try": error.try_}
    return {"error": message, "exit_code": error.exit_code}


def print_result(args: argparse.Namespace, value: Form | DataclassInstance, *lines: str) -> int:
    """Print `value` with `--json`, else `lines`, whose control characters are replaced. Returns 0."""
    if args.json:
        print_json(value)
    for line in () if args.json else lines:
        print(without_controls(line))
    return 0


def without_controls(text: str) -> str:
    """`text` without control characters: text from data must not steer the terminal."""
    return _CONTROL.sub("\ufffd", text)


class Progress:
    """Progress on standard error: on a terminal one line, rewritten; elsewhere a new line every few seconds, or none
    with `quiet`."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._terminal, self._quiet = sys.stderr.isatty(), quiet
        self._last, self._phase, self._at = "", "", 0.0

    def __call__(self, phase: str, done: int, total: int) -> None:
        self.line(f"{phase} {done:,}/{total:,}" if total else phase, phase)

    def line(self, text: str, phase: str) -> None:
        now, pause = time.monotonic(), _REWRITE_SECONDS if self._terminal else _LINE_SECONDS
        if text == self._last or (phase == self._phase and now - self._at < pause):
            return
        self._last, self._phase, self._at = text, phase, now
        if self._terminal:
            print(f"\r\033[K{text[:160]}", end="", file=sys.stderr, flush=True)
        elif not self._quiet:
            print(text, file=sys.stderr, flush=True)

    def close(self, text: str) -> None:
        if self._terminal:
            print("\r\033[K", end="", file=sys.stderr)
        if text:
            print(text, file=sys.stderr, flush=True)


def progress_line(run: RunDirectory, status: Any) -> str:
    parts = [status.state if not status.phase else f"{status.state}: {status.phase}"]
    if counted := status.counted:
        parts.append("{} {} of {}".format(*counted))
    metrics = run.metrics()
    curves = {"loss": "loss", "eval_loss": "validation loss"}
    if any("reward" in row for row in metrics):
        curves = {"reward": "reward", "eval_reward": "validation reward", "kl": "KL"}  # the loss means nothing here
    for key, label in curves.items():
        values = [row[key] for row in metrics if key in row]
        if values and status.phase in ("training", ""):
            parts.append(f"{label} {values[-1]:.3f}")
    if status.is_active and status.tokens_per_second:
        parts.append(f"{status.tokens_per_second:,.0f} tokens/s")
    if status.is_active and status.eta_seconds is not None:
        parts.append(f"{duration(status.eta_seconds)} left")
    if not status.is_active and status.seconds is not None:
        parts.append(f"after {duration(status.seconds)}")
    return "  ".join(parts)


def _between(interval: list[float] | None) -> str:
    return f" ({interval[0]:.3g} to {interval[1]:.3g})" if interval else ""


def _print_rows(rows: list[list[Any]]) -> None:
    widths = [max(len(str(cell)) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _print_notes(result: Mapping[str, Any]) -> None:
    for note in result.get("notes", []):
        print(f"note: {note}")


def rate_lines(trial: Any) -> Iterator[str]:
    """The result of a trial of learning rates, a line for each rate."""
    for attempt in trial.tried:
        loss = "not a number" if attempt.loss is None else f"{attempt.loss:.4f}"
        yield f"rate       {attempt.rate:<10g} validation loss {loss}{'  diverged' if attempt.diverged else ''}"
    yield f"taken      {trial.text}"


def print_preferences(result: PreferencesJson) -> None:
    """Print how often the chosen answer wins."""
    interval = f" ({result['interval'][0]:.0%} to {result['interval'][1]:.0%})" if result["interval"] else ""
    print(
        f"\nThe chosen answer wins in {result['accuracy']:.1%} of {result['rows']} held-out pairs{interval}, "
        f"margin {result['margin']:.3g}{_between(result.get('margin_interval'))}"
    )
    print(f"measured by {result['measure']}")
    plain = result.get("by_log_probability")
    if plain:
        print(
            f"by plain log probability per token: {plain['before']['accuracy']:.1%} before, "
            f"{plain['after']['accuracy']:.1%} after"
        )
    _print_notes(result)


def print_rewards(result: RewardsJson) -> None:
    """Print the mean reward on held-out prompts before and after training."""
    start, adapted, (low, high) = result["start"], result["adapted"], result["interval"]
    print(
        f"\nMean reward of greedy answers to {result['rows']} held-out prompts: {start['reward']:.3f} before, "
        f"{adapted['reward']:.3f} after ({result['difference']:+.3f}, {low:+.3f} to {high:+.3f})"
    )
    print(f"tokens per answer: {start['completion_length']:.0f} before, {adapted['completion_length']:.0f} after")
    if len(result["rewards"]) > 1:
        for name in result["rewards"]:
            print(f"  {name}: {start['rewards'][name]:.3f} before, {adapted['rewards'][name]:.3f} after")
    _print_notes(result)


def print_before_after(result: BeforeAfterJson) -> None:
    """Print length and repetition of the answers before and after training, and the scores of reward models."""
    from ftlab.report.findings import figure_rows, win_lines

    rows = figure_rows(result)
    print(f"\nGreedy answers to the same {result['rows']} held-out prompts")
    _print_rows(rows)
    for line in win_lines(result):
        print(line)
    _print_notes(result)


def print_tasks(result: TasksJson) -> None:
    """Print the scores of base and adapted model in tasks of lm-evaluation-harness."""
    from ftlab.evaluation.forgetting import with_adjusted
    from ftlab.report.measures import looks_text, p_of

    measures = with_adjusted(result["measures"])
    rows = [[result["run"], "base", "adapted", "", "questions"]]
    for measure in measures:
        known = (measure["values"][side] or 0.0 for side in ("base", "adapted"))
        values = [f"{100 * value:.1f}%" if measure["unit"] == "%" else f"{value:.4g}" for value in known]
        rows.append([measure["title"], *values, p_of(measure, "adapted"), str(measure["rows"] or "")])
    print()
    _print_rows(rows)
    print(f"\nmeasured by lm-evaluation-harness {result['settings']['lm_eval']}")
    if note := looks_text(measures, ["adapted"]):
        print(note)


def print_table(comparison: ComparisonJson) -> None:
    from ftlab.report.report import comparison_table

    prompted = any(side["name"] == "prompted" for side in comparison.get("sides", []))
    rows = [["", "base", *(["base, prompted"] if prompted else []), "adapted", "change"]]
    table = comparison_table(comparison)
    for row in table:
        beside = [row["sides"]["prompted"]["value"]] if prompted else []
        rows.append([row["measure"], row["base"], *beside, row["adapted"], row["change"]])
    print()
    _print_rows(rows)
    print(f"\n{comparison['verdict']['text']}")
    for against, text in _against(comparison):
        print(f"Against {against}: {text}")
    if any(row["name"] == "bleu" for row in table) and "bleu_signature" in comparison["adapted"]:
        print(f"BLEU signature: {comparison['adapted']['bleu_signature']}")
    _print_forgetting(comparison)
    _print_notes(comparison)


def _print_forgetting(comparison: ComparisonJson) -> None:
    """Print what was forgotten, and the answers that changed most."""
    from ftlab.errors import shorten
    from ftlab.evaluation.drift import changed_answers, kinds_in_words

    if forgetting := comparison.get("forgetting"):
        print(forgetting["text"])
    if kinds := kinds_in_words(comparison):
        print(kinds)
    for answer in changed_answers(comparison):
        print(f"  {shorten(answer['prompt'], 100)}")
        print(f"    base     {shorten(answer['base'], 100) or '(nothing)'}")
        print(f"    adapted  {shorten(answer['side'] or '', 100) or '(nothing)'}")


def print_measures(comparison: ComparisonJson) -> None:
    """Print a line for each measure, a column for each side, with 95% intervals; then the verdict on each side."""
    from ftlab.evaluation.advisor import which_of
    from ftlab.report.facts import retrieved
    from ftlab.report.measures import baseline_rows, looks_note, measures_of, p_of

    sides = comparison["sides"]
    rows = [["", *(side["title"] for side in sides)]]
    for measure in measures_of(comparison):
        cells = [f"{_measured(measure, side['name'])} {p_of(measure, side['name'])}".rstrip() for side in sides]
        rows.append([measure["title"], *cells])
        for line in baseline_rows(measure, [side["name"] for side in sides]):
            rows.append([line["measure"], *(cell["value"] for cell in line["sides"].values())])
    print()
    _print_rows(rows)
    print(f"\n{comparison['base']['rows']} rows; {', '.join(side['title'] + ': ' + side['what'] for side in sides)}")
    if note := looks_note(comparison):
        print(note)
    titles = {side["name"]: side["title"] for side in sides}
    for name, verdict in comparison.get("verdicts", {}).items():
        if name in titles:
            print(f"{titles[name]}: {verdict['text']}")
    for against, text in _against(comparison):
        print(f"Adapted against {against}: {text}")
    if choice := which_of(comparison):
        print(f"Prompting, retrieval or tuning: {choice}")
    if retrieval := retrieved(comparison):
        print(retrieval)
    _print_forgetting(comparison)
    _print_notes(comparison)


def _against(comparison: ComparisonJson) -> list[tuple[str, str]]:
    """What the adapted model was compared with besides the base, and the verdict on that."""
    titles = {side["name"]: side["title"] for side in comparison.get("sides", [])} | {"prompted": "the prompted base"}
    return [
        (titles.get(rival, rival), verdict["text"])
        for name, verdict in comparison.get("verdicts", {}).items()
        if (rival := name.removeprefix("adapted_vs_")) != name
    ]


def _measured(measure: MeasureJson, side: str) -> str:
    """The value of one side with its interval, as a table cell."""
    from ftlab.evaluation.figures import value_text

    interval = measure["intervals"].get(side)
    low_high = f" ({' to '.join(value_text(measure, bound) for bound in interval)})" if interval else ""
    return value_text(measure, measure["values"].get(side)) + low_high
