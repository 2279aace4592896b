"""Is it enough? Rules of thumb by task, each with its source, and the classes that have too few rows."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from ftlab.data.checks.examples import Examples
from ftlab.data.checks.structure import NEARLY_ALL, parse_json
from ftlab.errors import shorten

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


def advise(examples: Examples) -> list[Advice]:
    """Remarks on the number of training rows, rows per class and imbalance."""
    if examples.are_documents:
        return []  # the rules of thumb are about answers
    train = examples.positions("train")
    answers = [examples.answers[position] for position in train]
    classes = find_classes(answers)
    advice = [_enough(len(train), bool(classes))]
    for name, counts in classes.items():
        advice += _per_class(name, counts)
    return advice


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
        "low": f"{rows:,} training rows are few: expect the model to learn the form of the answers and little else.",
    }[level]
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
    if counts[largest] >= _IMBALANCED * counts[smallest]:
        text = (
            f"{shorten(largest, 30)!r} has {counts[largest] / counts[smallest]:.0f} times as many rows as "
            f"{shorten(smallest, 30)!r} ({counts[largest]} and {counts[smallest]}): a model can be right most of the "
            "time without ever giving the rare answer. Look at the score of each class, not only at all rows together."
        )
        advice.append(Advice("balance", "thin", text, *BALANCE, counts))
    return advice


BALANCE = (
    "He and Garcia 2009, Learning from Imbalanced Data: accuracy hides rare classes",
    "https://doi.org/10.1109/TKDE.2008.239",
)
