"""From losses and continuations of training rows and unseen ones to figures, a decision and two sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ftlab.evaluation.continuation import Continued
from ftlab.evaluation.figures import percent
from ftlab.evaluation.perplexity import Losses
from ftlab.evaluation.significance import LEVEL, SEED, Clusters, draw_sums, p_text, percentiles, share_interval

FEWEST_CARRIED = 0.5  # below it most of what was learnt holds for the training rows only
MEMORY_SHARE = 0.1  # by how much more of the n-grams of training rows is word for word
LARGE_GAP = math.log(1.5)  # nats per token: a perplexity half as large again

By = Mapping[str, Any]  # "train" and "held_out"


def conclude(
    losses: Mapping[str, Mapping[str, Losses]],
    continued: Mapping[str, Sequence[Continued]],
    leaks: Mapping[str, Any],
    clusters: Mapping[str, Clusters] | None = None,
) -> dict[str, Any]:
    """The figures of `measure_memorisation`: `losses` by side and kind of row, `continued` by kind of row.

    `clusters` by kind of row: what each row of `losses` belongs to, and under "continued held_out" each of `continued`.
    """
    tied = dict(clusters or {})
    gap, gap_interval = _gap(losses["adapted"], tied)
    carried, carried_interval = _carried_over(losses, tied) if "base" in losses else (None, None)
    own = {kind: tied.get(f"continued {kind}") for kind in continued}
    shares = {kind: _shares(rows, own[kind]) for kind, rows in continued.items()} if all(continued.values()) else None
    p = _difference(continued, own) if shares else None
    more = shares["train"]["overlap"] - shares["held_out"]["overlap"] if shares else 0.0
    memorised = bool(shares) and p < LEVEL and more > MEMORY_SHARE
    lost = carried is not None and carried < FEWEST_CARRIED
    overfitted = gap_interval is not None and gap_interval[0] > 0 and (gap > LARGE_GAP or lost)
    figures = {
        "losses": {side: {kind: _mean(of) for kind, of in kinds.items()} for side, kinds in losses.items()},
        "gap": gap,
        "gap_interval": gap_interval,
        "carried_over": carried,
        "carried_over_interval": carried_interval,
        "continuation": shares,
        "continuation_p": p,
        "memorised": memorised,
        "overfitted": overfitted,
    }
    said = [_fit_in_words(figures), _continuation_in_words(figures)]
    if leaks["same"] or leaks["near"] or leaks.get("answer"):
        said.append(leaks["text"])
    return figures | {"text": " ".join(said)}


def _mean(losses: Losses) -> float:
    return math.fsum(losses.nll) / max(1, sum(losses.tokens))


def _gap(losses: Mapping[str, Losses], tied: Mapping[str, Clusters]) -> tuple[float, list[float] | None]:
    """How much higher the loss of unseen rows is, in nats per token, and its 95% bootstrap interval."""
    drawn = {kind: _draw(of, tied.get(kind)) for kind, of in losses.items()}
    ends = _ends(drawn["held_out"] - drawn["train"], losses, tied)
    return _mean(losses["held_out"]) - _mean(losses["train"]), ends


def _ends(values: Any, losses: Mapping[str, Losses], tied: Mapping[str, Clusters]) -> list[float] | None:
    """As wide as the kind with fewer rows (or clusters of them) makes it; None where that is one row."""
    fewest = min(len(set(keys)) if (keys := tied.get(kind)) else len(of.nll) for kind, of in losses.items())
    return percentiles(values, fewest) if fewest > 1 and len(values) else None


def _carried_over(
    losses: Mapping[str, Mapping[str, Losses]], tied: Mapping[str, Clusters]
) -> tuple[float | None, list[float] | None]:
    """Improvement over the base on unseen rows by that on training rows, and its 95% bootstrap interval.

    None where the training rows did not improve: then nothing was learnt that could carry over.
    """
    import numpy as np

    gains = {kind: _mean(losses["base"][kind]) - _mean(losses["adapted"][kind]) for kind in ("train", "held_out")}
    if gains["train"] <= 0:
        return None, None
    # The same draws for both sides: they scored the same rows.
    drawn = {
        kind: _draw(losses["base"][kind], tied.get(kind)) - _draw(losses["adapted"][kind], tied.get(kind))
        for kind in gains
    }
    shares = drawn["held_out"] / np.where(drawn["train"] > 0, drawn["train"], np.nan)
    return gains["held_out"] / gains["train"], _ends(shares[~np.isnan(shares)], losses["base"], tied)


def _draw(losses: Losses, clusters: Clusters) -> Any:
    """Mean losses of bootstrap samples of the rows."""
    import numpy as np

    sums = draw_sums(np.column_stack([losses.nll, losses.tokens]).astype(np.float64), clusters)
    return sums[:, 0] / np.maximum(sums[:, 1], 1)


def _shares(rows: Sequence[Continued], clusters: Clusters) -> dict[str, Any]:
    exact = sum(row.exact for row in rows)
    return {
        "rows": len(rows),
        "exact": exact / len(rows),
        "exact_interval": share_interval([float(row.exact) for row in rows], clusters),
        "overlap": math.fsum(row.overlap for row in rows) / len(rows),
        "longest": math.fsum(row.longest for row in rows) / len(rows),
    }


def _difference(continued: Mapping[str, Sequence[Continued]], tied: Mapping[str, Clusters]) -> float:
    """The two-sided p of a permutation test on the mean n-gram overlap of two kinds of rows; rows that belong together
    count once, with their mean."""
    import numpy as np
    from scipy.stats import permutation_test

    samples = [np.array(_once([row.overlap for row in continued[kind]], tied[kind])) for kind in ("train", "held_out")]
    if min(map(len, samples)) < 2:
        return 1.0
    result = permutation_test(
        samples,
        lambda x, y, axis: x.mean(axis=axis) - y.mean(axis=axis),
        permutation_type="independent",
        vectorized=True,
        n_resamples=9999,
        batch=256,
        rng=np.random.default_rng(SEED),
    )
    return float(result.pvalue)


def _once(values: Sequence[float], clusters: Clusters) -> list[float]:
    if clusters is None:
        return list(values)
    together: dict[Any, list[float]] = {}
    for value, key in zip(values, clusters, strict=True):
        together.setdefault(key, []).append(value)
    return [math.fsum(one) / len(one) for one in together.values()]


def _fit_in_words(figures: Mapping[str, Any]) -> str:
    own = figures["losses"]["adapted"]
    evidence = f"loss {own['train']:.3g} on training rows, {own['held_out']:.3g} on unseen ones"
    carried = figures["carried_over"]
    if carried is not None and carried > 0:
        share = percent(min(1.0, round(carried, 3)))
        evidence += f"; of what it gained on training rows, {share} carries over to unseen ones"
    elif carried is not None:
        evidence += ", which the base predicts better"
    if figures["overfitted"]:
        return f"The model is overfitted: {evidence}."
    return f"{_capital(evidence)}."


def _continuation_in_words(figures: Mapping[str, Any]) -> str:
    shares = figures["continuation"]
    if shares is None:
        return "The answers are too short to tell whether rows are repeated word for word."
    seen, unseen = shares["train"], shares["held_out"]
    evidence = (
        f"from the middle of an answer it goes on word for word in {percent(round(seen['exact'], 3))} of training rows "
        f"and {percent(round(unseen['exact'], 3))} of unseen ones ({p_text(figures['continuation_p'])} for the overlap)"
    )
    if figures["memorised"]:
        return f"It has learnt rows by heart: {evidence}."
    return f"Nothing shows that it learnt rows by heart: {evidence}."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
