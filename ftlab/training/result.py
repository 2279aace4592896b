"""What a run leaves behind: adapter/ or model/, loadable without ftlab, and checked to be what was trained."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

from ftlab.config import RunConfig
from ftlab.run_directory import RunDirectory
from ftlab.training.launching import together
from ftlab.training.status import StatusWriter


def save_result(
    run: RunDirectory, config: RunConfig, trainer: Any, tokenizer: Any, writer: StatusWriter, *, start: Path | None
) -> None:
    """Save what `trainer` trained, with its tokenizer and the tokens that end an answer, for `verify_saved`.

    `start` is the adapter as it was initialised, for methods that change the base (`keep_start`), else None.
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
    (result / "training_args.bin").unlink(missing_ok=True)  # a pickle: nobody should have to load one

    keep_checksums(run.checksums_file, sorted(result.glob("*.safetensors")))

    # The worker verifies, when the trainer is gone and its memory is free.
    keep_logits(run, model, tokenizer)
