"""Three contestants or more: a round robin, ranked by Bradley and Terry's model."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ftlab.arena.ballots import Ballot
from ftlab.evaluation.significance import SEED

_RESAMPLES = 400


def bradley_terry(ballots: Sequence[Ballot], titles: Mapping[str, str]) -> list[dict[str, Any]]:
    """The contestants from strongest to weakest: id, title, strength, interval, wins, losses, ties.

    Strength is the mean probability to win a vote against each of the others under the model of R. A. Bradley and M. E.
    Terry (1952, Biometrika 39), fitted by evalica; a vote for neither counts half a win for both. The 95% interval is a
    percentile bootstrap over prompts, because votes cluster by prompt, wider by what Student's t adds where these are
    few (T. Hesterberg, The American Statistician 69, 2015, section 5). Empty without votes.
    """
    import numpy as np
    from scipy.stats import norm, t

    votes = [ballot for ballot in ballots if ballot.choice != "skip"]
    if not votes:
        return []
    names = list(titles)
    prompts = {prompt: i for i, prompt in enumerate(dict.fromkeys(ballot.prompt for ballot in votes))}
    of_vote = np.asarray([prompts[ballot.prompt] for ballot in votes])
    point = _strengths(votes, names, np.ones(len(votes)))
    drawn = np.random.default_rng(SEED).multinomial(len(prompts), [1 / len(prompts)] * len(prompts), size=_RESAMPLES)
    resampled = np.asarray([_strengths(votes, names, counts[of_vote].astype(float)) for counts in drawn])
    few, low, high = len(prompts), np.zeros(len(names)), np.ones(len(names))
    if few > 1:  # one prompt tells nothing of the next
        tail = 100 * norm.cdf(-math.sqrt(few / (few - 1)) * t.ppf(0.975, few - 1))
        low, high = np.percentile(resampled, [tail, 100 - tail], axis=0)
    tally: Counter[tuple[str, str]] = Counter()
    for ballot in votes:
        for one in (ballot.left, ballot.right):
            tally[one, "ties" if ballot.winner is None else "wins" if ballot.winner == one else "losses"] += 1
    rows = [
        {
            "id": name,
            "title": titles[name],
            "strength": float(point[i]),
            "interval": [float(low[i]), float(high[i])],
            **{word: tally[name, word] for word in ("wins", "losses", "ties")},
        }
        for i, name in enumerate(names)
    ]
    return sorted(rows, key=lambda row: -row["strength"])


def pairs(titles: Mapping[str, str]) -> list[tuple[str, str]]:
    """Every two contestants, the earlier of the test first."""
    return list(itertools.combinations(titles, 2))


def _strengths(votes: Sequence[Ballot], names: Sequence[str], weights: Any) -> Any:
    import evalica
    import numpy as np
    import pandas as pd

    met = weights > 0
    some = [vote for vote, kept in zip(votes, met, strict=True) if kept]
    winners = [
        evalica.Winner.Draw
        if vote.winner is None
        else evalica.Winner.X
        if vote.winner == vote.left
        else evalica.Winner.Y
        for vote in some
    ]
    found = evalica.bradley_terry(
        [vote.left for vote in some],
        [vote.right for vote in some],
        winners,
        index=pd.Index(names),
        weights=weights[met],
        limit=1000,
    )
    scores = np.maximum(found.scores.reindex(names).to_numpy(dtype=float), 1e-12)
    beats = scores[:, None] / (scores[:, None] + scores[None, :])
    return (beats.sum(axis=1) - 0.5) / (len(names) - 1)
