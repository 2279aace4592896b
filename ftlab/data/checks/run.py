"""All checks over one data source, with progress and a stop button, as one report."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from ftlab.config import DataConfig, OptimisationConfig, build_config
from ftlab.data.checks import advice, coverage, damage, duplicates, outliers, personal, structure, tokens
from ftlab.data.checks.examples import Examples, Progress, Stopped, Watch, gather
from ftlab.data.checks.finding import Finding, in_order
from ftlab.data.conversion import MARKED_BAD
from ftlab.data.formats import PREFERENCES, Detected
from ftlab.data.load import Loaded, load_rows
from ftlab.data.splits import detect_format
from ftlab.workspace import Workspace

MOST_ROWS = 200_000  # a larger source is checked on every n-th row, so that memory stays bounded
_Check = Callable[[], list[Finding]]


@dataclass
class Report:
    """What the checks found. `findings` are in order, the gravest first; `seconds` is by check.

    `tokens` is None when no tokenizer was given, `coverage` when there is no held-out split. `stopped` says that the
    checks were ended early and the findings are not complete.
    """

    name: str
    rows: int
    checked: int
    format: str
    confidence: float
    why: str
    columns: list[str]
    roles: dict[str, str]
    splits: dict[str, int]
    tokens: dict[str, Any] | None = None
    findings: list[Finding] = field(default_factory=list)
    advice: list[advice.Advice] = field(default_factory=list)
    coverage: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    stopped: bool = False
    usable: int = 0  # rows that became an example
    unread: list[str] = field(default_factory=list)  # what else the data holds and no check looks at

    def as_dict(self) -> dict[str, Any]:
        """The report as plain JSON; `ftlab/data/checks/README.md` documents it."""
        return vars(self) | {
            "findings": [finding.as_dict() for finding in self.findings],
            "advice": [one.as_dict() for one in self.advice],
        }

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{one.about.severity}</td><td>{escape(one.about.title)}</td><td>{len(one.rows)} in "
            f"{escape(one.split)}: {', '.join(map(str, one.rows[:5]))}{' …' if len(one.rows) > 5 else ''}</td>"
            f"<td>{escape(one.why)}</td><td>{one.remedy}</td></tr>"
            for one in self.findings
        )
        head = "<tr><th></th><th>finding</th><th>rows</th><th>why it matters</th><th>remedy</th></tr>"
        facts = [f"{self.rows} rows; format {self.format}", *self.notes, *(one.text for one in self.advice)]
        lines = "".join(f"<li>{escape(fact)}</li>" for fact in facts)
        table = f"<table>{head}{rows}</table>" if rows else f"<p>{escape(nothing_wrong(vars(self)))}</p>"
        return f"<h4>{escape(self.name)}</h4>{table}<ul>{lines}</ul>"


def nothing_wrong(report: Mapping[str, Any]) -> str:
    """What is said of a report (as a dict) without findings: that nothing was found, and what was not looked at."""
    rows, checked, tokens = report["rows"], report["checked"], report["tokens"]
    if report["stopped"]:
        return f"Nothing wrong was found so far; the checks were stopped. {checked:,} of {rows:,} rows were read."
    text = "Nothing wrong was found" + (f" in {checked:,} of {rows:,} rows." if checked < rows else ".")
    if checked < rows:
        text += f" The other {rows - checked:,} were not looked at."
    if not report["usable"]:
        text += " No row could be used as an example."
    elif tokens is None:
        text += " Lengths in tokens were not checked: no base was given."
    elif tokens["measured_rows"] < tokens["rows"]:
        text += f" What is trained of a row was counted on {tokens['measured_rows']:,} of {tokens['rows']:,} rows."
    if report["unread"]:
        text += f" Not looked at: {'; '.join(report['unread'])}."
    return text


def check(
    data: str | DataConfig,
    *,
    tokenizer: Any = None,
    base: str = "starter",
    context: int | None = None,
    max_length: int | None = None,
    prompts: Sequence[str] | None = None,
    loaded: Loaded | None = None,
    workspace: Workspace | None = None,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
    most_rows: int | None = MOST_ROWS,
) -> Report:
    """Run every check on `data` (a source or its configuration); the tokens only with a `tokenizer` (that of `base`).

    `context` is what the base can read, in tokens: rows up to there are not too long for it, only for `max_length`.

    `prompts` are asked in the real world: then the coverage is of them, not of the held-out rows.
    `progress(check, done, total)` is called all the time; when `should_stop()` is true the report so far is given.
    Raises InputError when the data cannot be read or its format is not recognised.
    """
    config = build_config({"data": {"source": data}}).data if isinstance(data, str) else data
    watch = Watch(progress, should_stop)
    loaded = loaded or load_rows(config, workspace)
    detected = detect_format(loaded, config)
    report = _begin(loaded, detected)
    length = max_length or OptimisationConfig().max_length
    try:
        with _timed(report, watch, "reading"):
            examples, notes = gather(loaded, detected, config.system_prompt, most_rows, watch)
        report.notes += notes
        report.checked, report.usable = examples.looked_at, len(examples)
        report.unread = _unread(examples, detected)
        untrained: set[int] = set()
        if tokenizer is not None and len(examples):
            with _timed(report, watch, "tokens"):
                report.tokens, found, untrained = tokens.token_lengths(
                    examples, watch, tokenizer, base, length, context
                )
                report.findings += found
            if detected.format in PREFERENCES and 2 * (report.tokens or {}).get("too_long", 0) > len(examples):
                report.notes.append(
                    "Counted as instruction tuning does it, on the chosen answers. Preference training (DPO and the "
                    f"like) would cut answers at {length:,} tokens here: leaving out would cost half of the pairs."
                )
        _run(report, examples, watch, prompts, untrained, loaded, config)
    except Stopped:
        report.stopped = True
        report.notes.append("The checks were stopped; there may be more to find.")
    report.findings = in_order(report.findings)
    return report


def _begin(loaded: Loaded, detected: Detected) -> Report:
    return Report(
        loaded.name,
        loaded.rows,
        0,
        detected.format,
        detected.confidence,
        detected.why,
        list(loaded.columns),
        dict(detected.columns),
        {("train" if split == loaded.main else split): len(rows) for split, rows in loaded.splits.items()},
        notes=list(loaded.notes),
    )


def _unread(examples: Examples, detected: Detected) -> list[str]:
    """Parts of the data that no check looks at, as only the answers that are learnt are checked."""
    bad = sum(reason == MARKED_BAD for _, _, reason in examples.refused)
    unread = [f"{bad:,} answers marked as bad"] if bad else []
    return unread + (["the rejected answers"] if "rejected" in detected.columns else [])


def _run(
    report: Report,
    examples: Examples,
    watch: Watch,
    prompts: Sequence[str] | None,
    untrained: set[int],
    loaded: Loaded,
    config: DataConfig,
) -> None:
    with _timed(report, watch, "counting words"):
        same = duplicates.find_sameness(examples, watch)
    checks: dict[str, _Check] = {
        "usable rows": lambda: structure.refused_rows(examples, watch),
        "roles": lambda: structure.roles_out_of_order(examples, watch),
        "exact duplicates": lambda: duplicates.exact_duplicates(examples, watch, same),
        "overlap": lambda: duplicates.overlap(examples, watch, same),
        "conflicting answers": lambda: duplicates.conflicting_answers(examples, watch, same),
        "one-word answers": lambda: structure.one_word_answers(examples, watch),
        "JSON answers": lambda: structure.json_answers(examples, watch),
        "damaged characters": lambda: damage.damaged_characters(examples, watch),
        "HTML": lambda: damage.html_remains(examples, watch),
        "personal data": lambda: personal.personal_data(examples, watch),
        "lengths": lambda: outliers.odd_lengths(examples, watch, same),
        "languages": lambda: outliers.other_languages(examples, watch, same),
        "near duplicates": lambda: duplicates.near_duplicates(examples, watch, same),
        "near overlap": lambda: duplicates.near_overlap(examples, watch, same),
    }
    for name, run in checks.items():
        with _timed(report, watch, name):
            report.findings += run()
    with _timed(report, watch, "enough rows"):
        learned = advice.learned_from(examples, loaded, config)
        report.advice = advice.advise(examples, learned, untrained, report.checked / max(1, report.rows))
    with _timed(report, watch, "coverage"):
        report.coverage, found = coverage.held_out_coverage(examples, watch, prompts)
        report.findings += found


class _timed:
    """Names the check to the watch and notes how many seconds it took."""

    def __init__(self, report: Report, watch: Watch, name: str):
        self.report, self.watch, self.name = report, watch, name

    def __enter__(self) -> None:
        self.watch.phase, self.began = self.name, time.perf_counter()
        self.watch.at(0, 1)

    def __exit__(self, *_: object) -> None:
        self.report.seconds[self.name] = round(time.perf_counter() - self.began, 3)
