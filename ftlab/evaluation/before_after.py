"""Before and after: greedy answers of the base, of the start and of a preference run to the same held-out prompts."""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ftlab.config import ModelConfig, RunConfig, load_config
from ftlab.data.conversion import Message
from ftlab.errors import FtlabError, InputError
from ftlab.evaluation.answer_limit import AnswerLimit, answer_limit, still_holds
from ftlab.evaluation.batches import free_memory
from ftlab.evaluation.generate import Answer, generate_answers
from ftlab.evaluation.held_out import groups_of, held_out_rows, nested
from ftlab.evaluation.keeping import question_of_rows
from ftlab.evaluation.metrics.text import repetition
from ftlab.evaluation.sides import base_identity, base_side, tokenizer_of
from ftlab.files import write_json, write_jsonl
from ftlab.models.identity import is_made_of
from ftlab.run_directory import Question, RunDirectory

ANSWERING_STAGES = ("dpo", "kto", "orpo", "cpo", "rloo", "grpo")
CONTESTANTS = {"base": "the base", "start": "its start", "adapted": "this run"}

Progress = Callable[[str, int, int], None]
Prompt = list[Message]


def compare_answers(
    run: RunDirectory,
    *,
    max_rows: int | None = None,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Let all contestants answer the held-out prompts of `run`, write before_after.json (of another number of prompts
    than the run's own: in a folder beside it), and return it.

    Contestants are `base`, `start` (only where the run was started from an earlier one) and `adapted`. Answers that
    exist for the same weights, prompt and settings are taken over. Raises Stopped, InputError for a stage that writes
    no answers to compare or without held-out prompts, FtlabError when the run has no result.
    """
    began = time.monotonic()
    config = load_config(run.config_file).resolved()
    if config.stage not in ANSWERING_STAGES:
        raise InputError(
            "There is no before and after of this run's answers",
            given=f"{run.id}, stage {config.stage}",
            allowed=", ".join(ANSWERING_STAGES),
        )
    if not run.has_result:
        raise FtlabError(f"The run {run.id} has no trained model yet", try_="wait until it has ended")
    tell = progress or (lambda phase, done, total: None)
    tell("reading the held-out prompts", 0, 0)
    most = max_rows or config.evaluation.max_rows
    split, prompts, available, groups, notes = _prompts(run, config, most)
    question = question_of_rows(config, most, available)
    place = question.place(run)
    weights = _identities(run, config)
    limit = answer_limit(run, config, tokenizer_of(base_side(run, config)))
    found = {name: _known(run, config, name, weights[name], limit.tokens) for name in weights}
    missing = {name: [prompt for prompt in prompts if _key(prompt) not in found[name]] for name in weights}
    total, done = sum(map(len, missing.values())), 0

    def ask(name: str, model: Any, tokenizer: Any) -> None:
        nonlocal done
        phase = f"answers of {CONTESTANTS[name]} to the held-out prompts"
        tell(phase, done, total)

        def advance(rows: int) -> None:
            nonlocal done
            done += rows
            tell(phase, done, total)

        answers = _answer(config, model, tokenizer, missing[name], limit.tokens, advance, should_stop)
        found[name] |= {_key(prompt): one for prompt, one in zip(missing[name], answers, strict=True)}

    tell("loading the model", 0, total)
    _visit(run, config, [name for name in weights if missing[name]], ask)
    unread = [prompt for prompt in prompts if any(not one[_key(prompt)].tokens for one in found.values())]
    if unread:
        notes.append(f"{len(unread)} of {len(prompts)} prompts leave no room for an answer and were left out.")
        prompts = [prompt for prompt in prompts if prompt not in unread]
    if not prompts:
        raise InputError("Every held-out prompt fills the model's context", given=f"run {run.id}")
    rows = [
        {"row": number, "prompt": prompt}
        | ({"group": group} if (group := groups.get(_key(prompt))) else {})
        | {name: _saved(found[name][_key(prompt)]) for name in weights}
        for number, prompt in enumerate(prompts)
    ]
    rows, win_rates = _with_scores(place, rows)
    result = {
        "run": run.id,
        "stage": config.stage,
        "start": config.model.start,
        "created": time.time(),
        "split": split,
        "question": question.described(),
        "seconds": round(time.monotonic() - began, 2),
        "rows": len(rows),
        "contestants": {
            name: figures([found[name][_key(prompt)] for prompt in prompts]) | {"weights": weights[name]}
            for name in weights
        },
        "settings": _settings(config, limit) | {"max_rows": most},
        "win_rates": win_rates,
        "notes": notes,
    }
    write_jsonl(place.before_after_answers_file, rows)
    write_json(place.before_after_file, result)
    return result


def figures(answers: Sequence[Answer]) -> dict[str, float]:
    """Means over `answers`: words and tokens of one, the shares that were cut and repeated, and distinct_2.

    `repetition`: the share of word triples that the same answer has said before (rep-n, Welleck et al. 2020, arXiv
    1908.04319). `distinct_2`: different word pairs by all word pairs of all answers together (Li et al. 2016, arXiv
    1510.03055); it falls where the answers become alike. Both are 0 to 1.
    """
    texts, count = [answer.text.split() for answer in answers], len(answers)
    pairs = [pair for words in texts for pair in itertools.pairwise(words)]
    return {
        "words": sum(map(len, texts)) / count,
        "tokens": sum(answer.tokens for answer in answers) / count,
        "cut_share": sum(answer.cut for answer in answers) / count,
        "repetition": sum(repetition(answer.text) for answer in answers) / count,
        "distinct_2": len(set(pairs)) / len(pairs) if pairs else 0.0,
    }


def _prompts(
    run: RunDirectory, config: RunConfig, most: int
) -> tuple[str, list[Prompt], int, dict[str, str], list[str]]:
    """The split and its different prompts, at most `most` of them, how many there are, what prompts belong to by
    data.group_by, and notes on the choice."""
    from ftlab.data.rendering import prompt_messages

    split, rows, notes = held_out_rows(run, None, judged=True)
    asked = [_plain(row.get("prompt") or prompt_messages(row["messages"])) for row in rows]
    groups = dict(zip(map(_key, asked), groups_of(run, split, rows, config.data.group_by), strict=True))
    prompts = list({_key(prompt): prompt for prompt in asked}.values())
    available = len(prompts)
    if available > most:
        notes.append(f"{most} of {len(prompts)} prompts of the {split} split were used, drawn with seed 0.")
        prompts = nested(prompts, most, config.evaluation.max_rows)
    return split, prompts, available, groups, notes


def _visit(run: RunDirectory, config: RunConfig, wanted: Sequence[str], work: Callable[[str, Any, Any], None]) -> None:
    """Call `work` with name, model and tokenizer of each contestant in `wanted`; one copy of the weights at a time.

    An adapter, the adapter that it started from and the model under both share that copy.
    """
    from transformers import AutoTokenizer

    from ftlab.models.load import adapter_disabled, load_base, load_run

    if not wanted:
        return
    bases = {name: model for name, model in _bases(run, config).items() if name in wanted}
    shared = [name for name, model in bases.items() if run.adapter.exists() and model == config.model]
    if shared or set(wanted) - bases.keys():
        model, tokenizer = load_run(run)
        if "adapted" in wanted:
            work("adapted", model, tokenizer)
        for name in shared:
            with adapter_disabled(model) as base:
                work(name, base, tokenizer)
        if "start" in wanted and run.start.exists():
            model.load_adapter(str(run.start), adapter_name="start")
            model.set_adapter("start", inference_mode=True)
            work("start", model.eval(), tokenizer)
        del model
        free_memory()
    folder = run.result
    for name in [name for name in bases if name not in shared]:
        tokenizer = AutoTokenizer.from_pretrained(str(folder))
        work(name, load_base(bases[name], device=config.launcher.device), tokenizer)
        free_memory()


def _bases(run: RunDirectory, config: RunConfig) -> dict[str, ModelConfig]:
    """The contestants that are whole models. A fully tuned run to start from is one; the base is what that began with,
    and left out when that run is gone."""
    first = _first_base(config.model)
    if config.model.start and not run.start.exists():
        return {"base": first, "start": config.model} if first != config.model else {"start": config.model}
    return {"base": first}


def _first_base(model: ModelConfig) -> ModelConfig:
    """The model at the beginning of a chain of fully tuned runs, as far as the runs are still there."""
    while True:
        parent = RunDirectory(Path(model.base).parent)
        if not parent.config_file.is_file() or Path(model.base) != parent.model:
            return model
        model = load_config(parent.config_file).resolved().model


def _answer(
    config: RunConfig,
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    most: int,
    advance: Callable[[int], None],
    should_stop: Callable[[], bool] | None,
) -> list[Answer]:
    from ftlab.data.rendering import encode_prompt, stop_token_ids
    from ftlab.models.load import text_length

    return generate_answers(
        model,
        tokenizer,
        [encode_prompt([*prompt, {"role": "assistant", "content": ""}], tokenizer) for prompt in prompts],
        max_new_tokens=most,
        stop_ids=stop_token_ids(tokenizer, model.generation_config),
        batch_rows=config.evaluation.batch_size,
        context=text_length(config),
        advance=advance,
        should_stop=should_stop,
    ).answers


def _identities(run: RunDirectory, config: RunConfig) -> dict[str, str]:
    """What decides the answers of each contestant: its weights and the number format. In the order of CONTESTANTS."""
    from ftlab.models.identity import weights_sha256
    from ftlab.models.load import pick_device, pick_dtype

    device = pick_device(config.launcher.device)
    place = [device, str(pick_dtype(config.model, device)), config.method.name == "qlora"]
    parts: dict[str, Any] = {name: base_identity(model) for name, model in _bases(run, config).items()}
    below = base_identity(config.model)
    if run.start.exists():
        parts["start"] = [below, weights_sha256(run.start)]
    folder = run.result
    parts["adapted"] = [below, weights_sha256(folder)]
    return {
        name: hashlib.sha256(json.dumps([place, parts[name]]).encode()).hexdigest()
        for name in CONTESTANTS
        if name in parts
    }


def _known(run: RunDirectory, config: RunConfig, name: str, weights: str, limit: int) -> dict[str, Answer]:
    """The answers of `name` that were written before, by prompt, as long as weights and settings are the same."""
    known: dict[str, Answer] = {}

    def take(prompt: Sequence[Message], answer: Answer, settings: dict[str, Any]) -> None:
        if still_holds(answer.tokens, answer.cut, settings["max_new_tokens"], limit):
            known.setdefault(_key(prompt), answer)

    # The comparison with the base asked the model under the adapter and this run.
    folder = run.result
    side = "adapted" if name == "adapted" else "base" if _bases(run, config).get(name) == config.model else None
    for place in (run, *run.questions()):
        earlier = place.before_after() or {"settings": {}, "contestants": {}}
        if _same(earlier["settings"], config) and earlier["contestants"].get(name, {}).get("weights") == weights:
            for row in place.before_after_answers():
                if name in row:
                    answer = Answer(row[name]["answer"], row[name]["tokens"], row[name]["cut"])
                    take(row["prompt"], answer, earlier["settings"])
        comparison = place.comparison()
        if side and comparison and _same(comparison["settings"], config) and is_made_of(comparison, folder):
            for row in place.predictions():
                if f"{side}_tokens" in row:
                    answer = Answer(row[side], row[f"{side}_tokens"], row[f"{side}_cut"])
                    take(row["messages"], answer, comparison["settings"])
    return known


def _same(settings: dict[str, Any], config: RunConfig) -> bool:
    return all(settings.get(name) == value for name, value in _place(config).items())


def _settings(config: RunConfig, limit: AnswerLimit) -> dict[str, Any]:
    return _place(config) | {"max_new_tokens": limit.tokens, "longest_answer": str(limit)}


def _place(config: RunConfig) -> dict[str, Any]:
    from ftlab.models.load import pick_device

    return {"decoding": "greedy", "device": pick_device(config.launcher.device)}


def _with_scores(
    place: RunDirectory | Question, rows: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows with the scores that reward models gave them, and the win rates, when the answers have not changed."""
    earlier, before = place.before_after(), place.before_after_answers()

    def bare(row: dict[str, Any]) -> dict[str, Any]:
        sides = [name for name in CONTESTANTS if name in row]
        return row | {name: {key: row[name][key] for key in row[name] if key != "scores"} for name in sides}

    same = earlier is not None and [bare(row) for row in before] == rows
    return (before, earlier["win_rates"]) if same else (rows, {})


def _saved(answer: Answer) -> dict[str, Any]:
    return {"answer": answer.text, "tokens": answer.tokens, "cut": answer.cut}


def _plain(messages: Sequence[Message]) -> Prompt:
    return [{"role": turn["role"], "content": turn["content"]} for turn in messages]


def _key(prompt: Sequence[Message]) -> str:
    return json.dumps(_plain(prompt), ensure_ascii=False)
