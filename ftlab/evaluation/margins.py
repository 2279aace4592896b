"""Is a loss smaller than a margin? Non-inferiority tests over paired rows, and the number of rows needed.

`no_worse` compares two sides using a margin in points that was chosen beforehand: the whole 95% interval of the
difference must lie within the margin, and the exact test (`kept`) must agree. `tests/benchmarks/no_worse.py` counts how
often that is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ftlab.core.comparison import KeptAnswer, MeasureJson, NoWorseJson
from ftlab.core.words import listed
from ftlab.evaluation.figures import in_sentence, signed
from ftlab.evaluation.significance import (
    LEVEL,
    Clusters,
    bootstrap_t,
    exchange_tails,
    fewest_rows,
    is_clustered,
    loss_span,
    summed,
    value_range,
    with_unseen,
)

if TYPE_CHECKING:
    import numpy as np

# Above this many rows, the exact form of Tango's test takes seconds.
_MOST_EXACT = 2000


@dataclass(frozen=True)
class Kept:
    """Whether a loss is smaller than a margin.

    `answer`: kept (the loss is below `margin`, with at most 5% error if it is not), lost (there is a loss, with at most
    5% error if there is none, and it is not shown to be below the margin), or unknown. `loss` is in the unit of
    `margin`; both p are one-sided. `enough`: the approximate number of rows with which one or the other would be found
    in four of five cases, if the remaining rows are like these.
    """

    answer: KeptAnswer
    loss: float
    margin: float
    p_kept: float
    p_lost: float
    rows: int
    enough: int | None


def kept(
    base: Sequence[float],
    adapted: Sequence[float],
    *,
    margin: float,
    better: Literal["higher", "lower"] = "higher",
    binary: bool = False,
    relative: bool = False,
    clusters: Clusters = None,
) -> Kept:
    """Whether `adapted` lost less than `margin` of what `base` has, over paired rows.

    `binary`: rows are right or wrong, the margin is a share (0.05 is 5 points): see `kept_of_counts`. `relative`: the
    margin is a share of the sum of `base`, which are losses (0.05: bits per byte rise by less than 5%). Otherwise it is
    in the unit of the rows. For means and ratios, the p of "kept" is the larger one of a t test and a bootstrap-t on
    how far each row stays within the margin. The t test adds one row that is as far beyond the worst one as that is
    beyond the median, since rows that were not seen in a small sample may be worse. A ratio also needs enough rows to
    contain a rare bad one: one text in forty that takes three times the bits would be a rise of 5%. Lost: `mean_p`,
    one-sided.
    """
    import numpy as np

    old, new = np.asarray(base, dtype=np.float64), np.asarray(adapted, dtype=np.float64)
    worse = old - new if better == "higher" else new - old
    if binary:
        if not is_clustered(clusters):
            return kept_of_counts(int((worse > 0).sum()), int((worse < 0).sum()), len(worse), margin)
        return _kept_of_clusters(worse, margin, clusters)
    loss = float(worse.sum() / old.sum()) if relative and old.sum() else float(worse.mean())
    within = summed(margin * old - worse if relative else margin - worse, clusters)
    fallen = summed(worse, clusters)
    span = loss_span(old) if relative else value_range(old, new)
    unseen = with_unseen(fallen, None if span is None else span * len(old) / len(fallen))
    p_kept, p_lost = _surely_above(within), max(exchange_tails(fallen)[1], bootstrap_t(fallen)[1], unseen[1])
    fewest = 10
    if relative and 0 < margin < 1:
        # A loss shown to be small is no loss, even if the rows are too few to rule out a larger one.
        p_lost = 1.0 if p_kept <= LEVEL else p_lost
        p_kept = max(p_kept, (1 - margin / 2) ** fewest_rows(clusters, len(old)))
        fewest = math.ceil(math.log(LEVEL) / math.log1p(-margin / 2))
    spread = float(within.std(ddof=1)) if len(within) > 1 else 0.0
    room = margin * (float(old.sum()) if relative else len(old)) / len(within)
    enough = _enough(loss / margin * room, spread**2, room, fewest) if room > 0 else None
    return _decided(loss, margin, p_kept, p_lost, len(old), enough and round(enough * len(old) / len(within)))


def kept_of_counts(lost: int, gained: int, rows: int, margin: float) -> Kept:
    """Like `kept`, for right and wrong: `lost` rows only the base has right, `gained` only the adapted model, of
    `rows`.

    Kept: exact unconditional test (the largest p over all shares of gained rows) that orders outcomes by Tango's score
    (Statistics in Medicine 17, 1998, 891-908). 59 rows with none lost are the fewest that can show 5 points. Lost:
    exact one-sided McNemar.
    """
    from scipy.stats import binom

    p_kept = _tango_p(lost, gained, rows, margin)
    p_lost = float(binom.sf(lost - 1, lost + gained, 0.5)) if lost + gained else 1.0
    loss = (lost - gained) / rows if rows else 0.0
    return _decided(loss, margin, p_kept, p_lost, rows, _enough_of_shares(lost, gained, rows, margin))


_POWER = 1.960 + 0.842  # a 95% interval, and four cases of five
_DIFFERING = (0.1, 0.2)  # share of rows that only one of two sides has right


def no_worse(
    measure: MeasureJson,
    side: str,
    before: Sequence[float | None],
    after: Sequence[float | None],
    margin: float,
    *,
    clusters: Clusters = None,
    earlier: Sequence[float | None] = (),
) -> NoWorseJson:
    """Whether `side` is worse than the first side of `measure` by less than `margin` points.

    `before` and `after` are the values of the rows (empty for a measure of the whole corpus, which only has an
    interval); a missing one counts as 0. `earlier` are the margins of earlier comparisons of the two.
    """
    difference = measure["differences"].get(side)
    scale = 100.0 if measure["kind"] == "share" else 1.0 if measure["unit"] == "points" else 0.0
    changed = [other for other in dict.fromkeys(earlier) if other != margin]
    judged: NoWorseJson = {
        "margin": margin,
        "no_worse": None,
        "difference": None,
        "interval": None,
        "p": None,
        "rows": difference.get("rows", measure["rows"]) if difference else None,
        "needed": None,
        "earlier": changed,
        "text": "",
    }
    if not difference or not scale or not (ends := difference["interval"]):
        judged["text"] = f"A margin in points says nothing of {in_sentence(measure['title'])}."
        return judged
    sign = -scale if measure["better"] == "lower" else scale
    low, high = sorted(sign * end for end in ends)
    judged |= {"difference": sign * difference["value"], "interval": [low, high]}
    within = low > -margin
    if before and after:
        old, new = ([0.0 if value is None else value for value in values] for values in (before, after))
        binary = all(value in (0, 1) for value in (*old, *new))
        better = measure["better"] or "higher"
        test = kept(old, new, margin=margin / scale, better=better, binary=binary, clusters=clusters)
        judged["p"] = test.p_kept
        within = within and test.p_kept <= LEVEL
    judged["no_worse"] = True if within else None
    rows = judged["rows"]
    if rows:
        judged["needed"] = max(_fewest(margin), math.ceil(rows * ((high - low) / 2 / 1.960 * _POWER / margin) ** 2))
    judged["text"] = _in_words(judged)
    return judged


def _fewest(margin: float) -> int:
    """With fewer rows, not even equal answers that are all right can show `margin` points: Wilson's interval is
    wider."""
    share = min(margin / 100, 0.999)
    return math.ceil(1.960**2 * (1 - share) / share)


def _in_words(judged: NoWorseJson) -> str:
    points, (low, high) = f"{judged['margin']:g} points", judged["interval"] or (0.0, 0.0)
    difference = judged["difference"] or 0.0
    interval = f"the difference is {_points(difference)} (95% interval {_points(low)} to {_points(high)})"
    if judged["no_worse"]:
        text = f"No worse within the margin of {points}: {interval}."
    else:
        needed = judged["needed"] or 0
        more = f"; two equal models need about {needed:,} rows to show it" if needed > (judged["rows"] or 0) else ""
        text = f"Not shown to be no worse within the margin of {points}: {interval}{more}."
    if judged["earlier"]:
        earlier = [f"a margin of {other:g}" if other is not None else "no margin" for other in judged["earlier"]]
        text += " The margin was chosen after the results were known: before, these two were compared with "
        text += f"{listed(earlier)}."
    return text


def _points(value: float) -> str:
    return signed(f"{abs(value):.1f}", value)


def rows_for(margin: float, rows: int, clusters: Clusters = None) -> str:
    """The number of rows that a `margin` in points needs, in words, given `rows`. Shown before anything is measured."""
    few, many = (max(_fewest(margin), math.ceil(_POWER**2 * share / (margin / 100) ** 2)) for share in _DIFFERING)
    worth = math.floor(fewest_rows(clusters, rows))
    there = f"{rows:,} rows" + (f", worth {worth:,} independent ones at least" if worth < rows else "")
    text = (
        f'Showing "no worse" within {margin:g} points takes about {few:,} rows if two equal models differ on 10% of '
        f"rows, and {many:,} if on 20%. There are {there}."
    )
    if worth >= few:
        return text
    possible = (
        max(100 * _POWER * math.sqrt(_DIFFERING[0] / worth), 100 * 1.960**2 / (worth + 1.960**2)) if worth else 100
    )
    return f"{text} That is too few: hold out more, or choose a margin of {math.ceil(possible)} points."


def _decided(loss: float, margin: float, p_kept: float, p_lost: float, rows: int, enough: int | None) -> Kept:
    answer: KeptAnswer = "kept" if p_kept <= LEVEL else "lost" if p_lost <= LEVEL else "unknown"
    return Kept(answer, loss, margin, p_kept, p_lost, rows, enough)


def _kept_of_clusters(worse: np.ndarray, margin: float, clusters: Clusters) -> Kept:
    """Treats clustered rows as if all rows of a cluster were identical, which never counts too many."""
    rows = len(worse)
    worth = max(1, math.floor(fewest_rows(clusters, rows)))
    lost, gained = ((worse > 0).sum() / rows * worth, (worse < 0).sum() / rows * worth)
    p_kept = _tango_p(math.ceil(lost), math.floor(gained), worth, margin)
    exchanges = exchange_tails(summed(worse, clusters))
    enough = _enough_of_shares(lost, gained, worth, margin)
    return _decided(float(worse.mean()), margin, p_kept, exchanges[1], rows, enough and round(enough * rows / worth))


def _enough_of_shares(lost: float, gained: float, rows: int, margin: float) -> int | None:
    if not 0 < margin < 1 or not rows:
        return None
    loss = (lost - gained) / rows
    fewest = math.ceil(math.log(LEVEL) / math.log1p(-margin))
    return _enough(loss, max(0.0, (lost + gained) / rows - loss**2), margin, fewest)


def _enough(loss: float, variance: float, margin: float, fewest: int) -> int:
    """The number of rows with which, in 80% of cases, a `loss` would be told from `margin` or from zero, whichever
    comes first."""
    loss = max(0.0, loss)
    apart = max(margin - loss, loss)
    return max(fewest, math.ceil((1.645 + 0.842) ** 2 * variance / apart**2))


def _tango_p(lost: float, gained: float, rows: int, margin: float) -> float:
    """The one-sided p of the hypothesis that the share lost minus the share gained is `margin` or more."""
    import numpy as np
    from scipy.stats import binom, norm

    if not rows or margin <= 0:
        return 1.0
    if margin >= 1:
        return 0.0
    if rows > _MOST_EXACT:
        # Half a row more: without it, 5.25% of losses as large as the margin were called kept with 2,001 rows.
        return float(norm.cdf(_tango(np.array([lost + 0.5]), np.array([gained]), rows, margin)[0]))
    seen = float(_tango(np.array([lost]), np.array([gained]), rows, margin)[0])
    # For each number of gained rows, the largest number of lost rows with a score at least as extreme.
    gains = np.arange(rows + 1)
    low, high = np.full(rows + 1, -1), rows - gains
    while (low < high).any():
        middle = (low + high + 1) // 2
        clear = (middle < 0) | (_tango(middle.clip(min=0), gains, rows, margin) <= seen + 1e-9)
        low, high = np.where(clear, middle, low), np.where(clear, high, middle - 1)
    useful = low >= 0
    gains, low = gains[useful], low[useful]
    # Shares of gained rows, denser where they are small, since p changes most there.
    shares = (1 - margin) / 2 * np.linspace(0, 1, 60)[:, None] ** 2
    weight = binom.pmf(gains, rows, shares)
    chances = weight * binom.cdf(low, rows - gains, ((shares + margin) / (1 - shares)).clip(max=1.0))
    return float(min(1.0, chances.sum(axis=1).max()))


def _tango(lost: np.ndarray, gained: np.ndarray, rows: int, margin: float) -> np.ndarray:
    """Tango's score of lost minus gained against `margin`: the lower, the less was lost."""
    import numpy as np

    lead = -lost - gained + (2 * rows - lost + gained) * margin
    last = -gained * margin * (1 - margin)
    share = (np.sqrt(np.maximum(lead**2 - 8 * rows * last, 0)) - lead) / (4 * rows)
    spread = rows * (2 * share + margin * (1 - margin))
    return (lost - gained - rows * margin) / np.sqrt(spread)


def _surely_above(sums: np.ndarray) -> float:
    """The one-sided p of a mean above 0 that stays valid with a long lower tail: see `kept`."""
    import numpy as np
    from scipy.stats import t

    rows = len(sums)
    if rows < 2:
        return 1.0
    spread = float(sums.std(ddof=1))
    if not spread > 1e-12 * float(abs(sums).max()):
        # All equal: like as many heads in a row.
        return 0.5**rows if sums[0] > 0 else 1.0
    more = np.append(sums, 2 * sums.min() - np.median(sums))
    by_t = float(t.sf(more.mean() / (more.std(ddof=1) / math.sqrt(rows + 1)), rows))
    return max(by_t, bootstrap_t(sums)[1])
