"""Steps that write their answers first: what learning from rewards takes, measured.

How long answers get is only known while the model learns. The first step is therefore made with answers of full
length, where memory peaks, and the others with answers as long as the model makes them now.
"""

from __future__ import annotations

import itertools
import statistics
import time
from typing import Any

_MOST_EVALUATED = 16  # validation prompts that are answered for the time


def prompt_lengths(trainer: Any) -> list[int]:
    """Tokens of each training prompt with the longest answer to it."""
    ids, *_ = trainer._tokenize_prompts(trainer.train_dataset["prompt"])
    return [len(prompt) + trainer.max_completion_length for prompt in ids]


def train_on_answers(trainer: Any, clock: Any, notes: Any, *, usual_steps: int) -> None:
    """One step on the longest prompts with answers of full length, then a few as they come."""
    from transformers import TrainerCallback

    dataset, arguments, lengths = trainer.train_dataset, trainer.args, notes.values["lengths"]
    prompts = arguments.generation_batch_size // trainer.num_generations
    longest = sorted(range(len(dataset)), key=lambda index: -lengths[index])[:prompts]
    others = itertools.islice(itertools.cycle(range(len(dataset))), prompts * usual_steps)
    order = [*longest, *others]
    trainer.train_dataset, trainer.shuffle_dataset = dataset.select(order), False
    arguments.max_steps = 1 + usual_steps
    trainer.generation_config.min_new_tokens = trainer.max_completion_length

    class EndsAsItLikes(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            trainer.generation_config.min_new_tokens = None

    trainer.add_callback(EndsAsItLikes())
    trainer.train()
    timed = clock.seconds[-max(1, len(clock.seconds) - 1) :]
    notes.add(
        longest_rows=arguments.per_device_train_batch_size,
        longest_tokens=max(lengths) * arguments.per_device_train_batch_size,
        step_seconds=statistics.median(timed),
        steps_timed=len(timed),
        answers_grow_to=clock.seconds[0],
    )
    trainer.train_dataset = dataset


def evaluate_answers(trainer: Any, notes: Any) -> None:
    """The time of one validation, from some of its prompts."""
    dataset = trainer.eval_dataset
    some = dataset.select(range(min(len(dataset), _MOST_EVALUATED)))
    began = time.monotonic()
    trainer.evaluate(eval_dataset=some)
    notes.add(evaluation_seconds=(time.monotonic() - began) / len(some) * len(dataset))
