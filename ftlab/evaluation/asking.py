"""Queries the sides of a comparison (answers, losses, rewards, probes, general text). Earlier replies come from the
cache."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ftlab.config import RunConfig
from ftlab.core.jobs import Stopped
from ftlab.data.rendering import Encoded, tool_facts_of
from ftlab.data.tool_calls import uses_tools
from ftlab.data.tool_templates import CallForm
from ftlab.evaluation.batches import Progress, trim
from ftlab.evaluation.generate import Answer
from ftlab.evaluation.keeping import (
    Kept,
    Reply,
    Request,
    Rowwise,
    ToAnswer,
    ToExamine,
    ToFollow,
    ToGrade,
    ToScore,
    ToWrite,
    completed,
    keep,
    key_of,
    open_part,
    recall,
)
from ftlab.evaluation.losses import (
    CHAT,
    DOCUMENTS,
    GeneralText,
    Losses,
    Pieces,
    by_owner,
    cut_documents,
    load_general_text,
    rolling_windows,
)
from ftlab.evaluation.material import Material
from ftlab.evaluation.probes import MOST_SHOWN, NEW_TOKENS, Written, follow, probe_limit, write_own
from ftlab.evaluation.rows import Result
from ftlab.evaluation.sides import Side, identity, tokenizer_of, visit

PHASES = {
    "losses": "scoring {name} on the reference answers",
    "documents": "scoring {name} on the documents",
    "answers": "answers of {name}",
    "probes": "general questions to {name}",
    "general_text": "scoring {name} on the general text",
    "general_chat": "scoring {name} on general answers in a chat",
    "labels": "scoring {name} on the labels",
    "choices": "scoring {name} on multiple choice",
    "own": "measuring {name} on neutral prompts",
    "own_task": "measuring {name} on prompts of the task",
    "memorisation": "looking for memorized rows in {name}",
    "prompts": "answers of {name} to the held-out prompts",
    "chosen": "scoring {name} on the chosen answers",
    "rejected": "scoring {name} on the rejected answers",
    "rewards": "the reward model reads the answers",
}
OWN = {"own": "neutral prompts", "own_task": "held-out prompts of the task"}  # prompts for a base's own answers
_MOST_OF_TASK = 25  # held-out prompts; their figure is shown but not judged
_SAMPLE = "_of_sample_"  # in the name of a question, followed by the sample number (from 2)


def phase_of(question: str, side: str) -> str:
    """The progress message while `side` is asked `question`."""
    number = question.partition(_SAMPLE)[2]
    return PHASES[kind_of(question)].format(name=side) + (f", number {number}" if number else "")


def kind_of(question: str) -> str:
    """The name of the question that holds the first answers to the same prompts."""
    return question.partition(_SAMPLE)[0]


_OF_GENERAL = {DOCUMENTS: "general_text", CHAT: "general_chat"}  # the question for each form of general text


@dataclass(frozen=True)
class Asked:
    """The questions to one side by name, the `general` texts by form, and notes made on the way."""

    questions: dict[str, Request]
    pieces: Pieces | None = None
    general: dict[str, GeneralText] = field(default_factory=dict)
    probe_tokens: int = 0
    rolled: int = 0
    unshown: int = 0
    note: str | None = None
    form: CallForm | None = None  # how the base writes calls


def questions_to(side: Side, material: Material, tokenizer: Any, config: RunConfig) -> Asked:
    """All questions to `side` under the settings of `config`. Raises InputError if its base cannot render a row."""
    from ftlab.data.rendering import encode

    context = material.context
    length = min(material.max_length, context or material.max_length)
    questions: dict[str, Request] = {}
    pieces = None
    prompts: list[list[int]] = []
    rolled = unshown = 0
    if material.documents:
        # In the windows of training: the amount of preceding text changes how well a token is predicted.
        pieces = cut_documents([row["messages"][0]["content"] for row in material.rows], tokenizer, length)
        questions["documents"] = _of_pieces(pieces)
    else:
        asked = [prompted(side, row["messages"], tokenizer, context, material.limit.tokens) for row in material.rows]
        unshown = sum(side.prompting.count - count for _, count in asked) if side.prompting else 0
        encoded = [encode(messages, tokenizer) for messages, _ in asked]
        if side.prompting:
            # The examples include answers, which are given and not asked for.
            own = [sum(encode(row["messages"], tokenizer).trained) for row in material.rows]
            encoded = [_last_trained(*pair) for pair in zip(encoded, own, strict=True)]
        # The earlier turns of a conversation with tools are separate rows.
        encoded = [
            _last_run(whole) if "turn" in row else whole for whole, row in zip(encoded, material.rows, strict=True)
        ]
        questions["losses"], rolled = _to_score(encoded, context)
        prompts = [_shortened(messages, tokenizer, context, material.limit.tokens) for messages, _ in asked]
        settings = config.evaluation
        # One question per sampled answer, so that cached ones are not asked again.
        for number in range(1, settings.samples + 1):
            questions["answers" if number == 1 else f"answers{_SAMPLE}{number}"] = ToAnswer(
                prompts, material.limit.tokens, context, settings.temperature, number
            )
        if material.labels and config.evaluation.likelihood:
            every = [encode([*m[:-1], _answer(label)], tokenizer) for m, _ in asked for label in material.labels]
            questions["labels"], _ = _to_score([_last_run(answered) for answered in every], context)
    probe_tokens = 0
    if material.choices:
        every = [
            _without_stop(_last_run(encode([*choice.messages, _answer(option)], tokenizer)), tokenizer)
            for choice in material.choices
            for option in choice.options
        ]
        questions["choices"], _ = _to_score(every, context)
    if material.neutral:
        questions["own"] = ToWrite(
            [_asked_of(prompt.messages, tokenizer) for prompt in material.neutral], NEW_TOKENS, context
        )
        if not material.documents and side.prompting is None:
            most = min(_MOST_OF_TASK, max(10, len(material.neutral) // 4))
            questions["own_task"] = ToWrite(prompts[:most], NEW_TOKENS, context)
    if material.probes:
        probe_tokens = probe_limit(material.probes, tokenizer, config.evaluation.max_new_tokens)
        probes = [_asked_of(probe.messages, tokenizer) for probe in material.probes]
        questions["probes"] = ToAnswer(probes, probe_tokens, context)
    general, note = load_general_text(config, tokenizer, context=context, replayed=material.replayed)
    questions |= {_OF_GENERAL[form]: _of_pieces(text.pieces) for form, text in general.items()}
    form = tool_facts_of(tokenizer).form if material.tools else None
    return Asked(questions, pieces, general, probe_tokens, rolled, unshown, note, form)


def own_of(side: Side, first: Side, questions: dict[str, Request]) -> dict[str, Request]:
    """`questions` for `side`, plus the base's own answers: the base (the `first` side) writes them, and runs on the
    same base follow them. Runs on other bases and a prompted base are not asked."""
    if side is first:
        return questions
    same = (side.config.model.base, side.config.model.revision) == (
        first.config.model.base,
        first.config.model.revision,
    )
    kept: dict[str, Request] = {}
    for name, question in questions.items():
        if not isinstance(question, ToWrite):
            kept[name] = question
        elif side.adapted and same and side.prompting is None:
            kept[name] = ToFollow(question, identity(first), MOST_SHOWN if name == "own" else 0)
    return kept


def memorisation_of(side: Side) -> ToExamine:
    """The question of which training rows `side` has memorized."""
    files = [side.run.split_file(split) for split in ("train", "validation", "test")]
    hashes = []
    for file in files:
        if file.exists():
            with file.open("rb") as stream:
                hashes.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return ToExamine(["memorisation", hashes, side.config.optimisation.max_length])


def ask(
    model: Any,
    tokenizer: Any,
    question: Rowwise,
    *,
    batch_rows: int,
    written: Sequence[Written] = (),
    advance: Callable[[int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Reply:
    """The reply of `model` to `question`. `written` is what the base wrote, if it is to be followed. Raises Stopped."""
    from ftlab.data.rendering import stop_token_ids
    from ftlab.evaluation.generate import generate_answers
    from ftlab.evaluation.losses import score_losses

    if isinstance(question, ToScore):
        losses = score_losses(
            model,
            question.encoded,
            pad_token_id=tokenizer.pad_token_id,
            advance=advance,
            should_stop=should_stop,
        )
        return Reply(losses=by_owner(losses, question.owner, question.rows), halved_to=losses.halved_to)
    if isinstance(question, ToGrade):
        return Reply(rewards=_rewards(model, tokenizer, question, advance, should_stop))
    if isinstance(question, ToWrite | ToFollow):
        of = question.of if isinstance(question, ToFollow) else question
        more: dict[str, Any] = {
            "max_new_tokens": of.max_new_tokens,
            "stop_ids": stop_token_ids(tokenizer, model.generation_config),
            "batch_rows": batch_rows,
            "context": of.context,
            "advance": advance,
            "should_stop": should_stop,
        }
        if isinstance(question, ToFollow):
            followed, halved_to = follow(model, tokenizer, of.prompts, written, examples=question.examples, **more)
            return Reply(followed=followed, halved_to=halved_to)
        new, halved_to = write_own(model, tokenizer, of.prompts, **more)
        return Reply(written=new, halved_to=halved_to)
    made = generate_answers(
        model,
        tokenizer,
        question.prompts,
        max_new_tokens=question.max_new_tokens,
        stop_ids=stop_token_ids(tokenizer, model.generation_config),
        batch_rows=batch_rows,
        context=question.context,
        temperature=question.temperature,
        sample=question.sample,
        advance=advance,
        should_stop=should_stop,
    )
    return Reply(answers=made.answers, halved_to=made.halved_to)


def _rewards(
    model: Any,
    tokenizer: Any,
    question: ToGrade,
    advance: Callable[[int], None] | None,
    should_stop: Callable[[], bool] | None,
) -> list[float]:
    from ftlab.models.reward import score

    def note(count: int) -> None:
        if advance:
            advance(count)
        if should_stop and should_stop():
            raise Stopped

    return score(model, tokenizer, question.conversations, advance=note)


def result_of(asked: Asked, replies: dict[str, Reply], material: Material) -> Result:
    """Everything one side answered; `replies` are by the name of the question."""
    per_label = None
    if "labels" in replies:
        nll, count = _scored(replies["labels"]).nll, len(material.labels)
        per_label = [nll[start : start + count] for start in range(0, len(nll), count)]
    halved = [reply.halved_to for reply in replies.values() if reply.halved_to]
    return Result(
        losses=_scored(replies.get("documents") or replies["losses"]),
        answers=_with_calls(_answers(replies, "answers"), asked, material),
        probe_answers=_answers(replies, "probes"),
        halved_to=min(halved, default=None),
        general={form: _scored(replies[name]) for form, name in _OF_GENERAL.items() if name in replies},
        labels=per_label,
        choices=_per_choice(replies, material),
        written={name: new for name in OWN if name in replies and (new := replies[name].written) is not None},
        followed={name: own for name in OWN if name in replies and (own := replies[name].followed) is not None},
        more_answers=[
            _with_calls(reply.answers or [], asked, material) for name, reply in replies.items() if _SAMPLE in name
        ],
        memorisation=replies["memorisation"].memorisation if "memorisation" in replies else None,
    )


def _with_calls(answers: list[Answer], asked: Asked, material: Material) -> list[Answer]:
    """`answers` with calls as ftlab writes them, in rows with tools; in other rows, JSON in an answer stays JSON."""
    if asked.form is None or material.tools is None:
        return answers
    return [
        replace(answer, text=asked.form.read(answer.text)) if uses_tools(row["messages"]) else answer
        for answer, row in zip(answers, material.rows, strict=True)
    ]


def results_of(
    sides: Sequence[Side],
    asked: Mapping[str, Asked],
    material: Material,
    *,
    batch_rows: int,
    tell: Progress,
    should_stop: Callable[[], bool] | None,
) -> dict[str, Result]:
    """All replies of `sides`, by side name: see `collect`."""
    replies = collect(
        sides,
        {name: each.questions for name, each in asked.items()},
        batch_rows=batch_rows,
        tell=tell,
        should_stop=should_stop,
    )
    total = sum(question.steps for each in asked.values() for question in each.questions.values())
    tell("working out the scores", total, total)
    return {side.name: result_of(asked[side.name], replies[side.name], material) for side in sides}


def _scored(reply: Reply) -> Losses:
    assert reply.losses is not None  # the reply to a ToScore
    return reply.losses


def _answers(replies: Mapping[str, Reply], name: str) -> list[Answer]:
    return (replies[name].answers or []) if name in replies else []


def _per_choice(replies: dict[str, Reply], material: Material) -> list[bool]:
    """For each multiple-choice question, whether the right choice is the most likely."""
    if "choices" not in replies:
        return []
    nll, at, right = _scored(replies["choices"]).nll, 0, []
    for choice in material.choices:
        losses = nll[at : at + len(choice.options)]
        at += len(choice.options)
        # A tie does not count as knowledge.
        right.append(min(losses) == losses[choice.right] and losses.count(losses[choice.right]) == 1)
    return right


def _of_pieces(pieces: Pieces) -> ToScore:
    return ToScore(pieces.windows, pieces.owner, len(pieces.sizes))


def _to_score(rows: list[Encoded], context: int | None) -> tuple[ToScore, int]:
    """The rows as pieces short enough for the model, and how many rows were too long for one piece."""
    pieces: list[Encoded] = []
    owner: list[int] = []
    for number, whole in enumerate(rows):
        windows = rolling_windows(whole, context) if context else [whole]
        pieces += windows
        owner += [number] * len(windows)
    rolled = sum(len(whole.input_ids) > context for whole in rows) if context else 0
    return ToScore(pieces, owner, len(rows)), rolled


def _last_trained(encoded: Encoded, count: int) -> Encoded:
    """`encoded` with only the last `count` trained tokens marked as trained."""
    places = [place for place, on in enumerate(encoded.trained) if on]
    kept = set(places[max(0, len(places) - count) :])
    return Encoded(encoded.input_ids, [place in kept for place in range(len(encoded.trained))], encoded.notes)


def _last_run(encoded: Encoded) -> Encoded:
    """`encoded` with only its last answer trained, not those of earlier turns."""
    end = max((place for place, on in enumerate(encoded.trained) if on), default=-1)
    start = end
    while start >= 0 and encoded.trained[start]:
        start -= 1
    return _last_trained(encoded, end - start)


def _without_stop(encoded: Encoded, tokenizer: Any) -> Encoded:
    """`encoded` without the stop token after its answer, which does not help to tell which answer is right."""
    last = max((place for place, on in enumerate(encoded.trained) if on), default=None)
    if last is None or encoded.input_ids[last] not in tokenizer.all_special_ids or not any(encoded.trained[:last]):
        return encoded
    return Encoded(encoded.input_ids, [on and at < last for at, on in enumerate(encoded.trained)], encoded.notes)


def prompted(
    side: Side, messages: list[dict[str, str]], tokenizer: Any, context: int | None, room: int
) -> tuple[list[dict[str, str]], int]:
    """The row with the few-shot examples that `side` gets, and their number."""
    from ftlab.data.rendering import encode, encode_prompt

    if side.prompting is None:
        return messages, 0

    def fits(prompted: list[dict[str, str]]) -> bool:
        if context is None:
            return True
        if len(encode(prompted, tokenizer).input_ids) > context:
            return False
        return len(encode_prompt(prompted, tokenizer)) + room <= context

    return side.prompting.fitted(messages, fits)


def _shortened(messages: list[dict[str, str]], tokenizer: Any, context: int | None, room: int) -> list[int]:
    """The prompt as tokens; only its end if it leaves no room for the reference (as lm-evaluation-harness does)."""
    from ftlab.data.rendering import encode, encode_prompt

    prompt = encode_prompt(messages, tokenizer)
    if context is None or len(encode(messages, tokenizer).input_ids) <= context:
        return prompt
    return prompt[-max(1, context - min(room, context // 2)) :]


def _asked_of(messages: list[dict[str, str]], tokenizer: Any) -> list[int]:
    from ftlab.data.rendering import encode_prompt

    return encode_prompt([*messages, _answer("")], tokenizer)


def _answer(text: str) -> dict[str, str]:
    # encode_prompt leaves out the last assistant turn of an example.
    return {"role": "assistant", "content": text}


@dataclass(frozen=True)
class _Query:
    """A question to a side, the identity `who` of its model, and the key of the reply."""

    side: Side
    who: list[Any]
    name: str
    question: Request
    key: str


def collect(
    sides: Sequence[Side],
    questions: Mapping[str, Mapping[str, Request]],
    *,
    batch_rows: int,
    tell: Progress,
    should_stop: Callable[[], bool] | None,
) -> dict[str, dict[str, Reply]]:
    """The replies of each of `sides` to its `questions`, by side name and question name.

    Everything that is compared is asked through this function. Replies are cached by weights, question and settings
    (`keeping.py`), so that a workspace never asks anything twice. `tell` counts rows. Raises Stopped; replies received
    until then stay cached.
    """
    queries = [
        _Query(side, who, name, question, key_of(who, question))
        for side in sides
        for who in [identity(side)]
        for name, question in questions[side.name].items()
    ]
    held = {query.key: recall(query.side.run, query.who, query.question) for query in queries}
    known = {key: kept.reply for key, kept in held.items() if kept.reply is not None}
    # Two sides may have the same question (general questions need no prompt): only the first one is asked.
    missing = {query.key: query for query in reversed(queries) if query.key not in known}
    total = sum(query.question.steps for query in queries)
    done = total - sum(_open_steps(query, held[key]) for key, query in missing.items())

    def remember(query: _Query, took: dict[str, Any] | None = None) -> None:
        about = {"created": time.time(), "side": query.side.described(), "question": query.name, "model": query.who}
        about |= {"took": took} if took else {}
        keep(query.side.run, query.who, query.question, known[query.key], about)

    def work(side: Side, model: Any) -> None:
        nonlocal done
        tokenizer = tokenizer_of(side)
        for query in [query for query in queries if query.side is side and missing.get(query.key) is query]:
            phase = phase_of(query.name, side.spoken)
            tell(phase, done, total)

            def advance(rows: int, phase: str = phase) -> None:
                nonlocal done
                done += rows
                tell(phase, done, total)

            took = None
            if isinstance(query.question, ToExamine):
                known[query.key] = examined(side, model, tokenizer)
            else:
                kept = held[query.key]
                part = open_part(query.question, kept)
                written = _written(query.question, part, known) if isinstance(query.question, ToFollow) else []
                began = time.monotonic()
                new = ask(
                    model,
                    tokenizer,
                    part,
                    batch_rows=batch_rows,
                    written=written,
                    advance=advance,
                    should_stop=should_stop,
                )
                known[query.key] = completed(query.question, kept, new)
                if isinstance(part, ToAnswer):
                    took = {"seconds": round(time.monotonic() - began, 3), "answers": part.steps}
            remember(query, took)
            trim()  # the next question has batches of different shapes

    def examined(side: Side, model: Any, tokenizer: Any) -> Reply:
        from ftlab.evaluation.memorisation import measure_memorisation

        figures = measure_memorisation(
            model,
            tokenizer,
            side.run,
            side.config,
            # It counts rows itself.
            progress=lambda phase, *_: tell(phase, done, total),
            should_stop=should_stop,
        )
        return Reply(memorisation=figures)

    def loading(what: str) -> None:
        tell(f"loading {what}", done, total)

    visit([side for side in sides if any(query.side is side for query in missing.values())], work, loading)
    replies: dict[str, dict[str, Reply]] = {side.name: {} for side in sides}
    for query in queries:
        if not held[query.key].here and query.key not in missing:
            remember(query)  # known from another run, which may be deleted
        replies[query.side.name][query.name] = known[query.key]
    return replies


def _written(whole: ToFollow, part: Rowwise, known: Mapping[str, Reply]) -> list[Written]:
    """The base's own answers to the prompts of `part`. The base is asked before the sides that follow it (see
    `visit`)."""
    assert isinstance(part, ToFollow)  # as is the whole question
    written = known[key_of(whole.base, whole.of)].written or []
    by_prompt = dict(zip(map(tuple, whole.of.prompts), written, strict=True))
    return [by_prompt[tuple(prompt)] for prompt in part.of.prompts]


def _open_steps(query: _Query, kept: Kept) -> int:
    return 0 if isinstance(query.question, ToExamine) else open_part(query.question, kept).steps
