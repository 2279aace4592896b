"""A run's rewards on its held-out prompts: measured before its first step and after its last one."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ftlab.config import RunConfig
from ftlab.evaluation.batches import Stopped
from ftlab.evaluation.rewards import Measured, compare, measure
from ftlab.files import write_json, write_jsonl
from ftlab.run_directory import RunDirectory
from ftlab.training.reinforcement.prompts import Prompt
from ftlab.training.reinforcement.rewards import Judge, judged
from ftlab.training.status import StatusWriter


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
    chosen, most = prompts[split], config.evaluation.max_rows
    if len(chosen) > most:
        chosen = [chosen[index] for index in sorted(random.Random(0).sample(range(len(chosen)), most))]
    return HeldOut(run, config, tokenizer, judges, split, chosen)


def measure_start(held: HeldOut, model: Any, writer: StatusWriter) -> None:
    """Reward the greedy answers of `model` as it starts; a resumed run has them already."""
    if _start_of(held) is not None:
        return
    found = _measure(held, model, writer, "answers to the held-out prompts before training")
    if found is not None:
        write_jsonl(held.run.reward_answers_file, _rows(held, {"start": found}))


def measure_adapted(held: HeldOut, model: Any, writer: StatusWriter) -> None:
    """Reward the greedy answers of the trained `model`; write rewards.json with both sides and their difference."""
    start = _start_of(held)
    adapted = _measure(held, model, writer, "answers to the held-out prompts after training")
    if start is None or adapted is None:
        writer.warn("The rewards on the held-out prompts were not compared: it was stopped before.")
        return
    write_jsonl(held.run.reward_answers_file, _rows(held, {"start": start, "adapted": adapted}))
    notes = []
    if held.split == "validation":
        notes.append("There is no test split; training chose its best weights on these prompts, which flatters it.")
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
            [prompt.ids for prompt in prompts],
            lambda answers: judged(
                held.judges,
                [prompt.messages for prompt in prompts],
                answers,
                [prompt.reference for prompt in prompts],
            ),
            max_new_tokens=held.config.reinforcement.max_new_tokens,
            batch_rows=held.config.evaluation.batch_size,
            context=context_length(held.config.model),
            should_stop=held.run.stop_file.exists,
        )
    except Stopped:
        return None


def _rows(held: HeldOut, sides: dict[str, Measured]) -> list[dict[str, Any]]:
    rows = []
    for index, prompt in enumerate(held.prompts):
        row: dict[str, Any] = {"prompt": prompt.messages, "reference": prompt.reference}
        for side, found in sides.items():
            row[side] = {
                "answer": found.answers[index],
                "tokens": found.tokens[index],
                "cut": found.cut[index],
                "rewards": {name: values[index] for name, values in found.scores.items()},
                "reward": found.rewards[index],
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
        [side["answer"] for side in sides],
        [side["tokens"] for side in sides],
        [side["cut"] for side in sides],
        {judge.name: [side["rewards"][judge.name] for side in sides] for judge in held.judges},
        [side["reward"] for side in sides],
    )
