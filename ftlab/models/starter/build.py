"""Train the starter from scratch: tokenizer, model, scores, model card.

    python -m ftlab.models.starter.build                        about 50 minutes on two cores
    python -m ftlab.models.starter.build --minutes 3 --out /tmp/starter     a weak model, for experiments

With --steps (the default) the result depends on the seed alone, up to the order of floating-point sums. With --minutes
the schedule follows the clock.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ftlab.core.files import replacing
from ftlab.models.starter import starter_path
from ftlab.models.starter.corpus import training_examples
from ftlab.models.starter.evaluate import score_families
from ftlab.models.starter.families import FAMILIES
from ftlab.models.starter.tokenizer import SPECIAL_TOKENS, train_tokenizer

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerBase


def orthogonalize(matrices: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Map each matrix of a (count, rows, columns) stack to approximately U V^T of its singular value decomposition."""
    wide = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mT
    x = wide / (wide.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x if wide is matrices else x.mT


class Muon(torch.optim.Optimizer):
    """Muon for weight matrices, in float32: takes the momentum of a matrix, replaces it by the nearest matrix whose
    singular values are all about one (five Newton-Schulz steps), and subtracts that from the weights. This model needs
    about half the steps of AdamW. From K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks"
    (2024).

    Uses Nesterov momentum. Steps are scaled to the size of AdamW's (0.2 * sqrt of the longer side), so that its
    learning rate and decoupled weight decay carry over. torch's own Muon iterates in bfloat16, which is two orders of
    magnitude slower on this CPU; this one batches matrices of equal shape in float32.
    """

    def __init__(
        self, params: list[torch.nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.1
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closure is ever passed
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[torch.nn.Parameter]] = defaultdict(list)
            for p in group["params"]:
                by_shape[p.shape].append(p)
            for shape, params in by_shape.items():
                updates = []
                for p in params:
                    average = self.state[p].setdefault("momentum", torch.zeros_like(p))
                    assert p.grad is not None  # every parameter takes part in every step
                    average.lerp_(p.grad, 1 - group["momentum"])
                    updates.append(p.grad.lerp(average, group["momentum"]))
                size = 0.2 * max(shape) ** 0.5
                for p, update in zip(params, orthogonalize(torch.stack(updates)), strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"] * size)


HEAD = """\
---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
tags:
- toy
- from-scratch
- synthetic-data
---

# The ftlab starter

**This is a toy.** It is a Llama-style causal language model with {parameters:.1f} million parameters, trained from
scratch in {minutes:.0f} minutes on {threads} CPU cores, on text that a generator of this project writes. It exists so
that fine-tuning, forgetting, replay, preference tuning and blind comparison can be shown offline within minutes. For
real work take a real base.

## What it knows

Simple English about everyday things, in {families} families of short tasks (below). It follows a system turn that
asks for a form (upper case, a signature, JSON) and keeps a few turns in mind. It knows no facts beyond the fixed lists
of the generator, makes things up outside them, cannot calculate beyond about twenty, and speaks no other language. Its
text holds no personal data: names and scenes are invented.

## How to use it

```python
from transformers import AutoModelForCausalLM, AutoTokenizer
from ftlab.models.starter import starter_path

tokenizer = AutoTokenizer.from_pretrained(starter_path())
model = AutoModelForCausalLM.from_pretrained(starter_path())
chat = [{{"role": "user", "content": "What is the opposite of hot?"}}]
inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
output = model.generate(**inputs, max_new_tokens=20)
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))   # cold
```

Context: 512 tokens (trained on 256). Vocabulary: {vocabulary} byte-level BPE tokens with single digits. Turns end with
`<|end|>`, which is the end-of-sequence token; padding is `<|pad|>`. The chat template marks the assistant's tokens,
the stop token included. Weights are stored as float16 and declared float32: on a CPU, compute in float32.

## How it was made

`python -m ftlab.models.starter.build --steps {steps} --seed {seed}`: {steps} steps of {rows} rows of {row_length}
tokens ({tokens:.1f} million tokens, {speed} tokens/s while other programs used the same cores), Muon and AdamW, in
four stages (the later ones draw the weak families more often), final loss on answers {loss}. About one in ten
combinations of contents was kept out of training by a stable hash of the combination; for closed sets of facts, the
pair of fact and phrasing. All figures, with examples of wrong answers, are in `build.json`.{note}

## How well it does

Greedy exact match over at most {eval_rows} examples per split, and perplexity over the tokens of held-out answers.
Families with many right answers have a perplexity only. Held-out perplexity over all families: {perplexity}.

| family | what | trained | held-out | perplexity |
|---|---|---|---|---|
"""


def write_card(result: dict, folder: Path) -> None:
    """Write README.md to `folder` from the result of `build`."""
    scores, recipe = result["scores"], result["recipe"]
    done = [stage["figures"] for stage in result["stages"]]
    steps, tokens, seconds = (sum(figures[key] for figures in done) for key in ("steps", "tokens", "seconds"))
    text = HEAD.format(
        parameters=result["parameters"] / 1e6,
        minutes=seconds / 60,
        threads=result["threads"],
        families=len(FAMILIES),
        vocabulary=result["vocabulary"],
        steps=steps,
        seed=result["stages"][0]["seed"],
        rows=recipe["rows"],
        row_length=recipe["row_length"],
        tokens=tokens / 1e6,
        speed=round(tokens / seconds),
        loss=done[-1]["loss_on_answers"],
        eval_rows=max(row["rows"] for row in scores["families"].values()),
        perplexity=scores["perplexity"],
        note=f"\n\n{result['note']}" if "note" in result else "",
    )
    for family in FAMILIES:
        row = scores["families"][family.name]
        exact = " | ".join("" if row[split] is None else f"{row[split]:.0%}" for split in ("trained", "held_out"))
        text += f"| {family.name} | {family.about} | {exact} | {row['perplexity']:.2f} |\n"
    (folder / "README.md").write_text(text, encoding="utf-8")


CONTEXT = 512
STEPS = 5800


# Families that the previous stage leaves weak, and how much more often the next stage draws them.
SECOND_EMPHASIS: dict[str, float] = {
    "sums": 4,
    "reading": 4,
    "rhymes": 3,
    "upper case": 3,
    "requests": 3,
    "counting": 3,
    "membership": 3,
    "sequences": 3,
    "yes or no": 2.5,
    "odd one out": 2.5,
    "sorting numbers": 2.5,
    "system prompts": 2,
    "copying": 1.5,
    "past tense": 1.5,
    "letters": 1.5,
    "comparisons": 1.5,
    "sorting words": 1.2,
}
THIRD_EMPHASIS: dict[str, float] = {
    "reading": 10,
    "membership": 6,
    "yes or no": 5,
    "counting": 5,
    "rhymes": 2.5,
    "requests": 2.5,
    "sums": 2.5,
    "sorting numbers": 2.5,
    "sequences": 2,
    "upper case": 2,
    "copying": 2,
    "sorting words": 1.5,
}
FOURTH_EMPHASIS: dict[str, float] = {
    "new words": 5,
    "reading": 6,
    "membership": 4,
    "counting": 4,
    "rhymes": 2.5,
    "yes or no": 2,
    "sorting numbers": 2,
    "sequences": 2,
    "first and last": 1.5,
    "requests": 1.5,
    "system prompts": 1.5,
}


@dataclass(frozen=True)
class Stage:
    """A warm-up and a cosine over a number of steps or minutes, cut off at the fraction `until`.

    `emphasis` multiplies the shares of families.
    """

    seed: int = 0
    steps: int | None = None
    minutes: float | None = None
    learning_rate: float = 3e-3
    until: float = 1.0
    emphasis: Mapping[str, float] = field(default_factory=dict)


def stages(seed: int, steps: int | None = None, minutes: float | None = None) -> tuple[Stage, ...]:
    """The stages of a build with a total of `steps` or `minutes`. The first draws all families by their shares; the
    others restart with a lower learning rate and emphasize the weak ones."""

    def stage(number: int, share: float, rate: float, until: float, emphasis: Mapping[str, float]) -> Stage:
        part = share / until
        return Stage(seed + number, steps and round(steps * part), minutes and minutes * part, rate, until, emphasis)

    return (
        stage(0, 0.46, 3e-3, 0.68, {}),
        stage(1, 0.26, 1.5e-3, 0.67, SECOND_EMPHASIS),
        stage(2, 0.12, 7e-4, 1.0, THIRD_EMPHASIS),
        stage(3, 0.16, 1e-3, 1.0, FOURTH_EMPHASIS),
    )


@dataclass(frozen=True)
class Recipe:
    """What determines the result besides the stages. Lengths are in tokens. `prompt_weight` is the weight of tokens
    outside the answers: their random parts (names, numbers) would otherwise take most of the capacity."""

    row_length: int = 256
    rows: int = 8
    warmup: float = 0.02
    weight_decay: float = 0.1
    prompt_weight: float = 0.2
    hidden: int = 192
    layers: int = 6
    heads: int = 6
    intermediate: int = 512
    tokenizer_examples: int = 60_000


def make_model(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, seed: int = 0) -> LlamaForCausalLM:
    """A new model with random weights in float32."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
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


def packed_rows(
    recipe: Recipe, stage: Stage, tokenizer: PreTrainedTokenizerBase
) -> Iterator[tuple[list[int], list[float]]]:
    """Rows of token ids and loss weights. Each row begins with a conversation and is filled with further ones; the last
    one is cut at the end of the row, and its rest is dropped."""
    ids: list[int] = []
    weights: list[float] = []
    examples = training_examples(stage.seed, stage.emphasis)
    while True:
        batch = [e["messages"] for e in islice(examples, 256)]
        coded: Any = tokenizer.apply_chat_template(batch, return_dict=True, return_assistant_tokens_mask=True)
        for tokens, answers in zip(coded["input_ids"], coded["assistant_masks"], strict=True):
            ids += tokens
            weights += [1.0 if a else recipe.prompt_weight for a in answers]
            if len(ids) > recipe.row_length:
                yield ids[: recipe.row_length + 1], weights[: recipe.row_length + 1]
                ids, weights = [], []


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write tokenizer and weights: float16 on disk (half the size), declared as float32, so that transformers computes
    in float32, which is about a hundred times faster on a CPU. The weights are replaced at once, never half written."""
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
    with replacing(folder / "model.safetensors") as part:
        save_file(state, part, metadata={"format": "pt"})
        part.chmod(0o644)


def learning_rate_at(progress: float, peak: float, warmup: float) -> float:
    """Linear warm-up, then a cosine to 2% of the peak; `progress` runs from 0 to 1."""
    if progress < warmup:
        return peak * (progress + 1e-3) / warmup
    rest = (progress - warmup) / (1 - warmup)
    return peak * (0.02 + 0.98 * (1 + math.cos(math.pi * min(1.0, rest))) / 2)


def make_optimizers(model: LlamaForCausalLM, learning_rate: float, weight_decay: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for embeddings and norms."""
    matrices = [p for name, p in model.named_parameters() if p.ndim > 1 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim == 1 or "embed" in name]
    return [
        Muon(matrices, lr=learning_rate, weight_decay=weight_decay),
        torch.optim.AdamW(others, lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]


def train(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, recipe: Recipe, stage: Stage, out: Path) -> dict:
    """Train `model` in place, and save a usable copy to `out` every few minutes. Returns steps, tokens, seconds,
    loss."""
    optimizers = make_optimizers(model, stage.learning_rate, recipe.weight_decay)
    rows = packed_rows(recipe, stage, tokenizer)
    began = saved = time.monotonic()
    step, tokens, mean_loss = 0, 0, 0.0
    whole = stage.steps or 60 * (stage.minutes or 0)  # steps, or seconds
    model.train()
    while True:
        elapsed = time.monotonic() - began
        progress = (step if stage.steps else elapsed) / whole
        if progress >= stage.until:
            break
        rate = learning_rate_at(progress, stage.learning_rate, recipe.warmup)
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
            left = elapsed * (stage.until - progress) / max(progress, 1e-6)
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


def separate_unseen_pieces(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, seed: int) -> int:
    """Give each vocabulary entry that is rare in the text an embedding of its own; returns the number of such entries.

    Training pushes all of them to the same vector, and an adapter that does not change the embeddings (LoRA) could then
    not learn to write one of them without the others.
    """
    texts = [m["content"] for e in islice(training_examples(seed), 60_000) for m in e["messages"]]
    seen = torch.zeros(len(tokenizer), dtype=torch.long)
    for ids in tokenizer(texts)["input_ids"]:
        seen[ids] += 1
    seen[tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS))] = 60_000
    unseen = torch.nonzero(seen < 3).flatten()
    embeddings = model.model.embed_tokens.weight
    noise = torch.randn(len(unseen), embeddings.shape[1], generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        embeddings[unseen] += 0.7 * noise / noise.norm(dim=1, keepdim=True)
    return len(unseen)


def build(
    plan: Sequence[Stage], out: Path, eval_rows: int = 100, recipe: Recipe | None = None, start: Path | None = None
) -> dict:
    """Train tokenizer and model, score them as they will be loaded, write all to `out`, and return the figures.

    With `start`, the folder of an earlier build, tokenizer and weights come from there, and only the last stage of the
    plan is trained.
    """
    import transformers
    from transformers import AutoTokenizer, LlamaForCausalLM

    recipe = recipe or Recipe()
    done: list[dict] = []
    if start:
        model = LlamaForCausalLM.from_pretrained(start)
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(start)
        done, plan = json.loads((start / "build.json").read_text(encoding="utf-8"))["stages"], plan[-1:]
    else:
        print(f"tokenizer from {recipe.tokenizer_examples} conversations", flush=True)
        examples = islice(training_examples(plan[0].seed), recipe.tokenizer_examples)
        tokenizer = train_tokenizer((m["content"] for e in examples for m in e["messages"]), CONTEXT)
        model = make_model(recipe, tokenizer, plan[0].seed)
    print(
        f"{model.num_parameters():,} parameters, {len(tokenizer)} tokens, {torch.get_num_threads()} threads", flush=True
    )
    for number, stage in enumerate(plan, 1):
        if number == len(plan):
            print(f"{separate_unseen_pieces(model, tokenizer, stage.seed)} vocabulary entries are rare")
        done.append(asdict(stage) | {"figures": train(model, tokenizer, recipe, stage, out)})
        save(model, tokenizer, out)

    print("scoring the families", flush=True)
    model, tokenizer = LlamaForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    began = time.monotonic()
    scores = score_families(model, tokenizer, eval_rows)
    result = {
        "recipe": asdict(recipe),
        "stages": done,
        "parameters": model.num_parameters(),
        "vocabulary": len(tokenizer),
        "evaluation_seconds": round(time.monotonic() - began, 1),
        "versions": {
            "python": sys.version.split()[0],
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "threads": torch.get_num_threads(),
        "scores": scores,
    }
    (out / "build.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    write_card(result, out)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the starter model from scratch.")
    parser.add_argument(
        "--out", type=Path, default=starter_path(), help="folder for the result (default: the one in the package)"
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, help=f"number of training steps (default {STEPS})")
    length.add_argument("--minutes", type=float, help="train for this many minutes instead")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's own choice)")
    parser.add_argument("--eval-rows", type=int, default=100, help="examples per family and split in the final scores")
    parser.add_argument(
        "--from", dest="start", type=Path, help="an earlier build to continue: train only the last stage"
    )
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    plan = stages(args.seed, None if args.minutes else args.steps or STEPS, args.minutes)
    result = build(plan, args.out, args.eval_rows, start=args.start)
    for name, row in result["scores"]["families"].items():
        print(f"{name:20} trained {row['trained']}  held-out {row['held_out']}  perplexity {row['perplexity']}")
    print(json.dumps({"parameters": result["parameters"], "perplexity": result["scores"]["perplexity"]}))


if __name__ == "__main__":
    main()
