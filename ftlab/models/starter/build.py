"""Trains the starter from scratch: tokenizer, model, scores, model card.

    python -m ftlab.models.starter.build                        about 35 minutes on two quiet cores
    python -m ftlab.models.starter.build --minutes 3 --out /tmp/starter     a weak one, to try something

With --steps (the default) the result depends on the seed alone, up to the order of floating point sums; with
--minutes the schedule follows the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ftlab.models.starter import starter_path
from ftlab.models.starter.card import write_card
from ftlab.models.starter.corpus import training_examples
from ftlab.models.starter.evaluate import score_families
from ftlab.models.starter.tokenizer import train_tokenizer

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

CONTEXT = 512


@dataclass(frozen=True)
class Recipe:
    """What decides the result. Lengths in tokens; `prompt_weight` is the weight of a token outside the answers, whose
    share of chance (names, numbers) would otherwise take most of the capacity."""

    seed: int = 0
    steps: int | None = 2600
    minutes: float | None = None
    row_length: int = 256
    rows: int = 8
    learning_rate: float = 3e-3
    warmup: float = 0.02
    weight_decay: float = 0.1
    prompt_weight: float = 0.2
    hidden: int = 192
    layers: int = 6
    heads: int = 6
    intermediate: int = 512
    tokenizer_examples: int = 60_000


def make_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A new model with random weights in float32."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(recipe.seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=recipe.hidden,
            intermediate_size=recipe.intermediate,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            num_key_value_heads=recipe.heads,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
            dtype="float32",
        )
    )
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def packed_rows(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> Iterator[tuple[list[int], list[float]]]:
    """Rows of token ids and loss weights. Each row starts with the start of a conversation and is filled with whole
    ones; the last is cut at the row's end and its rest dropped."""
    ids: list[int] = []
    weights: list[float] = []
    examples = training_examples(recipe.seed)
    while True:
        batch = [e["messages"] for e in islice(examples, 256)]
        coded = tokenizer.apply_chat_template(batch, return_dict=True, return_assistant_tokens_mask=True)
        for tokens, answers in zip(coded["input_ids"], coded["assistant_masks"], strict=True):
            ids += tokens
            weights += [1.0 if a else recipe.prompt_weight for a in answers]
            if len(ids) > recipe.row_length:
                yield ids[: recipe.row_length + 1], weights[: recipe.row_length + 1]
                ids, weights = [], []


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes tokenizer and weights: float16 on disk (half the size), declared float32, since transformers then computes
    in float32, which is about a hundred times faster on a CPU. Files are replaced one by one, never half written."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    state = {
        name: tensor.detach().to(torch.float16).contiguous()
        for name, tensor in model.state_dict().items()
        if name != "lm_head.weight"
    }
    unfinished = folder / "model.safetensors.part"
    save_file(state, unfinished, metadata={"format": "pt"})
    os.replace(unfinished, folder / "model.safetensors")


def learning_rate_at(progress: float, recipe: Recipe) -> float:
    """Linear warm-up, then a cosine to 2% of the peak; `progress` runs from 0 to 1."""
    import math

    if progress < recipe.warmup:
        return recipe.learning_rate * (progress + 1e-3) / recipe.warmup
    rest = (progress - recipe.warmup) / (1 - recipe.warmup)
    return recipe.learning_rate * (0.02 + 0.98 * (1 + math.cos(math.pi * min(1.0, rest))) / 2)


def make_optimizers(model: LlamaForCausalLM, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for embeddings and norms."""
    import torch

    from ftlab.models.starter.optimizer import Muon

    matrices = [p for name, p in model.named_parameters() if p.ndim > 1 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim == 1 or "embed" in name]
    return [
        Muon(matrices, lr=recipe.learning_rate, weight_decay=recipe.weight_decay),
        torch.optim.AdamW(others, lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]


def train(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, out: Path) -> dict:
    """Trains in place and keeps a usable copy in `out` every few minutes. Returns steps, tokens, seconds and loss."""
    import torch

    optimizers = make_optimizers(model, recipe)
    rows = packed_rows(recipe, tokenizer)
    began = saved = time.monotonic()
    step, tokens, mean_loss = 0, 0, 0.0
    model.train()
    while True:
        elapsed = time.monotonic() - began
        progress = step / recipe.steps if recipe.steps else elapsed / (recipe.minutes * 60)
        if progress >= 1:
            break
        rate = learning_rate_at(progress, recipe)
        for group in (g for o in optimizers for g in o.param_groups):
            group["lr"] = rate
        batch = list(islice(rows, recipe.rows))
        ids = torch.tensor([r[0] for r in batch])
        weights = torch.tensor([r[1] for r in batch])[:, 1:].flatten()
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits
        losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        (losses * weights).sum().div(weights.sum()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        with torch.no_grad():
            loss = losses[weights == 1].mean().item()
        mean_loss = loss if step == 0 else 0.95 * mean_loss + 0.05 * loss
        step, tokens = step + 1, tokens + ids[:, 1:].numel()
        if step % 20 == 0:
            elapsed = time.monotonic() - began
            left = elapsed * (1 - progress) / max(progress, 1e-6)
            print(
                f"step {step}  {progress:6.1%}  loss on answers {mean_loss:.4f}  rate {rate:.1e}  "
                f"{tokens / elapsed:.0f} tokens/s  {left / 60:.1f} min left",
                flush=True,
            )
        if time.monotonic() - saved > 180:
            save(model, tokenizer, out)
            saved = time.monotonic()
    seconds = time.monotonic() - began
    return {
        "steps": step,
        "tokens": tokens,
        "seconds": round(seconds, 1),
        "tokens_per_second": round(tokens / seconds),
        "loss_on_answers": round(mean_loss, 4),
    }


def build(recipe: Recipe, out: Path, eval_rows: int = 100) -> dict:
    """Trains tokenizer and model, scores them as they will be loaded, writes all to `out`, returns the figures."""
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    print(f"tokenizer from {recipe.tokenizer_examples} conversations", flush=True)
    examples = islice(training_examples(recipe.seed), recipe.tokenizer_examples)
    tokenizer = train_tokenizer((m["content"] for e in examples for m in e["messages"]), CONTEXT)
    model = make_model(recipe, tokenizer)
    print(
        f"{model.num_parameters():,} parameters, {len(tokenizer)} tokens, {torch.get_num_threads()} threads", flush=True
    )
    figures = train(model, tokenizer, recipe, out)
    save(model, tokenizer, out)

    print("scoring the families", flush=True)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    began = time.monotonic()
    scores = score_families(model, tokenizer, eval_rows)
    result = {
        "recipe": asdict(recipe),
        "parameters": model.num_parameters(),
        "vocabulary": len(tokenizer),
        "training": figures,
        "evaluation_seconds": round(time.monotonic() - began, 1),
        "scores": scores,
        "versions": {
            "python": sys.version.split()[0],
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "threads": torch.get_num_threads(),
    }
    (out / "build.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    write_card(result, out)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains the starter model from scratch.")
    parser.add_argument(
        "--out", type=Path, default=starter_path(), help="folder for the result (default: the one in the package)"
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, help=f"number of training steps (default {Recipe.steps})")
    length.add_argument("--minutes", type=float, help="train for so many minutes instead")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's own choice)")
    parser.add_argument("--eval-rows", type=int, default=100, help="examples per family and split in the final scores")
    args = parser.parse_args()
    if args.threads:
        import torch

        torch.set_num_threads(args.threads)
    recipe = Recipe(seed=args.seed, steps=None if args.minutes else args.steps or Recipe.steps, minutes=args.minutes)
    result = build(recipe, args.out, args.eval_rows)
    for name, row in result["scores"]["families"].items():
        print(f"{name:20} trained {row['trained']}  held-out {row['held_out']}  perplexity {row['perplexity']}")
    print(
        json.dumps({k: result[k] for k in ("training", "parameters")} | {"perplexity": result["scores"]["perplexity"]})
    )


if __name__ == "__main__":
    main()
