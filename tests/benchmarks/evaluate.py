"""How fast ftlab scores and answers beside `evaluate`'s perplexity and a plain loop of transformers.

    python -m tests.benchmarks.evaluate --rows 500 --answers 100 --repeats 3

Perplexity of the same texts on the same model, and greedy answers to the same prompts, in one process; the variants
take turns, so that what else the machine does hits all alike. `evaluate` here is the arithmetic of its perplexity
module (which is a download): rows as they come, 16 at once, padded on the right, logits for every position, the mean
of the texts' own perplexities. Both loops score every token, as they do; ftlab's figures are for the same tokens.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.train import DATA

BATCH, MAX_LENGTH = 16, 512


@dataclass(frozen=True)
class Row:
    input_ids: list[int]
    trained: list[bool]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=500, help="texts to score")
    parser.add_argument("--answers", type=int, default=100, help="prompts to answer")
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--data", type=Path, default=DATA)
    given = parser.parse_args()
    model, tokenizer, rows, prompts = prepare(given)
    tokens = sum(len(row.input_ids) - 1 for row in rows)
    print(f"{len(rows)} texts, {tokens:,} predicted tokens")
    compare(
        {
            "ftlab": lambda: score(model, tokenizer, rows),
            "loop": lambda: loop(model, rows),
            "evaluate": lambda: as_evaluate(model, tokenizer, rows),
        },
        given.repeats,
        tokens,
        show=lambda value: f"perplexity {value:.4f}",
    )
    print(f"{len(prompts)} prompts, at most {given.new_tokens} new tokens")
    compare(
        {
            "ftlab": lambda: answer(model, tokenizer, prompts, given.new_tokens),
            "one by one": lambda: one_by_one(model, tokenizer, prompts, given.new_tokens),
        },
        given.repeats,
        len(prompts),
        show=lambda texts: f"{sum(map(len, texts)):,} characters",
    )


def compare(variants: dict[str, Callable[[], Any]], repeats: int, units: int, *, show: Callable[[Any], str]) -> None:
    """Let the variants take turns, and print the medians as ratios to the first."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    said = {}
    for turn in range(repeats):
        for name, work in variants.items():
            began = time.perf_counter()
            said[name] = show(work())
            seconds[name].append(time.perf_counter() - began)
            print(f"  turn {turn + 1}: {name:<12} {seconds[name][-1]:6.2f} s", file=sys.stderr)
    ours = statistics.median(next(iter(seconds.values())))
    for name, each in seconds.items():
        middle = statistics.median(each)
        figures = f"{middle:7.2f} s  {units / middle:8.0f} a second  {middle / ours:5.2f} times ftlab"
        print(f"{name:<12} {figures}   {said[name]}")


def prepare(given: argparse.Namespace) -> tuple[Any, Any, list[Row], list[list[int]]]:
    """The starter, texts of at most MAX_LENGTH tokens with every token to be predicted, and prompts."""
    from transformers import AutoModelForCausalLM

    from ftlab.config import build_config
    from ftlab.data.load import load_rows
    from ftlab.data.rendering import encode, encode_prompt
    from ftlab.data.splits import prepare as split
    from ftlab.models.load import load_tokenizer
    from ftlab.models.starter import starter_path

    tokenizer = load_tokenizer(str(starter_path()))
    model = AutoModelForCausalLM.from_pretrained(starter_path()).eval()
    config = build_config({"data": {"source": str(given.data), "validation_fraction": 0, "test_fraction": 0}}).data
    rows, prompts = [], []
    for example in split(config, load_rows(config)).splits["train"]:
        ids = list(encode(example["messages"], tokenizer).input_ids)
        prompt = encode_prompt(example["messages"], tokenizer)
        if len(ids) <= MAX_LENGTH and len(rows) < given.rows:
            rows.append(Row(ids, [True] * len(ids)))
        if len(prompt) <= MAX_LENGTH - given.new_tokens and len(prompts) < given.answers:
            prompts.append(prompt)
    return model, tokenizer, rows, prompts


def score(model: Any, tokenizer: Any, rows: list[Row]) -> float:
    from ftlab.evaluation.perplexity import score_losses

    return score_losses(model, rows, pad_token_id=tokenizer.pad_token_id).perplexity


def loop(model: Any, rows: list[Row]) -> float:
    """One text after the other, with transformers' own loss."""
    import torch

    total, count = 0.0, 0
    with torch.inference_mode():
        for row in rows:
            ids = torch.tensor([row.input_ids])
            loss = model(input_ids=ids, labels=ids).loss
            total, count = total + float(loss) * (len(row.input_ids) - 1), count + len(row.input_ids) - 1
    return math.exp(total / count)


def as_evaluate(model: Any, tokenizer: Any, rows: list[Row]) -> float:
    import torch

    perplexities = []
    with torch.inference_mode():
        for start in range(0, len(rows), BATCH):
            batch = tokenizer.pad(
                {"input_ids": [row.input_ids for row in rows[start : start + BATCH]]},
                padding_side="right",
                return_tensors="pt",
            )
            logits = model(**batch).logits[:, :-1]
            mask = batch["attention_mask"][:, 1:]
            losses = torch.nn.functional.cross_entropy(
                logits.transpose(1, 2), batch["input_ids"][:, 1:], reduction="none"
            )
            perplexities += torch.exp((losses * mask).sum(1) / mask.sum(1)).tolist()
    return statistics.mean(perplexities)


def answer(model: Any, tokenizer: Any, prompts: list[list[int]], new_tokens: int) -> list[str]:
    from ftlab.data.rendering import stop_token_ids
    from ftlab.evaluation.generate import generate_answers

    stops = stop_token_ids(tokenizer, model.generation_config)
    made = generate_answers(model, tokenizer, prompts, max_new_tokens=new_tokens, stop_ids=stops)
    return [one.text for one in made.answers]


def one_by_one(model: Any, tokenizer: Any, prompts: list[list[int]], new_tokens: int) -> list[str]:
    import torch

    from ftlab.data.rendering import stop_token_ids

    stops, texts = stop_token_ids(tokenizer, model.generation_config), []
    with torch.inference_mode():
        for prompt in prompts:
            made = model.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                max_new_tokens=new_tokens,
                do_sample=False,
                eos_token_id=list(stops),
                pad_token_id=tokenizer.pad_token_id,
            )
            texts.append(tokenizer.decode(made[0, len(prompt) :], skip_special_tokens=True))
    return texts


if __name__ == "__main__":
    main()
