"""What raters would prefer if both answers had the same length and formatting.

A logistic model of the votes that chose a side: one term for the contestant, one for each difference in style, as W.-L.
Chiang and others control for style in Chatbot Arena (lmsys.org/blog/2024-08-28-style-control). Fitted with D. Firth's
bias reduction (Biometrika 80, 1993), which stays finite if one side won everything. The interval is the jackknife that
leaves out prompts, with Student's t. `tests/benchmarks/equal_style.py` measures how often it holds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ftlab.arena.ballots import Ballot
from ftlab.arena.results import StyleJson
from ftlab.evaluation.figures import from_to, percent
from ftlab.evaluation.significance import LEVEL

if TYPE_CHECKING:
    import numpy as np

Style = tuple[int, ...]  # counts, in the order of FEATURES
FEATURES = ("words", "list items", "bold", "headings")
FEWEST_PROMPTS = 20
_MOST_BLOCKS = 100  # beyond this many, prompts are left out in groups
_STEPS, _FEW_STEPS = 50, 20
_ITEM = re.compile(r"^[ \t]*(?:[-*+]|\d{1,3}[.)])[ \t]+\S", re.MULTILINE)
_BOLD = re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__")
_HEADING = re.compile(r"^#{1,6}[ \t]+\S", re.MULTILINE)


def style_of(text: str) -> Style:
    """The style of an answer, in counts."""
    return len(text.split()), *(len(sign.findall(text)) for sign in (_ITEM, _BOLD, _HEADING))


def equal_style(
    ballots: Sequence[Ballot],
    styles: Mapping[tuple[str, str], Style],
    first: str,
    second: str,
    titles: Mapping[str, str],
) -> StyleJson:
    """The share of votes that `second` would win against `first` at equal style. `styles` is by prompt and
    contestant."""
    import numpy as np

    won: dict[str, list[int]] = {}
    for ballot in ballots:
        if {ballot.left, ballot.right} == {first, second} and ballot.winner is not None:
            won.setdefault(ballot.prompt, [0, 0])[ballot.winner == second] += 1
    met = [prompt for prompt in won if (prompt, first) in styles and (prompt, second) in styles]
    empty: StyleJson = {"prompts": len(met), "win_rate": None, "interval": None, "features": [], "text": ""}
    if len(met) < FEWEST_PROMPTS:
        few = f"It takes {FEWEST_PROMPTS} prompts on which raters chose a side; there are {len(met)}."
        return {**empty, "text": few}
    differences = np.asarray([_difference(styles[prompt, second], styles[prompt, first]) for prompt in met])
    varies = [column for column in range(len(FEATURES)) if np.ptp(differences[:, column]) > 0]
    features = [FEATURES[column] for column in varies]
    if not features:
        text = "The answers of both sides are equally long and equally formatted."
        if np.any(differences):
            text = "Style differs by the same amount on every prompt, so it cannot be told from the contestant."
        return {**empty, "text": text}
    design = np.column_stack([np.ones(len(met)), differences[:, varies]])
    votes = np.asarray([won[prompt] for prompt in met], dtype=float)
    point, interval = preference(design, votes)
    name = titles[second]
    text = (
        f"With equal style ({', '.join(features)}), {name} would win {percent(round(point, 3))} of the votes "
        f"(95% interval {from_to(interval)}, {len(met):,} prompts)."
    )
    if interval[0] <= 0.5 <= interval[1]:
        text += " These votes cannot show a preference apart from style."
    else:
        text += f" Raters prefer {name if point > 0.5 else titles[first]} apart from style."
    return {"prompts": len(met), "win_rate": point, "interval": interval, "features": features, "text": text}


def preference(design: np.ndarray, votes: np.ndarray) -> tuple[float, list[float]]:
    """The share that the second wins at equal style and its 95% interval.

    The first column of `design` (prompts, 1 + features) is ones. `votes` (prompts, 2) are the votes for first and
    second.
    """
    import numpy as np
    from scipy.special import expit
    from scipy.stats import t

    everywhere = _fitted(design, votes, np.zeros(design.shape[1]), _STEPS)
    blocks = np.arange(len(design)) % min(len(design), _MOST_BLOCKS)
    groups = int(blocks.max()) + 1
    without = np.asarray(
        [_fitted(design[blocks != g], votes[blocks != g], everywhere, _FEW_STEPS)[0] for g in range(groups)]
    )
    variance = (groups - 1) / groups * float(((without - everywhere[0]) ** 2).sum())
    half = float(t.ppf(1 - LEVEL / 2, groups - design.shape[1])) * math.sqrt(variance)
    low, point, high = (float(expit(everywhere[0] + shift)) for shift in (-half, 0.0, half))
    return point, [low, high]


def _fitted(design: np.ndarray, votes: np.ndarray, start: np.ndarray, steps: int) -> np.ndarray:
    """The coefficients from Firth's penalized likelihood, by Newton's method from `start`."""
    import numpy as np
    from scipy.special import expit

    cast, won = votes.sum(axis=1), votes[:, 1]
    coefficients = start.copy()
    for _ in range(steps):
        chance = expit(design @ coefficients)
        weighted = design * (cast * chance * (1 - chance))[:, None]
        inverse = np.linalg.inv(design.T @ weighted + 1e-10 * np.eye(design.shape[1]))
        leverage = np.einsum("ij,jk,ik->i", weighted, inverse, design)
        step = inverse @ (design.T @ (won - cast * chance + leverage * (0.5 - chance)))
        largest = float(np.abs(step).max())
        coefficients = coefficients + step * min(1.0, 2 / largest if largest else 1.0)
        if largest < 1e-7:
            break
    return coefficients


def _difference(mine: Style, other: Style) -> list[float]:
    """The relative difference of two counts, -1 to 1: (a - b) / (a + b), as in the source above."""
    return [(a - b) / (a + b) if a + b else 0.0 for a, b in zip(mine, other, strict=True)]
