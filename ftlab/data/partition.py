"""Hold rows out of training so that no prompt stands on both sides."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import Any

from ftlab.config import DataConfig
from ftlab.data.conversion import Message
from ftlab.data.documents import is_document
from ftlab.data.grouping import group, labels_of, shares, strata
from ftlab.data.split_names import SPLITS
from ftlab.errors import InputError

Example = dict[str, Any]


def prompt_fingerprint(messages: Sequence[Message], system_prompt: str | None = None) -> str:
    """16 hexadecimal digits that are equal for the same prompt: all turns before the last answer (all of plain text),
    without regard to case and spaces. `system_prompt` is what the configuration put in front of every example; it tells
    none apart."""
    turns = list(messages[:-1] if messages and messages[-1]["role"] == "assistant" else messages)
    if system_prompt and turns and turns[0] == {"role": "system", "content": system_prompt}:
        turns = turns[1:]
    text = "\x1e".join(f"{turn['role']}\x1f{' '.join(turn['content'].split()).casefold()}" for turn in turns)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


def asked(example: Example) -> list[Message]:
    """The turns of `example` up to and with an answer: of a preference, its prompt and an answer that is left open."""
    if "prompt" in example:
        return [*example["prompt"], {"role": "assistant", "content": ""}]
    return example["messages"]


def hold_out(
    splits: dict[str, list[Example]],
    data: DataConfig,
    cells: Sequence[dict[str, Any]] = (),
    notes: list[str] | None = None,
) -> dict[str, list[Example]]:
    """All three splits; what the source does not bring is taken from train, whole groups at a time: equal and
    near-equal prompts, and rows with the same value in `data.group_by`. `cells` are the columns that the grouping
    needs, for every example of train. The same seed gives the same split."""
    train = splits["train"]
    wanted = [
        (split, max(1, round(len(train) * fraction)))
        for split, fraction in (("test", data.test_fraction), ("validation", data.validation_fraction))
        if split not in splits and fraction > 0
    ]
    remaining: list[list[int]] = []
    if wanted:
        prints = [prompt_fingerprint(asked(example), data.system_prompt) for example in train]
        turns = [asked(example) for example in train]
        from ftlab.data.rendering import reference

        prompts, answers = [prompt_text(one) for one in turns], [reference(one) for one in turns]
        remaining, told = group(prints, prompts, answers, cells, data)
        if notes is not None:
            notes += told
        if len(remaining) <= len(wanted):
            of_texts = is_document(train[0]["messages"])
            by = f"values of {data.group_by}" if data.group_by else "documents" if of_texts else "prompts"
            raise InputError(
                f"Too few different {by} to hold any out",
                given=f"{len(remaining)} different {by} in {len(train)} rows",
                allowed=f"at least {len(wanted) + 1}",
                try_="add rows, bring your own splits, or set data.validation_fraction and data.test_fraction to 0",
            )
    labels = labels_of(cells, data, len(train))
    random.Random(data.seed).shuffle(remaining)
    held: dict[str, list[Example]] = {}
    for split, target in wanted:
        taken, remaining = _take(remaining, target, labels)
        held[split] = [train[position] for position in sorted(position for members in taken for position in members)]
    if wanted:
        train = [train[position] for position in sorted(position for members in remaining for position in members)]
    return {"train": train} | {split: held.get(split, splits.get(split, [])) for split in SPLITS[1:]}


def prompt_text(messages: Sequence[Message]) -> str:
    """What is asked, earlier turns included, without the system prompt; of a document all of it."""
    if is_document(messages):
        return messages[0]["content"]
    from ftlab.data.rendering import prompt_messages  # the page of a staged vote has none

    return "\n".join(turn["content"] for turn in prompt_messages(messages) if turn["role"] != "system")


def _take(groups: list[list[int]], target: int, labels: Sequence[str]) -> tuple[list[list[int]], list[list[int]]]:
    """Groups with about `target` rows together, each label by its share, and the groups that are left."""
    by_label = strata(groups, labels)
    if len(by_label) < 2:
        return _take_groups(groups, target)
    taken: list[list[int]] = []
    for label, share in shares({label: sum(map(len, some)) for label, some in by_label.items()}, target).items():
        if share and len(by_label[label]) > 1:  # the only group of a label stays in train
            taken += _take_groups(by_label[label], share)[0]
    if not taken:
        return _take_groups(groups, target)
    chosen = {members[0] for members in taken}
    return taken, [members for members in groups if members[0] not in chosen]


def _take_groups(groups: list[list[int]], target: int) -> tuple[list[list[int]], list[list[int]]]:
    """Groups with about `target` rows together (never none), and the groups that are left."""
    taken, left, count = [], [], 0
    for members in groups:
        if count + len(members) <= target:
            taken.append(members)
            count += len(members)
        else:
            left.append(members)
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
