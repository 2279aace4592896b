"""Write the samples general_probes (200 questions to measure forgetting) and general_replay (600 examples against it).

    python -m ftlab.models.starter.samples          rewrites ftlab/samples/general_probes and general_replay

Both are drawn from the starter's own text. Half of the probes are of kinds that are in the replay data too, with other
facts and other questions; half are of five kinds that are in neither general_replay nor general_documents, from the
part that the starter was not trained on. Only these show what replay protects beyond what it trains. The rows are drawn
whether or not the starter answers them correctly; the share of correct answers is measured afterwards and stated in the
card. The replay data contain no question and no fact of a probe.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ftlab.models.starter import starter_path
from ftlab.models.starter.corpus import draw
from ftlab.models.starter.families import FAMILIES, Draft, Family
from ftlab.models.starter.families import facts as tables
from ftlab.models.starter.families.draft import Split
from ftlab.models.starter.families.word_tasks import PLURAL_WORDS, plural_of
from ftlab.models.starter.families.words import ALL_CATEGORIES, DAYS, MONTHS, NUMBER_WORDS, VERBS

SEED = 2024
REPLAYED_KINDS = (
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
UNREPLAYED_KINDS = ("remembered numbers", "extraction", "conversation", "advice", "system prompts")
PROBES_OF_A_KIND = dict.fromkeys(REPLAYED_KINDS, 5) | dict.fromkeys(UNREPLAYED_KINDS, 20)
REPLAY_ROWS = 600
LONGEST_ANSWER = 40  # characters: replay is about short answers
_REMEMBERED = ("my name|", "favourite|")  # conversations that ask in a later turn for something from an earlier one


@cache
def known_facts() -> frozenset[tuple[str, ...]]:
    """Both ends of every fact of the closed sets, as plain words in alphabetical order."""
    pairs: list[tuple[str, str]] = []
    for table in (
        tables.CAPITALS,
        tables.OPPOSITES,
        tables.COLOURS_OF,
        tables.SOUNDS,
        tables.YOUNG,
        tables.HOMES,
        tables.LEGS,
        tables.USES,
        tables.WORKERS,
        tables.NUMBERS_KNOWN,
        tables.SEASON_FACTS,
    ):
        pairs += table
    for cycle in (DAYS, MONTHS):
        pairs += zip(cycle, [*cycle[1:], cycle[0]], strict=True)
    pairs += [(word, kind) for kind, words in ALL_CATEGORIES.items() for word in words]
    pairs += [(word, plural_of(word)) for word in PLURAL_WORDS]
    pairs += [(verb[0], form) for verb in VERBS for form in verb[1:]]
    pairs += [(word, str(number)) for number, word in enumerate(NUMBER_WORDS)]
    plain = [tuple(sorted((_words(x), _words(y)))) for x, y in pairs]
    return frozenset(pair for pair in plain if pair[0] != pair[1])


def facts_in(text: str) -> frozenset[tuple[str, ...]]:
    """The facts of the closed sets with both ends in `text`, in any phrasing."""
    words = f" {_words(text)} "
    return frozenset(fact for fact in known_facts() if all(f" {end} " in words for end in fact))


def _words(text: str) -> str:
    return " ".join(re.findall(r"[\w']+", text.casefold()))


def contents(family: Family, draft: Draft) -> str:
    """The subject of a draft: its key without the kind of question and, for a closed fact, without the phrasing."""
    key = draft.key.split("|", 1)[1]
    return key.rsplit("|", 1)[0] if family.facts else key


def make_probes(seed: int = SEED) -> tuple[list[dict[str, Any]], set[str]]:
    """The probe rows, kind by kind, and their subjects, which the replay data must avoid."""
    from ftlab.models.starter.general_documents import make_documents

    rng = random.Random(f"probes/{seed}")
    read = _facts_of(row["text"] for row in make_documents())
    rows: list[dict[str, Any]] = []
    about: set[str] = set()
    for family in sorted((f for f in FAMILIES if f.name in PROBES_OF_A_KIND), key=lambda f: f.name in UNREPLAYED_KINDS):
        taken: set[str] = set()
        while len(taken) < PROBES_OF_A_KIND[family.name]:
            draft = _draw_probe(family, rng)
            # Advice has too few held-out pairs to ask about each subject only once.
            key = draft.key if family.name == "advice" else contents(family, draft)
            if key in taken or facts_in(_text_of(draft)) & read:
                continue
            taken.add(key)
            about.add(contents(family, draft))
            rows.append({"messages": list(draft.messages), "kind": family.name})
    return rows, about


def make_replay(probes: Sequence[Mapping[str, Any]], about: set[str], seed: int = SEED) -> list[dict[str, str]]:
    """The replay rows: all other families with short answers in turn, without the questions and facts of the probes."""
    rng = random.Random(f"replay/{seed}")
    families = [f for f in FAMILIES if f.scored == "exact" and f.name not in UNREPLAYED_KINDS and has_short_answers(f)]
    probed = _facts_of(" ".join(turn["content"] for turn in row["messages"]) for row in probes)
    prompts = {row["messages"][-2]["content"] for row in probes}
    rows: list[dict[str, str]] = []
    while len(rows) < REPLAY_ROWS:
        family = families[len(rows) % len(families)]
        draft = draw_short(family, "train", rng)
        if draft.prompt in prompts or contents(family, draft) in about or facts_in(_text_of(draft)) & probed:
            continue
        if family.name == "new words" and draft.answer.startswith("{"):
            continue  # extraction, by another name
        prompts.add(draft.prompt)
        rows.append({"prompt": draft.prompt, "completion": draft.answer, "kind": family.name})
    rng.shuffle(rows)
    return rows


def draw_short(family: Family, split: Split, rng: random.Random) -> Draft:
    """A draft from `split` with a single question and a short answer."""
    while True:
        draft = draw(family, split, rng)
        if len(draft.messages) == 2 and len(draft.answer) <= LONGEST_ANSWER:
            return draft


def has_short_answers(family: Family) -> bool:
    """Whether at least half of the drafts of `family` are a single question with a short answer."""
    rng = random.Random(0)
    drafts = [family.draw(rng) for _ in range(100)]
    return sum(len(d.messages) == 2 and len(d.answer) <= LONGEST_ANSWER for d in drafts) >= 50


def _draw_probe(family: Family, rng: random.Random) -> Draft:
    if family.name in REPLAYED_KINDS:
        return draw_short(family, "train", rng)
    while True:
        draft = draw(family, "held-out", rng)
        if family.name != "conversation" or (draft.key.startswith(_REMEMBERED) and len(draft.messages) > 2):
            return draft


def _facts_of(texts: Iterable[str]) -> frozenset[tuple[str, ...]]:
    return frozenset().union(*map(facts_in, texts))


def _text_of(draft: Draft) -> str:
    return " ".join(turn["content"] for turn in draft.messages)


ABOUT_PROBES = """\
Questions with verifiable answers that the starter knows, to measure what a tuned model has forgotten: ask them before
and after tuning, and compare exact match. Half are of kinds in general_replay, half are not: a run that mixes in
general_replay is only taught to keep the first half."""
ABOUT_REPLAY = """\
Examples of what the starter already knows, to mix into the training data of another task so that the model forgets
less of these kinds of tasks."""
PROBE_COLUMNS = """\
- `messages`: sometimes a system turn or earlier turns, then the question and its one right answer.
- `kind`: the kind of task. Also in general_replay: {replayed}. Not in general_replay or general_documents: {others}."""
REPLAY_COLUMNS = """\
- `prompt`: a question or small task.
- `completion`: its one right answer.
- `kind`: the kind of task: {replayed}."""
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

{columns}

## How it was made

`python -m ftlab.models.starter.samples` (seed {seed}) draws it from the generator of the starter's own text. The kinds
of the probes are ones that the starter does well; the rows were drawn without looking at its answers. general_probes
shares no prompt, no combination of contents and no fact (the capital of a country, an opposite, the day after another
...) with general_replay or general_documents, however the fact is asked for. Probes of kinds that are not replayed come
from the part that was kept out of the starter's training. The kinds are related: general_replay extracts single fields
of a sentence, not JSON, and asks for a form in the question, not in a system turn.

The starter as shipped answers {right} of the rows right (greedy, exact match).

All text was written for this project. License: Apache-2.0.
"""


def write(
    folder: Path, split: str, title: str, about: str, columns: str, rows: Sequence[Mapping[str, Any]], right: str
) -> None:
    """Write the rows and the card of a sample; `right` is the share that the starter answers correctly, in words."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    counts = {f.name: sum(row["kind"] == f.name for row in rows) for f in FAMILIES}
    lists = [
        ", ".join(f"{name} ({n})" for name, n in counts.items() if n and (name in UNREPLAYED_KINDS) == apart)
        for apart in (False, True)
    ]
    columns = columns.format(replayed=lists[0], others=lists[1])
    card = CARD.format(title=title, about=about, split=split, rows=len(rows), columns=columns, seed=SEED, right=right)
    (folder / "README.md").write_text(card, encoding="utf-8")


def measure(rows: Sequence[Mapping[str, Any]], model_path: Path) -> list[dict[str, Any]]:
    """The rows that a model answers incorrectly (greedy, exact match), with its answers."""
    from transformers import AutoTokenizer, LlamaForCausalLM

    from ftlab.models.starter.evaluate import answer_greedily

    model, tokenizer = LlamaForCausalLM.from_pretrained(model_path), AutoTokenizer.from_pretrained(model_path)
    chats = [row.get("messages") or _chat(row["prompt"], row["completion"]) for row in rows]
    answers = answer_greedily(model, tokenizer, [chat[:-1] for chat in chats])
    return [
        {**row, "answer": answer}
        for row, chat, answer in zip(rows, chats, answers, strict=True)
        if answer != chat[-1]["content"]
    ]


def _chat(prompt: str, completion: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": completion}]


def main() -> None:
    parser = argparse.ArgumentParser(description="Write general_probes and general_replay.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "samples")
    parser.add_argument(
        "--model", type=Path, default=starter_path(), help="the model whose share of correct answers the card states"
    )
    args = parser.parse_args()
    probes, about = make_probes()
    replay = make_replay(probes, about)
    missed, forgotten = measure(probes, args.model), measure(replay, args.model)
    shares = []
    for apart in (False, True):
        asked = sum((row["kind"] in UNREPLAYED_KINDS) == apart for row in probes)
        shares.append(1 - sum((row["kind"] in UNREPLAYED_KINDS) == apart for row in missed) / asked)
    known = f"{shares[0]:.1%} (kinds in general_replay) and {shares[1]:.1%} (the others)"
    right = f"{1 - len(forgotten) / len(replay):.1%}"
    write(args.out / "general_probes", "test", "General probes", ABOUT_PROBES, PROBE_COLUMNS, probes, known)
    write(args.out / "general_replay", "train", "General replay", ABOUT_REPLAY, REPLAY_COLUMNS, replay, right)
    print(f"probes: {len(probes)} rows, {known} right; replay: {len(replay)} rows, {right} right")
    for row in missed:
        print(json.dumps(row))


if __name__ == "__main__":
    main()
