"""Hold rows out of training so that no prompt stands on both sides."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import Any

from ftlab.config import DataConfig
from ftlab.data.conversion import Message
from ftlab.data.split_names import SPLITS
from ftlab.errors import InputError

Example = dict[str, Any]


def prompt_fingerprint(messages: Sequence[Message], system_prompt: str | None = None) -> str:
    """16 hexadecimal digits that are equal for the same prompt: all turns before the last answer, without regard to
    case and spaces. `system_prompt` is what the configuration put in front of every example; it tells none apart."""
    turns = list(messages[:-1] if messages and messages[-1]["role"] == "assistant" else messages)
    if system_prompt and turns and turns[0] == {"role": "system", "content": system_prompt}:
        turns = turns[1:]
    text = "\x1e".join(f"{turn['role']}\x1f{' '.join(turn['content'].split()).casefold()}" for turn in turns)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


def hold_out(splits: dict[str, list[Example]], data: DataConfig) -> dict[str, list[Example]]:
    """All three splits; what the source does not bring is taken from train, whole groups of equal prompts at a time."""
    train = splits["train"]
    wanted = [
        (split, max(1, round(len(train) * fraction)))
        for split, fraction in (("test", data.test_fraction), ("validation", data.validation_fraction))
        if split not in splits and fraction > 0
    ]
    groups: dict[str, list[int]] = {}
    if wanted:
        for position, example in enumerate(train):
            groups.setdefault(prompt_fingerprint(example["messages"], data.system_prompt), []).append(position)
        if len(groups) <= len(wanted):
            raise InputError(
                "Too few different prompts to hold any out",
                given=f"{len(groups)} different prompts in {len(train)} rows",
                allowed=f"at least {len(wanted) + 1}",
                try_="add rows, bring your own splits, or set data.validation_fraction and data.test_fraction to 0",
            )
    remaining = list(groups.values())
    random.Random(data.seed).shuffle(remaining)
    held: dict[str, list[Example]] = {}
    for split, target in wanted:
        taken, remaining = _take_groups(remaining, target)
        held[split] = [train[position] for position in sorted(position for group in taken for position in group)]
    if wanted:
        train = [train[position] for position in sorted(position for group in remaining for position in group)]
    return {"train": train} | {split: held.get(split, splits.get(split, [])) for split in SPLITS[1:]}


def _take_groups(groups: list[list[int]], target: int) -> tuple[list[list[int]], list[list[int]]]:
    """Groups with about `target` rows together (never none), and the groups that are left."""
    taken, left, count = [], [], 0
    for group in groups:
        if count + len(group) <= target:
            taken.append(group)
            count += len(group)
        else:
            left.append(group)
    if not taken:
        smallest = min(left, key=len)
        left.remove(smallest)
        taken = [smallest]
    return taken, left


def describe_overlaps(fingerprints: dict[str, list[str]]) -> list[str]:
    """A note for each held-out split that shares prompts with train."""
    train = set(fingerprints["train"])
    notes = []
    for split in SPLITS[1:]:
        shared = sum(fingerprint in train for fingerprint in fingerprints[split])
        if shared:
            notes.append(
                f"{shared} of the {len(fingerprints[split])} {split} rows have a prompt that is in train too: "
                "their scores show memory, not skill."
            )
    return notes
