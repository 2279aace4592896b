"""After training: does the saved result change the base, and does it equal the model in memory?"""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict

from ftlab.config import RunConfig
from ftlab.core.files import write_json
from ftlab.core.run_directory import RunDirectory
from ftlab.models.families import next_logits
from ftlab.models.identity import weights_sha256
from ftlab.training import together
from ftlab.training.status import StatusWriter

_PROMPTS = 4
_KEPT = "logits.safetensors"
# Above the noise of another batch shape in float32, and far below the effect of a single training step.
_TOLERANCE = 1e-4


def keep_logits(run: RunDirectory, trained: Any, tokenizer: Any) -> None:
    """Store the logits of the model in memory for `verify_kept`. All processes call it: each may hold a part of the
    model."""
    import torch
    from safetensors.torch import save_file

    trained.eval()
    logits = _logits(trained, _inputs(run, tokenizer))
    if together.is_main():
        save_file({"logits": torch.stack(logits)}, str(run.path / _KEPT))


class VerificationJson(TypedDict):
    """verification.json: differences of logits (of scores, for a reward model) after the first held-out prompts.

    `largest_change` is that from the base, or from the adapter that the run started from; `reload_difference` is that
    of the saved result from the trained model.
    """

    changes_logits: bool
    largest_change: float
    reload_difference: float
    prompts: int
    weights_sha256: dict[str, str]


def verify_kept(run: RunDirectory, config: RunConfig) -> VerificationJson:
    """Load the saved result, compare its logits with those of the base and of `keep_logits`, and write
    verification.json.

    Call it when the trainer and its model are gone: with them, a run would hold three copies of the weights at its
    peak.
    """
    from safetensors.torch import load_file
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(run.result))
    kept = load_file(str(run.path / _KEPT))["logits"]
    (run.path / _KEPT).unlink()
    return _verify(run, config, _inputs(run, tokenizer), list(kept))


def verify_saved(run: RunDirectory, config: RunConfig, writer: StatusWriter, *, stopped: bool = False) -> None:
    """Verify the result of training, which may have been `stopped` early. Warns if it is too large for one process."""
    from ftlab.training.failures import is_out_of_memory

    writer.update(phase="verifying the result", eta_seconds=None, tokens_per_second=None)
    try:
        warn_of(verify_kept(run, config), config, writer, stopped=stopped)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        writer.warn("The result is saved but not verified: it does not fit in the memory of one process.")


def warn_of(finding: VerificationJson, config: RunConfig, writer: StatusWriter, *, stopped: bool = False) -> None:
    """Warn if the verification found that nothing was learned."""
    if not finding["changes_logits"]:
        before = "like the model it started from" if config.model.start else "like its base"
        if stopped:
            step, total = writer.status.step, writer.status.total_steps
            writer.warn(
                f"The run was stopped after {step} of {total} steps, and its model still answers exactly {before}. "
                "Resume the run to train on."
            )
            return
        writer.warn(
            f"The trained model answers exactly {before}: nothing was learned. "
            "Try a higher learning rate or more epochs."
        )


def _verify(run: RunDirectory, config: RunConfig, inputs: list[list[int]], in_memory: list[Any]) -> VerificationJson:
    from ftlab.evaluation.batches import free_memory
    from ftlab.models.adapters import attach_adapter
    from ftlab.models.load import load_run, load_trained_base, set_repacking
    from ftlab.models.reward import load_reward_model

    scores = config.is_reward_model
    reloaded, _ = load_reward_model(run) if scores else load_run(run)
    set_repacking(reloaded, False)  # the same arithmetic as in training
    saved = _logits(reloaded, inputs)
    del reloaded
    free_memory()
    if scores:
        # A base has no scores, so those of other texts take its place: a head without differences has learned nothing.
        base = [saved[-1], *saved[:-1]]
    else:
        model = load_trained_base(config, device=config.launcher.device)
        set_repacking(model, False)
        start = run.start
        base = _logits(attach_adapter(model, start) if start.exists() else model, inputs)
    change = max(float((a - b).abs().max()) for a, b in zip(saved, base, strict=True))
    difference = max(float((a - b).abs().max()) for a, b in zip(saved, in_memory, strict=True))
    finding: VerificationJson = {
        "changes_logits": change > _TOLERANCE,
        "largest_change": change,
        "reload_difference": difference,
        "prompts": len(inputs),
        "weights_sha256": weights_sha256(run.result),
    }
    write_json(run.verification_file, finding)
    return finding


def _inputs(run: RunDirectory, tokenizer: Any) -> list[list[int]]:
    from ftlab.data.rendering import encode_prompt
    from ftlab.data.splits import read_split

    rows = next(rows for split in ("test", "validation", "train") if (rows := read_split(run, split)))
    return [encode_prompt(row["messages"], tokenizer)[-256:] for row in rows[:_PROMPTS]]


def _logits(model: Any, inputs: list[list[int]]) -> list[Any]:
    """The logits after each prompt, shape (vocabulary,), or its score, shape (1,), in float32 on the CPU."""
    import torch

    device = next(model.parameters()).device
    scores = getattr(model.config, "num_labels", None) == 1
    rows = []
    with torch.no_grad():
        for ids in inputs:
            tensor = torch.tensor([ids], device=device)
            logits = model(input_ids=tensor) if scores else next_logits(model, tensor)
            rows.append((logits.logits[0] if scores else logits.logits[0, -1]).float().cpu())
    return rows
