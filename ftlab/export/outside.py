"""`python -P outside.py JOB FOLDER`: load an exported model as its README shows, and record its answers.

JOB is a JSON file written by `verify`; the results go to found.json and logits.safetensors in FOLDER. Any import of
ftlab fails, unless the job says that the adapter needs it, so this file does not import ftlab either.
"""

from __future__ import annotations

import importlib.abc
import json
import sys
from pathlib import Path
from typing import Any


class WithoutFtlab(importlib.abc.MetaPathFinder):
    """Makes every import of ftlab fail."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name == "ftlab" or name.startswith("ftlab."):
            raise ImportError("the exported model must load without ftlab")


def load(job: dict[str, Any]) -> tuple[Any, Any]:
    """Model and tokenizer, in evaluation mode, loaded as in the README."""
    import torch
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
        BitsAndBytesConfig,
    )

    folder = Path(job["folder"])
    if job["gguf"]:
        return load_gguf(job)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    settings: dict[str, Any] = {"dtype": getattr(torch, job["dtype"])}
    if job["quantisation"]:
        settings["quantization_config"] = BitsAndBytesConfig(**job["quantisation"])
        settings["device_map"] = {"": job["device"]}
    kind: type[AutoModelForCausalLM | AutoModelForSequenceClassification] = AutoModelForCausalLM
    if job["scores"]:
        kind, settings["num_labels"] = AutoModelForSequenceClassification, 1
    where = str(folder) if job["base"] is None else job["base"] if job["base_on_hub"] else str(folder / job["base"])
    model: Any = kind.from_pretrained(where, revision=job["revision"], use_safetensors=True, **settings)
    if job["scores"]:
        model.config.pad_token_id = tokenizer.pad_token_id
    if job["base"] is not None and job["needs_ftlab"]:
        from ftlab.models.bottleneck import load_bottlenecks

        load_bottlenecks(model, folder)
    elif job["base"] is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(folder))
    if not job["quantisation"]:
        model.to(job["device"])
    return model.eval(), tokenizer


def load_gguf(job: dict[str, Any]) -> tuple[Any, Any]:
    """Model and tokenizer as the GGUF file has them: nothing else of the folder is read."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.integrations.gguf import kernels

    # Else transformers 5.23 looks for kernels (code) on the Hub.
    kernels.kernelize_ggml_layers = lambda model: None
    tokenizer = AutoTokenizer.from_pretrained(job["folder"], gguf_file=job["gguf"])
    model: Any = AutoModelForCausalLM.from_pretrained(
        job["folder"],
        gguf_file=job["gguf"],
        dtype=getattr(torch, job["dtype"]),
        quantization_config=GgufConfig(dequantize=True),
    )
    return model.to(job["device"]).eval(), tokenizer


def answer(model: Any, tokenizer: Any, generation: Any, prompt: dict[str, Any], ids: list[int]) -> list[int]:
    """The tokens that `model` generates after `ids`."""
    import torch

    asked = torch.tensor([ids], device=model.device)
    made = model.generate(
        input_ids=asked,
        attention_mask=torch.ones_like(asked),
        max_new_tokens=prompt["max_new_tokens"],
        generation_config=generation,
    )[0].tolist()
    # With learned tokens before the text, the output may not include the prompt.
    return made[len(ids) :] if made[: len(ids)] == ids else made


def logits(model: Any, ids: list[int], count: int, *, scores: bool) -> Any:
    """Logits at the last `count` positions of `ids`, shape (count, vocabulary), or the score, shape (1, 1)."""
    import torch

    output = model(input_ids=torch.tensor([ids], device=model.device)).logits
    return (output if scores else output[0, -count:]).float().cpu().contiguous()


def main(job_file: str, out: str) -> None:
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    if not job["needs_ftlab"]:
        sys.meta_path.insert(0, WithoutFtlab())
    import torch
    from safetensors.torch import save_file
    from transformers import GenerationConfig

    model, tokenizer = load(job)
    generation, stops = None, None
    if not job["scores"]:
        generation = GenerationConfig.from_pretrained(job["folder"])
        stops = generation.eos_token_id
        stops = [stops] if isinstance(stops, int) else list(stops or [])
        # The job sets the maximum length; decoding and stop tokens are the export's.
        generation.pad_token_id = generation.pad_token_id if generation.pad_token_id is not None else 0
    answers, tensors = [], {}
    for number, prompt in enumerate(job["prompts"]):
        ids = prompt["ids"]
        if prompt["messages"] is not None:
            ids = tokenizer.apply_chat_template(
                prompt["messages"], add_generation_prompt=not job["scores"], tokenize=True, return_dict=True
            )["input_ids"]
        entry: dict[str, Any] = {"ids": ids, "text": tokenizer.decode(ids)}
        with torch.inference_mode():
            if not job["scores"]:
                made = answer(model, tokenizer, generation, prompt, prompt["ids"])
                end = next((place for place, token in enumerate(made) if token in (stops or [])), None)
                made = made if end is None else made[: end + 1]
                entry |= {"made": made, "answer": tokenizer.decode(made, skip_special_tokens=True)}
            whole = prompt["ids"] + prompt["continued"]
            count = 1 if job["scores"] else len(prompt["continued"]) + 1
            tensors[str(number)] = logits(model, whole, count, scores=job["scores"])
        answers.append(entry)
        print(f"asked {number + 1}", flush=True)
    save_file(tensors, str(Path(out) / "logits.safetensors"))
    text = json.dumps({"prompts": answers, "stops": stops}, ensure_ascii=False)
    (Path(out) / "found.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
