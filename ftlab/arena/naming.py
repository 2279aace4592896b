"""Answers that give away whose they are: names of models and makers, in what raters would read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ftlab.errors import shorten

# Families and makers that answers name when asked who they are. Whole words only, as "phi" is in "philosophy".
FAMILIES = tuple(
    "Alibaba Anthropic Bard BLOOM ChatGPT Claude Cohere Command-R DeepSeek DeepMind Falcon Gemini Gemma GPT-2 GPT-3 "
    "GPT-4 GPT-5 gpt-oss Granite Grok Hugging~Face Kimi LLaMA Llama Microsoft~Copilot MiniCPM Mistral Mixtral "
    "Moonshot~AI OLMo OpenAI Phi-3 Phi-4 Qwen Qwen2 Qwen3 SmolLM SmolLM2 SmolLM3 StableLM TinyLlama Vicuna xAI Yi-34B "
    "Zephyr".replace("~", "\0").split()
)
PHRASES = ("as an AI language model", "as a large language model", "I was fine-tuned", "my training data")
AROUND = 40


def names_of(title: str, spec: dict[str, Any]) -> set[str]:
    """The words by which a contestant may be known: title, base and the parts of its id, run, model, address."""
    names = {title}
    for key in ("base", "run", "model", "url"):
        value = str(spec.get(key) or "")
        names |= {value, value.rsplit("/", 1)[-1]}
    return {name for name in names if len(name) >= 3 and name.casefold() not in _EVERYDAY}


def names_in(text: str, names: Sequence[str]) -> list[tuple[str, str]]:
    """(name, the words around it) for each of `names`, and of known model families, that `text` says."""
    found = {}
    known = {name.replace("\0", " ") for name in (*names, *FAMILIES, *PHRASES)}
    for name in sorted(known):
        hit = re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text, re.IGNORECASE)
        if hit and name.casefold() not in found:
            around = text[max(0, hit.start() - AROUND) : hit.end() + AROUND]
            found[name.casefold()] = (name, shorten(around, 2 * AROUND + len(name)))
    return list(found.values())


# Titles that owners give and answers say without meaning a model.
_EVERYDAY = {"base", "run", "new", "old", "model", "adapted", "tuned", "starter", "last", "before", "after", "adapter"}
