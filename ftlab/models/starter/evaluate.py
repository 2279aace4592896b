"""Scores of the starter by family: greedy exact match and perplexity, on trained and held-out combinations."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ftlab.models.starter.corpus import Example, family_examples
from ftlab.models.starter.families import FAMILIES

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

BATCH = 64


def token_ids(tokenizer: PreTrainedTokenizerBase, messages: list[dict], *, ask: bool = False) -> list[int]:
    """`messages` in the chat template; with `ask`, up to the beginning of the answer."""
    encoded: Any = tokenizer.apply_chat_template(messages, add_generation_prompt=ask, return_dict=True)
    return encoded["input_ids"]


def answer_greedily(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    conversations: list[list[dict]],
    max_new_tokens: int = 64,
) -> list[str]:
    """The greedy answers to conversations that end with a user turn, in order; batched by length."""
    import torch

    prompts = [token_ids(tokenizer, conversation, ask=True) for conversation in conversations]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    answers = [""] * len(prompts)
    model.eval()
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        longest = max(len(prompts[i]) for i in rows)
        ids = torch.full((len(rows), longest), tokenizer.pad_token_id)
        mask = torch.zeros_like(ids)
        for r, i in enumerate(rows):
            ids[r, longest - len(prompts[i]) :] = torch.tensor(prompts[i])
            mask[r, longest - len(prompts[i]) :] = 1
        with torch.inference_mode():
            out: Any = model.generate(  # type: ignore[misc]  # transformers types its self as a protocol that it breaks
                input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=max_new_tokens
            )
        for r, i in enumerate(rows):
            answers[i] = str(tokenizer.decode(out[r, longest:], skip_special_tokens=True))
    return answers


def answer_loss(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, examples: list[Example]
) -> tuple[float, int]:
    """The summed negative log-likelihood (nats) and the number of tokens of the last answers, stop tokens included."""
    import torch

    total, count = 0.0, 0
    model.eval()
    rows = []
    for example in examples:
        messages = example["messages"]
        prompt = token_ids(tokenizer, messages[:-1], ask=True)
        rows.append((token_ids(tokenizer, messages), len(prompt)))
    rows.sort(key=lambda row: len(row[0]))
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        longest = len(part[-1][0])
        ids = torch.full((len(part), longest), tokenizer.pad_token_id)
        labels = torch.full((len(part), longest), -100)
        for r, (whole, head) in enumerate(part):
            ids[r, : len(whole)] = torch.tensor(whole)
            labels[r, head : len(whole)] = torch.tensor(whole[head:])
        with torch.inference_mode():
            # Padding is on the right, where causal attention never sees it, so no mask is needed.
            logits = model(input_ids=ids).logits[:, :-1].double()
        total += torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="sum", ignore_index=-100
        ).item()
        count += int((labels[:, 1:] != -100).sum())
    return total, count


def score_families(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, rows: int, seed: int = 1
) -> dict[str, Any]:
    """The scores of each family over at most `rows` examples per split.

    Returns {"families": {name: {"trained": exact match, "held_out": exact match, "perplexity": held-out perplexity,
    "misses": some wrong answers}}, "perplexity": over all families}; exact match is None for families that are scored
    by perplexity only.
    """
    exact = [f for f in FAMILIES if f.scored == "exact"]
    examples = {
        (f.name, split): family_examples(f, split, rows, seed) for f in FAMILIES for split in ("train", "held-out")
    }
    asked = [e for f in exact for split in ("train", "held-out") for e in examples[f.name, split]]
    answers = dict(
        zip(map(id, asked), answer_greedily(model, tokenizer, [e["messages"][:-1] for e in asked]), strict=True)
    )
    families: dict[str, dict] = {}
    nats, tokens = 0.0, 0
    for family in FAMILIES:
        held_out = examples[family.name, "held-out"]
        loss, count = answer_loss(model, tokenizer, held_out)
        nats, tokens = nats + loss, tokens + count
        row: dict[str, Any] = {
            "trained": None,
            "held_out": None,
            "perplexity": round(math.exp(loss / count), 3),
            "misses": [],
        }
        for split, field in (("train", "trained"), ("held-out", "held_out")):
            if family.scored == "exact":
                wrong = [e for e in examples[family.name, split] if answers[id(e)] != e["messages"][-1]["content"]]
                row[field] = round(1 - len(wrong) / len(examples[family.name, split]), 4)
                row["misses"] += [
                    {
                        "split": split,
                        "prompt": e["messages"][-2]["content"],
                        "expected": e["messages"][-1]["content"],
                        "answer": answers[id(e)],
                    }
                    for e in wrong[:4]
                ]
        row["rows"] = len(held_out)
        families[family.name] = row
    return {"families": families, "perplexity": round(math.exp(nats / tokens), 3)}
