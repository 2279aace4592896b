"""Writes the sample general_text: small stories and mails that the starter has never read, to measure forgetting.

    python -m ftlab.models.starter.general_text          rewrites ftlab/samples/general_text

They are drawn from the held-out part of the starter's own text: each combination of contents was kept out of its
training, though the sentences that are filled with them were not. Neither general_replay nor general_documents holds
stories or mails, so the text shows what happens to an ability that nobody trains.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ftlab.models.starter.corpus import family_examples
from ftlab.models.starter.families import FAMILIES

SEED = 2024
TEXTS = {"stories": 80, "mails": 40}
CARD = """\
---
license: apache-2.0
language:
- en
pretty_name: General text
size_categories:
- n<1K
configs:
- config_name: default
  data_files:
  - split: test
    path: test.jsonl
---

# General text

Small stories and mails in plain English, to measure what tuning does to a model's general language: how many bits per
byte it needs for them before and after.

| split | documents | bytes |
|---|---|---|
| test | {documents} | {size:,} |

## Columns

- `text`: a document, without a question before it.

## How it was made

`python -m ftlab.models.starter.general_text` (seed {seed}) draws {stories} stories and {mails} mails from the held-out
part of the generator of the starter's own text. Each combination of names and things was kept out of the starter's
training; the sentences that hold them were not. Neither general_replay nor general_documents holds stories or mails.

All text was written for this project; the names are invented. License: Apache-2.0.
"""


def make_texts(seed: int = SEED) -> list[str]:
    """The documents: answers of held-out conversations of the families `TEXTS` names."""
    texts = []
    for family in FAMILIES:
        if family.name in TEXTS:
            drawn = family_examples(family, "held-out", 2 * TEXTS[family.name], seed)
            # The same answer can stand under two questions.
            texts += list(dict.fromkeys(one["messages"][-1]["content"] for one in drawn))[: TEXTS[family.name]]
    return texts


def write_documents(name: str, split: str, texts: Sequence[str], card: str, counts: Mapping[str, int]) -> None:
    """Write the sample `name`, or one like it in the folder that --out names: a file with `texts` and its `card`."""
    parser = argparse.ArgumentParser(description=f"Writes {name}.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "samples")
    folder = parser.parse_args().out / name
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
    (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    size = sum(len(text.encode()) for text in texts)
    told = card.format(documents=len(texts), size=size, seed=SEED, **counts)
    (folder / "README.md").write_text(told, encoding="utf-8")
    print(f"{len(texts)} documents, {size:,} bytes")


if __name__ == "__main__":
    write_documents("general_text", "test", make_texts(), CARD, TEXTS)
