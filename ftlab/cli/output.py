"""What the command line prints: progress and words to standard error, results to standard output."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from typing import Any

from ftlab.errors import FtlabError
from ftlab.run_directory import RunDirectory
from ftlab.wording import duration

_LINE_SECONDS = 5.0
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def print_json(value: dict[str, Any]) -> None:
    print(json.dumps(value, ensure_ascii=False, default=str), flush=True)


def failure(error: FtlabError) -> dict[str, Any]:
    """What `--json` prints of a command that failed."""
    said = {"what": error.what, "why": error.why, "given": getattr(error, "given", None)}
    said |= {"allowed": getattr(error, "allowed", None), "try": error.try_}
    return {"error": said, "exit_code": error.exit_code}


def without_controls(text: str) -> str:
    """`text` of somebody else, which must not steer the terminal."""
    return _CONTROL.sub("\ufffd", text)


class Progress:
    """One line that is rewritten on a terminal; a line every few seconds elsewhere. Written to standard error."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._last, self._phase, self._at = "", "", 0.0

    def __call__(self, phase: str, done: int, total: int) -> None:
        self.line(f"{phase} {done}/{total}" if total else phase, phase)

    def line(self, text: str, phase: str) -> None:
        now = time.monotonic()
        if text == self._last or (not self._terminal and phase == self._phase and now - self._at < _LINE_SECONDS):
            return
        self._last, self._phase, self._at = text, phase, now
        if self._terminal:
            print(f"\r\033[K{text[:160]}", end="", file=sys.stderr, flush=True)
        else:
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
    shown = (("loss", "loss"), ("eval_loss", "validation loss"))
    if any("reward" in row for row in metrics):
        shown = (("reward", "reward"), ("eval_reward", "validation reward"), ("kl", "KL"))  # their loss says nothing
    for key, label in shown:
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


def rate_lines(found: Any) -> Iterator[str]:
    """A rate trial in words, a line for each rate."""
    for one in found.tried:
        loss = "no number" if one.loss is None else f"{one.loss:.4f}"
        yield f"rate       {one.rate:<10g} validation loss {loss}{'  diverged' if one.diverged else ''}"
    yield f"taken      {found.text}"


def print_preferences(found: dict[str, Any]) -> None:
    """How often the chosen answer wins, in a few lines."""
    low, high = found["interval"]
    print(
        f"\nThe chosen answer wins in {found['accuracy']:.1%} of {found['rows']} held-out pairs "
        f"({low:.0%} to {high:.0%}), margin {found['margin']:.3g}{_between(found.get('margin_interval'))}"
    )
    print(f"measured by {found['measure']}")
    plain = found.get("by_log_probability")
    if plain:
        print(
            f"by plain log probability per token: {plain['before']['accuracy']:.1%} before, "
            f"{plain['after']['accuracy']:.1%} after"
        )
    for note in found.get("notes", []):
        print(f"note: {note}")


def print_rewards(found: dict[str, Any]) -> None:
    """The mean reward on held-out prompts before and after, in a few lines."""
    start, adapted, (low, high) = found["start"], found["adapted"], found["interval"]
    print(
        f"\nMean reward of greedy answers to {found['rows']} held-out prompts: {start['reward']:.3f} before, "
        f"{adapted['reward']:.3f} after ({found['difference']:+.3f}, {low:+.3f} to {high:+.3f})"
    )
    print(f"tokens per answer: {start['completion_length']:.0f} before, {adapted['completion_length']:.0f} after")
    if len(found["rewards"]) > 1:
        for name in found["rewards"]:
            print(f"  {name}: {start['rewards'][name]:.3f} before, {adapted['rewards'][name]:.3f} after")
    for note in found.get("notes", []):
        print(f"note: {note}")


def print_before_after(found: dict[str, Any]) -> None:
    """Length and repetition of the answers before and after, and what reward models say of them."""
    from ftlab.sharing.before_after import figure_rows, win_lines

    rows = figure_rows(found)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    print(f"\nGreedy answers to the same {found['rows']} held-out prompts")
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for line in win_lines(found):
        print(line)
    for note in found.get("notes", []):
        print(f"note: {note}")


def print_tasks(found: dict[str, Any]) -> None:
    """What base and adapted model reached in tasks of lm-evaluation-harness."""
    from ftlab.sharing.measures import looks_note, measures_of, p_of

    rows = [[found["run"], "base", "adapted", "", "questions"]]
    for measure in measures_of(found):
        values = [
            f"{100 * measure['values'][side]:.1f}%" if measure["unit"] == "%" else f"{measure['values'][side]:.4g}"
            for side in ("base", "adapted")
        ]
        rows.append([measure["title"], *values, p_of(measure, "adapted"), str(measure["rows"] or "")])
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    print()
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(f"\nmeasured by lm-evaluation-harness {found['settings']['lm_eval']}")
    if note := looks_note(found):
        print(note)


def print_table(comparison: dict[str, Any]) -> None:
    from ftlab.sharing.report import comparison_table

    prompted = any(side["name"] == "prompted" for side in comparison.get("sides", []))
    rows = [["", "base", *(["base, prompted"] if prompted else []), "adapted", "change"]]
    table = comparison_table(comparison)
    for row in table:
        beside = [row["sides"]["prompted"]["value"]] if prompted else []
        rows.append([row["measure"], row["base"], *beside, row["adapted"], row["change"]])
    widths = [max(len(str(row[column])) for row in rows) for column in range(len(rows[0]))]
    print()
    for row in rows:
        print("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(f"\n{comparison['verdict']['text']}")
    if against := comparison.get("verdicts", {}).get("adapted_vs_prompted"):
        print(f"Against the prompted base: {against['text']}")
    if any(row["name"] == "bleu" for row in table) and "bleu_signature" in comparison["adapted"]:
        print(f"BLEU signature: {comparison['adapted']['bleu_signature']}")
    _print_forgetting(comparison)
    for note in comparison.get("notes", []):
        print(f"note: {note}")


def _print_forgetting(comparison: dict[str, Any]) -> None:
    """What was forgotten, in words, and the answers that changed most."""
    from ftlab.errors import shorten
    from ftlab.evaluation.drift import changed_answers, kinds_in_words

    for line in ((comparison.get("forgetting") or {}).get("text"), kinds_in_words(comparison)):
        if line:
            print(line)
    for one in changed_answers(comparison):
        print(f"  {shorten(one['prompt'], 100)}")
        print(f"    base     {shorten(one['base'], 100) or '(nothing)'}")
        print(f"    adapted  {shorten(one['side'], 100) or '(nothing)'}")


def print_measures(comparison: dict[str, Any]) -> None:
    """One line per measure, one column per side, with 95% intervals; then what is to be said of each side."""
    from ftlab.sharing.measures import looks_note, measures_of, p_of
    from ftlab.sharing.table import baseline_rows

    sides = comparison["sides"]
    rows = [["", *(side["title"] for side in sides)]]
    for measure in measures_of(comparison):
        cells = [f"{_measured(measure, side['name'])} {p_of(measure, side['name'])}".rstrip() for side in sides]
        rows.append([measure["title"], *cells])
        for line in baseline_rows(measure, [side["name"] for side in sides]):
            rows.append([line["measure"], *(one["value"] for one in line["sides"].values())])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    print()
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(f"\n{comparison['base']['rows']} rows; {', '.join(side['title'] + ': ' + side['what'] for side in sides)}")
    if note := looks_note(comparison):
        print(note)
    titles = {side["name"]: side["title"] for side in sides} | {"adapted_vs_prompted": "Adapted against prompted"}
    for name, verdict in comparison.get("verdicts", {}).items():
        print(f"{titles.get(name, name)}: {verdict['text']}")
    _print_forgetting(comparison)
    for note in comparison.get("notes", []):
        print(f"note: {note}")


def _measured(measure: dict[str, Any], side: str) -> str:
    """The value of one side and its interval, as it is written in a table."""
    from ftlab.evaluation.figures import value_text

    interval = measure["intervals"].get(side)
    low_high = f" ({' to '.join(value_text(measure, bound) for bound in interval)})" if interval else ""
    return value_text(measure, measure["values"].get(side)) + low_high
