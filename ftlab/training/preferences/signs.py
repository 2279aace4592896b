"""Signs that learning from preferences goes wrong, read from what a run logged. Pure: any room above can use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ftlab.training.reinforcement.signs import Sign, ends, rises, values_of

_FEWEST = 8  # logged steps before their noise can be told from a trend
_FALL = 0.5  # of the log probability at first, and
_FALL_NATS = 5.0  # at least so much: an answer is then 150 times less likely
_COIN = 0.55
_BY_HEART = 0.95
_WORSE = 1.05
_HIGH_KL = 50.0  # nats an answer
_KL_GROWTH = 3.0


def read_preference_signs(rows: Sequence[Mapping[str, object]]) -> list[Sign]:
    """What the rows of metrics.jsonl so far give reason to warn of. Validation is read where it was taken at least
    twice, else training, from 8 logged steps on."""
    found = [_collapse(rows), _coin(rows), _by_heart(rows), _running_away(rows)]
    return [sign for sign in found if sign is not None]


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
        "higher beta, a lower learning rate or fewer epochs hold it back.",
    )


def _coin(rows: Sequence[Mapping[str, object]]) -> Sign | None:
    """Nothing is learned: with the usual learning rates accuracy leaves one half within some ten steps."""
    trained, held = values_of(rows, "accuracy"), values_of(rows, "eval_accuracy")
    if len(trained) < 2 * _FEWEST:
        return None
    late = ends(rows, "accuracy")[1]
    if late is None or late > _COIN or (held and held[-1] > _COIN):
        return None
    return Sign(
        "coin",
        f"The model is no surer than a coin toss which answer is the better one: {late:.0%} on the pairs it learns "
        "from. The learning rate may be too low, or the pairs may not agree with each other. Read some pairs on the "
        "Data tab, or try a learning rate three times as high.",
    )


def _by_heart(rows: Sequence[Mapping[str, object]]) -> Sign | None:
    losses, late = values_of(rows, "eval_loss"), ends(rows, "accuracy")[1]
    if len(losses) < 3 or late is None or late < _BY_HEART:
        return None
    best = min(losses)
    # Twice in a row: one worse validation is noise.
    if not all(loss > best + (_WORSE - 1) * abs(best) for loss in losses[-2:]):
        return None
    return Sign(
        "by heart",
        f"The pairs are learned by heart: {late:.0%} right where it learns, while the validation loss rises from "
        f"{best:.3g} to {losses[-1]:.3g}. The weights of the best moment are kept; fewer epochs or a lower learning "
        "rate save the time.",
    )


def _running_away(rows: Sequence[Mapping[str, object]]) -> Sign | None:
    """KL over whole answers, as KTO estimates it."""
    seen = values_of(rows, "kl")
    if len(seen) < _FEWEST or not rises(rows, "kl"):
        return None
    early, late = ends(rows, "kl")
    if early is None or late is None or late <= _HIGH_KL or late <= _KL_GROWTH * max(early, 0.0):
        return None
    return Sign(
        "kl",
        f"The model runs away from where it started: the KL divergence is {late:.0f} nats an answer. It forgets what "
        "it knew. A higher beta or a lower learning rate holds it back.",
    )


def _falls(rows: Sequence[Mapping[str, object]], name: str) -> bool:
    """Whether the fall is more than the noise of batches; that of the same validation pairs is."""
    if len(values_of(rows, f"eval_{name}")) >= 2:
        return True
    return rises([{name: -value} for value in values_of(rows, name)], name)


def _trend(rows: Sequence[Mapping[str, object]], name: str) -> tuple[float, float] | None:
    """(at first, now): of the same validation pairs where there are any, else the means of the first and last quarter
    of training. None from too little."""
    held = values_of(rows, f"eval_{name}")
    if len(held) >= 2:
        return held[0], held[-1]
    if len(values_of(rows, name)) < _FEWEST:
        return None
    early, late = ends(rows, name)
    return (early, late) if early is not None and late is not None else None
