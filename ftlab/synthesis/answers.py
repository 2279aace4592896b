"""What a prompt does, put into the weights: the training prompts of a run are answered by its prompted base, or by a
model behind an address, and those answers are tuned on.

TRL's self-distillation (`trl.experimental.sdft` of 1.16) was not taken: it writes anew at every step, with a trainer of
its own, and only for a teacher that is loaded beside the student. Stored answers serve an address too, can be read
before anything is trained on them, and are trained by the same recipe as the rows of people.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ftlab.config import DataConfig, RunConfig
from ftlab.config.stages import SFT
from ftlab.core.files import DamagedFile
from ftlab.core.run_directory import Question, RunDirectory
from ftlab.core.words import counted
from ftlab.core.workspace import Workspace
from ftlab.data.conversion import convert, is_document
from ftlab.data.load import as_read, load_rows
from ftlab.data.partition import prompt_fingerprint, prompt_text
from ftlab.data.shapes import Message, UnusableRow
from ftlab.data.splits import detect_format
from ftlab.data.tool_calls import uses_tools
from ftlab.data.version_store import VersionRow, rows_of
from ftlab.data.versions import MADE_BY
from ftlab.errors import InputError
from ftlab.synthesis.plan import Settings, Work, place_of, split_first
from ftlab.synthesis.writing import ANSWERS, Row, Task

# Tokens of another model are other units, and a model that thinks spends them before it answers: as in evaluation.
_FEWEST_TOKENS, _TIMES_LIMIT = 256, 2


def answer_work(run: RunDirectory, workspace: Workspace, settings: Settings) -> Work:
    """The work of answering the training prompts of `run`: by the model behind the address of `settings`, or by the
    base, prompted as it was when `run` was evaluated. Held-out rows keep their answers, and no held-out prompt is among
    those that are answered. Makes a version of the data that is split. Raises InputError for runs that learn from
    something else than answers, where the base was not evaluated with a prompt, and without a row to answer.
    """
    from ftlab.evaluation.material import answer_limit
    from ftlab.evaluation.sides import base_side, config_of, tokenizer_of

    config = config_of(run)
    if config.stage != SFT:
        raise InputError(
            "Only the prompts of runs that learned from answers can be answered again",
            given=f"run {run.id}, stage {config.stage}",
            allowed=f"a run of the stage {SFT}",
        )
    if settings.endpoint is None and settings.base != config.model.base:
        raise InputError(
            "The prompted base of a run is its own base",
            given=settings.base,
            allowed=f"{config.model.base}, or a model behind an address",
        )
    tokenizer = tokenizer_of(base_side(run, config))
    limit = answer_limit(run, config, tokenizer).tokens
    examples = _examples(run) if settings.endpoint is None else None
    data = config.data
    parent = split_first(data, workspace)
    source = DataConfig(source=parent.source)
    loaded = load_rows(source, workspace)
    detected = detect_format(loaded, as_read(source, loaded))
    place = place_of(detected)
    held = set(run.manifest().get("prompt_fingerprints", {}).get("test", []))
    rows: dict[int, VersionRow] = {}
    tasks: list[Task] = []
    held_out = 0
    for row in rows_of(parent):
        if row.excluded is not None or row.split != "train" or row.cells.get(MADE_BY):
            continue
        try:
            messages, _ = convert(row.cells, detected, data.system_prompt)
        except UnusableRow:
            continue
        if is_document(messages) or uses_tools(messages):
            continue
        if prompt_fingerprint(messages, data.system_prompt) in held:
            held_out += 1
            continue
        asked = messages[:-1]
        if examples is not None:
            asked = _with_prompt(run, config, examples, messages, tokenizer, limit)
        rows[row.id] = row
        taken = Row(prompt_text(messages), messages[-1]["content"], row.id)
        tasks.append(
            Task(ANSWERS, 1, examples=(taken,), asked=tuple((turn["role"], turn["content"]) for turn in asked))
        )
    if not tasks:
        raise InputError(
            f"The training rows of {run.id} hold no prompt that can be answered again",
            allowed="questions with answers, without calls of tools",
        )
    endpoint = settings.endpoint
    if endpoint is not None:
        endpoint = replace(endpoint, max_tokens=max(_FEWEST_TOKENS, _TIMES_LIMIT * limit))
    return Work(
        ANSWERS,
        parent.name,
        tasks,
        replace(settings, endpoint=endpoint, judged=False),
        parent=parent,
        like=rows,
        place=place,
        notes=_notes(run, settings, held_out),
        run=run,
        longest=limit,
    )


def _examples(run: RunDirectory) -> dict[str, Any]:
    """The system prompt and the examples with which the base was evaluated beside `run`."""
    places: list[RunDirectory | Question] = [run, *run.questions()]
    for place in places:
        try:
            comparison = place.comparison()
        except DamagedFile:
            continue
        if comparison and (prompt := comparison["settings"].get("prompted")):
            return dict(prompt)
    raise InputError(
        f"The base of {run.id} was not evaluated with a prompt, so there is none to put into the weights",
        try_=f"python -m ftlab evaluate {run.id} --prompted, or name a model behind an address",
    )


def _with_prompt(
    run: RunDirectory,
    config: RunConfig,
    prompt: Mapping[str, Any],
    messages: list[Message],
    tokenizer: Any,
    limit: int,
) -> list[Message]:
    """What the prompted base is asked for the row `messages`: as in evaluation, without an example that is this row."""
    from ftlab.evaluation.asking import prompted
    from ftlab.evaluation.sides import Prompting, prompted_side
    from ftlab.models.load import text_length

    own = prompt_text(messages)
    examples = tuple(tuple(turns) for turns in prompt["examples"] if prompt_text(turns) != own)
    side = prompted_side(run, config, Prompting(prompt["system"], examples))
    return prompted(side, messages, tokenizer, text_length(config), limit)[0][:-1]


def _notes(run: RunDirectory, settings: Settings, held_out: int) -> list[str]:
    notes = [
        f"Answers to the training prompts of {run.id} take the place of yours, in training only. Held-out rows keep "
        "their answers. Where yours are right, tuning on them is usually better: compare both."
    ]
    if held_out:
        notes.append(f"{counted(held_out, 'row')} left out: the prompt is among the test rows of {run.id}.")
    if settings.endpoint is not None and not settings.endpoint.is_here:
        notes.append(
            f"Whether a model may be trained on these answers is in the terms of {settings.endpoint.host}. Many hosted "
            "models forbid it for models that compete with theirs."
        )
    return notes
