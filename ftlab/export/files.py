"""The files of an export: the adapter, its base, the tokenizer, how answers end, and the records."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ftlab import __version__
from ftlab.config import RunConfig
from ftlab.core.files import read_json, write_json, write_text
from ftlab.core.run_directory import RunDirectory
from ftlab.data.prompt_template import asked_of
from ftlab.export.shape import BASE_FOLDER, Shape
from ftlab.models.strength import AS_TRAINED, needs_base, write_scaled_adapter
from ftlab.report.facts import precision_of, source_name

if TYPE_CHECKING:
    from ftlab.export.verify import VerificationJson

_ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
# Files that belong to the weights, not to the tokenizer.
_NOT_TOKENIZER = ("adapter_config.json", "config.json", "generation_config.json", "README.md", "training_args.bin")
_WEIGHTS = ("*.safetensors", "*.gguf")
_MODEL_FILES = ("config.json", "*.safetensors", "model.safetensors.index.json", "LICENSE*", "NOTICE*")


def copy_adapter(run: RunDirectory, config: RunConfig, shape: Shape, folder: Path) -> None:
    """The adapter, and its base if that is not on the Hub: a local path would be useless elsewhere."""
    from ftlab.models.load import present_path

    for name in _ADAPTER:
        shutil.copyfile(run.adapter / name, folder / name)
    settings = dict(read_json(run.adapter / _ADAPTER[0]))
    settings["base_model_name_or_path"] = shape.base
    if shape.base_on_hub and "revision" in settings:
        settings["revision"] = shape.revision
    write_text(folder / _ADAPTER[0], json.dumps(settings, indent=2) + "\n")
    if shape.strength != AS_TRAINED:
        _put_to_strength(run, config, shape, folder)
    if not shape.base_on_hub:
        base = folder / BASE_FOLDER
        base.mkdir()
        for pattern in _MODEL_FILES:
            for file in Path(present_path(config.model.base)).glob(pattern):
                shutil.copyfile(file, base / file.name)


def _put_to_strength(run: RunDirectory, config: RunConfig, shape: Shape, folder: Path) -> None:
    from ftlab.models.load import load_base

    source = config.model.model_copy(update={"dtype": "float32"})
    base = load_base(source, device="cpu") if needs_base(config) else None
    write_scaled_adapter(run.adapter, folder, base, shape.strength)


def copy_tokenizer(result: Path, folder: Path) -> None:
    """Tokenizer and chat template as trained; a template with a thinking mode disables it by default."""
    from ftlab.data.rendering import with_thinking_chosen

    for file in sorted(result.iterdir()):
        weights = file.suffix in (".safetensors", ".bin", ".pt", ".pth") or file.name.endswith(".index.json")
        if file.is_file() and not weights and file.name not in _NOT_TOKENIZER and not file.name.startswith("."):
            shutil.copyfile(file, folder / file.name)
    template = folder / "chat_template.jinja"
    if template.exists():
        text = template.read_text(encoding="utf-8")
        chosen = with_thinking_chosen(text)
        if chosen != text:  # a run of an earlier version of ftlab
            write_text(template, chosen)


def write_generation_config(run: RunDirectory, config: RunConfig, folder: Path) -> None:
    """A generation_config.json for answers as in the evaluation: greedy decoding, with its stop tokens.

    Other settings of the base (a temperature, a penalty) were not evaluated and are left out.
    """
    from transformers import GenerationConfig

    from ftlab.data.rendering import stop_token_ids
    from ftlab.models.load import run_tokenizer

    tokenizer = run_tokenizer(run, config)
    stops = stop_token_ids(tokenizer, _generation_of_base(run, config))
    GenerationConfig(
        do_sample=False,
        eos_token_id=stops,
        pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
    ).save_pretrained(folder)


def _generation_of_base(run: RunDirectory, config: RunConfig) -> Any:
    """The generation settings of the evaluated model, for their stop tokens."""
    from transformers import AutoConfig, GenerationConfig

    from ftlab.models.load import present_path

    where = str(run.model) if run.model.exists() else present_path(config.model.base)
    revision = None if run.model.exists() else config.model.revision
    revision = revision or "main"
    try:
        return GenerationConfig.from_pretrained(where, revision=revision)
    except OSError:
        # transformers derives one from config.json if a model has none.
        return GenerationConfig.from_model_config(AutoConfig.from_pretrained(where, revision=revision))


def quantisation_settings(config: RunConfig, compute_dtype: str) -> dict[str, Any] | None:
    """The quantization of the base of a QLoRA adapter, as arguments of BitsAndBytesConfig; None for other methods."""
    if not config.method.is_quantised:
        return None
    if config.method.quantisation == "int8":
        return {"load_in_8bit": True}
    return {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": config.method.quantisation,
        "bnb_4bit_use_double_quant": config.method.double_quantisation,
        "bnb_4bit_compute_dtype": compute_dtype,
    }


def write_records(
    run: RunDirectory, config: RunConfig, shape: Shape, folder: Path, finding: VerificationJson, licence: str | None
) -> list[str]:
    """Write README.md, Modelfile and ftlab/, without any row of the data and any local path; returns notes for the
    user."""
    from ftlab.export.card import write_card
    from ftlab.export.serving import write_modelfile

    notes = write_modelfile(run, shape, folder, is_starter=config.is_starter)
    if shape.gguf:
        from ftlab.export.to_gguf import notes_on

        notes = [*notes_on(folder / shape.gguf_file, shape, precision_of(config.model.base)), *notes]
    records = folder / "ftlab"
    write_text(records / "config.yaml", yaml.safe_dump(_without_paths(config), sort_keys=False, allow_unicode=True))
    write_json(records / "asked.json", asked_of(run).as_dict())
    for name, value in (("environment", read_json(run.environment_file)), ("comparison", _without_rows(run))):
        if value is not None:
            write_json(records / f"{name}.json", _names_only(value))
    record = {
        "run": run.id,
        "created": time.time(),
        "ftlab": __version__,
        "shape": vars(shape),
        "verification": finding,
        "notes": notes,
        "licence": licence,
        "sha256": {file.name: _sha256(file) for kind in _WEIGHTS for file in sorted(folder.glob(kind))},
    }
    write_json(records / "export.json", record)
    write_card(run, config, shape, folder, finding, licence)
    return notes


def _without_rows(run: RunDirectory) -> dict[str, Any] | None:
    """The comparison without the data rows that it quotes."""
    comparison = run.comparison()
    if comparison is None:
        return None
    memory: dict[str, Any] = {**(comparison.get("memorisation") or {})}
    memory.pop("examples", None)
    memory["leaks"] = {key: value for key, value in (memory.get("leaks") or {}).items() if key != "pairs"}
    return comparison | {"memorisation": memory}


def _without_paths(config: RunConfig) -> dict[str, Any]:
    """The configuration as plain values, with local paths reduced to file names."""
    return _names_only(config.model_dump(mode="json"))


def _names_only(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _names_only(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_names_only(item) for item in value]
    # A Hub id stays complete: source_name recognizes files by their suffixes.
    return source_name(value) if isinstance(value, str) and "/" in value and "\n" not in value else value


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
