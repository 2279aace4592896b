"""What an answer is rewarded for: rules that a program checks, and reward models."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ftlab.config import Reward, RunConfig
from ftlab.errors import InputError
from ftlab.evaluation.patterns import SEARCH_SECONDS, compile_pattern, is_found
from ftlab.training.reinforcement.checks import check_rewards, find_reward_model, reward_names
from ftlab.workspace import Workspace

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Judge:
    """One reward, ready to be used: `score` takes prompts (messages), answers and references, all equally long."""

    name: str
    weight: float
    score: Callable[[Sequence[Messages], Sequence[str], Sequence[str]], list[float]]


def json_reward(answer: str, keys: Sequence[str] = ()) -> float:
    """1 for a JSON object or list and nothing around it, else 0; with `keys` the share of them that the object has.

    A bare number or word is valid JSON too and would be too easy to say.
    """
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        return 0.0
    if not isinstance(value, dict if keys else (dict, list)):
        return 0.0
    return sum(key in value for key in keys) / len(keys) if keys else 1.0


def length_reward(answer: str, shortest: int | None, longest: int | None) -> float:
    """1 for `shortest` to `longest` words; outside of them less, by how many times too short or too long it is.

    Not 0 at once: from answers that are all too long the model could not learn which way to go.
    """
    words = len(answer.split())
    if shortest and words < shortest:
        return words / shortest
    if longest is not None and words > longest:
        return longest / words
    return 1.0


def exact_match_reward(answer: str, reference: str) -> float:
    """1 for the reference answer, by the rule of the evaluation (JSON objects are compared by value), else 0."""
    from ftlab.evaluation.metrics import is_exact

    return float(is_exact(answer, reference))


def final_number_reward(answer: str, reference: str) -> float:
    """1 for an answer that ends in the number that the reference ends in, by the rule of the evaluation, else 0."""
    from ftlab.data.final_number import same_final_number

    return same_final_number(answer, reference) or 0.0


def judged(
    judges: Sequence[Judge], prompts: Sequence[Messages], answers: Sequence[str], references: Sequence[str]
) -> tuple[dict[str, list[float]], list[float]]:
    """The scores of each reward, by its name, and their sums by weight, one for each answer."""
    scores = {judge.name: judge.score(prompts, answers, references) for judge in judges}
    rewards = [sum(judge.weight * scores[judge.name][at] for judge in judges) for at in range(len(answers))]
    return scores, rewards


def build_judges(
    config: RunConfig, *, device: str, warn: Callable[[str], None], workspace: Workspace | None = None
) -> list[Judge]:
    """The rewards of `config`, ready to be used. Reward models are loaded on `device`.

    `warn` is told, once, when a regular expression takes too long. Raises InputError as `check_rewards` does, and for
    a reward model that cannot be loaded.
    """
    check_rewards(config, workspace)
    rewards = config.reinforcement.rewards
    return [
        Judge(name, reward.weight, _scorer(reward, name, config, device, warn, workspace))
        for reward, name in zip(rewards, reward_names(rewards), strict=True)
    ]


def _scorer(
    reward: Reward, name: str, config: RunConfig, device: str, warn: Callable[[str], None], workspace: Workspace | None
) -> Callable[[Sequence[Messages], Sequence[str], Sequence[str]], list[float]]:
    match reward.kind:
        case "json":
            return lambda prompts, answers, references: [json_reward(answer, reward.keys) for answer in answers]
        case "length":
            return lambda prompts, answers, references: [
                length_reward(answer, reward.shortest, reward.longest) for answer in answers
            ]
        case "exact_match":
            return lambda prompts, answers, references: [
                exact_match_reward(answer, wanted) for answer, wanted in zip(answers, references, strict=True)
            ]
        case "final_number":
            return lambda prompts, answers, references: [
                final_number_reward(answer, wanted) for answer, wanted in zip(answers, references, strict=True)
            ]
        case "regex":
            pattern = compile_pattern(reward.pattern or "", f"the reward {name}")

            def search(prompts: Any, answers: Sequence[str], references: Any) -> list[float]:
                found = [is_found(pattern, answer) for answer in answers]
                if None in found:
                    warn(
                        f"The regular expression of the reward {name} takes longer than {SEARCH_SECONDS} seconds on "
                        "some answers. They count as 0. Repetitions inside repetitions, such as (a+)+, are slow."
                    )
                return [float(bool(one)) for one in found]

            return search
        case "model":
            return _model_scorer(reward, name, config, device, warn, workspace)


def _model_scorer(
    reward: Reward, name: str, config: RunConfig, device: str, warn: Callable[[str], None], workspace: Workspace | None
) -> Callable[[Sequence[Messages], Sequence[str], Sequence[str]], list[float]]:
    from ftlab.models.reward import load_reward_model, score

    model, tokenizer = load_reward_model(find_reward_model(reward, name, workspace), device=device)
    model.requires_grad_(False)
    if not tokenizer.chat_template:
        raise InputError(
            f"The reward model of the reward {name} has no chat template, so it cannot read conversations",
            given=reward.model,
            try_="a reward model that was trained here, or one whose tokenizer has a chat template",
        )
    reads = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if reads and reads < config.optimisation.max_length:
        warn(
            f"The reward model of the reward {name} reads {reads} tokens, and prompt and answer may have "
            f"{config.optimisation.max_length}: of longer ones it does not see the beginning."
        )

    def judge(prompts: Sequence[Messages], answers: Sequence[str], references: Any) -> list[float]:
        talks = [
            [*prompt, {"role": "assistant", "content": answer}] for prompt, answer in zip(prompts, answers, strict=True)
        ]
        values = score(model, tokenizer, talks)
        if not all(map(math.isfinite, values)):
            raise InputError(
                f"The reward model of {name} gives scores that are no numbers",
                given=reward.model,
                try_="train the reward model again with a lower learning rate",
            )
        return values

    return judge
