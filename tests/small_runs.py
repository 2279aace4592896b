"""Runs of a tiny random base with a random adapter: made in a second, evaluated in one more."""

from __future__ import annotations

import math

import torch

from ftlab.config import build_config
from ftlab.core.files import write_text
from ftlab.core.run_directory import RunDirectory
from ftlab.data.rendering import encode
from ftlab.data.splits import freeze, prepare
from ftlab.models.load import load_tokenizer

ROWS = 6


def make_base(folder, tokenizer=None):
    """A tiny random Llama with the starter's tokenizer, or with another `tokenizer`, saved in `folder`."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tokenizer or load_tokenizer("starter")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=512,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.3,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_run(folder, base_folder, probes, method="lora", *, name=None, evaluation=None, **data):
    """A run that is frozen and not trained, on the first rows of a sample."""
    run = RunDirectory(folder / (name or f"run-{method}"))
    values = {
        "model": {"base": str(base_folder)},
        "data": {"source": "support_triage", **data},
        "method": {"name": method},
        "evaluation": {
            "max_rows": ROWS,
            "max_new_tokens": 8,
            "batch_size": 4,
            "probes": str(probes),
            "general_text": "none",
            "memorisation": False,
            **(evaluation or {}),
        },
        "launcher": {"device": "cpu"},
    }
    config = build_config(values)
    freeze(prepare(config.data), run)
    write_text(run.config_file, config.to_yaml())
    return run


def adapted_model(base_folder, method="lora", seed=1):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base_folder).eval()
    torch.manual_seed(seed)
    if method == "full":
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        return model
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    return get_peft_model(model, settings).eval()


def save_result(run, base_folder, method="lora", seed=1):
    folder = run.model if method == "full" else run.adapter
    adapted_model(base_folder, method, seed).save_pretrained(folder)
    load_tokenizer(str(base_folder)).save_pretrained(folder)


def plain_perplexity(model, rows, tokenizer):
    """By transformers' own loss on labels, one row at a time."""
    total = count = 0
    for row in rows:
        encoded = encode(row["messages"], tokenizer)
        labels = torch.tensor([encoded.labels])
        with torch.no_grad():
            loss = model(input_ids=torch.tensor([encoded.input_ids]), labels=labels).loss
        tokens = int((labels[:, 1:] != -100).sum())
        total, count = total + loss.item() * tokens, count + tokens
    return math.exp(total / count)
