"""Answers that are labels: accuracy, macro F1, precision and recall of each class, and which is taken for which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ftlab.errors import InputError, nearest, shorten
from ftlab.evaluation.metrics.text import plain
from ftlab.wording import composed

if TYPE_CHECKING:
    import numpy as np

LABEL_RULE = (
    "the whole answer must be a label; case, white space, Unicode forms and a final full stop, question or exclamation "
    "mark ignored"
)
LIKELIHOOD_RULE = "the label that the model finds likeliest as its answer"
NO_LABEL = "no label"
_MOST_LABELS = 50
_LONGEST_LABEL = 60  # characters


def find_labels(references: Sequence[str]) -> list[str] | None:
    """The labels that the references are: few, short, and the same ones again and again; else None."""
    counts = Counter(composed(reference) for reference in references)
    short = all(label and len(label) <= _LONGEST_LABEL and label[0] not in "{[" for label in counts)
    # On average five rows for each: fewer, and short answers that happen to recur would pass for classes.
    if not short or not 2 <= len(counts) <= _MOST_LABELS or len(references) < 5 * len(counts):
        return None
    return find_all_labels(references)


def find_all_labels(references: Iterable[str]) -> list[str]:
    """The references themselves, each once: the labels of data that is known to be a classification.

    Of one in several Unicode forms the commonest form stays.
    """
    forms = {composed(text): text for text, _ in reversed(Counter(map(str.strip, references)).most_common())}
    return sorted(forms.values())


def label_numbers(texts: Sequence[str], labels: Sequence[str]) -> list[int]:
    """Which of `labels` each text is, by its place; -1 for none of them."""
    keys = [plain(label) for label in labels]
    read = plain if len(set(keys)) == len(keys) else composed
    place = {read(label): at for at, label in enumerate(labels)}
    return [place.get(read(text), -1) for text in texts]


def check_labels(labels: Sequence[str], references: Sequence[str]) -> None:
    """Raises InputError when `labels` are too few or do not name every reference."""
    if len(set(labels)) < 2:
        raise InputError("A classification needs at least two labels", given=", ".join(labels) or "none")
    for reference, number in zip(references, label_numbers(references, labels), strict=True):
        if number < 0:
            meant = nearest(reference.strip(), labels)
            raise InputError(
                "An answer of the data is none of the labels",
                given=reference,
                allowed=shorten(", ".join(labels)),
                try_=f"{'did you mean ' + meant + '? Else ' if meant else ''}add it to the labels, or leave them empty",
            )


def baselines(true: Sequence[int], labels: Sequence[str], commonest: str | None) -> dict[str, Any]:
    """What needs no model: the share of rows that are right by always giving `commonest` (the commonest answer of the
    training rows; None where it is no label), as `label` and `always`, and by guessing among the labels, `chance`."""
    [place] = label_numbers([commonest or ""], labels)
    found: dict[str, Any] = {"chance": 1 / len(labels)}
    return found if place < 0 else found | {"label": labels[place], "always": list(true).count(place) / len(true)}


def class_counts(true: Sequence[int], given: Sequence[int], labels: int) -> np.ndarray:
    """For each row and label: right, given, true. Shape (rows, 3 * labels); the sums over rows give F1 and all else."""
    import numpy as np

    wanted, said = np.zeros((len(true), labels)), np.zeros((len(true), labels))
    for row, (right, answer) in enumerate(zip(true, given, strict=True)):
        wanted[row, right] = 1
        if answer >= 0:
            said[row, answer] = 1
    return np.concatenate([wanted * said, said, wanted], axis=1)


def macro_f1(sums: np.ndarray, present: np.ndarray) -> np.ndarray:
    """The mean F1 over the classes `present` (in the references), for each line of summed counts."""
    import numpy as np

    right, said, wanted = np.split(sums, 3, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        # A class that a draw of rows happens to leave out has no F1 there.
        scores = (2 * right / (said + wanted))[:, present]
    return np.nanmean(scores, axis=1)


def class_detail(true: Sequence[int], given: Mapping[str, Sequence[int]], labels: Sequence[str]) -> dict[str, Any]:
    """Precision, recall and F1 of each label, and the confusion matrix, for each side.

    A line of the matrix is a true label, a column what was answered: the labels, and at last "no label".
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    every = range(len(labels))
    detail: dict[str, Any] = {"labels": list(labels), "columns": [*labels, NO_LABEL]}
    for side, said in given.items():
        scores = precision_recall_fscore_support(true, said, labels=every, zero_division=0)
        answered = [len(labels) if number < 0 else number for number in said]
        confusion = confusion_matrix(true, answered, labels=range(len(labels) + 1))[:-1]
        detail[side] = {
            "per_class": [
                {"label": label, "precision": float(p), "recall": float(r), "f1": float(f), "rows": int(rows)}
                for label, p, r, f, rows in zip(labels, *scores, strict=True)
            ],
            "confusion": confusion.tolist(),
        }
    return detail
