"""The frozen prompts that a model answers while it is rewarded, with what is left out counted and said."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ftlab.config import RunConfig
from ftlab.errors import InputError
from ftlab.evaluation.held_out import groups_of
from ftlab.files import write_json
from ftlab.run_directory import RunDirectory
from ftlab.training.examples import context_of
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
    found: dict[str, list[Prompt]] = {}
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
                f"{longest}) and were left out: prompt and answer have to fit together."
            )
        if split == "train" and len(kept) <= len(every) / 2:
            raise InputError(
                f"{too_long} of {len(every)} training prompts leave no room for an answer",
                given=f"the longest has {longest} tokens, and an answer may have {config.reinforcement.max_new_tokens}",
                allowed=f"at least half of the prompts within {limit} tokens",
                try_="a lower reinforcement.max_new_tokens, a higher optimisation.max_length up to the base's context, "
                "or shorter prompts",
            )
        found[split] = kept
    write_json(run.manifest_file, manifest)
    return found


def validation_prompts(prompts: Sequence[Prompt]) -> list[Prompt]:
    """At most `MOST_VALIDATION` of `prompts`, the same each time."""
    if len(prompts) <= MOST_VALIDATION:
        return list(prompts)
    chosen = random.Random(0).sample(range(len(prompts)), MOST_VALIDATION)
    return [prompts[index] for index in sorted(chosen)]


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
