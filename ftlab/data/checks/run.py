"""Runs every check on a source and adds advice: formats, sizes, and whether it is enough."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ftlab.config import DataConfig, OptimisationConfig, build_config
from ftlab.core.jobs import Stopped
from ftlab.core.workspace import Workspace
from ftlab.data.checks import content, duplicates, labels, personal, rows
from ftlab.data.checks.finding import CoverageJson, Examples, Finding, SuspectJson, TokensJson, gather, in_order
from ftlab.data.checks.rows import NEARLY_ALL, parse_json
from ftlab.data.conversion import MARKED_BAD, NO_WINNER, NOT_JUDGED
from ftlab.data.final_number import final_number
from ftlab.data.formats import PREFERENCES
from ftlab.data.load import Loaded, load_rows
from ftlab.data.normal import Progress, Watch
from ftlab.data.partition import check_columns, hold_out
from ftlab.data.shapes import Detected
from ftlab.data.splits import detect_format
from ftlab.errors import InputError, shorten

# Published recommendations, with sources (read in November 2026).
OPENAI = (
    "OpenAI, Supervised fine-tuning: at least 10 examples; improvements show from 50 to 100 well-crafted ones",
    "https://developers.openai.com/docs/guides/supervised-fine-tuning",
)
LIMA = (
    "Zhou et al. 2023, LIMA: 1,000 carefully curated examples tuned a 65B model to follow instructions",
    "https://arxiv.org/abs/2305.11206",
)
YANDEX = (
    "Yandex Cloud, Tuning classification models: at least 1,000 examples and 100 of each class",
    "https://yandex.cloud/en/docs/foundation-models/concepts/tuning/classifier",
)
PER_CLASS = 100
_FEWEST, _USUAL, _PLENTY = 50, 100, 1000
_IMBALANCED = 10  # times more rows in the largest class than in the smallest
_MOST_CLASSES = 100
_LABEL_WORDS = 5
_LABEL_LETTERS = 60


@dataclass
class Advice:
    """One piece of advice; `level` is "good", "thin" or "low"; `rows_per_class` is set if the answers are classes."""

    topic: str
    level: str
    text: str
    source: str
    url: str
    rows_per_class: dict[str, int] | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def advise(
    examples: Examples, learned: Collection[int], untrained: Collection[int] = (), checked: float = 1.0
) -> list[Advice]:
    """Advice on the number of training rows, rows per class and imbalance.

    Counts only rows that a run would train on: the positions `learned` (see `learned_from`) minus `untrained` (for
    example, too long). If only the share `checked` of the source was read, counts are estimates.
    """
    if examples.are_documents:
        return []  # these rules of thumb are about answers
    answers = [examples.answers[position] for position in learned if position not in untrained]
    classes = find_classes(answers)
    on_size = _enough(round(len(answers) / checked), bool(classes))
    held_out = len(examples.positions("train")) - len(learned)
    less = [f"{held_out:,} held out"] if held_out else []
    if len(learned) > len(answers):
        less.append(f"{len(learned) - len(answers):,} too long or without a trained token")
    if less:
        on_size.text += f" Not counted: {', '.join(less)}."
    if checked < 1:
        on_size.text += f" Estimated from {checked:.0%} of the rows."
    advice = [on_size]
    for name, counts in classes.items():
        advice += _per_class(name, {label: round(count / checked) for label, count in counts.items()})
    return advice + _final_numbers([examples.answers[position] for position in examples.positions("train")])


def learned_from(examples: Examples, loaded: Loaded, config: DataConfig) -> list[int]:
    """The positions of the examples that a run would train on, after its split."""
    train = examples.positions("train")
    if not train:
        return []
    source, columns = loaded.splits[loaded.main], check_columns(config, loaded.columns)
    cells = [{column: source[examples.row[at]].get(column) for column in columns} for at in train] if columns else []
    splits: dict[str, list[Any]] = {name: [] for name in loaded.splits if name != loaded.main}
    splits["train"] = [{"messages": examples.turns[at], "row": at} for at in train]
    try:
        return [example["row"] for example in hold_out(splits, config, cells)["train"]]
    except InputError:
        return train  # too few to hold any out; data preparation reports it


def _final_numbers(answers: list[str]) -> list[Advice]:
    count = sum(final_number(answer) is not None for answer in answers)
    if not answers or count < NEARLY_ALL * len(answers):
        return []
    example = next(text.strip().splitlines()[-1] for text in answers if final_number(text) is not None)
    text = (
        f"{count:,} of {len(answers):,} answers end in a number ({shorten(example, 40)}): evaluation measures whether "
        "that number is right (final_number), and GRPO and RLOO can reward it ({kind: final_number})."
    )
    return [Advice("numbers", "good", text, *GSM8K)]


def find_classes(answers: list[str]) -> dict[str, dict[str, int]]:
    """Rows per class, largest first: of the whole answer (named "answer") if answers are labels, or of each field of
    JSON answers with few distinct values."""
    if len(answers) < 20:
        return {}
    values = [parse_json(answer) for answer in answers]
    objects = [value for value in values if isinstance(value, dict)]
    if len(objects) >= NEARLY_ALL * len(answers):
        keys = Counter(key for value in objects for key in value)
        fields = {
            key: [value[key] for value in objects if isinstance(value.get(key), (str, bool))]
            for key, count in keys.items()
            if count >= NEARLY_ALL * len(objects)
        }
        return {key: counts for key, cells in fields.items() if (counts := _counts(list(map(_label, cells))))}
    counts = _counts([answer.strip() for answer in answers])
    return {"answer": counts} if counts else {}


def _label(cell: Any) -> str:
    return cell if isinstance(cell, str) else json.dumps(cell)


def _counts(labels: list[str]) -> dict[str, int]:
    """The counts of `labels` if they are a small set of short texts, else empty."""
    counts = Counter(labels)
    frequent = {label for label, count in counts.items() if count >= 3}
    short = all(len(label) <= _LABEL_LETTERS and len(label.split()) <= _LABEL_WORDS for label in frequent)
    covered = sum(counts[label] for label in frequent)
    if not 2 <= len(frequent) <= _MOST_CLASSES or not short or covered < NEARLY_ALL * len(labels):
        return {}
    return dict(counts.most_common(2 * _MOST_CLASSES))


def _enough(rows: int, has_classes: bool) -> Advice:
    """Advice on the number of rows: a few are enough for one form of answer, general instructions take about 1,000."""
    if has_classes:
        source = YANDEX
        level = "good" if rows >= _PLENTY else "thin" if rows >= 2 * PER_CLASS else "low"
    else:
        source = LIMA if rows >= _USUAL else OPENAI
        level = "good" if rows >= _USUAL else "thin" if rows >= _FEWEST else "low"
    text = {
        "good": f"{rows:,} training rows are enough to start; better rows now help more than more of them.",
        "thin": f"{rows:,} training rows are enough to see whether it works; collect more once it does.",
        "low": f"{rows:,} training {'row is' if rows == 1 else 'rows are'} few: expect the model to learn the form of "
        "the answers and little else.",
    }[level]
    if not rows:
        text = "No row would be trained on."
    if level == "good" and not has_classes and rows < _PLENTY:
        text += " To follow instructions in general rather than do one task, aim for 1,000 curated rows."
    return Advice("rows", level, text, *source)


def _per_class(name: str, counts: dict[str, int]) -> list[Advice]:
    few = {label: count for label, count in counts.items() if count < PER_CLASS}
    whose = "classes" if name == "answer" else f"values of {name}"
    advice = []
    if few:
        listed = ", ".join(f"{shorten(label, 30)!r} ({count})" for label, count in list(few.items())[-8:])
        more = f" and {len(few) - 8} more" if len(few) > 8 else ""
        text = f"{len(few)} of {len(counts)} {whose} have fewer than {PER_CLASS} rows: {listed}{more}."
        lowest = min(few.values())
        advice.append(Advice("classes", "low" if lowest < 10 else "thin", text, *YANDEX, counts))
    else:
        text = f"Each of the {len(counts)} {whose} has {PER_CLASS} rows or more."
        advice.append(Advice("classes", "good", text, *YANDEX, counts))
    largest, smallest = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    if counts[largest] >= _IMBALANCED * max(1, counts[smallest]):
        text = (
            f"{shorten(largest, 30)!r} has {counts[largest] / max(1, counts[smallest]):.0f} times as many rows as "
            f"{shorten(smallest, 30)!r} ({counts[largest]} and {counts[smallest]}): a model can be right most of the "
            "time without ever giving the rare answer. Look at the score of each class, not only at the overall score."
        )
        advice.append(Advice("balance", "thin", text, *BALANCE, counts))
    return advice


GSM8K = (
    "Cobbe et al. 2021, Training Verifiers to Solve Math Word Problems: the final number decides",
    "https://arxiv.org/abs/2110.14168",
)
BALANCE = (
    "He and Garcia 2009, Learning from Imbalanced Data: accuracy hides rare classes",
    "https://doi.org/10.1109/TKDE.2008.239",
)


MOST_ROWS = 200_000  # in a larger source every n-th row is checked, to bound memory
_Check = Callable[[], list[Finding]]


@dataclass
class Report:
    """The result of the checks. `findings` are sorted, the most severe first; `seconds` is by check.

    `tokens` is None without a tokenizer, `coverage` without a held-out split. `stopped` means that the checks were
    stopped early and the findings are incomplete.
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
    tokens: TokensJson | None = None
    findings: list[Finding] = field(default_factory=list)
    advice: list[Advice] = field(default_factory=list)
    coverage: CoverageJson | None = None
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    stopped: bool = False
    usable: int = 0  # rows that became an example
    unread: list[str] = field(default_factory=list)  # parts of the data that no check reads
    suspicious: list[SuspectJson] = field(default_factory=list)  # the rows to read first, the worst first

    def as_dict(self) -> dict[str, Any]:
        """The report as plain JSON; `ftlab/data/checks/README.md` documents it."""
        return vars(self) | {
            "findings": [finding.as_dict() for finding in self.findings],
            "advice": [item.as_dict() for item in self.advice],
        }


def nothing_wrong(report: Mapping[str, Any]) -> str:
    """The text for a report (as a dict) without findings: nothing was found, and what was not checked."""
    total, checked, tokens = report["rows"], report["checked"], report["tokens"]
    if report["stopped"]:
        return f"No problems found so far; the checks were stopped. {checked:,} of {total:,} rows were read."
    text = "No problems found" + (f" in {checked:,} of {total:,} rows." if checked < total else ".")
    if checked < total:
        text += f" The other {total - checked:,} were not checked."
    if not report["usable"]:
        text += " No row could be used as an example."
    elif tokens is None:
        text += " Lengths in tokens were not checked: no base was given."
    elif tokens["measured_rows"] < tokens["rows"]:
        text += f" Trained tokens were counted on {tokens['measured_rows']:,} of {tokens['rows']:,} rows."
    if report["unread"]:
        text += f" Not checked: {'; '.join(report['unread'])}."
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
    """Run every check on `data` (a source or its configuration). Tokens are checked only with a `tokenizer` (of
    `base`).

    `context` is the context length of the base in tokens: rows up to it are too long for `max_length`, not for the
    base.

    With `prompts` from the real world, coverage is measured on them instead of the held-out rows. `progress(check,
    done, total)` is called throughout; once `should_stop()` is true, the report so far is returned. Raises InputError
    if the data cannot be read or its format is not recognized.
    """
    config = build_config({"data": {"source": data}}).data if isinstance(data, str) else data
    watch = Watch(progress, should_stop)
    loaded = loaded or load_rows(config, workspace)
    detected = detect_format(loaded, config)
    report = _begin(loaded, detected, (config.group_by, config.stratify_by))
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
                report.tokens, findings, untrained = rows.token_lengths(
                    examples, watch, tokenizer, base, length, context
                )
                report.findings += findings
            if detected.format in PREFERENCES and 2 * (report.tokens or {}).get("too_long", 0) > len(examples):
                report.notes.append(
                    "Counted on the chosen answers, as for instruction tuning. Preference training (DPO and similar) "
                    f"would cut answers at {length:,} tokens here, since leaving rows out would lose half of the pairs."
                )
        _run(report, examples, watch, prompts, untrained, loaded, config, detected)
    except Stopped:
        report.stopped = True
        report.notes.append("The checks were stopped; there may be more findings.")
    report.findings = in_order(report.findings)
    return report


def _begin(loaded: Loaded, detected: Detected, used: Sequence[str | None]) -> Report:
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
        notes=[*loaded.notes, *detected.notes(used)],
    )


def _unread(examples: Examples, detected: Detected) -> list[str]:
    """What no check covers: answers that are not trained on, and names and postal addresses."""
    reasons = Counter(reason for _, _, reason in examples.refused)
    named = {
        MARKED_BAD: "answers marked as bad",
        NOT_JUDGED: "answers marked neither good nor bad",
        NO_WINNER: "ties between two answers",
    }
    unread = [f"{reasons[reason]:,} {name}" for reason, name in named.items() if reasons[reason]]
    unread += ["the rejected answers"] if detected.columns.keys() & {"rejected", "second"} else []
    return [*unread, "names and postal addresses"]


def _run(
    report: Report,
    examples: Examples,
    watch: Watch,
    prompts: Sequence[str] | None,
    untrained: set[int],
    loaded: Loaded,
    config: DataConfig,
    detected: Detected,
) -> None:
    classes = find_classes(examples.answers)
    step = max(1, round(report.rows / max(1, report.checked)))
    with _timed(report, watch, "counting words"):
        same = duplicates.find_sameness(examples, watch)

    def suspicious() -> list[Finding]:
        findings, report.suspicious = labels.suspicious(examples, watch, classes)
        return findings

    checks: dict[str, _Check] = {
        "usable rows": lambda: rows.refused_rows(examples, watch),
        "roles": lambda: rows.roles_out_of_order(examples, watch),
        "exact duplicates": lambda: duplicates.exact_duplicates(examples, watch, same),
        "overlap": lambda: duplicates.overlap(examples, watch, same),
        "conflicting answers": lambda: duplicates.conflicting_answers(examples, watch, same),
        "one-word answers": lambda: rows.one_word_answers(examples, watch),
        "JSON answers": lambda: rows.json_answers(examples, watch),
        "wrong encoding": lambda: content.wrongly_decoded(examples, watch),
        "pictures": lambda: content.media(examples, watch, content.Cells(loaded), loaded.columns),
        "left over": lambda: content.left_over(examples, watch, classes),
        "doubled keys": lambda: content.doubled_keys(loaded),
        "pairs": lambda: content.pairs(loaded, detected, step, watch),
        "judgements": lambda: content.unused_judgements(loaded, detected),
        "labels": suspicious,
        "few answers": lambda: content.few_answers(examples, watch, classes),
        "templates": lambda: content.stock_texts(examples, watch),
        "damaged characters": lambda: rows.damaged_characters(examples, watch),
        "tool calls": lambda: rows.tool_calls(examples, watch),
        "HTML": lambda: rows.html_remains(examples, watch),
        "personal data": lambda: personal.personal_data(examples, watch),
        "lengths": lambda: duplicates.odd_lengths(examples, watch, same),
        "languages": lambda: duplicates.other_languages(examples, watch, same),
        "near duplicates": lambda: duplicates.near_duplicates(examples, watch, same),
        "near overlap": lambda: duplicates.near_overlap(examples, watch, same),
    }
    for name, run in checks.items():
        with _timed(report, watch, name):
            report.findings += run()
    report.findings = _each_once(report.findings)
    with _timed(report, watch, "enough rows"):
        learned = learned_from(examples, loaded, config)
        report.advice = advise(examples, learned, untrained, report.checked / max(1, report.rows))
    with _timed(report, watch, "coverage"):
        report.coverage, findings = rows.held_out_coverage(examples, watch, prompts)
        report.findings += findings


# A row explained by one finding does not count as another kind of mistake.
_EXPLAINED_BY = {"encoding": ("mojibake",), "one_word_answer": ("left_over",)}


def _each_once(findings: list[Finding]) -> list[Finding]:
    kept = []
    for finding in findings:
        known = {
            row
            for other in findings
            if other.kind in _EXPLAINED_BY.get(finding.kind, ()) and other.split == finding.split
            for row in other.rows
        }
        if known and not finding.matches:
            finding.rows = [row for row in finding.rows if row not in known]
        if finding.rows:
            kept.append(finding)
    return kept


class _timed:
    """Report the check to the watch and record its seconds."""

    def __init__(self, report: Report, watch: Watch, name: str):
        self.report, self.watch, self.name = report, watch, name

    def __enter__(self) -> None:
        self.watch.phase, self.began = self.name, time.perf_counter()
        self.watch.at(0, 1)

    def __exit__(self, *_: object) -> None:
        self.report.seconds[self.name] = round(time.perf_counter() - self.began, 3)
