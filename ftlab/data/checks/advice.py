"""Is it enough? Rules of thumb by task, each with its source, and the classes that have too few rows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

from ftlab.config import DataConfig
from ftlab.data.checks.examples import Examples
from ftlab.data.checks.structure import NEARLY_ALL, parse_json
from ftlab.data.final_number import final_number
from ftlab.data.grouping import check_columns
from ftlab.data.load import Loaded
from ftlab.data.partition import hold_out
from ftlab.errors import InputError, shorten

# What others recommend, with where they say so (read in November 2026).
OPENAI = (
    "OpenAI, Supervised fine-tuning: at least 10 examples; improvements are seen from 50 to 100 well-made ones",
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
_MOST_CLASSES = 50
_LABEL_WORDS = 5
_LABEL_LETTERS = 60


@dataclass
class Advice:
    """One remark; `level` is "good", "thin" or "low"; `rows_per_class` is given where the answers are classes."""

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
    """Remarks on the number of training rows, rows per class and imbalance.

    Only rows that a run will train on count: those at the positions `learned` (see `learned_from`) without those
    `untrained` (too long, say). Of a source of which only the share `checked` was looked at, the counts are estimates.
    """
    if examples.are_documents:
        return []  # the rules of thumb are about answers
    answers = [examples.answers[position] for position in learned if position not in untrained]
    classes = find_classes(answers)
    one = _enough(round(len(answers) / checked), bool(classes))
    held_out = len(examples.positions("train")) - len(learned)
    less = [f"{held_out:,} held out"] if held_out else []
    if len(learned) > len(answers):
        less.append(f"{len(learned) - len(answers):,} too long or without a trained token")
    if less:
        one.text += f" Not counted: {', '.join(less)}."
    if checked < 1:
        one.text += f" Estimated from {checked:.0%} of the rows."
    advice = [one]
    for name, counts in classes.items():
        advice += _per_class(name, {label: round(count / checked) for label, count in counts.items()})
    return advice + _final_numbers([examples.answers[position] for position in examples.positions("train")])


def learned_from(examples: Examples, loaded: Loaded, config: DataConfig) -> list[int]:
    """The positions of the examples that a run would train on, by the split that it would make."""
    train = examples.positions("train")
    if not train:
        return []
    rows, columns = loaded.splits[loaded.main], check_columns(config, loaded.columns)
    cells = [{column: rows[examples.row[at]].get(column) for column in columns} for at in train] if columns else []
    given: dict[str, list[Any]] = {name: [] for name in loaded.splits if name != loaded.main}
    given["train"] = [{"messages": examples.turns[at], "position": at} for at in train]
    try:
        return [example["position"] for example in hold_out(given, config, cells)["train"]]
    except InputError:
        return train  # too few to hold any out, which is said where the data are prepared


def _final_numbers(answers: list[str]) -> list[Advice]:
    found = sum(final_number(answer) is not None for answer in answers)
    if not answers or found < NEARLY_ALL * len(answers):
        return []
    example = next(text.strip().splitlines()[-1] for text in answers if final_number(text) is not None)
    text = (
        f"{found:,} of {len(answers):,} answers end in a number ({shorten(example, 40)}): evaluation measures whether "
        "that number is right (final_number), and GRPO and RLOO can reward it ({kind: final_number})."
    )
    return [Advice("numbers", "good", text, *GSM8K)]


def find_classes(answers: list[str]) -> dict[str, dict[str, int]]:
    """Rows per class, largest first: of the whole answer where answers are labels, or of each field of JSON answers
    that holds few different values. The name of the whole answer is "answer"."""
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
    """The counts of `labels` when they are a small set of short texts, else nothing."""
    counts = Counter(labels)
    frequent = {label for label, count in counts.items() if count >= 3}
    short = all(len(label) <= _LABEL_LETTERS and len(label.split()) <= _LABEL_WORDS for label in frequent)
    covered = sum(counts[label] for label in frequent)
    if not 2 <= len(frequent) <= _MOST_CLASSES or not short or covered < NEARLY_ALL * len(labels):
        return {}
    return dict(counts.most_common(2 * _MOST_CLASSES))


def _enough(rows: int, has_classes: bool) -> Advice:
    """Few rows are enough for one form of answer; following instructions in general takes about a thousand."""
    if has_classes:
        source = YANDEX
        level = "good" if rows >= _PLENTY else "thin" if rows >= 2 * PER_CLASS else "low"
    else:
        source = LIMA if rows >= _USUAL else OPENAI
        level = "good" if rows >= _USUAL else "thin" if rows >= _FEWEST else "low"
    text = {
        "good": f"{rows:,} training rows are enough to begin with; more of the same kind help less than better ones.",
        "thin": f"{rows:,} training rows are enough to see whether it works; collect more once it does.",
        "low": f"{rows:,} training {'row is' if rows == 1 else 'rows are'} few: expect the model to learn the form of "
        "the answers and little else.",
    }[level]
    if not rows:
        text = "No row would be trained."
    if level == "good" and not has_classes and rows < _PLENTY:
        text += " For following all kinds of instructions, not one task, aim for 1,000 curated rows."
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
            "time without ever giving the rare answer. Look at the score of each class, not only at all rows together."
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
