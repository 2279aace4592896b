"""Warning signs in the logged figures of reinforcement and preference training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_FEWEST = 8  # logged steps before anything can be said
_PART = 4  # the first and the last quarter are compared
_LONGER = 1.5
_MORE_REPEATED = 0.15
_NO_DIFFERENCE = 0.9
_HIGH_KL = 1.0  # nats per token: the start would have chosen such a token in a third of the cases
_KL_GROWTH = 3.0
_MOSTLY_CUT = 0.5
_PLAIN = 3


@dataclass(frozen=True)
class Sign:
    """A warning. A run reports each `code` once."""

    code: str
    text: str


def read_signs(rows: Sequence[Mapping[str, Any]], *, length_counts: bool = False) -> list[Sign]:
    """Warnings from the rows of metrics.jsonl so far; with fewer than 8 logged steps, only obvious ones.

    `length_counts`: a reward depends on the length, so longer answers are not a sign.
    """
    logged = [row for row in rows if row.get("reward") is not None]
    cut = _mostly_cut(logged)
    if len(logged) < _FEWEST:
        return cut
    return [*cut, *_nothing_to_learn(logged), *_hacking(logged, length_counts), *_running_away(logged)]


def _mostly_cut(rows: Sequence[Mapping[str, Any]]) -> list[Sign]:
    late = values_of(rows, "cut_share")[-_FEWEST:]
    # A step samples some ten answers, so three steps are enough.
    if len(late) < _PLAIN or _mean(late) <= _MOSTLY_CUT:
        return []
    return [
        Sign(
            "cut",
            f"{_mean(late):.0%} of the sampled answers were cut: they did not end within the longest answer "
            "(reinforcement.max_new_tokens). Only their beginnings are rewarded, and the model does not learn to stop. "
            "Stop the run and allow longer answers, or tune the model on short answers first.",
        )
    ]


def _hacking(rows: Sequence[Mapping[str, Any]], length_counts: bool) -> list[Sign]:
    if not rises(rows, "reward"):
        return []
    signs = []
    early, late = ends(rows, "completion_length")
    if not length_counts and early and late and late > _LONGER * early and rises(rows, "completion_length"):
        signs.append(
            Sign(
                "longer",
                f"The reward rises while the answers get longer: {early:.0f} tokens at first, {late:.0f} now. The "
                "reward may favor length itself. Read the sample answers; a reward of the kind length, or a higher KL "
                "weight, counteracts it.",
            )
        )
    early, late = ends(rows, "repetition")
    if early is not None and late is not None and late > early + _MORE_REPEATED:
        signs.append(
            Sign(
                "repeats",
                f"The reward rises while the answers repeat themselves: {early:.0%} of the word triples occurred "
                f"before at first, {late:.0%} now. The model may have found a way to satisfy the reward without "
                "answering. Read the sample answers; a higher KL weight or a lower learning rate helps.",
            )
        )
    return signs


def _running_away(rows: Sequence[Mapping[str, Any]]) -> list[Sign]:
    values = values_of(rows, "kl")
    if len(values) < _FEWEST:
        return []
    part = len(values) // _PART
    before, late = _mean(values[-2 * part : -part]), _mean(values[-part:])
    grows = late > _KL_GROWTH * max(before, 0.0) and late > _HIGH_KL / 2
    if late <= _HIGH_KL and not grows:
        return []
    return [
        Sign(
            "kl",
            f"The model is drifting far from its start: the KL divergence is {late:.2f} nats per token. It forgets "
            "what it knew, and the rewards become meaningless. A higher KL weight (reinforcement.beta) or a lower "
            "learning rate counteracts it.",
        )
    ]


def _nothing_to_learn(rows: Sequence[Mapping[str, Any]]) -> list[Sign]:
    part = rows[-max(_FEWEST, len(rows) // _PART) :]
    flat = values_of(part, "flat_share")
    spread = values_of(part, "reward_std")
    no_difference = _mean(flat) >= _NO_DIFFERENCE if flat else bool(spread) and max(spread) < 1e-6
    if not no_difference:
        return []
    reward = _mean(values_of(part, "reward"))
    return [
        Sign(
            "flat",
            f"Nearly all answers to a prompt get the same reward ({reward:.2f} on average), so there is nothing to "
            "learn from. If that is the maximum, you can stop the run. Otherwise the model never does what is "
            "rewarded: tune it on examples first, choose a reward that gives partial credit, or raise the temperature.",
        )
    ]


def rises(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    """Whether the last quarter is above the first by more than twice the standard error of the difference of the
    means."""
    values = values_of(rows, name)
    part = max(2, len(values) // _PART)
    if len(values) < 2 * part:
        return False
    first, last = values[:part], values[-part:]
    error = math.sqrt(_variance(first) / part + _variance(last) / part)
    return _mean(last) - _mean(first) > 2 * error


def ends(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[float | None, float | None]:
    """The means of the first and of the last quarter."""
    values = values_of(rows, name)
    if not values:
        return None, None
    part = max(1, len(values) // _PART)
    return _mean(values[:part]), _mean(values[-part:])


def values_of(rows: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """The logged values of `name`, in the order of the rows."""
    return [float(row[name]) for row in rows if row.get(name) is not None]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _variance(values: Sequence[float]) -> float:
    mean = _mean(values)
    return sum((value - mean) ** 2 for value in values) / (len(values) - 1)


_FALL = 0.5  # of the first log probability, and at least
_FALL_NATS = 5.0  # so much, which makes an answer 150 times less likely
_COIN = 0.55
_BY_HEART = 0.95
_WORSE = 1.05
_HIGH_KL_OF_ANSWERS = 50.0  # nats per answer


def read_preference_signs(rows: Sequence[Mapping[str, object]]) -> list[Sign]:
    """Warnings from the rows of metrics.jsonl so far: from the validations if there are at least two, else from
    training after 8 logged steps."""
    signs = [_collapse(rows), _coin(rows), _by_heart(rows), _answers_running_away(rows)]
    return [sign for sign in signs if sign is not None]


def _collapse(rows: Sequence[Mapping[str, object]]) -> Sign | None:
    """The likelihood of both answers falls, that of the rejected one faster (Pal et al. 2024, arXiv 2402.13228; Razin
    et al. 2024, arXiv 2410.08847)."""
    margin, logp = _trend(rows, "margin"), _trend(rows, "logp_chosen")
    if margin is None or logp is None or margin[1] <= max(margin[0], 0.0):
        return None
    before, now = logp
    if before - now <= max(_FALL_NATS, _FALL * abs(before)) or not _falls(rows, "logp_chosen"):
        return None
    return Sign(
        "collapse",
        f"The margin grows while the chosen answers become unlikely: their log probability fell from {before:.1f} to "
        f"{now:.1f}. The model learns what not to say, and may end up saying something that is neither answer. A "
        "higher beta, a lower learning rate or fewer epochs counteract it.",
    )


def _coin(rows: Sequence[Mapping[str, object]]) -> Sign | None:
    """Nothing is learned: with the usual learning rates accuracy leaves one half within some ten steps."""
    trained, validated = values_of(rows, "accuracy"), values_of(rows, "eval_accuracy")
    if len(trained) < 2 * _FEWEST:
        return None
    late = ends(rows, "accuracy")[1]
    if late is None or late > _COIN or (validated and validated[-1] > _COIN):
        return None
    return Sign(
        "coin",
        f"The model picks the better answer no more often than a coin toss: {late:.0%} on its training pairs. The "
        "learning rate may be too low, or the pairs may contradict each other. Read some pairs on the Data tab, or try "
        "a learning rate three times as high.",
    )


def _by_heart(rows: Sequence[Mapping[str, object]]) -> Sign | None:
    losses, late = values_of(rows, "eval_loss"), ends(rows, "accuracy")[1]
    if len(losses) < 3 or late is None or late < _BY_HEART:
        return None
    best = min(losses)
    # Twice in a row: a single worse validation may be noise.
    if not all(loss > best + (_WORSE - 1) * abs(best) for loss in losses[-2:]):
        return None
    return Sign(
        "by heart",
        f"The pairs are being memorized: {late:.0%} right in training, while the validation loss rises from "
        f"{best:.3g} to {losses[-1]:.3g}. The best weights are kept; fewer epochs or a lower learning rate save time.",
    )


def _answers_running_away(rows: Sequence[Mapping[str, object]]) -> Sign | None:
    """KL over whole answers, as KTO estimates it."""
    if len(values_of(rows, "kl")) < _FEWEST or not rises(rows, "kl"):
        return None
    early, late = ends(rows, "kl")
    if early is None or late is None or late <= _HIGH_KL_OF_ANSWERS or late <= _KL_GROWTH * max(early, 0.0):
        return None
    return Sign(
        "kl",
        f"The model is drifting far from its start: the KL divergence is {late:.0f} nats per answer. It forgets what "
        "it knew. A higher beta or a lower learning rate counteracts it.",
    )


def _falls(rows: Sequence[Mapping[str, object]], name: str) -> bool:
    """Whether the fall exceeds the noise of batches; that of the same validation pairs always does."""
    if len(values_of(rows, f"eval_{name}")) >= 2:
        return True
    return rises([{name: -value} for value in values_of(rows, name)], name)


def _trend(rows: Sequence[Mapping[str, object]], name: str) -> tuple[float, float] | None:
    """(at first, now): on the same validation pairs if there are any, else the means of the first and last quarter of
    training. None with too few values."""
    validated = values_of(rows, f"eval_{name}")
    if len(validated) >= 2:
        return validated[0], validated[-1]
    if len(values_of(rows, name)) < _FEWEST:
        return None
    early, late = ends(rows, name)
    return (early, late) if early is not None and late is not None else None
