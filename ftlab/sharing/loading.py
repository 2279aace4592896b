"""The lines that load an export without ftlab, as its README shows them; `outside.py` does the same."""

from __future__ import annotations

from ftlab.config import RunConfig
from ftlab.data.documents import STAGE
from ftlab.sharing.markdown import code
from ftlab.sharing.shape import Shape

_WHERE = 'folder = Path(".")  # this folder; of one on the Hub: Path(huggingface_hub.snapshot_download("owner/name"))'


def loading_code(shape: Shape, config: RunConfig) -> str:
    """Python that loads the model and asks it something, as a block of Markdown."""
    if shape.scores:
        return code("\n".join([*_imports(shape), "", _WHERE, *_model(shape), *_score()]), "python")
    asking = _continue(config) if config.stage == STAGE else _ask(config)
    return code("\n".join([*_imports(shape), "", _WHERE, *_model(shape), *asking]), "python")


def _imports(shape: Shape) -> list[str]:
    names = ["AutoModelForSequenceClassification" if shape.scores else "AutoModelForCausalLM", "AutoTokenizer"]
    names += ["BitsAndBytesConfig"] if shape.quantisation else []
    names += [] if shape.scores else ["GenerationConfig"]
    lines = ["from pathlib import Path", ""]
    lines += ["import torch"] if shape.scores else []
    if shape.is_adapter and not shape.needs_ftlab:
        lines.append("from peft import PeftModel")
    lines.append(f"from transformers import {', '.join(names)}")
    if shape.needs_ftlab:
        lines.append("from ftlab.models.bottleneck import load_bottlenecks  # PEFT has no such adapters")
    return lines


def _model(shape: Shape) -> list[str]:
    kind = "AutoModelForSequenceClassification" if shape.scores else "AutoModelForCausalLM"
    more = ', dtype="auto"' if not shape.quantisation else ", quantization_config=quantised"
    more += ", num_labels=1" if shape.scores else ""
    lines = []
    if shape.quantisation:
        said = ", ".join(f"{name}={value!r}" for name, value in shape.quantisation.items())
        lines.append(f"quantised = BitsAndBytesConfig({said})")
    if not shape.is_adapter:
        lines.append(f"model = {kind}.from_pretrained(folder{more})")
    else:
        if shape.base_on_hub:
            revision = f", revision={shape.revision!r}" if shape.revision else ""
            lines.append(f"model = {kind}.from_pretrained({shape.base!r}{revision}{more})")
        else:
            lines.append(f"model = {kind}.from_pretrained(folder / {shape.base!r}{more})")
        lines.append(
            "load_bottlenecks(model, folder)"
            if shape.needs_ftlab
            else "model = PeftModel.from_pretrained(model, folder)"
        )
    return [*lines, "tokenizer = AutoTokenizer.from_pretrained(folder)", ""]


def _ask(config: RunConfig) -> list[str]:
    system = '{"role": "system", "content": "..."}, ' if config.data.system_prompt else ""
    return [
        f'messages = [{system}{{"role": "user", "content": "Your question"}}]',
        "asked = tokenizer.apply_chat_template(",
        '    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True',
        ").to(model.device)",
        *_generate(config),
    ]


def _continue(config: RunConfig) -> list[str]:
    return ['asked = tokenizer("How a text begins", return_tensors="pt").to(model.device)', *_generate(config)]


def _generate(config: RunConfig) -> list[str]:
    return [
        "settings = GenerationConfig.from_pretrained(folder)  # where an answer ends",
        f"made = model.generate(**asked, generation_config=settings, max_new_tokens={config.evaluation.max_new_tokens})",
        'print(tokenizer.decode(made[0, asked["input_ids"].shape[1] :], skip_special_tokens=True))',
    ]


def _score() -> list[str]:
    return [
        "model.config.pad_token_id = tokenizer.pad_token_id",
        'messages = [{"role": "user", "content": "..."}, {"role": "assistant", "content": "The answer to judge"}]',
        'asked = tokenizer.apply_chat_template(messages, return_tensors="pt", return_dict=True).to(model.device)',
        "with torch.inference_mode():",
        "    print(model(**asked).logits[0, 0].item())  # only differences between answers to one prompt mean something",
    ]
