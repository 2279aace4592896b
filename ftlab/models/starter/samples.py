"""Writes the samples general_probes (200 questions to measure forgetting) and general_replay (600 examples against it).

    python -m ftlab.models.starter.samples          rewrites ftlab/samples/general_probes and general_replay

Both are drawn from the starter's own text. The families of the probes are some that the starter does well; their rows
are drawn whether or not it answers them right, and the share that it does is measured afterwards and stands in the
card. Probes and replay share no prompt, no combination of contents and, in the closed sets of facts, no fact: replay
must not train the answers that the probes ask for.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from pathlib import Path

from ftlab.models.starter import starter_path
from ftlab.models.starter.corpus import draw
from ftlab.models.starter.families import FAMILIES, Draft, Family

SEED = 2024
PROBES_PER_FAMILY = 10
PROBE_FAMILIES = (
    "capitals",
    "opposites",
    "colours",
    "animals",
    "uses",
    "jobs",
    "known numbers",
    "calendar",
    "categories",
    "plurals",
    "past tense",
    "upper case",
    "number words",
    "counting",
    "first and last",
    "odd one out",
    "comparisons",
    "sentiment",
    "reversing",
    "yes or no",
)
REPLAY_ROWS = 600
# Families that ask for the facts of others in another form; they may only replay facts that are not probed.
DERIVED_FAMILIES = ("gaps", "requests", "yes or no")
FACT_TOPICS = (
    "capital",
    "capital in a sentence",
    "country of",
    "opposite",
    "colour of",
    "use",
    "job",
    "sound",
    "young",
    "home",
    "legs",
    "season",
)
LONGEST_ANSWER = 40  # characters: replay, like the probes, is about short answers


def is_probe_fact(fact: str) -> bool:
    """Divides the facts of the closed sets: about 40% may be probed, the others replayed."""
    return int.from_bytes(hashlib.sha256(fact.encode()).digest()[:4], "big") % 100 < 40


def draw_short(family: Family, rng: random.Random) -> Draft:
    """A trained combination with one question and a short answer."""
    while True:
        draft = draw(family, "train", rng)
        if len(draft.messages) == 2 and len(draft.answer) <= LONGEST_ANSWER:
            return draft


def row_of(family: Family, draft: Draft) -> dict[str, str]:
    return {"prompt": draft.prompt, "completion": draft.answer, "family": family.name}


def make_probes(seed: int = SEED) -> tuple[list[dict[str, str]], set[str]]:
    """The probe rows, and the keys of their combinations (for facts: without the phrasing)."""
    rng = random.Random(f"probes/{seed}")
    rows, keys = [], set()
    for family in (f for f in FAMILIES if f.name in PROBE_FAMILIES):
        prompts: set[str] = set()
        while len(prompts) < PROBES_PER_FAMILY:
            draft = draw_short(family, rng)
            fact = fact_of(draft)
            if draft.prompt in prompts or (family.facts and not is_probe_fact(fact)):
                continue
            prompts.add(draft.prompt)
            keys.add(fact if family.facts else draft.key)
            rows.append(row_of(family, draft))
    return rows, keys


def make_replay(probe_rows: list[dict[str, str]], probe_keys: set[str], seed: int = SEED) -> list[dict[str, str]]:
    """The replay rows: every family with short answers, in turn, none of them close to a probe."""
    rng = random.Random(f"replay/{seed}")
    families = [f for f in FAMILIES if f.scored == "exact" and has_short_answers(f)]
    prompts = {row["prompt"] for row in probe_rows}
    subjects = {key.split("|")[1] for key in probe_keys if key.split("|")[0] in FACT_TOPICS}
    rows: list[dict[str, str]] = []
    while len(rows) < REPLAY_ROWS:
        family = families[len(rows) % len(families)]
        draft = draw_short(family, rng)
        fact = fact_of(draft)
        if draft.prompt in prompts or draft.key in probe_keys or (family.facts and is_probe_fact(fact)):
            continue
        if family.name in DERIVED_FAMILIES and subjects & set(draft.key.split("|")):
            continue
        prompts.add(draft.prompt)
        rows.append(row_of(family, draft))
    rng.shuffle(rows)
    return rows


def fact_of(draft: Draft) -> str:
    """The key without its last part, which in the closed sets is the phrasing."""
    return draft.key.rsplit("|", 1)[0]


def has_short_answers(family: Family) -> bool:
    """Whether at least half of the family's drafts are one question with a short answer."""
    rng = random.Random(0)
    drafts = [family.draw(rng) for _ in range(100)]
    return sum(len(d.messages) == 2 and len(d.answer) <= LONGEST_ANSWER for d in drafts) >= 50


ABOUT_PROBES = """\
Questions with checkable answers that the starter knows, to measure what a tuned model has forgotten: ask them before
and after tuning, and compare exact match."""
ABOUT_REPLAY = """\
Examples of what the starter already knows, to be mixed into the training data of another task, so that the model
forgets less."""
CARD = """\
---
license: apache-2.0
language:
- en
pretty_name: {title}
size_categories:
- n<1K
configs:
- config_name: default
  data_files:
  - split: {split}
    path: {split}.jsonl
---

# {title}

{about}

| split | rows |
|---|---|
| {split} | {rows} |

## Columns

- `prompt`: a question or small task.
- `completion`: its one right answer.
- `family`: the kind of task: {families}.

## How it was made

`python -m ftlab.models.starter.samples` (seed {seed}) draws it from the generator of the starter's own text. The
families of the probes were chosen among those that the starter does well; the rows were drawn without looking at its
answers. general_probes and general_replay share no prompt and no combination of contents; of the closed sets of facts
(capitals, opposites ...) a fact is either probed or replayed, never both.

The starter as shipped answers {right:.1%} of the rows right (greedy, exact match).

All text was written for this project. License: Apache-2.0.
"""


def write(folder: Path, split: str, title: str, about: str, rows: list[dict[str, str]], right: float) -> None:
    """Writes the rows and the card of one sample; `right` is the share that the starter answers right."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    counts = {f.name: sum(row["family"] == f.name for row in rows) for f in FAMILIES}
    families = ", ".join(f"{name} ({n})" for name, n in counts.items() if n)
    card = CARD.format(title=title, about=about, split=split, rows=len(rows), families=families, seed=SEED, right=right)
    (folder / "README.md").write_text(card, encoding="utf-8")


def measure(rows: list[dict[str, str]], model_path: Path) -> tuple[float, list[dict[str, str]]]:
    """Greedy exact match of a model on the rows, and the rows that it missed with its answers."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from ftlab.models.starter.evaluate import answer_greedily

    model, tokenizer = AutoModelForCausalLM.from_pretrained(model_path), AutoTokenizer.from_pretrained(model_path)
    answers = answer_greedily(model, tokenizer, [[{"role": "user", "content": r["prompt"]}] for r in rows])
    missed = [{**r, "answer": a} for r, a in zip(rows, answers, strict=True) if a != r["completion"]]
    return 1 - len(missed) / len(rows), missed


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes general_probes and general_replay.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "samples")
    parser.add_argument(
        "--model", type=Path, default=starter_path(), help="the model whose share of right answers is noted in the card"
    )
    args = parser.parse_args()
    probes, keys = make_probes()
    replay = make_replay(probes, keys)
    right, missed = measure(probes, args.model)
    known, _ = measure(replay, args.model)
    write(args.out / "general_probes", "test", "General probes", ABOUT_PROBES, probes, right)
    write(args.out / "general_replay", "train", "General replay", ABOUT_REPLAY, replay, known)
    print(f"probes: {len(probes)} rows, {right:.1%} right; replay: {len(replay)} rows, {known:.1%} right")
    for row in missed:
        print(json.dumps(row))


if __name__ == "__main__":
    main()
