"""Is it representative? Prompts from the real world, or the held-out ones, against the prompts of training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ftlab.data.checks.examples import Examples, Watch
from ftlab.data.checks.finding import Finding, by_split
from ftlab.data.words import split_words
from ftlab.errors import shorten

_MOST_TRAIN, _MOST_ASKED = 20_000, 1_000
_FEWEST = 10  # prompts on both sides
_NEAREST = 0.15  # cosine of TF-IDF to the nearest training prompt, below which a prompt may be uncovered
_RARE = 0.02  # of the training prompts are as far from each other as an uncovered prompt is from all of them
_RELATED = 0.1  # cosine from which on two uncovered prompts are about the same
_TOPIC = 3  # related prompts make a topic; fewer are odd ones, as every random split has them
_TERMS = 4
_PIECE = 100


def compare_prompts(train: Sequence[str], asked: Sequence[str], watch: Watch | None = None) -> dict[str, Any]:
    """How well the `train` prompts cover the `asked` ones (plain JSON).

    `vocabulary`: share of the words of `asked` that training uses, and the commonest that it does not. `length`: median
    and 95th percentile in words on both sides. `topics`: clusters of the asked prompts by TF-IDF, each with its
    commonest terms and its size; `covered` is False for topics of three or more related prompts that are unlike
    anything in training. `uncovered`: indices of their prompts. A prompt is unlike training when its cosine to the
    nearest training prompt is below 0.15 and below that of 98% of the training prompts to their nearest neighbour.
    """
    watch = watch or Watch()
    train, asked = _thinned(train, _MOST_TRAIN), list(asked)
    report = {"train_prompts": len(train), "asked_prompts": len(asked), "vocabulary": _vocabulary(train, asked)}
    report["length"] = {"train": _lengths(train), "asked": _lengths(asked)}
    if min(len(train), len(asked)) < 2:
        return report | {"topics": [], "uncovered": []}
    return report | _topics(train, asked, watch)


def held_out_coverage(
    examples: Examples, watch: Watch, asked: Sequence[str] | None = None
) -> tuple[dict[str, Any] | None, list[Finding]]:
    """`compare_prompts` of training and held-out prompts, or of training and the prompts `asked` in the real world;
    None where there are too few of either. `uncovered` become [split, row], or ["asked", index]."""
    prompts = examples.prompts
    train = examples.positions("train")
    if asked is not None:
        if not train or not asked:
            return None, []
        report = compare_prompts([prompts[position] for position in train], asked[:_MOST_ASKED], watch)
        report["uncovered"] = [["asked", index] for index in report["uncovered"]]
        return report, []
    held = [position for position, split in enumerate(examples.split) if split != "train"]
    held = _thinned(held, _MOST_ASKED)
    if min(len(train), len(held)) < _FEWEST:
        return None, []
    report = compare_prompts([prompts[position] for position in train], [prompts[p] for p in held], watch)
    outside = {held[index]: shorten(prompts[held[index]], 100) for index in report["uncovered"]}
    topics = [topic["terms"] for topic in report["topics"] if not topic["covered"]]
    findings = by_split("not_covered", outside, examples, shown=outside, detail={"topics": topics})
    report["uncovered"] = [list(examples.place(held[index])) for index in report["uncovered"]]
    return report, findings


def _vocabulary(train: Sequence[str], asked: Sequence[str]) -> dict[str, Any]:
    from collections import Counter

    known = {word for text in train for word in split_words(text)}
    words = Counter(word for text in asked for word in split_words(text))
    new = Counter({word: count for word, count in words.items() if word not in known and not word.isdigit()})
    total = sum(words.values())
    return {
        "covered": round(1 - sum(new.values()) / total, 4) if total else 1.0,
        "new_words": [word for word, _ in new.most_common(20)],
    }


def _lengths(texts: Sequence[str]) -> dict[str, int]:
    sizes = sorted(len(split_words(text)) for text in texts)
    if not sizes:
        return {"median_words": 0, "p95_words": 0}
    return {"median_words": sizes[len(sizes) // 2], "p95_words": sizes[int(0.95 * (len(sizes) - 1))]}


def _topics(train: Sequence[str], asked: Sequence[str], watch: Watch) -> dict[str, Any]:
    import numpy as np
    from sklearn.cluster import KMeans
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, TfidfVectorizer

    vectorizer = TfidfVectorizer(
        tokenizer=split_words,
        token_pattern=None,
        lowercase=False,
        sublinear_tf=True,
        max_features=30_000,
        dtype=np.float32,
    )
    vectors = vectorizer.fit_transform([*train, *asked])
    known, wanted = vectors[: len(train)], vectors[len(train) :]
    nearest = _nearest(wanted, known, watch)
    own = np.arange(0, len(train), max(1, len(train) // 1000))
    usual = _nearest(known[own], known, watch, leave_out=own)
    bound = min(_NEAREST, float(np.quantile(usual, _RARE)))
    groups = [(members, False) for members in _related(wanted, np.flatnonzero(nearest < bound))]
    outside = sorted(int(place) for members, _ in groups for place in members)
    inside = np.setdiff1d(np.arange(len(asked)), outside)
    if len(inside):
        count = int(min(12, max(1, round((len(inside) / 5) ** 0.5))))
        labels = KMeans(count, n_init=2, max_iter=50, random_state=0).fit_predict(wanted[inside])
        groups += [(inside[labels == label], True) for label in range(count) if (labels == label).any()]
    names = vectorizer.get_feature_names_out()
    plain = np.array([name in ENGLISH_STOP_WORDS or len(name) < 3 or name.isdigit() for name in names])
    topics = []
    for members, covered in groups:
        weights = np.where(plain, 0, np.asarray(wanted[members].mean(axis=0)).ravel())
        topics.append(
            {
                "terms": [str(names[place]) for place in np.argsort(-weights)[:_TERMS] if weights[place] > 0],
                "prompts": len(members),
                "covered": covered,
                "similarity": round(float(nearest[members].mean()), 3),
                "example": shorten(asked[int(members[np.argmin(nearest[members])])], 100),
            }
        )
    topics.sort(key=lambda topic: (topic["covered"], -topic["prompts"]))
    return {"topics": topics, "uncovered": outside}


def _related(vectors: Any, places: Any) -> list[Any]:
    """Groups of three or more of the `places` that are related to one another."""
    import numpy as np
    from scipy.sparse.csgraph import connected_components

    if len(places) < _TOPIC:
        return []
    alike = (vectors[places] @ vectors[places].T) >= _RELATED
    count, labels = connected_components(alike, directed=False)
    return [places[labels == label] for label in range(count) if np.count_nonzero(labels == label) >= _TOPIC]


def _nearest(some: Any, known: Any, watch: Watch, leave_out: Any = None) -> Any:
    """Cosine of each row of `some` to the nearest row of `known`; `leave_out` are their own places in `known`."""
    import numpy as np

    best = np.zeros(some.shape[0], np.float32)
    for begin in range(0, some.shape[0], _PIECE):
        watch.at(begin, some.shape[0])
        products = (some[begin : begin + _PIECE] @ known.T).tocoo()
        if leave_out is not None:
            products.data[products.col == leave_out[begin : begin + _PIECE][products.row]] = 0
        best[begin : begin + _PIECE] = products.tocsr().max(axis=1).toarray().ravel()
    return best


def _thinned(items: Sequence[Any], most: int) -> list[Any]:
    step = max(1, -(-len(items) // most))
    return list(items[::step])
