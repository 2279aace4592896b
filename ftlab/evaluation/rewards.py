"""What rewards say of greedy answers to held-out prompts, before and after a run that learns from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ftlab.evaluation.metrics.text import repetition
from ftlab.evaluation.significance import MEAN_TEST, Clusters, difference_p, mean_difference


@dataclass(frozen=True)
class Measured:
    """Answers to held-out prompts and what they are worth: `scores` by the name of the reward, `rewards` the weighted
    sum, one for each answer. `tokens` counts those of each answer, `cut` says where the limit ended it."""

    answers: list[str]
    tokens: list[int]
    cut: list[bool]
    scores: dict[str, list[float]]
    rewards: list[float]

    def as_dict(self) -> dict[str, Any]:
        """The means, for rewards.json. `repetition` is the mean share of repeated word triples."""
        count = len(self.answers)
        return {
            "reward": sum(self.rewards) / count,
            "rewards": {name: sum(values) / count for name, values in self.scores.items()},
            "completion_length": sum(self.tokens) / count,
            "cut_share": sum(self.cut) / count,
            "repetition": sum(map(repetition, self.answers)) / count,
        }


def measure(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    judge: Callable[[Sequence[str]], tuple[dict[str, list[float]], list[float]]],
    *,
    max_new_tokens: int,
    batch_rows: int,
    context: int | None,
    should_stop: Callable[[], bool] | None = None,
) -> Measured:
    """The most likely answer of `model` to each of `prompts` (token ids), and what `judge` says of them all.

    `judge` gives, for the answers in the order of the prompts, the scores by reward and their weighted sums. Raises
    Stopped when `should_stop` says so.
    """
    from ftlab.data.rendering import stop_token_ids
    from ftlab.evaluation.generate import generate_answers

    was_training = model.training
    model.eval()
    try:
        found = generate_answers(
            model,
            tokenizer,
            prompts,
            max_new_tokens=max_new_tokens,
            stop_ids=stop_token_ids(tokenizer, model.generation_config),
            batch_rows=batch_rows,
            context=context,
            should_stop=should_stop,
        ).answers
    finally:
        model.train(was_training)
    texts = [answer.text for answer in found]
    scores, rewards = judge(texts)
    return Measured(texts, [answer.tokens for answer in found], [answer.cut for answer in found], scores, rewards)


def compare(start: Measured, adapted: Measured, clusters: Clusters = None) -> dict[str, Any]:
    """Both sides, their difference (adapted minus start), its 95% interval and p, over all and for each reward.

    `clusters`: what the prompt of each answer belongs to; see significance.py.
    """
    rewards = {}
    for name in adapted.scores:
        difference, interval = mean_difference(start.scores[name], adapted.scores[name], clusters)
        p = difference_p(start.scores[name], adapted.scores[name], clusters)
        rewards[name] = {"difference": difference, "interval": interval, "p": p}
    difference, interval = mean_difference(start.rewards, adapted.rewards, clusters)
    return {
        "rows": len(adapted.answers),
        "start": start.as_dict(),
        "adapted": adapted.as_dict(),
        "difference": difference,
        "interval": interval,
        "p": difference_p(start.rewards, adapted.rewards, clusters),
        "rewards": rewards,
        "test": MEAN_TEST,
    }
