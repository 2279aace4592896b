"""Base against adapted model on the frozen held-out rows: the same tokens, the same settings, one process."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

from ftlab.config import RunConfig, load_config
from ftlab.data.documents import STAGE
from ftlab.data.prompts_only import REWARD_STAGES
from ftlab.errors import FtlabError, InputError
from ftlab.evaluation.batches import Stopped, free_memory
from ftlab.evaluation.documents import cut_documents, losses_of_documents
from ftlab.evaluation.generate import generate_answers
from ftlab.evaluation.perplexity import score_losses
from ftlab.evaluation.probes import load_probes, probe_limit
from ftlab.evaluation.scores import Result, Task, compare_results
from ftlab.evaluation.verdict import warnings
from ftlab.workspace import RunDirectory, write_json, write_jsonl

__all__ = ["Stopped", "evaluate_run"]

Progress = Callable[[str, int, int], None]
_PACKAGES = ("torch", "transformers", "peft", "evaluate", "sacrebleu", "scipy")
_NAMES = {"base": "the base", "adapted": "the adapted model"}


def evaluate_run(
    run: RunDirectory,
    *,
    max_rows: int | None = None,
    max_new_tokens: int | None = None,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Score base and adapted model of `run` on its held-out split, write the results to its directory, return them.

    The test split is used, or the validation split when there is none (said in the notes). `progress` gets a phase
    in words, rows done and rows in all. Raises Stopped when `should_stop` says so (earlier results stay as they are),
    InputError when there are no held-out rows, FtlabError when the run has no result.
    """
    from ftlab.models.load import adapter_disabled, load_base, load_run

    began = time.monotonic()
    config = load_config(run.config_file).resolved()
    tell = progress or (lambda phase, done, total: None)
    tell("reading the held-out rows", 0, 0)
    if config.stage in REWARD_STAGES and not has_references(run):
        raise InputError(
            "The held-out prompts have no answers to compare with",
            given=f"run {run.id}, which learned from rewards",
            try_=f"python -m ftlab runs show {run.id}, which tells the mean reward before and after",
        )
    split, rows, notes = held_out_rows(run, max_rows or config.evaluation.max_rows)
    tell("loading the model", 0, 0)
    model, tokenizer = load_run(run)
    task, more = _prepare(config, rows, tokenizer, max_new_tokens or config.evaluation.max_new_tokens)
    notes += more
    done = 0

    def work(model: Any, side: str) -> Result:
        nonlocal done

        def step(phase: str) -> Callable[[int], None]:
            tell(phase, done, 2 * task.steps)

            def advance(rows: int) -> None:
                nonlocal done
                done += rows
                tell(phase, done, 2 * task.steps)

            return advance

        return _ask(model, tokenizer, task, _NAMES[side], step, should_stop)

    results = {}
    if config.method.name == "full":
        # Two whole models, one after the other: together they may not fit.
        results["adapted"] = work(model, "adapted")
        device = model.device.type
        del model
        free_memory()
        tell("loading the base", done, 2 * task.steps)
        model = load_base(config.model, device=device)
        results["base"] = work(model, "base")
    else:
        with adapter_disabled(model) as base:
            results["base"] = work(base, "base")
        results["adapted"] = work(model, "adapted")
    settings = _settings(config, task, split, model)
    del model
    free_memory()
    tell("working out the scores", 2 * task.steps, 2 * task.steps)
    halved = [result.halved_to for result in results.values() if result.halved_to]
    if halved:
        notes.append(f"Memory ran out in between; it went on with {min(halved)} rows at once.")
    comparison, predictions, probes = compare_results(task, results["base"], results["adapted"])
    comparison = {
        "run": run.id,
        "created": time.time(),
        "split": split,
        "seconds": round(time.monotonic() - began, 2),
        **comparison,
        "settings": settings,
        "notes": notes + warnings(comparison["base"], comparison["adapted"]),
    }
    _write(run, comparison, predictions, probes)
    return comparison


def held_out_rows(
    run: RunDirectory, max_rows: int | None, *, judged: bool = False
) -> tuple[str, list[dict[str, Any]], list[str]]:
    """The name and the rows of the split to compare on, at most `max_rows` of them, and notes on the choice.

    Answers that are marked as bad are no reference for anything; with `judged` they are among the rows. Raises
    InputError when neither test nor validation holds rows.
    """
    from ftlab.data.splits import read_split

    for split in ("test", "validation"):
        rows = read_split(run, split) if run.split_file(split).exists() else []
        rows = rows if judged else [row for row in rows if row.get("label") is not False]
        if rows:
            break
    else:
        raise InputError(
            "There are no held-out rows to compare on",
            given=f"run {run.id}",
            try_="train with data.test_fraction above 0, or with data that has a test split",
        )
    notes = []
    if split == "validation":
        notes.append(
            "There is no test split, so the validation split was used. Training chose its best weights on it, which "
            "flatters the adapted model a little."
        )
    if max_rows is not None and len(rows) > max_rows:
        notes.append(f"{max_rows} of {len(rows)} rows of the {split} split were used, drawn with seed 0.")
        rows = [rows[i] for i in sorted(random.Random(0).sample(range(len(rows)), max_rows))]
    return split, rows, notes


def has_references(run: RunDirectory) -> bool:
    """Whether some held-out row of `run` has an answer to compare with; prompts that learn from rewards need none."""
    from ftlab.data.splits import read_split

    rows = read_split(run, "test") or read_split(run, "validation")
    return any(row["messages"][-1]["content"].strip() for row in rows)


def _prepare(
    config: RunConfig, rows: list[dict[str, Any]], tokenizer: Any, max_new_tokens: int
) -> tuple[Task, list[str]]:
    """Everything both sides are asked, tokenised once."""
    from ftlab.data.rendering import encode, encode_prompt, reference
    from ftlab.models.load import text_length

    notes = []
    context = text_length(config)
    probes, note = load_probes(config)
    if note:
        notes.append(note)
    questions = {
        "probes": probes,
        "probe_prompts": [encode_prompt([*p.messages, _empty_answer()], tokenizer) for p in probes],
        "max_new_tokens": max_new_tokens,
        "probe_tokens": probe_limit(probes, tokenizer, max_new_tokens) if probes else 0,
        "batch_rows": config.evaluation.batch_size,
        "context": context,
    }
    if config.stage == STAGE:
        # In windows as they were learnt; how much is read before a token changes how well it is predicted.
        length = min(config.optimisation.max_length, context or config.optimisation.max_length)
        pieces = cut_documents([row["messages"][0]["content"] for row in rows], tokenizer, length)
        return Task(rows, pieces.windows, prompts=[], references=[], pieces=pieces, **questions), notes
    encoded = [encode(row["messages"], tokenizer) for row in rows]
    fits = [context is None or len(row.input_ids) <= context for row in encoded]
    if not any(fits):
        raise InputError(f"Every held-out row is longer than the model's context of {context} tokens")
    if not all(fits):
        notes.append(
            f"{fits.count(False)} of {len(rows)} held-out rows are longer than the model's context ({context} tokens) "
            "and were left out of every measure."
        )
        rows = [row for row, keep in zip(rows, fits, strict=True) if keep]
        encoded = [row for row, keep in zip(encoded, fits, strict=True) if keep]
    prompts = [encode_prompt(row["messages"], tokenizer) for row in rows]
    references = [reference(row["messages"]) for row in rows]
    return Task(rows, encoded, prompts=prompts, references=references, **questions), notes


def _empty_answer() -> dict[str, str]:
    # encode_prompt leaves out the last assistant turn of an example.
    return {"role": "assistant", "content": ""}


def _ask(
    model: Any,
    tokenizer: Any,
    task: Task,
    name: str,
    step: Callable[[str], Callable[[int], None]],
    should_stop: Callable[[], bool] | None,
) -> Result:
    """Losses, answers and answers to the general questions of one model."""
    from ftlab.data.rendering import stop_token_ids

    losses = score_losses(
        model,
        task.encoded,
        pad_token_id=tokenizer.pad_token_id,
        advance=step(f"scoring {name} on the {'documents' if task.pieces else 'reference answers'}"),
        should_stop=should_stop,
    )
    if task.pieces:
        losses = losses_of_documents(losses, task.pieces)

    def answers(prompts: list[list[int]], max_new_tokens: int, phase: str) -> Any:
        return generate_answers(
            model,
            tokenizer,
            prompts,
            max_new_tokens=max_new_tokens,
            stop_ids=stop_token_ids(tokenizer, model.generation_config),
            batch_rows=task.batch_rows,
            context=task.context,
            advance=step(phase),
            should_stop=should_stop,
        )

    held_out = answers(task.prompts, task.max_new_tokens, f"answers of {name}")
    general = answers(task.probe_prompts, task.probe_tokens, f"general questions to {name}")
    halved = [limit for limit in (losses.halved_to, held_out.halved_to, general.halved_to) if limit]
    return Result(losses, held_out.answers, general.answers, min(halved, default=None))


def _settings(config: RunConfig, task: Task, split: str, model: Any) -> dict[str, Any]:
    """How it was measured: enough to do it again."""
    from importlib.metadata import version

    from ftlab.evaluation.metrics import EXACT_MATCH_RULE, PROBE_RULE

    of_documents = {
        "window": max(len(window.input_ids) for window in task.encoded),
        "bits_per_byte_rule": "summed loss in bits by the UTF-8 bytes of the text, the end-of-text tokens counted in",
    }
    of_answers = {"exact_match_rule": EXACT_MATCH_RULE}
    tests = {"perplexity": "paired permutation of summed losses, 9999 resamples"}
    if not task.pieces:
        tests |= {"exact_match": "exact McNemar", "bleu": "paired bootstrap by sacrebleu, 1000 resamples"}
    return {
        "decoding": "greedy",
        "max_new_tokens": task.max_new_tokens,
        "batch_size": task.batch_rows,
        "rows": len(task.rows),
        "split": split,
        "probes": config.evaluation.probes,
        "probe_max_new_tokens": task.probe_tokens,
        "context": task.context,
        **(of_documents if task.pieces else of_answers),
        "general_accuracy_rule": PROBE_RULE,
        "tests": tests | {"general_accuracy": "exact McNemar"},
        "device": model.device.type,
        "dtype": str(model.dtype).removeprefix("torch."),
        "quantised": config.method.name == "qlora",
        "versions": {name: version(name) for name in _PACKAGES},
    }


def _write(run: RunDirectory, comparison: dict[str, Any], predictions: list[dict], probes: list[dict]) -> None:
    """The comparison comes last: whoever sees a new one finds everything it speaks of."""
    try:
        write_jsonl(run.predictions_file, predictions)
        write_jsonl(run.probes_file, probes)
        for side in ("base", "adapted"):
            write_json(run.scores_file(side), comparison[side])
        write_json(run.comparison_file, comparison)
    except OSError as error:
        raise FtlabError(
            f"The results cannot be written: {error.strerror}", why=str(run.evaluation), try_="free some disk space"
        ) from error
