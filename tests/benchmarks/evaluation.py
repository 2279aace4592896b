"""How fast ftlab scores and answers held-out rows, beside the ways a person would write down first.

    python -m tests.benchmarks.evaluation --rows 500 --prompts 100
    python -m tests.benchmarks.evaluation --base smollm2 --rows 50 --prompts 100 --labelled 10 --repeats 1

Losses of the same rows under the same model: ftlab's (`score_losses`), a loop over single rows with the loss that
transformers works out, and the way of the `perplexity` metric of `evaluate` (batches of 16 as they come, padded to the
longest of all rows, all logits; its script is fetched from the Hub, so what it does is written out here). Answers of
at most 64 tokens: in batches of 32 against one `generate` per prompt, and the same after one instruction of some
hundred tokens. The likelihood of each of 20 labels after each message of a bank's customers, against batches and a loop
that read the message again for each label. The ways take turns; ratios are of medians.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ftlab.config import ModelConfig
from ftlab.data.rendering import Encoded, encode, encode_prompt, stop_token_ids
from ftlab.evaluation import generate, losses
from ftlab.evaluation.generate import generate_answers
from ftlab.evaluation.losses import score_losses
from ftlab.models.load import context_length, load_base, load_tokenizer

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data" / "alpaca_en_demo.json"
LABELS = ROOT.parent / "shared" / "data" / "banking77_test.csv"
NEW_TOKENS = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--labelled", type=int, default=10, help="messages of which every label is scored")
    parser.add_argument("--base", default="starter")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--labels", type=Path, default=LABELS)
    given = parser.parse_args()
    base = ModelConfig(base=given.base)
    tokenizer, model = load_tokenizer(given.base), load_base(base, device="cpu")
    context = context_length(base)
    examples = [messages_of(row) for row in json.loads(given.data.read_text())]
    rows = [row for row in (encode(example, tokenizer) for example in examples) if len(row.input_ids) <= context]
    rows = rows[: given.rows]
    prompts = [ids for ids in (encode_prompt(example, tokenizer) for example in examples) if len(ids) <= context // 2]
    prompts = prompts[: given.prompts]
    tokens = sum(len(row.input_ids) for row in rows)
    print(f"{len(rows)} rows, {tokens:,} tokens, {sum(sum(row.trained) for row in rows):,} of them in answers")
    scoring = {
        "ftlab": lambda: score_losses(model, rows, pad_token_id=tokenizer.pad_token_id).perplexity,
        "a plain loop": lambda: plain_loop(model, rows),
        "evaluate's way": lambda: the_way_of_evaluate(model, rows, tokenizer.pad_token_id),
    }
    report(scoring, given.repeats, "losses", lambda seconds: f"{tokens / seconds:7.0f} tokens/s")
    stops = stop_token_ids(tokenizer, model.generation_config)

    def answers(batch_rows: int, prompts: list[list[int]] = prompts) -> int:
        made = generate_answers(
            model, tokenizer, prompts, max_new_tokens=NEW_TOKENS, stop_ids=stops, batch_rows=batch_rows, context=context
        )
        return sum(answer.tokens for answer in made.answers)

    answering = {"in batches": lambda: answers(32), "one by one": lambda: answers(1)}
    report(answering, given.repeats, f"answers to {len(prompts)} prompts", lambda seconds: "")

    messages, labels = labelled(given.labels, given.labelled)
    instruction = f"Name the intent of the message. Answer with one of: {', '.join(labels)}."
    asked = [[{"role": "user", "content": f"{instruction}\n\n{message}"}] for message in messages]
    instructed = [encode_prompt(messages, tokenizer) for messages in asked]
    answering = {
        "read once": lambda: answers(32, instructed),
        "read again": lambda: read_again(lambda: answers(32, instructed)),
        "one by one": lambda: answers(1, instructed),
    }
    report(answering, given.repeats, f"answers to {len(instructed)} prompts after one instruction", lambda seconds: "")
    of_labels = [encode([*a, {"role": "assistant", "content": label}], tokenizer) for a in asked for label in labels]
    scoring = {
        "read once": lambda: score_losses(model, of_labels, pad_token_id=tokenizer.pad_token_id).perplexity,
        "read again": lambda: read_again(
            lambda: score_losses(model, of_labels, pad_token_id=tokenizer.pad_token_id).perplexity
        ),
        "a plain loop": lambda: plain_loop(model, of_labels),
    }
    report(
        scoring,
        given.repeats,
        f"the likelihood of {len(labels)} labels after each of {len(asked)} messages",
        lambda seconds: f"{seconds / len(asked):7.2f} s each",
    )


def labelled(path: Path, count: int, most: int = 20) -> tuple[list[str], list[str]]:
    """The first `count` messages of each of the first labels in turn, and the labels."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = [(row["text"], row["category"]) for row in csv.DictReader(stream)]
    labels = list(dict.fromkeys(label for _, label in rows))[:most]
    of_each = {label: iter([text for text, own in rows if own == label]) for label in labels}
    return [next(of_each[labels[place % len(labels)]]) for place in range(count)], labels


def read_again(way: Callable[[], Any]) -> Any:
    """As before what texts begin with was read once."""
    kept = losses.reads_once
    losses.reads_once = generate.reads_once = lambda model: False
    try:
        return way()
    finally:
        losses.reads_once = generate.reads_once = kept


def messages_of(row: dict[str, str]) -> list[dict[str, str]]:
    question = "\n\n".join(part for part in (row["instruction"], row.get("input", "")) if part)
    return [{"role": "user", "content": question}, {"role": "assistant", "content": row["output"]}]


@torch.no_grad()
def plain_loop(model: Any, rows: list[Encoded]) -> float:
    total = count = 0.0
    for row in rows:
        tokens = sum(row.trained[1:])
        loss = model(input_ids=torch.tensor([row.input_ids]), labels=torch.tensor([row.labels])).loss
        total, count = total + loss.item() * tokens, count + tokens
    return float(torch.tensor(total / count).exp())


@torch.no_grad()
def the_way_of_evaluate(model: Any, rows: list[Encoded], pad: int, batch: int = 16) -> float:
    longest = max(len(row.input_ids) for row in rows)
    ids = torch.tensor([row.input_ids + [pad] * (longest - len(row.input_ids)) for row in rows])
    mask = torch.tensor([[1] * len(row.input_ids) + [0] * (longest - len(row.input_ids)) for row in rows])
    found = []
    for start in range(0, len(rows), batch):
        some, seen = ids[start : start + batch], mask[start : start + batch]
        logits = model(some, attention_mask=seen).logits[:, :-1].contiguous()
        losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), some[:, 1:], reduction="none")
        found += ((losses * seen[:, 1:]).sum(1) / seen[:, 1:].sum(1)).exp().tolist()
    return statistics.fmean(found)


def report(ways: dict[str, Callable[[], Any]], repeats: int, what: str, more: Callable[[float], str]) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    results = {}
    for _ in range(repeats):
        for name, way in ways.items():
            began = time.perf_counter()
            results[name] = way()
            seconds[name].append(time.perf_counter() - began)
    first = statistics.median(next(iter(seconds.values())))
    print(f"\n{what}")
    for name, measured in seconds.items():
        middle = statistics.median(measured)
        print(
            f"{name:<16} {middle:7.2f} s  {more(middle)}  {middle / first:5.2f} times as long   ({results[name]:.6g})"
        )


if __name__ == "__main__":
    main()
