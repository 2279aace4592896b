"""Write the sample general_documents: plain documents from the starter's training text, to mix in against forgetting.

    python -m ftlab.models.starter.general_documents          rewrites ftlab/samples/general_documents

They are passages of the starter's own text without the questions around them: scenes and small reports. None is a story
or a mail, the kinds that general_text and general_chat measure with, and none is advice, which general_probes ask for,
so these samples do not measure what was replayed.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence

from ftlab.models.starter.corpus import family_examples
from ftlab.models.starter.families import FAMILIES
from ftlab.models.starter.general_text import SEED, arguments, write_rows

DOCUMENTS = {"scenes": 210, "titles": 130}
# The requests to continue a scene, or for the title of a passage.
_ASKED = re.compile(
    r"^(Continue: |Go on: |Write the next sentences\. |What comes after this\? |Give this story a title: |"
    r"Write a title: |What is a good title for this story\? |Sum up in a title: )|( Give it a short title\.)$"
)
_READ: dict[str, Callable[[str, str], str]] = {
    "scenes": lambda asked, answer: f"{_ASKED.sub('', asked)} {answer}",
    "titles": lambda asked, answer: _ASKED.sub("", asked),
}
CARD = """\
---
license: apache-2.0
language:
- en
pretty_name: General documents
size_categories:
- n<1K
configs:
- config_name: default
  data_files:
  - split: train
    path: train.jsonl
---

# General documents

Short passages of plain English to mix into training as `data.replay_text`, so that the starter forgets less of its
general language.

| split | documents | bytes |
|---|---|---|
| train | {documents} | {size:,} |

## Columns

- `text`: a document, without a question.
- `kind`: scenes ({scenes}) or titles ({titles}): passages that a title can be asked for.

## How it was made

`python -m ftlab.models.starter.general_documents` (seed {seed}) draws {scenes} scenes from shops, offices and journeys
and {titles} passages of two or three sentences from the generator of the starter's own text, from the part that it was
trained on, without the questions. None is a story, an email or advice: general_text, general_chat and general_probes
measure with those.

All text was written for this project; the names are invented. License: Apache-2.0.
"""


def make_documents(seed: int = SEED) -> list[dict[str, str]]:
    """The documents, without the questions around them in the training text, and the kind of each."""
    documents: list[dict[str, str]] = []
    for family in FAMILIES:
        wanted = DOCUMENTS.get(family.name, 0)
        if wanted:
            drawn = family_examples(family, "train", 4 * wanted, seed)
            texts = list(dict.fromkeys(_passage(family.name, example["messages"]) for example in drawn))[:wanted]
            documents += [{"text": text, "kind": family.name} for text in texts]
    random.Random(f"documents/{seed}").shuffle(documents)
    return documents


def _passage(family: str, messages: Sequence[Mapping[str, str]]) -> str:
    asked, answer = (message["content"] for message in messages[-2:])
    return _READ[family](asked, answer)


if __name__ == "__main__":
    args = arguments("general_documents")
    write_rows(args.out / "general_documents", "train", make_documents(), CARD, DOCUMENTS)
