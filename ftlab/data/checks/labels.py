"""Labels and answers that look wrong, each with the reason in words.

Labels (a whole answer, or a field of JSON answers): confident learning (Northcutt, Jiang and Chuang 2021, arXiv
1911.00068, section 3): out-of-sample probabilities of every class, a threshold a class (the mean probability that its
own rows get), and the rows that pass the threshold of another class. The probabilities are cross-validated logistic
regressions on words and letters, which needs no base and seconds.

Answers in sentences: how much an answer has to do with its prompt against the prompts of other rows, by the words they
share, or, with a base, by how much the prompt lowers the loss of the answer. What is named is decided by a trial on the
same rows: answers that are exchanged on purpose must stand out, or nothing is said.

Precision on planted errors: `tests/benchmarks/wrong_labels.py`. The loss of the base alone, without the comparison,
finds hardly any label, and the loss of a run on its own training rows finds no more labels than this does.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ftlab.core.parsing import json_or
from ftlab.data.checks.finding import Examples, Finding, by_split
from ftlab.data.normal import Watch
from ftlab.errors import shorten

if TYPE_CHECKING:
    from ftlab.data.shapes import Message

_FOLDS = 5
_FEWEST_ROWS, _FEWEST_OF_CLASS = 60, 6
_MOST_ROWS = 5_000
MOST_SCORED = 1_000  # rows that a base reads: each three times, some minutes for SmolLM2 on two cores
_BETTER_THAN_CHANCE = 0.5  # of the way from always the commonest class to always right
_MARGIN = 0.25  # by which another class must be likelier than the label
_MOST_SHARE = 0.15  # of the rows; above, what names them is what is wrong
_FEWEST_NAMED = 0.5  # of the answers exchanged on purpose
_EQUALLY_GOOD = 2  # times the least share of rows, which is partly chance
_MOST_UNLIKE = 0.11  # as many rows at most as of the exchanged ones: above, many right answers look alike
_FIRST = 20

# Conversations -> the loss of their last answers in nats per token.
AnswerLosses = Callable[[list[list["Message"]]], list[float]]


class Suspects(NamedTuple):
    """Positions with (why, score), the lowest score the most suspicious; `named` is the share of rows that are named
    when their label or answer is exchanged for another at random."""

    rows: dict[int, tuple[str, float]]
    named: float


def suspicious_labels(examples: Examples, watch: Watch, classes: Mapping[str, Any]) -> list[Finding]:
    """Rows whose label (the whole answer, or a field of a JSON answer) their text contradicts, the most suspicious
    shown first."""
    merged: dict[int, tuple[str, float]] = {}
    suggested: dict[int, str] = {}
    trials = []
    for name in classes:
        places, labels = _labels_of(examples.answers, name)
        found = find_suspects([examples.prompts[at] for at in places], labels, watch)
        if not found.rows:
            continue
        trials.append(f"{found.named:.0%}" + ("" if name == "answer" else f" of {name}"))
        for at, (other, margin) in found.rows.items():
            label = shorten(labels[at], 40) if name == "answer" else f"{name} {shorten(labels[at], 40)}"
            why = f"{label}, but looks like {shorten(other, 40)}"
            before = merged.get(places[at])
            if before is None or margin < before[1]:
                merged[places[at]] = (why, margin)
                suggested[places[at]] = other
    trial = f"Tried on these rows: of labels exchanged at random, {' and '.join(trials)} would be named."
    findings = _findings("suspicious_label", merged, trial, examples)
    for finding in findings:
        finding.detail["suggested"] = [suggested[at] for at in sorted(merged) if examples.split[at] == finding.split]
    return findings


def _labels_of(answers: Sequence[str], name: str) -> tuple[list[int], list[str]]:
    """The positions that have a label in `name` (a field of JSON, or "answer"), and the labels."""
    if name == "answer":
        return list(range(len(answers))), [answer.strip() for answer in answers]
    values = [json_or(answer, None) for answer in answers]
    places = [at for at, value in enumerate(values) if isinstance(value, dict) and isinstance(value.get(name), str)]
    return places, [values[at][name].strip() for at in places]


def suspicious_answers(
    examples: Examples, watch: Watch, classes: Mapping[str, Any], losses: AnswerLosses | None = None
) -> list[Finding]:
    """Rows whose answer seems to belong to another prompt, by shared words, or by `losses` if they are given."""
    if examples.are_documents or classes or len(examples) < _FEWEST_ROWS:
        return []
    step = max(1, -(-len(examples) // (MOST_SCORED if losses else _MOST_ROWS)))
    places = list(range(0, len(examples), step))
    own, elsewhere, exchanged = (_by_losses if losses else _by_words)(examples, places, watch, losses)
    scores, trials = own - elsewhere, exchanged - elsewhere
    cut = _cut(scores, trials)
    if cut is None:
        return []
    why = (
        "its prompt makes the answer hardly likelier than other prompts do"
        if losses
        else "shares hardly a word with its prompt"
    )
    rows = {
        at: (f"{shorten(examples.answers[at], 60)}: {why}", round(-float(score), 3))
        for at, score in zip(places, scores, strict=True)
        if score >= cut
    }
    named = float((trials >= cut).mean())
    trial = f"Tried on these rows: of answers exchanged at random, {named:.0%} would be named."
    return _findings("suspicious_answer", rows, trial, examples)


def _findings(kind: str, rows: Mapping[int, tuple[str, float]], trial: str, examples: Examples) -> list[Finding]:
    order = sorted(rows, key=lambda position: rows[position][1])
    findings = by_split(kind, rows, examples)
    for finding in findings:
        here = [position for position in order if examples.split[position] == finding.split]
        texts = [f"{shorten(examples.prompts[at], 70)} → {rows[at][0]}" for at in here]
        finding.shown = [trial, *texts[:4]]
        finding.detail["because"] = [rows[position][0] for position in sorted(here)]
        finding.detail["first"] = [examples.row[position] for position in here[:_FIRST]]
    return findings


def _cut(own: Any, exchanged: Any) -> float | None:
    """The score from which on a row is named: where the exchanged answers stand out most. None if they do not."""
    import numpy as np

    scores = np.unique(exchanged)
    named = np.array([(exchanged >= score).mean() for score in scores])
    # One row more, so that few rows are not taken for none.
    ratios = np.array([(own >= score).sum() + 1 for score in scores]) / len(own) / named
    ratios[named < _FEWEST_NAMED] = 1
    best = ratios.min(initial=1)
    if best > _MOST_UNLIKE:
        return None
    # Among equals, the one that names most: the lowest ratio of all is partly chance.
    return float(scores[ratios <= min(_EQUALLY_GOOD * best, _MOST_UNLIKE)].min())


def _by_words(examples: Examples, places: list[int], watch: Watch, _: Any) -> tuple[Any, Any, Any]:
    """How few words answers share with their prompts, with nothing (0), and with the prompts of other rows."""
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer

    prompts, answers = ([texts[at] for at in places] for texts in (examples.prompts, examples.answers))
    nothing = np.zeros(len(places))
    try:
        words = TfidfVectorizer(sublinear_tf=True, stop_words="english", token_pattern=r"\w+").fit([*prompts, *answers])
    except ValueError:  # no words at all
        return nothing, nothing, nothing
    left, right = words.transform(prompts), words.transform(answers)
    watch.at(1, 2)

    def unlike(shift: int) -> Any:
        order = (np.arange(len(places)) + shift) % len(places)
        return -np.asarray(left[order].multiply(right).sum(axis=1)).ravel()

    return unlike(0), nothing, unlike(_shifts(len(places))[0])


def _by_losses(examples: Examples, places: list[int], watch: Watch, losses: AnswerLosses) -> tuple[Any, Any, Any]:
    """The losses of answers after their own prompts, and after those of two other rows."""
    import numpy as np

    turns = [examples.turns[at] for at in places]
    scored = []
    for number, shift in enumerate((0, *_shifts(len(places)))):
        watch.at(number, 3)
        moved = [[*turns[(at + shift) % len(turns)][:-1], turns[at][-1]] for at in range(len(turns))]
        scored.append(np.array(losses(moved)))
    own, elsewhere, exchanged = scored
    return own, elsewhere, exchanged


def _shifts(rows: int) -> tuple[int, int]:
    """By how many rows prompts are moved on: far, since neighbors in a file are often alike."""
    first, second = random.Random(0).sample(range(rows // 4, rows - rows // 4), 2)
    return first, second


def find_suspects(texts: Sequence[str], labels: Sequence[str], watch: Watch | None = None) -> Suspects:
    """The positions of suspicious labels, each with the likelier label and by how much it is likelier (negative)."""
    import numpy as np

    watch = watch or Watch()
    counts = Counter(labels)
    step = max(1, -(-len(texts) // _MOST_ROWS))
    places = [at for at in range(0, len(texts), step) if counts[labels[at]] >= _FEWEST_OF_CLASS * step]
    names = sorted({labels[at] for at in places})
    if len(places) < _FEWEST_ROWS or len(names) < 2:
        return Suspects({}, 0)
    number = {name: index for index, name in enumerate(names)}
    known = np.array([number[labels[at]] for at in places])
    chances = _out_of_sample([texts[at] for at in places], known, watch)
    if chances is None:
        return Suspects({}, 0)
    right, commonest = (chances.argmax(axis=1) == known).mean(), np.bincount(known).max() / len(known)
    if right < commonest + _BETTER_THAN_CHANCE * (1 - commonest):
        return Suspects({}, 0)
    own = chances[np.arange(len(known)), known]
    usual = np.array([own[known == index].mean() for index in range(len(names))])
    margin, other = _margins(chances, known, usual)
    suspects = np.flatnonzero(margin <= -_MARGIN)
    if len(suspects) > _MOST_SHARE * len(known):
        return Suspects({}, 0)
    exchanged = (known + np.random.default_rng(0).integers(1, len(names), len(known))) % len(names)
    named = float((_margins(chances, exchanged, usual)[0] <= -_MARGIN).mean())
    rows = {places[at]: (names[other[at]], round(float(margin[at]), 3)) for at in suspects.tolist()}
    return Suspects(rows, named)


def _margins(chances: Any, known: Any, usual: Any) -> tuple[Any, Any]:
    """By how much the label is likelier than the likeliest other class that passes its threshold, and that class."""
    import numpy as np

    rows = np.arange(len(known))
    sure = np.where(chances >= usual, chances, 0)
    sure[rows, known] = 0
    margin = np.where(sure.max(axis=1) > 0, chances[rows, known] - sure.max(axis=1), 1)
    return margin, sure.argmax(axis=1)


def _out_of_sample(texts: Sequence[str], known: Any, watch: Watch) -> Any:
    """The probability of every class for every text, by classifiers that have not seen it or an equal text."""
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_union

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_df=0.9, max_features=20_000, dtype=np.float32)
    letters = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True, max_df=0.9, max_features=20_000, dtype=np.float32
    )
    groups = [hash(" ".join(text.lower().split())) for text in texts]
    chances = np.zeros((len(texts), int(known.max()) + 1))
    folds = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=0)
    try:
        vectors = make_union(words, letters).fit_transform(texts)
        for number, (train, held) in enumerate(folds.split(vectors, known, groups)):
            watch.at(number, _FOLDS)
            model = LogisticRegression(C=10, class_weight="balanced", max_iter=200).fit(vectors[train], known[train])
            chances[np.ix_(held, model.classes_)] = model.predict_proba(vectors[held])
    except ValueError:  # no words at all, or a class in one group only
        return None
    return chances
