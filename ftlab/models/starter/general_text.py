"""Write the samples general_text and general_chat: small stories and mails that the starter was not trained on, to
measure forgetting; as plain documents, and as answers in a chat.

    python -m ftlab.models.starter.general_text          rewrites both in ftlab/samples

They are drawn from the held-out part of the starter's own text: each combination of contents was kept out of training,
but the sentences around them were not. Neither general_replay nor general_documents contains stories or mails, so these
samples measure an ability that replay does not train. The two forms are measured separately, because general_documents
replays plain documents, and nothing replays long answers in a chat.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ftlab.models.starter.corpus import family_examples
from ftlab.models.starter.families import FAMILIES

SEED = 2024
TEXTS = {"stories": 80, "mails": 40}
_HEAD = """\
---
license: apache-2.0
language:
- en
pretty_name: NAME
size_categories:
- n<1K
configs:
- config_name: default
  data_files:
  - split: test
    path: test.jsonl
---

# NAME

"""
CARD = (
    _HEAD.replace("NAME", "General text")
    + """\
Small stories and emails in plain English, to measure what tuning does to a model's general language: how many bits per
byte it needs for them before and after.

| split | documents | bytes |
|---|---|---|
| test | {documents} | {size:,} |

## Columns

- `text`: a document, without a question.
- `kind`: stories or mails.

## How it was made

`python -m ftlab.models.starter.general_text` (seed {seed}) draws {stories} stories and {mails} emails from the held-out
part of the generator of the starter's own text. Each combination of names and things was kept out of the starter's
training; the sentences around them were not. Neither general_replay nor general_documents has stories or emails.

All text was written for this project; the names are invented. License: Apache-2.0.
"""
)
CHAT_CARD = (
    _HEAD.replace("NAME", "General chat")
    + """\
Requests for small stories and emails, each with an answer, to measure what tuning does to longer answers in a chat: how
many bits per byte of the answer a model needs before and after.

| split | conversations | bytes of answers |
|---|---|---|
| test | {documents} | {size:,} |

## Columns

- `messages`: a request and one of many possible good answers.
- `kind`: stories or mails.

## How it was made

`python -m ftlab.models.starter.general_text` (seed {seed}) draws {stories} stories and {mails} emails from the held-out
part of the generator of the starter's own text: the documents of general_text, each with the request for it. Each
combination of names and things was kept out of the starter's training; the sentences around them were not. Neither
general_replay nor general_documents has stories or emails.

All text was written for this project; the names are invented. License: Apache-2.0.
"""
)


def make_chats(seed: int = SEED) -> list[dict[str, Any]]:
    """Held-out conversations of the families in `TEXTS`, each with a different answer."""
    conversations = []
    for family in FAMILIES:
        if family.name in TEXTS:
            # Two questions may have the same answer.
            drawn = {
                example["messages"][-1]["content"]: example["messages"]
                for example in reversed(family_examples(family, "held-out", 2 * TEXTS[family.name], seed))
            }
            chats = list(reversed(drawn.values()))[: TEXTS[family.name]]
            conversations += [{"messages": messages, "kind": family.name} for messages in chats]
    return conversations


def make_texts(seed: int = SEED) -> list[dict[str, str]]:
    """The answers of `make_chats` as documents."""
    return [{"text": chat["messages"][-1]["content"], "kind": chat["kind"]} for chat in make_chats(seed)]


def arguments(name: str) -> argparse.Namespace:
    """The arguments of the command line; `out` is the parent folder of the sample."""
    parser = argparse.ArgumentParser(description=f"Write {name}.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "samples")
    return parser.parse_args()


def write_rows(
    folder: Path, split: str, rows: Sequence[Mapping[str, Any]], card: str, counts: Mapping[str, int]
) -> None:
    """Write a sample of documents or conversations: a file with `rows`, and its `card`."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    texts = [row["text"] if "text" in row else row["messages"][-1]["content"] for row in rows]
    size = sum(len(text.encode()) for text in texts)
    text = card.format(documents=len(rows), size=size, seed=SEED, **counts)
    (folder / "README.md").write_text(text, encoding="utf-8")
    print(f"{folder.name}: {len(rows)} rows, {size:,} bytes")


if __name__ == "__main__":
    args = arguments("general_text and general_chat")
    write_rows(args.out / "general_text", "test", make_texts(), CARD, TEXTS)
    write_rows(args.out / "general_chat", "test", make_chats(), CHAT_CARD, TEXTS)
