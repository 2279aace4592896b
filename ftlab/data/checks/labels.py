"""Labels that look wrong: what a classifier trained on the other rows is sure of, and the row says otherwise.

Confident learning (Northcutt, Jiang and Chuang 2021, arXiv 1911.00068, section 3): out-of-sample probabilities of every
class, a threshold a class (the mean probability that its own rows get), and the rows that pass the threshold of another
class. The probabilities are cross-validated logistic regressions on words and letters, which needs no base and seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ftlab.data.checks.finding import Examples, Finding, by_split
from ftlab.data.normal import Watch
from ftlab.errors import shorten

_FOLDS = 5
_FEWEST_ROWS, _FEWEST_OF_CLASS = 60, 6
_MOST_ROWS = 5_000
_BETTER_THAN_CHANCE = 0.5  # of the way from always the commonest class to always right
_MARGIN = 0.25  # by which another class must be likelier than the label
_MOST_SHARE = 0.15  # of the rows; above, the classifier is what is wrong


def suspicious_labels(examples: Examples, watch: Watch, classes: Mapping[str, Any]) -> list[Finding]:
    """Rows whose whole answer is a label that their text contradicts, the most suspicious shown first."""
    if "answer" not in classes:
        return []
    texts, labels = examples.prompts, [answer.strip() for answer in examples.answers]
    suspects = find_suspects(texts, labels, watch)
    order = sorted(suspects, key=lambda position: suspects[position][1])
    findings = by_split("suspicious_label", suspects, examples)
    for finding in findings:
        rows = [position for position in order if examples.split[position] == finding.split]
        finding.excerpts = [
            f"{shorten(texts[at], 70)} → {shorten(labels[at], 40)}, but looks like {shorten(suspects[at][0], 40)}"
            for at in rows[:5]
        ]
        finding.detail["suggested"] = [suspects[position][0] for position in sorted(rows)]
        finding.detail["first"] = [examples.row[position] for position in rows[:20]]
    return findings


def find_suspects(
    texts: Sequence[str], labels: Sequence[str], watch: Watch | None = None
) -> dict[int, tuple[str, float]]:
    """The positions of suspicious labels, each with the likelier label and by how much it is likelier (negative)."""
    import numpy as np

    watch = watch or Watch()
    counts = Counter(labels)
    step = max(1, -(-len(texts) // _MOST_ROWS))
    places = [at for at in range(0, len(texts), step) if counts[labels[at]] >= _FEWEST_OF_CLASS * step]
    names = sorted({labels[at] for at in places})
    if len(places) < _FEWEST_ROWS or len(names) < 2:
        return {}
    number = {name: index for index, name in enumerate(names)}
    known = np.array([number[labels[at]] for at in places])
    chances = _out_of_sample([texts[at] for at in places], known, watch)
    if chances is None:
        return {}
    right, commonest = (chances.argmax(axis=1) == known).mean(), np.bincount(known).max() / len(known)
    if right < commonest + _BETTER_THAN_CHANCE * (1 - commonest):
        return {}
    own = chances[np.arange(len(known)), known]
    usual = np.array([own[known == index].mean() for index in range(len(names))])
    sure = np.where(chances >= usual, chances, 0)
    sure[np.arange(len(known)), known] = 0
    other = sure.argmax(axis=1)
    margin = own - sure.max(axis=1)
    suspects = np.flatnonzero((sure.max(axis=1) > 0) & (margin <= -_MARGIN))
    if len(suspects) > _MOST_SHARE * len(known):
        return {}
    return {places[at]: (names[other[at]], round(float(margin[at]), 3)) for at in suspects.tolist()}


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
