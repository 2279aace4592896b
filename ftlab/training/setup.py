"""What every stage shares before and after training: model, callbacks, environment, result."""

from __future__ import annotations

import contextlib
import copy
import importlib.metadata
import os
import platform
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from ftlab.config import RunConfig
from ftlab.config.stages import PRETRAINING
from ftlab.core.files import read_json, write_json, write_text
from ftlab.core.run_directory import RunDirectory
from ftlab.errors import InputError, shorten
from ftlab.training.arguments import begin_tracking
from ftlab.training.checkpoints import Checkpoint, go_back_to, last_checkpoint
from ftlab.training.launching import together
from ftlab.training.status import StatusWriter, Stopped

_PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "bitsandbytes", "ftlab")


def record_environment(run: RunDirectory, config: RunConfig, device: str, *, resumed_at: int | None) -> None:
    """Write environment.json: versions, hardware, threads and seeds; an earlier attempt's stays under `resumed`."""
    import torch

    versions: dict[str, str | None] = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    earlier = read_json(run.environment_file, None) if resumed_at is not None else None
    resumed = (
        [*earlier.pop("resumed", []), {"step": resumed_at, "time": time.time(), "before": earlier}] if earlier else []
    )
    write_json(
        run.environment_file,
        {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "packages": versions,
            "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
            "cpus": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "processes": together.processes(),
            "seeds": {"training": config.optimisation.seed, "split": config.data.seed},
            "parent_run": config.model.start,
            "resumed": resumed,
        },
    )


def note_environment(run: RunDirectory, **values: Any) -> None:
    """Add values to environment.json."""
    write_json(run.environment_file, read_json(run.environment_file, {}) | values)


def begin(run: RunDirectory, config: RunConfig, writer: StatusWriter) -> tuple[str, Checkpoint | None]:
    """The device, and where an earlier attempt of this run stopped (None: nowhere).

    The run's folder is then as it was there. Sets the seed and the number of threads, and writes environment.json.
    """
    import torch
    from transformers import set_seed

    from ftlab.models.load import pick_device
    from ftlab.models.methods import check_method

    device = pick_device(config.launcher.device)
    if config.launcher.threads:
        torch.set_num_threads(config.launcher.threads)
    set_seed(config.optimisation.seed)
    begin_tracking(run, config)
    if together.is_main():
        checkpoint = last_checkpoint(run)
        record_environment(run, config, device, resumed_at=checkpoint.step if checkpoint else None)
        for remark in go_back_to(run, checkpoint):
            writer.warn(remark)
    # What is left now is what all processes go on from.
    together.wait_for_all()
    checkpoint = last_checkpoint(run)
    for remark in check_method(config):
        writer.warn(remark)
    _stop_if_asked(run)
    return device, checkpoint


def _stop_if_asked(run: RunDirectory) -> None:
    """Raise Stopped if asked to stop. Several processes decide it together, when training begins."""
    if together.processes() == 1 and run.stop_file.exists():
        raise Stopped


def chat_tokenizer(run: RunDirectory, config: RunConfig, writer: StatusWriter) -> Any:
    """The tokenizer of the base with the chat template of this run, which is written beside it: everybody who asks the
    model before the result is saved reads it there (models.load.run_tokenizer). What was changed is warned of.

    Where TRL knows a template for training that shows each answer as it is asked for, that one is taken: else only the
    last answer of a conversation is trained with the templates of Qwen3 and its like.
    """
    from trl.chat_template_utils import get_training_chat_template

    from ftlab.data.rendering import ensure_chat_template, knows_thinking
    from ftlab.models.load import load_tokenizer, run_tokenizer

    if run.template_file.exists():
        return run_tokenizer(run, config)  # an earlier attempt chose it
    tokenizer = load_tokenizer(config.model.base, config.model.revision)
    known = isinstance(tokenizer.chat_template, str) and knows_thinking(tokenizer.chat_template)
    if known:
        with contextlib.suppress(ValueError, TemplateError):  # one that TRL does not know
            tokenizer.chat_template = get_training_chat_template(tokenizer) or tokenizer.chat_template
    note = ensure_chat_template(tokenizer, thinking=config.model.thinking)
    if config.stage != PRETRAINING or config.data.replay:  # plain text is read without it
        if note:
            writer.warn(note)
        if config.model.thinking and not known:
            writer.warn("Thinking (model.thinking) is on, but the chat template of this base has no thinking.")
    if together.is_main() and isinstance(tokenizer.chat_template, str):
        write_text(run.template_file, tokenizer.chat_template)
    return tokenizer


def load_model(
    run: RunDirectory, config: RunConfig, tokenizer: Any, device: str, writer: StatusWriter, *, scores: bool = False
) -> Any:
    """The model as training starts: the base with fresh adapters, or with those of the run it starts from.

    With `scores` it gives one number per text. Raises InputError when the method finds no place in it or the adapter
    to start from does not fit the base.
    """
    from ftlab.models.load import load_base, pick_dtype
    from ftlab.models.methods import apply_method, count_trained, remarks_on

    _stop_if_asked(run)
    writer.update(phase="loading the base model")
    base, checkpointing = config.model, config.optimisation.gradient_checkpointing
    if config.method.name == "full" and base.dtype == "auto":
        # Weights that are trained stay in float32; autocast does the arithmetic in the short format.
        base = base.model_copy(update={"dtype": "float32"})
    if together.is_sharded() and config.method.name != "qlora":
        # FSDP and DeepSpeed move to each GPU the part that belongs there: the whole may not fit on any.
        base = base.model_copy(update={"dtype": str(pick_dtype(base, device)).removeprefix("torch.")})
        device = "cpu"
    model = load_base(base, device=device, method=config.method, scores=scores)
    start = run.start
    task = "SEQ_CLS" if scores else "CAUSAL_LM"
    if start.exists() and not scores:
        model = _with_adapter(model, config, start, checkpointing)
    else:
        model = apply_method(model, config.method, tokenizer=tokenizer, gradient_checkpointing=checkpointing, task=task)
        if start.exists():
            _take_over(model, start)
    for remark in remarks_on(model, config.method):
        writer.warn(remark)
    counted = count_trained(model)
    writer.update(trained_parameters=counted.trained, total_parameters=counted.total)
    return model


def _with_adapter(model: Any, config: RunConfig, folder: Any, gradient_checkpointing: bool) -> Any:
    from peft import PeftModel, prepare_model_for_kbit_training

    if config.method.name == "qlora":
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=gradient_checkpointing)
    try:
        return PeftModel.from_pretrained(model, str(folder), is_trainable=True)
    except (RuntimeError, ValueError, KeyError) as error:
        raise _unfit(folder, config, error) from None


def _take_over(model: Any, folder: Any) -> None:
    """Give the fresh adapter of a scoring `model` the weights of an adapter of the same base that writes."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict
    from peft.utils import load_peft_weights

    weights, fresh = load_peft_weights(str(folder), device="cpu"), get_peft_model_state_dict(model)
    strange = sorted(weights.keys() - fresh.keys())
    if strange:
        raise InputError(
            "The adapter to start from (model.start) does not fit a model that scores",
            given=shorten(", ".join(strange[:3]), 200),
            try_="train the reward model from the base: leave model.start empty",
        )
    set_peft_model_state_dict(model, fresh | weights)  # the head that scores stays fresh


def _unfit(folder: Any, config: RunConfig, error: Exception) -> InputError:
    return InputError(
        "The adapter to start from (model.start) does not fit the base",
        given=f"{config.model.start} on {config.model.base}: {shorten(error, 200)}",
        try_="name the base that the adapter was trained on",
    )


@contextlib.contextmanager
def unrounded(model: Any) -> Iterator[None]:
    """Within it a trainer of TRL is built: it rounds adapters on a quantised base to bfloat16, which is slow on a CPU,
    not possible on cards without it, and moves an adapter that is trained further away from its reference."""
    quantised = getattr(model, "is_loaded_in_4bit", False) or getattr(model, "is_loaded_in_8bit", False)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad] if quantised else []
    before = [parameter.data.clone() for parameter in trained]
    yield
    for parameter, values in zip(trained, before, strict=True):
        parameter.data = values.float()


def progress_callbacks(
    run: RunDirectory, config: RunConfig, writer: StatusWriter, checkpoint: Checkpoint | None, *, validation: bool
) -> list[Any]:
    """ReportProgress first, then early stopping where it is wanted and there is something to watch."""
    from transformers import EarlyStoppingCallback

    from ftlab.training.callbacks import ReportProgress

    callbacks: list[Any] = [ReportProgress(run, writer, tokens_before=checkpoint.tokens if checkpoint else 0)]
    if config.optimisation.early_stopping and validation:
        patience = EarlyStoppingCallback(early_stopping_patience=config.optimisation.early_stopping)
        # The Trainer's own way of restoring callbacks would restore the order to stop as well.
        patience.early_stopping_patience_counter = checkpoint.patience_used if checkpoint else 0
        callbacks.append(patience)
    return callbacks


def save_result(
    run: RunDirectory, config: RunConfig, trainer: Any, tokenizer: Any, writer: StatusWriter, *, start: Path | None
) -> None:
    """Save what `trainer` trained, with its tokenizer and the tokens that end an answer, for `verify_saved`.

    `start` is the adapter as it was initialized, for methods that change the base (`keep_start`), else None.
    """
    from ftlab.data.rendering import stop_token_ids
    from ftlab.models.identity import keep_checksums
    from ftlab.models.peft_methods import save_adapter
    from ftlab.training.verify import keep_logits

    model = trainer.model
    writer.update(phase="saving the result", eta_seconds=None, tokens_per_second=None)
    if together.is_main():
        run.checksums_file.unlink(missing_ok=True)  # of an earlier attempt
    result = run.model if config.method.name == "full" else run.adapter
    if not start:
        trainer.save_model(str(result))  # by all processes: each may hold a part
    if not together.is_main():
        keep_logits(run, model, tokenizer)
        return
    if start:
        save_adapter(model, result, start)
        shutil.rmtree(start)
    tokenizer.save_pretrained(str(result))
    if config.stage != "reward":
        # A base often names only its end-of-text token; whoever generates from the result must stop where training did.
        generation = copy.deepcopy(model.generation_config)
        generation.eos_token_id = stop_token_ids(tokenizer, model.generation_config)
        generation.save_pretrained(str(result))
    (result / "training_args.bin").unlink(missing_ok=True)  # a pickle, which nobody should load

    keep_checksums(run.checksums_file, sorted(result.glob("*.safetensors")))

    # The worker verifies, when the trainer is gone and its memory is free.
    keep_logits(run, model, tokenizer)
