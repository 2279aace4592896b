"""`python -m tests.integration.fresh_process OUTPUT RUN...`: load finished runs anew and write down what they say.

Per run: logits after a fixed text, the same with the adapter off, those of the base loaded alone, and greedy answers
three ways: a batch padded on the left with the cache, one by one without it, and as the chat makes them.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import torch

from ftlab.config import load_config
from ftlab.core.run_directory import RunDirectory
from ftlab.data.rendering import encode_prompt, stop_token_ids
from ftlab.data.splits import read_split
from ftlab.evaluation.duet import load_duet
from ftlab.evaluation.generate import generate_answers
from ftlab.evaluation.loaded import release
from ftlab.models.adapters import adapter_disabled
from ftlab.models.load import load_trained_base

TOKENS = 7
# Of different lengths, so that the batch is padded.
MESSAGES = ["Code of item 3?", "What is the code of item 12, please?", "Code?"]


def fixed_text(run: RunDirectory, tokenizer: Any) -> torch.Tensor:
    return torch.tensor([encode_prompt(read_split(run, "test")[0]["messages"], tokenizer)])


@torch.no_grad()
def describe(run: RunDirectory) -> dict[str, Any]:
    config = load_config(run.config_file)
    duet = load_duet(run)
    model, tokenizer = duet.model, duet.tokenizer
    text = fixed_text(run, tokenizer)
    found: dict[str, Any] = {"logits": model(input_ids=text).logits}
    found["base"] = load_trained_base(config)(input_ids=text).logits
    with contextlib.suppress(TypeError), adapter_disabled(model) as off:
        found["off"] = off(input_ids=text).logits
    conversation = [[{"role": "user", "content": m}, {"role": "assistant", "content": ""}] for m in MESSAGES]
    prompts = [encode_prompt(turns, tokenizer) for turns in conversation]
    stops = stop_token_ids(tokenizer, model.generation_config)
    answers = generate_answers(model, tokenizer, prompts, max_new_tokens=TOKENS, stop_ids=stops)
    found["batched"] = [answer.text for answer in answers.answers]
    found["uncached"] = [without_cache(model, tokenizer, ids, stops) for ids in prompts]
    last = [list(duet.stream(message, max_new_tokens=TOKENS))[-1] for message in MESSAGES]
    found["chat"], found["chat_base"] = [answer.adapted for answer in last], [answer.base for answer in last]
    release()
    return found


def without_cache(model: Any, tokenizer: Any, prompt: list[int], stops: list[int]) -> str:
    """The likeliest token each time, every step over the whole text."""
    made: list[int] = []
    while len(made) < TOKENS and (not made or made[-1] not in stops):
        logits = model(input_ids=torch.tensor([prompt + made]), use_cache=False).logits
        made.append(int(logits[0, -1].argmax()))
    return tokenizer.decode(made, skip_special_tokens=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    output, *folders = sys.argv[1:]
    torch.save({folder: describe(RunDirectory(Path(folder))) for folder in folders}, output)
