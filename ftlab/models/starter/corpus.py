"""The text of the starter: conversations drawn from the families, split into a training and a held-out part.

A stable hash of its key decides whether a combination of contents is held out, whatever the seed and the phrasing.
About one in ten is, and is never trained on.

    python -m ftlab.models.starter.corpus --rows 20     prints examples as JSON lines
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator, Mapping
from typing import TypedDict

from ftlab.models.starter.families import FAMILIES, Draft, Family, Message
from ftlab.models.starter.families.draft import Split, split_of

NEUTRAL_SYSTEM = (
    "You are a helpful assistant.",
    "You are a friendly assistant.",
    "Answer the questions of the user.",
    "You help with small tasks.",
    "Be kind and clear.",
    "You are Starter, a small model.",
)


class Example(TypedDict):
    """One conversation of the corpus. `family` is that of its last turn."""

    family: str
    split: Split
    messages: list[Message]


def draw(family: Family, split: Split, rng: random.Random) -> Draft:
    """A draft of `family` from `split`."""
    while True:
        draft = family.draw(rng)
        if split_of(family.name, draft.key) == split:
            return draft


def family_examples(family: Family, split: Split, count: int, seed: int) -> list[Example]:
    """`count` examples with different prompts, or fewer if the family has fewer. For evaluation and samples."""
    rng = random.Random(f"{family.name}/{split}/{seed}")
    seen: dict[str, Example] = {}
    for _ in range(count * 40):
        if len(seen) == count:
            break
        draft = draw(family, split, rng)
        prompt = json.dumps(draft.messages[:-1])
        seen.setdefault(prompt, {"family": family.name, "split": split, "messages": list(draft.messages)})
    return list(seen.values())


def training_examples(seed: int, emphasis: Mapping[str, float] | None = None) -> Iterator[Example]:
    """An endless stream of training conversations: families by their share, one in ten with a neutral system turn, one
    in ten with two or three tasks in one conversation. `emphasis` multiplies the shares of the families it names."""
    rng = random.Random(f"train/{seed}")
    shares = [f.share * (emphasis or {}).get(f.name, 1.0) for f in FAMILIES]
    while True:
        turns = 1 if rng.random() < 0.9 else rng.randint(2, 3)
        messages: list[Message] = []
        for _ in range(turns):
            family = rng.choices(FAMILIES, shares)[0]
            draft = draw(family, "train", rng)
            if draft.messages[0]["role"] == "system":
                # A rule applies to the whole conversation, so such drafts stand alone.
                messages = list(draft.messages)
                break
            messages += draft.messages
        if messages[0]["role"] != "system" and rng.random() < 0.1:
            messages.insert(0, {"role": "system", "content": rng.choice(NEUTRAL_SYSTEM)})
        yield {"family": family.name, "split": "train", "messages": messages}


def main() -> None:
    parser = argparse.ArgumentParser(description="Print examples of the starter's text as JSON lines.")
    parser.add_argument("--rows", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", choices=("train", "held-out"), default="train")
    args = parser.parse_args()
    if args.split == "train":
        stream = training_examples(args.seed)
        examples = [next(stream) for _ in range(args.rows)]
    else:
        examples = [
            e for f in FAMILIES for e in family_examples(f, "held-out", max(1, args.rows // len(FAMILIES)), args.seed)
        ]
    for example in examples:
        print(json.dumps(example))


if __name__ == "__main__":
    main()
