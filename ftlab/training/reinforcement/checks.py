"""What is asked of a run that learns from rewards before it starts. Nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ftlab.config import Reward, RunConfig, load_config
from ftlab.data.final_number import last_number
from ftlab.errors import InputError
from ftlab.evaluation.patterns import compile_pattern
from ftlab.method_table import FOR_REINFORCEMENT
from ftlab.models.peft_methods import CHANGES_BASE
from ftlab.run_directory import RunDirectory
from ftlab.workspace import Workspace

# What each kind reads beside name and weight; anything else that is set was meant for another kind.
_READS = {
    "model": ("model",),
    "json": ("keys",),
    "exact_match": (),
    "final_number": (),
    "length": ("shortest", "longest"),
    "regex": ("pattern",),
}


def check_reinforcement(config: RunConfig) -> None:
    """Raise InputError, before anything is started, when method or batch do not suit learning from rewards."""
    if config.method.name not in FOR_REINFORCEMENT:
        raise InputError(
            f"The stage {config.stage} cannot be trained with this method",
            given=f"method.name: {config.method.name}",
            allowed=", ".join(FOR_REINFORCEMENT),
        )
    if config.method.name == "lora" and config.method.initialisation in CHANGES_BASE:
        raise InputError(
            f"The stage {config.stage} cannot be trained with this initialisation",
            given=f"method.initialisation: {config.method.initialisation}",
            allowed="default, gaussian, orthogonal: the others rewrite the base, which the model is compared with",
        )
    settings, group = config.resolved().optimisation, config.reinforcement.generations
    batch = settings.batch_size * settings.gradient_accumulation * config.launcher.processes
    if batch % group:
        fitting = max(group, settings.batch_size - settings.batch_size % group)
        raise InputError(
            "The batch has to hold all answers to a prompt (optimisation.batch_size counts answers)",
            given=f"{batch} answers in a step, {group} answers per prompt",
            allowed=f"a multiple of reinforcement.generations ({group})",
            try_=f"optimisation.batch_size={fitting}, or other reinforcement.generations",
        )


def reward_names(rewards: Sequence[Reward]) -> list[str]:
    """A name for each reward, none twice: what the person called it, else its kind."""
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

    With `workspace`, the runs that reward models are taken from have to be there too.
    """
    rewards = config.reinforcement.rewards
    if not rewards:
        raise InputError(
            f"The stage {config.stage} needs something to reward answers for (reinforcement.rewards)",
            given="no rewards",
            allowed="at least one of the kinds model, json, exact_match, final_number, length, regex",
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
    """Write into `config` which run each reward model is of: `last` means another one tomorrow. Raises InputError."""
    for reward, name in zip(config.reinforcement.rewards, reward_names(config.reinforcement.rewards), strict=True):
        if reward.kind == "model":
            place = find_reward_model(reward, name, workspace)
            reward.model = place.id if isinstance(place, RunDirectory) else str(place)


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
            given="nothing",
            try_="{kind: regex, pattern: '^(Hi|Hello|Dear) '}",
        )
    compile_pattern(pattern, f"the reward {name}")


def find_reward_model(reward: Reward, name: str, workspace: Workspace | None) -> Path | RunDirectory:
    """The folder or the run that the reward model is in."""
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
            if run.has_result and load_config(run.config_file).stage == "reward":
                return run
        raise InputError(
            f"There is no finished run of the stage reward for the reward {name}",
            given=f"model: {text}",
            try_="train one on preference data with stage=reward",
        )
    run = workspace.run(text)
    stage = load_config(run.config_file).stage
    if stage != "reward":
        raise InputError(
            f"The run of the reward {name} is no reward model",
            given=f"{run.id}, of the stage {stage}",
            allowed="a run of the stage reward",
        )
    if not run.has_result:
        raise InputError(
            f"The reward model of the reward {name} is not trained yet", given=run.id, try_="wait until it has ended"
        )
    return run
