"""The lines that load an export without ftlab, as its README shows them; `outside.py` does the same."""

from __future__ import annotations

import json

from ftlab.config import RunConfig
from ftlab.data.asked import AsTrained, asked_of
from ftlab.data.documents import STAGE
from ftlab.data.prompt_template import renamed
from ftlab.evaluation.answer_limit import limit_used
from ftlab.run_directory import RunDirectory
from ftlab.sharing.markdown import code
from ftlab.sharing.shape import Shape

_HERE = 'folder = Path(".")  # this folder'


def loading_code(shape: Shape, config: RunConfig, run: RunDirectory, repository: str | None = None) -> str:
    """Python that loads the model of `run` (from `repository` on the Hub) and asks it something, in Markdown."""
    where = f"folder = Path(snapshot_download({_text(repository)}))" if repository else _HERE
    if shape.scores:
        return code("\n".join([*_imports(shape, repository), "", where, *_model(shape), *_score()]), "python")
    most = limit_used(run, config)
    asking = _continue(most) if config.stage == STAGE else _ask(asked_of(run), most)
    return code("\n".join([*_imports(shape, repository), "", where, *_model(shape), *asking]), "python")


def _imports(shape: Shape, repository: str | None) -> list[str]:
    names = ["AutoModelForSequenceClassification" if shape.scores else "AutoModelForCausalLM", "AutoTokenizer"]
    names += ["BitsAndBytesConfig"] if shape.quantisation else []
    names += [] if shape.scores else ["GenerationConfig"]
    lines = ["from pathlib import Path", ""]
    lines += ["import torch"] if shape.scores else []
    lines += ["from huggingface_hub import snapshot_download"] if repository else []
    if shape.is_adapter and not shape.needs_ftlab:
        lines.append("from peft import PeftModel")
    lines.append(f"from transformers import {', '.join(names)}")
    if shape.needs_ftlab:
        lines.append("from ftlab.models.bottleneck import load_bottlenecks  # PEFT has no such adapters")
    return lines


def _model(shape: Shape) -> list[str]:
    kind = "AutoModelForSequenceClassification" if shape.scores else "AutoModelForCausalLM"
    # An adapter was evaluated in this format, whatever its base is stored in.
    more = f', dtype="{shape.dtype if shape.is_adapter else "auto"}"'
    more += ", quantization_config=quantised" if shape.quantisation else ""
    more += ", num_labels=1" if shape.scores else ""
    lines = []
    if shape.quantisation:
        said = ", ".join(f"{name}={_text(value)}" for name, value in shape.quantisation.items())
        lines.append(f"quantised = BitsAndBytesConfig({said})")
    if not shape.is_adapter:
        lines.append(f"model = {kind}.from_pretrained(folder{more})")
    else:
        if shape.base_on_hub:
            revision = f", revision={_text(shape.revision)}" if shape.revision else ""
            lines.append(f"model = {kind}.from_pretrained({_text(shape.base)}{revision}{more})")
        else:
            lines.append(f"model = {kind}.from_pretrained(folder / {_text(shape.base)}{more})")
        lines.append(
            "load_bottlenecks(model, folder)"
            if shape.needs_ftlab
            else "model = PeftModel.from_pretrained(model, folder)"
        )
    return [*lines, "tokenizer = AutoTokenizer.from_pretrained(folder)", ""]


def _text(value: object) -> str:
    """`value` as Python writes it, with the quotes of the lines around it."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _ask(asked: AsTrained, most: int) -> list[str]:
    """Asked as the training rows were: their system prompt, and their prompt around the text."""
    lines, turns, question = [], [], '"Your question"'
    if asked.template:
        # str.format takes names only; a column can be called anything.
        names = ["text"] if len(asked.columns) == 1 else [f"part_{n}" for n in range(1, len(asked.columns) + 1)]
        template = renamed(asked.template, dict(zip(asked.columns, names, strict=True)))
        lines.append(f"PROMPT = {_text(template)}  # around every text in training")
        texts = [f"{name}={_text(f'Your {column}')}" for name, column in zip(names, asked.columns, strict=True)]
        question = f"PROMPT.format({', '.join(texts)})"
    if asked.system:
        turns.append(f'    {{"role": "system", "content": {_text(asked.system)}}},')
    turns.append(f'    {{"role": "user", "content": {question}}},')
    return [
        *lines,
        "messages = [",
        *turns,
        "]",
        "asked = tokenizer.apply_chat_template(",
        '    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True',
        ").to(model.device)",
        *_generate(most),
    ]


def _continue(most: int) -> list[str]:
    return ['asked = tokenizer("How a text begins", return_tensors="pt").to(model.device)', *_generate(most)]


def _generate(most: int) -> list[str]:
    return [
        f"settings = GenerationConfig.from_pretrained(folder, max_new_tokens={most})  # and where an answer ends",
        "made = model.generate(**asked, generation_config=settings)",
        'print(tokenizer.decode(made[0, asked["input_ids"].shape[1] :], skip_special_tokens=True))',
    ]


def _score() -> list[str]:
    return [
        "model.config.pad_token_id = tokenizer.pad_token_id",
        'messages = [{"role": "user", "content": "..."}, {"role": "assistant", "content": "The answer to judge"}]',
        'asked = tokenizer.apply_chat_template(messages, return_tensors="pt", return_dict=True).to(model.device)',
        "with torch.inference_mode():",
        "    print(model(**asked).logits[0, 0].item())  # what counts is which of two answers to a prompt gets more",
    ]
