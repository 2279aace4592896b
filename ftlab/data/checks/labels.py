"""Rows an expert should read first: the labels and answers that fit their prompts least, each with the reason.

Labels (a whole answer, or a field of JSON answers) use confident learning (Northcutt, Jiang and Chuang 2021, arXiv
1911.00068, section 3). It takes out-of-sample probabilities of every class and one threshold per class (the mean
probability given to the rows of that class), and flags the rows that pass the threshold of another class. The
probabilities come from cross-validated logistic regression on words and letters. It needs no base and takes seconds.
Several rows that stand out by far become a finding.

Answers in sentences are ranked, never reported. They are ranked by the words they share with their prompt, alone or
combined with the answers to the most similar prompts. The rows themselves decide which of the two is used, and whether
there is a ranking at all: shuffled answers must rank ahead of the original ones.

Precision on planted errors: `tests/benchmarks/wrong_labels.py` and `docs/data.md`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ftlab.core.parsing import json_or
from ftlab.data.checks.finding import Examples, Finding, SuspectJson, by_split
from ftlab.data.checks.personal import mask
from ftlab.data.normal import Watch
from ftlab.errors import shorten

MOST_LISTED = 20  # rows to read first, unless the finding has more
_FOLDS = 5
_FEWEST_ROWS, _FEWEST_OF_CLASS = 60, 6
_MOST_ROWS = 5_000
_BETTER_THAN_CHANCE = 0.5  # of the way from always predicting the majority class to always being right
_MARGIN = 0.5  # by how much another class must be more probable than the label
_FEWEST_NAMED = 3  # one or two rows that stand out are only listed: correct rows can stand out, too
_MOST_SHARE = 0.15  # of the rows; above this, the classifier is at fault
_FEWEST_APART = 0.9  # area under the ROC curve of shuffled answers against the original rows
_NEIGHBORS = 8


class Ranking(NamedTuple):
    """Suspicious rows, the worst first: (position, why, a better-fitting label or ""). `named` are the positions that
    stand out by far."""

    order: list[tuple[int, str, str]]
    named: list[int]


def suspicious(examples: Examples, watch: Watch, classes: Mapping[str, Any]) -> tuple[list[Finding], list[SuspectJson]]:
    """The finding for labels that their prompts contradict, and the rows to read first, the worst first."""
    if examples.are_documents:
        return [], []
    ranking = _rank_fields(examples, watch, classes) if classes else _rank_answers(examples, watch)
    why = {at: (reason, other) for at, reason, other in ranking.order}
    listed = [at for at, _, _ in ranking.order[: max(MOST_LISTED, len(ranking.named))]]
    findings = by_split("suspicious_label", ranking.named, examples)
    for finding in findings:
        here = [at for at in ranking.named if examples.split[at] == finding.split]
        finding.excerpts = [f"{mask(shorten(examples.prompts[at], 70))} → {why[at][0]}" for at in here[:5]]
        finding.detail["suggested"] = [why[at][1] for at in sorted(here)]
        finding.detail["first"] = [examples.row[at] for at in here[:MOST_LISTED]]
    return findings, [{"split": examples.split[at], "row": examples.row[at], "why": why[at][0]} for at in listed]


def _rank_fields(examples: Examples, watch: Watch, classes: Mapping[str, Any]) -> Ranking:
    """Rank each row by its worst label."""
    worst: dict[int, tuple[float, str, str]] = {}
    named: set[int] = set()
    for name in classes:
        places, labels = _labels_of(examples.answers, name)
        suspects, sure = rank_labels([examples.prompts[at] for at in places], labels, watch)
        named |= {places[at] for at in sure}
        for at, (other, margin) in suspects.items():
            label = shorten(labels[at], 40) if name == "answer" else f"{name} {shorten(labels[at], 40)}"
            reason = (margin, f"{label}, but looks like {shorten(other, 40)}", other)
            worst[places[at]] = min(worst.get(places[at], reason), reason)
    order = sorted(worst, key=lambda at: (at not in named, worst[at][0]))
    return Ranking(
        [(at, *worst[at][1:]) for at in order],
        [at for at in order if at in named] if len(named) >= _FEWEST_NAMED else [],
    )


def _labels_of(answers: Sequence[str], name: str) -> tuple[list[int], list[str]]:
    """The positions that have a label in `name` (a field of JSON, or "answer"), and the labels."""
    if name == "answer":
        return list(range(len(answers))), [answer.strip() for answer in answers]
    values = [json_or(answer, None) for answer in answers]
    places = [at for at, value in enumerate(values) if isinstance(value, dict) and isinstance(value.get(name), str)]
    return places, [values[at][name].strip() for at in places]


def rank_labels(
    texts: Sequence[str], labels: Sequence[str], watch: Watch | None = None
) -> tuple[dict[int, tuple[str, float]], list[int]]:
    """The positions where another label is more probable, with that label and the margin (negative), and those among
    them with a large margin. Both are empty if the texts do not predict the label."""
    import numpy as np

    watch = watch or Watch()
    counts = Counter(labels)
    step = max(1, -(-len(texts) // _MOST_ROWS))
    places = [at for at in range(0, len(texts), step) if counts[labels[at]] >= _FEWEST_OF_CLASS * step]
    names = sorted({labels[at] for at in places})
    if len(places) < _FEWEST_ROWS or len(names) < 2:
        return {}, []
    number = {name: index for index, name in enumerate(names)}
    known = np.array([number[labels[at]] for at in places])
    chances = _out_of_sample([texts[at] for at in places], known, watch)
    if chances is None:
        return {}, []
    right, commonest = (chances.argmax(axis=1) == known).mean(), np.bincount(known).max() / len(known)
    if right < commonest + _BETTER_THAN_CHANCE * (1 - commonest):
        return {}, []
    rows = np.arange(len(known))
    own = chances[rows, known].copy()
    usual = np.array([own[known == index].mean() for index in range(len(names))])
    chances[rows, known] = 0
    other, margin = chances.argmax(axis=1), own - chances.max(axis=1)
    passed = np.where(chances >= usual, chances, 0).max(axis=1)
    sure = np.flatnonzero((passed > 0) & (own - passed <= -_MARGIN))
    suspects = {places[at]: (names[other[at]], round(float(margin[at]), 3)) for at in np.flatnonzero(margin < 0)}
    return suspects, [] if len(sure) > _MOST_SHARE * len(known) else [places[at] for at in sure]


def _rank_answers(examples: Examples, watch: Watch) -> Ranking:
    """Rank answers in sentences, the least related to their prompt first."""
    import numpy as np
    from sklearn.metrics import roc_auc_score

    step = max(1, -(-len(examples) // _MOST_ROWS))
    places = list(range(0, len(examples), step))
    if len(places) < _FEWEST_ROWS:
        return Ranking([], [])
    prompts, answers = ([texts[at] for at in places] for texts in (examples.prompts, examples.answers))
    try:
        by_words, by_neighbors = _shared_words(prompts, answers), _like_neighbors(prompts, answers, watch)
    except ValueError:  # no words at all
        return Ranking([], [])
    both = tuple(
        _place(shared, by_words[0]) + _place(near, by_neighbors[0])
        for shared, near in zip(by_words, by_neighbors, strict=True)
    )
    truth = [1] * len(places) + [0] * len(places)
    apart, scores, why = max(
        (
            (roc_auc_score(truth, np.concatenate(own_and_exchanged)), own_and_exchanged[0], why)
            for own_and_exchanged, why in (
                (by_words, "the answer shares few words with its prompt"),
                (both, "the answer shares few words with its prompt and with the answers of similar prompts"),
            )
        ),
        key=lambda way: way[0],
    )
    if apart < _FEWEST_APART:
        return Ranking([], [])
    order = np.argsort(scores, kind="stable").tolist()
    return Ranking([(places[at], why, "") for at in order], [])


def _place(scores: Any, among: Any) -> Any:
    """The share of `among` below each score; ties count half."""
    import numpy as np

    ordered = np.sort(among)
    sides = [np.searchsorted(ordered, scores, side) for side in ("left", "right")]
    return (sides[0] + sides[1]) / 2 / len(ordered)


def _exchanged(rows: int) -> Any:
    """The order in which answers move to other rows. They move far, since neighboring rows are often alike."""
    import numpy as np

    return (np.arange(rows) + rows // 3 + 5) % rows


def _shared_words(prompts: list[str], answers: list[str]) -> tuple[Any, Any]:
    """How many rare words answers share with their own prompts, and with the prompts of other rows."""
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(sublinear_tf=True, stop_words="english", token_pattern=r"\w+").fit([*prompts, *answers])
    left, right = words.transform(prompts), words.transform(answers)

    def shared(answers: Any) -> Any:
        return np.asarray(left.multiply(answers).sum(axis=1)).ravel()

    return shared(right), shared(right[_exchanged(len(prompts))])


def _like_neighbors(prompts: list[str], answers: list[str], watch: Watch) -> tuple[Any, Any]:
    """The word similarity of each answer to the answers of the nearest prompts, and that of an answer from another
    row."""
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer

    left = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), dtype=np.float32).fit_transform(prompts)
    right = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+", dtype=np.float32).fit_transform(answers)
    moved = right[_exchanged(len(prompts))]
    own, other = np.zeros(len(prompts)), np.zeros(len(prompts))
    for begin in range(0, len(prompts), 500):
        watch.at(begin, len(prompts))
        block = np.arange(begin, min(begin + 500, len(prompts)))
        alike = (left[block] @ left.T).toarray()
        alike[block - begin, block] = -1
        nearest = np.argsort(-alike, axis=1, kind="stable")[:, :_NEIGHBORS]
        weights = np.take_along_axis(alike, nearest, axis=1) + 1e-6
        for column in range(_NEIGHBORS):
            near = right[nearest[:, column]]
            own[block] += weights[:, column] * np.asarray(right[block].multiply(near).sum(axis=1)).ravel()
            other[block] += weights[:, column] * np.asarray(moved[block].multiply(near).sum(axis=1)).ravel()
        own[block] /= weights.sum(axis=1)
        other[block] /= weights.sum(axis=1)
    return own, other


def _out_of_sample(texts: Sequence[str], known: Any, watch: Watch) -> Any:
    """The probability of every class for every text, from classifiers that have not seen the text or an equal one."""
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_union

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_df=0.9, max_features=20_000, dtype=np.float32)
    letters = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True, max_df=0.9, max_features=20_000, dtype=np.float32
    )
    first: dict[str, int] = {}  # not hash(): it differs between processes, and so would the folds
    groups = [first.setdefault(" ".join(text.lower().split()), len(first)) for text in texts]
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
