"""Rewards: their kinds, their checks, and the score that each gives an answer."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftlab.config import Reward, RunConfig, filled, load_config
from ftlab.config.methods import FOR_REINFORCEMENT
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.data.final_number import last_number, same_final_number
from ftlab.errors import InputError
from ftlab.evaluation.metrics.measures import SEARCH_SECONDS, compile_pattern, is_found

# The fields that each kind reads besides name and weight; any other field that is set was meant for another kind.
_READS = {
    "model": ("model",),
    "json": ("keys",),
    "exact_match": (),
    "final_number": (),
    "length": ("shortest", "longest"),
    "regex": ("pattern",),
}


def check_reinforcement(config: RunConfig) -> None:
    """Raise InputError, before anything is started, when method or batch do not work with rewards."""
    if config.method.name not in FOR_REINFORCEMENT:
        raise InputError(
            f"The stage {config.stage} cannot be trained with this method",
            given=f"method.name: {config.method.name}",
            allowed=", ".join(FOR_REINFORCEMENT),
        )
    if config.method.changes_base:
        raise InputError(
            f"The stage {config.stage} cannot be trained with this initialization",
            given=f"method.initialisation: {config.method.initialisation}",
            allowed="default, gaussian, orthogonal: the others change the base, which the model is compared with",
        )
    settings, group = config.resolved().optimisation, config.reinforcement.generations
    batch, rows = settings.rows_per_step * config.launcher.processes, filled(settings.batch_size)
    if batch % group:
        fitting = max(group, rows - rows % group)
        raise InputError(
            "The batch must hold all answers to a prompt (optimisation.batch_size counts answers)",
            given=f"{batch} answers in a step, {group} answers per prompt",
            allowed=f"a multiple of reinforcement.generations ({group})",
            try_=f"optimisation.batch_size={fitting}, or other reinforcement.generations",
        )


def reward_names(rewards: Sequence[Reward]) -> list[str]:
    """A unique name for each reward: the name it was given, else its kind."""
    names: list[str] = []
    for reward in rewards:
        wanted = reward.name or reward.kind
        count = 2
        name = wanted
        while name in names:
            name = f"{wanted} {count}"
            count += 1
        names.append(name)
    return names


def check_rewards(config: RunConfig, workspace: Workspace | None = None) -> None:
    """Raise InputError for rewards that cannot be used, before anything is loaded.

    With `workspace`, the runs of reward models have to be in it too.
    """
    rewards = config.reinforcement.rewards
    if not rewards:
        raise InputError(
            f"The stage {config.stage} needs rewards (reinforcement.rewards)",
            given="no rewards",
            allowed=f"at least one of the kinds {', '.join(_READS)}",
            try_="for example {kind: length, shortest: 5, longest: 20}, or {kind: model, model: RUN} with a run of the "
            "stage reward",
        )
    if all(reward.weight == 0 for reward in rewards):
        raise InputError(
            "Every reward has the weight 0, so there is nothing to learn",
            given=", ".join(reward_names(rewards)),
            allowed="at least one weight above or below 0",
        )
    for reward, name in zip(rewards, reward_names(rewards), strict=True):
        _check_reward(reward, name, workspace)


def check_references(config: RunConfig, examples: Sequence[Mapping[str, Any]]) -> None:
    """Raise InputError when answers are compared with references and some of the training `examples` have none."""
    kinds = {reward.kind for reward in config.reinforcement.rewards}
    answers = [example["messages"][-1]["content"] for example in examples]
    without = sum(not answer.strip() for answer in answers)
    for kind in ("exact_match", "final_number"):
        if kind in kinds and without:
            raise InputError(
                f"The reward {kind} needs a reference answer to each prompt",
                given=f"{without} of {len(examples)} training prompts have none",
                try_="data with a prompt and an answer in every row, or another reward",
            )
    numberless = sum(last_number(answer) is None for answer in answers)
    if "final_number" in kinds and numberless:
        raise InputError(
            "The reward final_number needs reference answers with a number",
            given=f"{numberless} of {len(examples)} training references have none",
            try_="leave these rows out of the data, or reward exact_match",
        )


def pin_rewards(config: RunConfig, workspace: Workspace) -> None:
    """Write the run of each reward model into `config`, because `last` may be another one tomorrow. Raises
    InputError."""
    for reward, name in zip(config.reinforcement.rewards, reward_names(config.reinforcement.rewards), strict=True):
        if reward.kind == "model":
            source = find_reward_model(reward, name, workspace)
            reward.model = source.id if isinstance(source, RunDirectory) else str(source)


def _check_reward(reward: Reward, name: str, workspace: Workspace | None) -> None:
    kind = reward.kind
    for other, fields in _READS.items():
        for field in fields:
            if field not in _READS[kind] and getattr(reward, field) not in (None, []):
                raise InputError(
                    f"The reward {name} is of the kind {kind}, which does not read {field}",
                    given=f"{field}: {getattr(reward, field)!r}",
                    allowed=", ".join(("kind", "name", "weight", *_READS[kind])),
                    try_=f"kind: {other}, or leave {field} out",
                )
    if kind == "length":
        _check_length(reward, name)
    elif kind == "regex":
        _check_pattern(reward.pattern, name)
    elif kind == "model" and (workspace is not None or not reward.model):
        find_reward_model(reward, name, workspace)


def _check_length(reward: Reward, name: str) -> None:
    if not reward.shortest and reward.longest is None:
        raise InputError(
            f"The reward {name} needs a length in words",
            given="neither shortest nor longest",
            allowed="shortest, longest or both",
            try_="{kind: length, shortest: 5, longest: 20}",
        )
    if reward.shortest and reward.longest is not None and reward.shortest > reward.longest:
        raise InputError(
            f"No answer can be as long as the reward {name} asks for",
            given=f"shortest: {reward.shortest}, longest: {reward.longest}",
            allowed="shortest at most as large as longest",
        )


def _check_pattern(pattern: str | None, name: str) -> None:
    if not pattern:
        raise InputError(
            f"The reward {name} needs a regular expression (pattern)",
            given="no pattern",
            try_="{kind: regex, pattern: '^(Hi|Hello|Dear) '}",
        )
    compile_pattern(pattern, f"the reward {name}")


def find_reward_model(reward: Reward, name: str, workspace: Workspace | None) -> Path | RunDirectory:
    """The folder or the run of the reward model."""
    if not reward.model:
        raise InputError(
            f"The reward {name} names no reward model",
            given="kind: model",
            allowed="model: a run of the stage reward (its id, or last), or a folder with a sequence classifier",
        )
    folder = Path(reward.model).expanduser()
    if (folder / "config.json").exists() or (folder / "adapter_config.json").exists():
        return folder.absolute()
    if workspace is None or (folder.is_dir() and not (folder / "config.yaml").exists()):
        raise InputError(
            f"The folder of the reward {name} holds no reward model",
            given=reward.model,
            allowed="a folder with config.json or adapter_config.json, or a run of the stage reward",
        )
    return _reward_run(reward.model, name, workspace)


def _reward_run(text: str, name: str, workspace: Workspace) -> RunDirectory:
    """The run of the stage reward that `text` names; `last` is the newest one with a result."""
    if text in ("last", "latest"):
        for run in workspace.runs():
            if run.has_result and load_config(run.config_file).is_reward_model:
                return run
        raise InputError(
            f"There is no finished run of the stage reward for the reward {name}",
            given=f"model: {text}",
            try_="train one on preference data with stage=reward",
        )
    run = workspace.run(text)
    config = load_config(run.config_file)
    if not config.is_reward_model:
        raise InputError(
            f"The run of the reward {name} is not a reward model",
            given=f"{run.id}, of the stage {config.stage}",
            allowed="a run of the stage reward",
        )
    if not run.has_result:
        raise InputError(
            f"The reward model of the reward {name} is not trained yet", given=run.id, try_="wait until it has ended"
        )
    return run


Messages = list[dict[str, str]]
Score = Callable[[Sequence[Messages], Sequence[str], Sequence[str]], list[float]]


@dataclass(frozen=True)
class Judge:
    """One reward, ready for use: `score` takes prompts (messages), answers and references, one of each per answer."""

    name: str
    weight: float
    score: Score


def json_reward(answer: str, keys: Sequence[str] = ()) -> float:
    """1 for a JSON object or list without other text, else 0; with `keys` the share of them that the object has.

    A bare number or word is valid JSON too, but would be too easy.
    """
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        return 0.0
    if not isinstance(value, dict if keys else (dict, list)):
        return 0.0
    return sum(key in value for key in keys) / len(keys) if keys else 1.0


def length_reward(answer: str, shortest: int | None, longest: int | None) -> float:
    """1 for `shortest` to `longest` words; outside that range, the ratio to the nearer bound.

    Not 0: if all answers are too long, the model must still see which of them is better.
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
    return same_final_number(answer, reference) or 0.0


def judged(
    judges: Sequence[Judge], prompts: Sequence[Messages], answers: Sequence[str], references: Sequence[str]
) -> tuple[dict[str, list[float]], list[float]]:
    """The scores of each reward by its name, and their weighted sum for each answer."""
    scores = {judge.name: judge.score(prompts, answers, references) for judge in judges}
    rewards = [sum(judge.weight * scores[judge.name][index] for judge in judges) for index in range(len(answers))]
    return scores, rewards


def build_judges(
    config: RunConfig, *, device: str, warn: Callable[[str], None], workspace: Workspace | None = None
) -> list[Judge]:
    """The rewards of `config`, ready for use. Reward models are loaded on `device`.

    `warn` is called when a regular expression takes too long. Raises InputError as `check_rewards` does, and for a
    reward model that cannot be loaded.
    """
    check_rewards(config, workspace)
    rewards = config.reinforcement.rewards
    return [
        Judge(name, reward.weight, _scorer(reward, name, config, device, warn, workspace))
        for reward, name in zip(rewards, reward_names(rewards), strict=True)
    ]


def _scorer(
    reward: Reward, name: str, config: RunConfig, device: str, warn: Callable[[str], None], workspace: Workspace | None
) -> Score:
    match reward.kind:
        case "json":
            return _each(lambda answer, reference: json_reward(answer, reward.keys))
        case "length":
            return _each(lambda answer, reference: length_reward(answer, reward.shortest, reward.longest))
        case "exact_match":
            return _each(exact_match_reward)
        case "final_number":
            return _each(final_number_reward)
        case "regex":
            pattern = compile_pattern(reward.pattern or "", f"the reward {name}")

            def search(prompts: Any, answers: Sequence[str], references: Any) -> list[float]:
                matches = [is_found(pattern, answer) for answer in answers]
                if None in matches:
                    warn(
                        f"The regular expression of the reward {name} takes longer than {SEARCH_SECONDS} seconds on "
                        "some answers. They count as 0. Repetitions inside repetitions, such as (a+)+, are slow."
                    )
                return [float(bool(match)) for match in matches]

            return search
        case "model":
            return _model_scorer(reward, name, config, device, warn, workspace)


def _each(rule: Callable[[str, str], float]) -> Score:
    """Scores each answer by itself, with its reference."""
    return lambda prompts, answers, references: list(map(rule, answers, references))


def _model_scorer(
    reward: Reward, name: str, config: RunConfig, device: str, warn: Callable[[str], None], workspace: Workspace | None
) -> Score:
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
            f"{config.optimisation.max_length}. It does not see the beginning of longer ones."
        )

    def judge(prompts: Sequence[Messages], answers: Sequence[str], references: Any) -> list[float]:
        talks = [
            [*prompt, {"role": "assistant", "content": answer}] for prompt, answer in zip(prompts, answers, strict=True)
        ]
        values = score(model, tokenizer, talks)
        if not all(map(math.isfinite, values)):
            raise InputError(
                f"The reward model of {name} gives scores that are not finite",
                given=reward.model,
                try_="train the reward model again with a lower learning rate",
            )
        return values

    return judge
