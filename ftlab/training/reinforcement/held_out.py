"""Prompts of reinforcement training, and rewards on held-out prompts before and after it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ftlab.config import RunConfig
from ftlab.core.files import write_json, write_jsonl
from ftlab.core.run_directory import RunDirectory
from ftlab.core.run_results import ComparedRewardsJson, RewardDifferenceJson, RewardedJson
from ftlab.errors import InputError
from ftlab.evaluation.asking import ask
from ftlab.evaluation.batches import Stopped
from ftlab.evaluation.before_after import figures
from ftlab.evaluation.generate import Answer
from ftlab.evaluation.keeping import ToAnswer
from ftlab.evaluation.material import groups_of, some
from ftlab.evaluation.significance import MEAN_TEST, Clusters, difference_p, mean_difference
from ftlab.training.reinforcement.rewards import Judge, judged
from ftlab.training.sft import context_of
from ftlab.training.status import StatusWriter

MOST_VALIDATION = 64  # prompts; each is answered at every validation
_SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Prompt:
    """`messages` before the answer, the `reference` answer (empty where there is none), the prompt's token ids, and
    what a held-out prompt belongs to by data.group_by."""

    messages: list[dict[str, str]]
    reference: str
    ids: list[int]
    group: str = ""


def frozen_prompts(
    run: RunDirectory, config: RunConfig, tokenizer: Any, writer: StatusWriter
) -> dict[str, list[Prompt]]:
    """The prompts of each split of `run` that leave room for an answer.

    The others are counted in data/manifest.json and warned about. Raises InputError when the answer leaves no room at
    all, or when no more than half of the training prompts are left.
    """
    from ftlab.data.rendering import encode_prompt, prompt_messages, reference
    from ftlab.data.splits import read_split

    limit = _room(config)
    manifest = run.manifest()
    by_split: dict[str, list[Prompt]] = {}
    for split in _SPLITS:
        rows = read_split(run, split)
        if not rows:
            continue
        groups = [""] * len(rows) if split == "train" else groups_of(run, split, rows, config.data.group_by)
        every = [
            Prompt(prompt_messages(messages), reference(messages), encode_prompt(messages, tokenizer), group)
            for messages, group in zip((row["messages"] for row in rows), groups, strict=True)
        ]
        kept = [prompt for prompt in every if len(prompt.ids) <= limit]
        longest, too_long = max(len(prompt.ids) for prompt in every), len(every) - len(kept)
        manifest.setdefault("tokens", {})[split] = {
            "rows": len(kept),
            "too_long": too_long,
            "longest": longest,
            "tokens": sum(len(prompt.ids) for prompt in kept),
            "trained_tokens": 0,
        }
        if too_long:
            writer.warn(
                f"{too_long} of {len(every)} {split} prompts are longer than {limit} tokens (the longest has "
                f"{longest}) and were left out: prompt and answer must fit together."
            )
        if split == "train" and len(kept) <= len(every) / 2:
            raise InputError(
                f"{too_long} of {len(every)} training prompts leave no room for an answer",
                given=f"the longest has {longest} tokens, and an answer may have {config.reinforcement.max_new_tokens}",
                allowed=f"at least half of the prompts within {limit} tokens",
                try_="a lower reinforcement.max_new_tokens, a higher optimisation.max_length up to the base's context, "
                "or shorter prompts",
            )
        by_split[split] = kept
    write_json(run.manifest_file, manifest)
    return by_split


def validation_prompts(prompts: Sequence[Prompt]) -> list[Prompt]:
    """At most `MOST_VALIDATION` of `prompts`, the same each time."""
    return some(list(prompts), MOST_VALIDATION)


def as_dataset(prompts: Sequence[Prompt]) -> Any:
    """The prompts as TRL reads them: columns prompt (messages) and reference."""
    import datasets

    return datasets.Dataset.from_dict(
        {"prompt": [prompt.messages for prompt in prompts], "reference": [prompt.reference for prompt in prompts]}
    )


def _room(config: RunConfig) -> int:
    """How many tokens a prompt may have."""
    limit, answer = config.optimisation.max_length, config.reinforcement.max_new_tokens
    context_of(config)
    if answer >= limit:
        raise InputError(
            "The longest answer (reinforcement.max_new_tokens) leaves no room for a prompt",
            given=f"{answer} tokens",
            allowed=f"less than {limit} tokens (optimisation.max_length): prompt and answer have to fit together",
        )
    return limit - answer


@dataclass(frozen=True)
class Measured:
    """Answers to held-out prompts and what they are worth: `scores` by the name of the reward, `rewards` the weighted
    sum, one for each answer."""

    answers: list[Answer]
    scores: dict[str, list[float]]
    rewards: list[float]

    def as_dict(self) -> RewardedJson:
        """The means, for rewards.json. `repetition` is the mean share of repeated word triples."""
        means = figures(self.answers)
        return {
            "reward": sum(self.rewards) / len(self.answers),
            "rewards": {name: sum(values) / len(values) for name, values in self.scores.items()},
            "completion_length": means["tokens"],
            "cut_share": means["cut_share"],
            "repetition": means["repetition"],
        }


def measure(
    model: Any,
    tokenizer: Any,
    question: ToAnswer,
    judge: Callable[[Sequence[str]], tuple[dict[str, list[float]], list[float]]],
    *,
    batch_rows: int,
    should_stop: Callable[[], bool] | None = None,
) -> Measured:
    """What `model`, which is being trained, answers to `question`, and what `judge` says of all answers.

    `judge` returns, for the answers in the order of the prompts, the scores by reward and their weighted sums. Raises
    Stopped when `should_stop` says so.
    """
    was_training = model.training
    model.eval()
    try:
        reply = ask(model, tokenizer, question, batch_rows=batch_rows, should_stop=should_stop)
    finally:
        model.train(was_training)
    answers = reply.answers or []
    return Measured(answers, *judge([answer.text for answer in answers]))


def compare(start: Measured, adapted: Measured, clusters: Clusters = None) -> ComparedRewardsJson:
    """Both sides, their difference (adapted minus start), its 95% interval and p, over all and for each reward.

    `clusters`: what the prompt of each answer belongs to; see significance.py.
    """

    def difference(before: Sequence[float], after: Sequence[float]) -> RewardDifferenceJson:
        value, interval = mean_difference(before, after, clusters)
        return {"difference": value, "interval": interval, "p": difference_p(before, after, clusters)}

    return {
        "rows": len(adapted.answers),
        "start": start.as_dict(),
        "adapted": adapted.as_dict(),
        **difference(start.rewards, adapted.rewards),
        "rewards": {name: difference(start.scores[name], adapted.scores[name]) for name in adapted.scores},
        "test": MEAN_TEST,
    }


@dataclass(frozen=True)
class HeldOut:
    """What both measurements need. `split` is where the prompts are from."""

    run: RunDirectory
    config: RunConfig
    tokenizer: Any
    judges: Sequence[Judge]
    split: str
    prompts: list[Prompt]


def held_out(
    run: RunDirectory,
    config: RunConfig,
    tokenizer: Any,
    judges: Sequence[Judge],
    prompts: dict[str, list[Prompt]],
) -> HeldOut | None:
    """The test prompts, else those of the validation split, at most evaluation.max_rows; None where there are none."""
    split = next((split for split in ("test", "validation") if prompts.get(split)), None)
    if split is None:
        return None
    return HeldOut(run, config, tokenizer, judges, split, some(prompts[split], config.evaluation.max_rows))


def measure_start(held: HeldOut, model: Any, writer: StatusWriter) -> None:
    """Reward the greedy answers of `model` as it starts; a resumed run has them already."""
    if _start_of(held) is not None:
        return
    measured = _measure(held, model, writer, "answers to the held-out prompts before training")
    if measured is not None:
        write_jsonl(held.run.reward_answers_file, _rows(held, {"start": measured}))


def measure_adapted(held: HeldOut, model: Any, writer: StatusWriter) -> None:
    """Reward the greedy answers of the trained `model`; write rewards.json with both sides and their difference."""
    start = _start_of(held)
    adapted = _measure(held, model, writer, "answers to the held-out prompts after training")
    if start is None or adapted is None:
        writer.warn("The rewards on the held-out prompts were not compared: the run was stopped first.")
        return
    write_jsonl(held.run.reward_answers_file, _rows(held, {"start": start, "adapted": adapted}))
    notes = []
    if held.split == "validation":
        notes.append("There is no test split. Training chose its best weights on these prompts, which flatters it.")
    write_json(
        held.run.rewards_file,
        {
            "run": held.run.id,
            "created": time.time(),
            "split": held.split,
            **compare(start, adapted, [prompt.group or repr(prompt.messages) for prompt in held.prompts]),
            "settings": {
                "decoding": "greedy",
                "max_new_tokens": held.config.reinforcement.max_new_tokens,
                "weights": {judge.name: judge.weight for judge in held.judges},
                "start": held.config.model.start or held.config.model.base,
            },
            "notes": notes,
        },
    )


def _measure(held: HeldOut, model: Any, writer: StatusWriter, phase: str) -> Measured | None:
    from ftlab.models.load import context_length

    prompts = held.prompts
    writer.update(phase=phase, eta_seconds=None, tokens_per_second=None)
    try:
        return measure(
            model,
            held.tokenizer,
            ToAnswer(
                [prompt.ids for prompt in prompts],
                held.config.reinforcement.max_new_tokens,
                context_length(held.config.model),
            ),
            lambda answers: judged(
                held.judges,
                [prompt.messages for prompt in prompts],
                answers,
                [prompt.reference for prompt in prompts],
            ),
            batch_rows=held.config.evaluation.batch_size,
            should_stop=held.run.stop_file.exists,
        )
    except Stopped:
        return None


def _rows(held: HeldOut, sides: dict[str, Measured]) -> list[dict[str, Any]]:
    rows = []
    for index, prompt in enumerate(held.prompts):
        row: dict[str, Any] = {"prompt": prompt.messages, "reference": prompt.reference}
        for side, measured in sides.items():
            row[side] = {
                **measured.answers[index].as_dict(),
                "rewards": {name: values[index] for name, values in measured.scores.items()},
                "reward": measured.rewards[index],
            }
        rows.append(row)
    return rows


def _start_of(held: HeldOut) -> Measured | None:
    """What was measured before the first step, by this process or by an earlier attempt of the run."""
    rows = held.run.reward_answers()
    if [row.get("prompt") for row in rows] != [prompt.messages for prompt in held.prompts]:
        return None
    sides = [row["start"] for row in rows]
    return Measured(
        [Answer(side["answer"], side["tokens"], side["cut"]) for side in sides],
        {judge.name: [side["rewards"][judge.name] for side in sides] for judge in held.judges},
        [side["reward"] for side in sides],
    )
