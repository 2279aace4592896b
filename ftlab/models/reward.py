"""Reward models: load one, and score conversations with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ftlab.config import ModelConfig, RunConfig, load_config
from ftlab.config.stages import SCORING
from ftlab.core.parsing import parse_json
from ftlab.core.run_directory import RunDirectory
from ftlab.data.shapes import Message
from ftlab.errors import FtlabError, InputError
from ftlab.models.identity import check_result
from ftlab.models.load import load_base

_BATCH_TOKENS = 4096


def load_reward_model(run_or_folder: RunDirectory | str | Path, *, device: str = "auto") -> tuple[Any, Any]:
    """The reward model of a run of the stage reward, or of a folder (a whole model or an adapter), and its tokenizer.

    In evaluation mode. Raises InputError for a folder without a model that outputs one score, FtlabError for a run
    without a result.
    """
    from peft import PeftModel
    from transformers import AutoTokenizer

    config: RunConfig | None = None
    if isinstance(run_or_folder, RunDirectory):
        run = run_or_folder
        if not run.has_result:
            raise FtlabError(f"The run {run.id} has no trained model yet", try_="wait until it has finished")
        config = load_config(run.config_file)
        if not config.is_reward_model:
            raise InputError(
                f"The run {run.id} is not a reward model", given=f"stage: {config.stage}", allowed=", ".join(SCORING)
            )
        check_result(run)
        folder = run.result
        device = config.launcher.device if device == "auto" else device
    else:
        folder = Path(run_or_folder).expanduser()
    if not folder.is_dir():
        raise InputError("The folder of the reward model does not exist", given=folder)
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    adapter = folder / "adapter_config.json"
    if not adapter.is_file():
        _check_one_score(folder)
        dtype = config.model.dtype if config else "auto"
        return _ready(load_base(ModelConfig(base=str(folder), dtype=dtype), device=device, scores=True), tokenizer)
    if config is None:
        saved = parse_json(adapter.read_text(encoding="utf-8"))
        if saved.get("task_type") != "SEQ_CLS":
            raise InputError(
                "This folder does not contain a reward model",
                given=f"{folder}: {saved.get('task_type')}",
                allowed="SEQ_CLS",
            )
        base = load_base(ModelConfig(base=saved["base_model_name_or_path"]), device=device, scores=True)
    else:
        base = load_base(config.model, device=device, method=config.method, scores=True)
    return _ready(PeftModel.from_pretrained(base, str(folder)), tokenizer)


def score(
    model: Any,
    tokenizer: Any,
    conversations: Sequence[Sequence[Message]],
    *,
    batch_rows: int = 32,
    advance: Callable[[int], None] | None = None,
) -> list[float]:
    """The reward of the last answer of each conversation; higher is better.

    A conversation that exceeds the context of the model loses its beginning. Only differences between answers to the
    same prompt are meaningful (Bradley and Terry, 1952).
    """
    import torch

    from ftlab.data.rendering import encode

    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    rows = [encode(messages, tokenizer).input_ids[-(context or 0) :] for messages in conversations]
    order = sorted(range(len(rows)), key=lambda index: -len(rows[index]))
    values, start = [0.0] * len(rows), 0
    device = next(model.parameters()).device
    while start < len(order):
        longest = len(rows[order[start]])
        batch = order[start : start + max(1, min(batch_rows, _BATCH_TOKENS // longest))]
        ids = torch.full((len(batch), longest), tokenizer.pad_token_id)
        mask = torch.zeros_like(ids)
        for place, index in enumerate(batch):
            ids[place, : len(rows[index])] = torch.tensor(rows[index])
            mask[place, : len(rows[index])] = 1
        with torch.inference_mode():
            scores = model(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False).logits[:, 0]
        for index, value in zip(batch, scores.float().tolist(), strict=True):
            values[index] = value
        start += len(batch)
        if advance:
            advance(len(batch))
    return values


def _ready(model: Any, tokenizer: Any) -> tuple[Any, Any]:
    # The score is read at the last token that is not padding.
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    return model.eval(), tokenizer


def _check_one_score(folder: Path) -> None:
    try:
        config = parse_json((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError("This folder does not contain a model: config.json is missing", given=folder) from None
    kinds = config.get("architectures") or []
    if not any(kind.endswith("ForSequenceClassification") for kind in kinds):
        raise InputError(
            "This folder does not contain a reward model",
            given=f"{folder}: {', '.join(kinds)}",
            allowed="a sequence classifier",
        )
