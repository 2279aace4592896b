"""Data in which a label does the teaching: classes of texts, and answers judged good or bad (KTO)."""

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
_TRUTH = {"true": True, "false": False, "1": True, "0": False, "good": True, "bad": False}


def is_judgement(values: Sequence[Any]) -> bool:
    """Whether the cells say true or false about an answer: booleans, or the words (as in a CSV)."""
    known = [value for value in values if value is not None and value != ""]
    return bool(known) and all(
        isinstance(value, bool) or (isinstance(value, str) and value.strip().lower() in ("true", "false"))
        for value in known
    )


def judgement(value: Any) -> bool | None:
    """True for an answer marked good, False for one marked bad, None for anything else."""
    if isinstance(value, bool):
        return value
    return _TRUTH.get(str(value).strip().lower())


def are_classes(values: Sequence[Any]) -> bool:
    """Whether the cells of a column are labels: short, and the same ones again and again."""
    known = [value for value in values if value is not None and value != ""]
    if not known or not all(isinstance(value, (str, int)) and len(str(value)) <= 60 for value in known):
        return False
    different = len({str(value) for value in known})
    return different <= 2 or different <= len(known) / 2 or len(known) < 10


def is_id(column: str, values: Sequence[Any]) -> bool:
    """Whether a column tells rows apart and says nothing else: by its name, or by short codes none of which repeats."""
    words = re.findall(r"[^\W_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", column).lower()) or [""]
    if words[-1] in _ID_WORDS or words[0] in ("id", "nr", "uuid"):
        return True
    known = [str(value).strip() for value in values if value is not None and value != ""]
    codes = all(len(text) <= 40 and " " not in text and any(map(str.isdigit, text)) for text in known)
    return len(known) > 1 and codes and len(set(known)) == len(known)


def likely_texts(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns of text that could be a prompt or an answer, those that hold sentences before those of classes."""
    cells = {column: [value for value in column_values(rows, column) if value not in (None, "")] for column in columns}
    texts = [
        column
        for column, values in cells.items()
        if any(isinstance(value, str) for value in values) and not is_id(column, values)
    ]
    return sorted(texts, key=lambda column: not any(" " in str(value).strip() for value in cells[column]))


def label_text(value: Any) -> str:
    return str(value).strip()


def instruction(labels: Iterable[Any], text_column: str) -> str:
    """The template of the prompt for a classification: it lists the labels when there are not too many."""
    names = sorted({label_text(label) for label in labels if label is not None and label != ""})
    asked = "Which label fits the text?"
    if 1 < len(names) <= MOST_LABELS_IN_A_PROMPT:
        asked = f"Which label fits the text: {', '.join(names[:-1])} or {names[-1]}?"
    return f"{escaped(asked)} Answer with the label only.\n\n{{{text_column}}}"


def column_values(rows: Sequence[Mapping[str, Any]], column: str) -> list[Any]:
    return [row.get(column) for row in rows]
