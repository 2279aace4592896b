"""What the cells of a column hold: classes, judgments of answers, IDs, missing values, texts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ftlab.data.prompt_template import escaped

TEXTS = ("text", "sentence", "review", "tweet", "message", "utterance", "content", "document", "ticket", "body")


LABELS = ("labeltext", "labelname", "label", "class", "category", "intent", "sentiment", "topic")


PLAIN_TEXTS = ("text", "document", "content", "rawcontent")


MOST_LABELS_IN_A_PROMPT = 20


_ID_WORDS = {"id", "ids", "nr", "no", "num", "number", "nummer", "uuid", "guid", "key", "index", "idx", "hash", "sku"}


# What people and tools write for a good answer, and for a bad one.
_GOOD = (
    "true 1 good yes y up thumbsup thumbup like liked upvote upvoted positive accept accepted approve approved correct "
    "right desirable desired chosen preferred helpful pass passed win ok 👍 ✓ ✔ ✅"
).split()


_BAD = (
    "false 0 -1 bad no n down thumbsdown thumbdown dislike disliked downvote downvoted negative reject rejected "
    "disapproved incorrect wrong undesirable undesired unhelpful fail failed loss lose notok 👎 ✗ ✘ ❌"
).split()


_TRUTH = dict.fromkeys(_GOOD, True) | dict.fromkeys(_BAD, False)


_UNDECIDED = ("neutral", "unsure", "mixed", "tie", "none", "unknown", "n/a", "skip", "ok?", "-")


_SCALE_TOP = 10


def is_missing(value: Any) -> bool:
    """Whether a cell is empty: null, empty text, or the NaN that pandas writes for a missing value."""
    return value is None or value == "" or (isinstance(value, float) and value != value)


def is_judgement(values: Sequence[Any]) -> bool:
    """Whether the cells rate answers as good or bad: true and false, 1 and 0, thumbs, or words."""
    known = [value for value in values if not (is_missing(value) or is_placeholder(value))]
    judged = [judgement(value) for value in known]
    undecided = sum(
        verdict is None and spelled(value) in _UNDECIDED for verdict, value in zip(judged, known, strict=True)
    )
    return any(verdict is not None for verdict in judged) and judged.count(None) == undecided <= len(known) / 2


def scale_of(values: Sequence[Any]) -> tuple[float, float] | None:
    """The lowest and highest grade if the cells are grades on a common scale: whole numbers between -10 and 10 with
    several distinct values (-1 to 1, 0 to 4, 1 to 5, 1 to 10). None for anything else."""
    known = [as_number(value) for value in values if not (is_missing(value) or is_placeholder(value))]
    numbers = [number for number in known if number is not None and number.is_integer()]
    if not known or len(numbers) < len(known) or len(set(numbers)) < 2:
        return None
    low, high = min(numbers), max(numbers)
    if low < 0:
        most = max(-low, high)
        return (-most, most) if most <= _SCALE_TOP else None
    if high > _SCALE_TOP:
        return None
    top = next(top for top in (1, 5, _SCALE_TOP) if high <= top) if low >= 1 else high
    return (min(low, 1.0), float(top))


def judgement(value: Any, scale: tuple[float, float] | None = None) -> bool | None:
    """True for an answer marked good, False for one marked bad, None for anything else. On a `scale` of grades, good is
    above the middle and bad below."""
    if isinstance(value, bool):
        return value
    number = as_number(value)
    if scale is not None and number is not None:
        middle = sum(scale) / 2
        return None if number == middle else number > middle
    if number is not None:
        return {1.0: True, 0.0: False, -1.0: False}.get(number)
    return _TRUTH.get(spelled(value))


def spelled(value: Any) -> str:
    return re.sub(r"[\s_:]+|(?<=\w)-", "", str(value).strip().lower())


def as_number(value: Any) -> float | None:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    return float(value) if isinstance(value, int | float) and value == value else None


def are_classes(values: Sequence[Any]) -> bool:
    """Whether the cells of a column are labels: short and recurring. Integers with missing values are floats in a
    table."""
    known = [label_text(value) if isinstance(value, float) else value for value in values if not is_missing(value)]
    if not known or not all(isinstance(value, (str, int)) and len(str(value)) <= 60 for value in known):
        return False
    if any(isinstance(value, float) and not value.is_integer() for value in values if not is_missing(value)):
        return False
    different = len({str(value) for value in known})
    return different <= 2 or different <= len(known) / 2 or len(known) < 10


def is_id(column: str, values: Sequence[Any]) -> bool:
    """Whether a column is only an identifier: by its name, or because it holds short codes without repeats."""
    words = re.findall(r"[^\W_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", column).lower()) or [""]
    if words[-1] in _ID_WORDS or words[0] in ("id", "nr", "uuid"):
        return True
    known = [str(value).strip() for value in values if value is not None and value != ""]
    codes = all(len(text) <= 40 and " " not in text and any(map(str.isdigit, text)) for text in known)
    return len(known) > 1 and codes and len(set(known)) == len(known)


def likely_texts(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The text columns that could be a prompt or an answer; columns of sentences come before columns of labels."""
    cells = {column: [value for value in column_values(rows, column) if value not in (None, "")] for column in columns}
    texts = [
        column
        for column, values in cells.items()
        if any(isinstance(value, str) for value in values) and not is_id(column, values)
    ]
    return sorted(texts, key=lambda column: not any(" " in str(value).strip() for value in cells[column]))


_PLACE = re.compile(r"[a-z][a-z0-9+.-]*://\S+|(?:[A-Za-z]:)?[/\\]\S+|\S+/\S+\.\w{1,5}")  # a URL or a path


def suggested_texts(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns of `likely_texts` to name as an example: none of URLs or paths, and none with one cell in all rows,
    unless all rows are alike."""
    cells = {column: {str(value) for value in column_values(rows, column) if value is not None} for column in columns}
    differ = any(len(values) > 1 for values in cells.values())
    return [
        column
        for column in likely_texts(columns, rows)
        if not (differ and len(cells[column]) < 2) and not all(map(_PLACE.fullmatch, map(str.strip, cells[column])))
    ]


def label_text(value: Any) -> str:
    """A label as text: 1.0, which pandas makes of 1 in a column with missing values, becomes 1; a missing value becomes
    empty."""
    if is_missing(value):
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def instruction(labels: Iterable[Any], text_column: str) -> str:
    """The prompt template for a classification. Lists the labels unless there are too many."""
    names = sorted({label_text(label) for label in labels if not is_missing(label)})
    asked = "Which label fits the text?"
    if 1 < len(names) <= MOST_LABELS_IN_A_PROMPT:
        asked = f"Which label fits the text: {', '.join(names[:-1])} or {names[-1]}?"
    return f"{escaped(asked)} Answer with the label only.\n\n{{{text_column}}}"


def column_values(rows: Sequence[Mapping[str, Any]], column: str) -> list[Any]:
    """The cells of a column, with None for missing values and NaN."""
    return [None if is_missing(value := row.get(column)) else value for row in rows]


# What programs write for a missing value.
PLACEHOLDERS: tuple[str, ...] = (
    "none",
    "nan",
    "null",
    "nil",
    "undefined",
    "<na>",
    "#n/a",
    "n/a",
    "<noinput>",
    "noinput",
    "no input",
)


PLACEHOLDERS += ("[object object]", "#value!", "#ref!", "#name?")


def is_placeholder(cell: Any) -> bool:
    """Whether a cell only holds what a program wrote for a missing value."""
    if not isinstance(cell, str) or len(cell) >= 20:
        return False
    return cell.strip().lower() in PLACEHOLDERS or cell.strip() == "NaT"  # missing dates; nat is also a word
