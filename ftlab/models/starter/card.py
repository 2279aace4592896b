"""The model card of the starter, written from the figures of its build."""

from __future__ import annotations

from pathlib import Path

from ftlab.models.starter.families import FAMILIES

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
    """Writes README.md into the folder from what `build` returns."""
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
