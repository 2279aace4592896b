"""Format detection: conversations, pairs, labels, documents, prompts only."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ftlab.core.parsing import json_or
from ftlab.data.cells import (
    LABELS,
    PLAIN_TEXTS,
    TEXTS,
    are_classes,
    column_values,
    instruction,
    is_judgement,
    likely_texts,
    scale_of,
    suggested_texts,
)
from ftlab.data.choices import find_choices, listing_column, read_choices
from ftlab.data.conversion import NO_ANSWER, convert, span_of, turns_of_row
from ftlab.data.guess import guess_columns, is_never_a_prompt, names_classes
from ftlab.data.prompt_template import check_template
from ftlab.data.shapes import GUESSED, Detected, Message, UnusableRow
from ftlab.data.tool_calls import call_of, tools_text
from ftlab.data.turns import ROLE_KEYS, TEXT_KEYS, is_dialogue
from ftlab.data.votes import find_scores, find_vote, plain, vote_in
from ftlab.errors import InputError, did_you_mean, nearest, shorten

# Each format and its usual columns.
FORMATS = {
    "prompt_completion": "prompt + completion",
    "question_answer": "question + answer",
    "alpaca": "instruction (+ input) + output",
    "messages": "messages (a list of role and content)",
    "sharegpt": "conversations (a list of from and value)",
    "preference": "prompt + chosen + rejected",
    "openai_preference": "input + preferred_output + non_preferred_output",
    "multiple_choice": "question + choices + answer (the number, letter or text of the right one)",
    "comparison": "prompt + two answers + which one won (response_a, response_b, winner)",
    "kto": "prompt + completion + label (true or false)",
    "classification": "text + label",
    "text": "text (plain text, for continued pretraining)",
}
PREFERENCES = ("preference", "openai_preference", "comparison")

# In order of preference; compared without case, spaces and underscores.
_PROMPTS = ("prompt", "instruction", "question", "query", "problem", "request", "user", "human", "input")
# Also used for columns of customer names or ticket numbers.
_LOOSE_PROMPTS = ("user", "human", "request", "query", "question", "problem", "input")
_ANSWERS = ("completion", "output", "response", "answer", "reply", "assistant", "solution", "target", "gpt")
_INPUTS = ("input", "context")
_SYSTEMS = ("system", "systemprompt", "systemmessage", "systeminstruction")
_TOOLS = ("tools", "functions", "availabletools")
# Names of columns that rate answers; compared as above.
_JUDGEMENTS = (
    "label ktotag desirable isdesirable isgood good thumb thumbs thumbsup vote feedback userfeedback liked like "
    "approved isapproved accepted isaccepted correct iscorrect judgement judgment verdict rating ratings stars grade "
    "score quality helpful ishelpful helpfulness upvoted preference reward"
).split()
_GRADES = "rating ratings stars grade score quality helpfulness thumb thumbs vote feedback".split()
_CONVERSATIONS = ("messages", "conversations", "conversation", "chat", "dialog", "dialogue", "turns", "contents")

_ROLE_ALIASES = {
    **dict.fromkeys(("prompt", "instruction", "question", "query", "user"), "prompt"),
    **dict.fromkeys(("completion", "output", "response", "answer", "assistant"), "completion"),
    **dict.fromkeys(("messages", "conversations", "conversation"), "messages"),
    **dict.fromkeys(("input", "context"), "input"),
    **dict.fromkeys(("tools", "functions"), "tools"),
    **dict.fromkeys(("choices", "options"), "choices"),
    **{
        name: name for name in ("system", "chosen", "rejected", "history", "text", "label", "first", "second", "winner")
    },
}


class ColumnsUnknown(InputError):
    """The data is readable, but the roles of its columns are unknown. A person can assign them."""


def detect(
    columns: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    mapping: Mapping[str, str] | None = None,
    name: str = "the data",
    template: str | None = None,
) -> Detected:
    """The format of data with these `columns`, from the cells of some `rows`. `mapping` (role: column) takes
    precedence; roles it leaves open are detected. `template` builds the prompt, such as "Q: {question}".

    Raises InputError if no format fits, naming the actual and the expected columns, or if `mapping` is wrong.
    """
    roles = _checked_mapping(mapping or {}, columns)
    named = check_template(template, columns) if template else []
    if (choosing := _from_choices(columns, rows, roles, template)) is not None:
        detected = choosing
    elif (roles and not roles.keys() <= {"system", "input", "rejected", "history", "tools"}) or named:
        detected = _from_mapping(roles, columns, rows, named)
    elif (by_contents := _from_names_or_contents(columns, rows)) is None:
        raise _no_usable_column(columns, rows, name)
    else:
        detected = by_contents
        if "rejected" in roles and "chosen" not in detected.columns:
            detected = _from_mapping(roles, columns, rows)
        elif roles:
            detected.columns |= roles
            detected.why += f", with {_listed(roles)} as you set"
    if template:
        detected.template = template
        detected.why += "; your template builds the prompt"
    elif detected.format == "classification":
        detected.template = instruction(column_values(rows, detected.columns["label"]), detected.columns["text"])
    if "tools" not in detected.columns and detected.format not in ("text", "classification"):
        tools = next((column for column in columns if plain(column) in _TOOLS and _lists_tools(rows, column)), None)
        if tools is not None and tools not in detected.columns.values():
            detected.columns["tools"] = tools
            detected.why += f"; {tools} lists the tools that can be called"
    _add_judgements(detected, columns, rows)
    used = {*detected.columns.values(), *named, *(detected.vote.columns if detected.vote else ())}
    used |= set(detected.choices.columns if detected.choices else ())
    detected.unused = [column for column in columns if column not in used]
    if detected.choices is None:
        _look_for_choices(detected, rows, set_by_hand=bool(roles))
    if detected.format in PREFERENCES:
        detected.why += "; the chosen answer is trained on"
    if detected.format == "kto":
        detected.why += "; the answers marked as good are trained on"
    return detected


def _add_judgements(detected: Detected, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Add what rates the answers, so that no bad answer is trained on as a good one."""
    if detected.format in PREFERENCES and "rejected" in detected.columns:
        detected.scores = find_scores(columns, rows)
        return
    if detected.format == "kto":
        detected.scale = scale_of(column_values(rows, detected.columns["label"]))
        return
    if detected.format not in (
        "prompt_completion",
        "question_answer",
        "alpaca",
        "messages",
        "sharegpt",
        "multiple_choice",
    ):
        return
    free = [column for column in columns if column not in detected.columns.values()]
    if (choices := detected.choices) is not None:
        free = [column for column in free if not (may_judge(column) and choices.is_repeated(column, rows))]
    column = judging_column(free, rows)
    if column is None or (detected.is_guess and plain(column) not in _JUDGEMENTS):
        return
    detected.format = "kto"
    detected.columns = detected.columns | {"label": column}
    detected.scale = scale_of(column_values(rows, column))
    detected.why += f"; {column} marks every answer as good or bad"


_BESIDE_CHOICES = {"prompt", "completion", "label", "input", "history", "system", "tools"}


def _from_choices(
    columns: Sequence[str], rows: Sequence[Mapping[str, Any]], roles: Mapping[str, str], template: str | None
) -> Detected | None:
    """Questions with choices, if the roles that a person set allow for them: those of prompt and answer without choices
    say that the answers are trained as they are. Raises InputError if the column set as choices holds none."""
    if "choices" not in roles:
        by_name = {plain(column): column for column in columns}
        if (
            roles.keys() - {"label", "input", "history", "system", "tools"}
            or _from_votes(columns, rows, by_name, {}) is not None
        ):
            return None
    elif roles.keys() - {"choices", *_BESIDE_CHOICES}:
        raise _apart("choices", _listed(roles))
    if (choosing := find_choices(columns, rows, roles, template is not None)) is None:
        if "choices" in roles:
            raise _no_choices(columns, rows, roles)
        return None
    choices, own = choosing
    system = _first(_SYSTEMS, {plain(column): column for column in reversed(columns)})
    extra = {"system": system} if system and system not in (*choices.columns, *own.values()) else {}
    why = f"columns set: {_listed(roles)}; " if roles else ""
    why += f"{choices.listed} {'hold' if choices.columns[1:] else 'holds'} the choices, {choices.how}"
    kind = "kto" if "label" in roles else "multiple_choice"
    return Detected(kind, own | extra | dict(roles), why, 1.0 if roles else 0.9, choices=choices)


def _no_choices(columns: Sequence[str], rows: Sequence[Mapping[str, Any]], roles: Mapping[str, str]) -> InputError:
    column = roles["choices"]
    if (held := read_choices(_first_value(rows, column))) is not None and held.texts[1:]:
        return ColumnsUnknown(
            f"No column of answers points at the choices in {column}",
            given=f"columns {', '.join(columns)}" + (f"; {_listed(roles)}" if len(roles) > 1 else ""),
            allowed="an answer that is the number, letter or text of one of at most 26 choices, in most rows",
            try_="name the columns with --column prompt=COLUMN and --column completion=COLUMN (data.columns); to train "
            f"answers in other words, leave {column} out of the columns and put it into data.prompt_template",
        )
    cell = shorten(json.dumps(_first_value(rows, column), ensure_ascii=False, default=str), 100)
    return ColumnsUnknown(
        f"The column {column} holds no choices",
        given=cell,
        allowed="a list of at least two choices in each row; or, where each choice has a column, the first of them",
        try_=f"set another column (--column choices=COLUMN) of {', '.join(columns)}",
    )


def _look_for_choices(detected: Detected, rows: Sequence[Mapping[str, Any]], *, set_by_hand: bool) -> None:
    """Add the unused columns with the choices of each question, if the answers only point at them: 2, or B. Roles that
    a person set without choices stay: then the choices are only noted."""
    if not {"prompt", "completion"} <= detected.columns.keys() or detected.format in PREFERENCES:
        return
    roles = {role: detected.columns[role] for role in ("prompt", "completion")}
    choosing = find_choices([*detected.unused, *roles.values()], rows, roles)
    if choosing is None:
        detected.unseen = listing_column(detected.unused, column_values(rows, roles["completion"]), rows)
        return
    if choosing[0].way == "text":
        return
    choices = choosing[0]
    if set_by_hand:
        detected.unseen = choices.columns[0]
        return
    detected.choices = choices
    detected.format = "kto" if detected.format == "kto" else "multiple_choice"
    detected.columns = detected.columns | {"choices": choices.columns[0]}
    detected.unused = [column for column in detected.unused if column not in choices.columns]
    detected.why += f"; {choices.listed} {'hold' if choices.columns[1:] else 'holds'} the choices, {choices.how}"


def judging_column(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str | None:
    """The column that marks the answers as good or bad: true and false, words, thumbs, or grades on a common scale."""
    by_name = {plain(column): column for column in reversed(columns)}
    for name in _JUDGEMENTS:
        if name not in by_name:
            continue
        values = column_values(rows, by_name[name])
        if is_judgement(values) or (name in _GRADES and scale_of(values) is not None):
            return by_name[name]
    return None


def may_judge(column: str) -> bool:
    """Whether the name of a column suggests that it rates the answers."""
    return plain(column) in _JUDGEMENTS


def _from_names_or_contents(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Detected | None:
    """Detect by the names that tools use. If those are inconclusive, or lead to an ID or a date, guess."""
    askable = [
        column
        for column in columns
        if plain(column) not in _LOOSE_PROMPTS or not is_never_a_prompt(column_values(rows, column))
    ]
    by_name = _from_names(askable, rows)
    if by_name is None or (by_name.format == "text" and by_name.confidence == 0.5):
        guess = guess_columns(columns, rows)
        # Combined with names that tools use, an uninformative column is a kind or a source: {text, source}, {prompt,
        # kind}.
        unnamed = guess is not None and "label" in guess.roles and not names_classes(guess.roles["label"])
        of_tools = by_name is not None or _first(_PROMPTS, {plain(column): column for column in columns}) is not None
        if guess is not None and not (of_tools and unnamed):
            kind = "classification" if "label" in guess.roles else "prompt_completion"
            return Detected(kind, dict(guess.roles), f"guessed: {guess.why}", GUESSED)
    return by_name or (_from_names(columns, rows) if askable != list(columns) else None)


def _from_names(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Detected | None:
    by_name = {plain(column): column for column in reversed(columns)}
    system = _first(_SYSTEMS, by_name)
    extra = {"system": by_name[system]} if system else {}
    if (voted := _from_votes(columns, rows, by_name, extra)) is not None:
        return voted
    conversation, kind = _conversation_column(columns, rows, by_name)
    prompt = _first(_PROMPTS, by_name)
    if "preferredoutput" in by_name and "nonpreferredoutput" in by_name and "input" in by_name:
        roles = {"prompt": by_name["input"], "chosen": by_name["preferredoutput"]}
        roles |= {"rejected": by_name["nonpreferredoutput"]}
        return Detected("openai_preference", roles, f"has the columns {', '.join(roles.values())}", 1.0)
    if "chosen" in by_name and "rejected" in by_name:
        asked = by_name[prompt] if prompt else conversation
        roles = ({"prompt": asked} if asked else {}) | {key: by_name[key] for key in ("chosen", "rejected")} | extra
        known = "columns " + " and ".join(roles[key] for key in roles if key != "system")
        if asked or _turn_keys(_first_value(rows, by_name["chosen"])):
            return Detected("preference", roles, f"has the {known}", 1.0 if asked else 0.8)
        if is_dialogue(_first_value(rows, by_name["chosen"])):
            why = f"the {known} hold whole conversations in the form Human: ... Assistant: ..."
            return Detected("preference", roles, why, 1.0)
    if conversation:
        keys = " and ".join(_turn_keys(_first_value(rows, conversation)) or ())
        known_name = plain(conversation) in _CONVERSATIONS
        why = f"the column {conversation} holds lists of messages with {keys}"
        return Detected(kind, {"messages": conversation} | extra, why, 1.0 if known_name else 0.7)
    answer = _first([name for name in _ANSWERS if name != prompt], by_name)
    if answer is None and "answers" in by_name:
        held = _first_value(rows, by_name["answers"])
        # The layouts of xLAM (query, answers: a list of calls, tools) and of SQuAD (context, question, answers).
        answer = "answers" if _holds_calls(held) or span_of(held) is not None else None
    if prompt is None or answer is None:
        return _from_labels(columns, rows, by_name, extra)
    if "label" in by_name and is_judgement(column_values(rows, by_name["label"])):
        roles = {"prompt": by_name[prompt], "completion": by_name[answer], "label": by_name["label"]} | extra
        return Detected("kto", roles, f"{roles['label']} marks every {roles['completion']} as true or false", 1.0)
    roles = {"prompt": by_name[prompt], "completion": by_name[answer]}
    context = _first([name for name in _INPUTS if name != prompt], by_name)
    if context:
        roles["input"] = by_name[context]
    if "history" in by_name and isinstance(_first_value(rows, by_name["history"]), (list, tuple)):
        roles["history"] = by_name["history"]
    return _named_pair(prompt, answer, roles | extra, by_name)


def _from_votes(
    columns: Sequence[str], rows: Sequence[Mapping[str, Any]], by_name: dict[str, str], extra: dict[str, str]
) -> Detected | None:
    """Two answers, and a vote or scores that decide the winner."""
    if "chosen" in by_name or "completion" in by_name or (vote_columns := find_vote(columns, rows)) is None:
        return None
    first, second, vote = vote_columns
    prompt = _first((*_PROMPTS, "context", "history", "post", *_CONVERSATIONS), by_name)
    asked = {"prompt": by_name[prompt]} if prompt and by_name[prompt] not in (first, second, *vote.columns) else {}
    held = _first_value(rows, first)
    if not asked and not _turn_keys(held) and not is_dialogue(held):
        return None
    winner = {"winner": vote.columns[0]} if len(vote.columns) == 1 else {}
    says = "the higher of " if vote.how == "scores" else ""
    why = f"{says}{' and '.join(vote.columns)} says whether {first} or {second} won"
    return Detected("comparison", asked | {"first": first, "second": second} | winner | extra, why, 0.9, vote=vote)


def _from_labels(
    columns: Sequence[str], rows: Sequence[Mapping[str, Any]], by_name: dict[str, str], extra: dict[str, str]
) -> Detected | None:
    """Text with a class, or text only."""
    text, label = _first(TEXTS, by_name), _first(LABELS, by_name)
    if text and label and are_classes(column_values(rows, by_name[label])):
        roles = {"text": by_name[text], "label": by_name[label]} | extra
        sure = 1.0 if (text, label) == ("text", "label") else 0.8
        return Detected("classification", roles, f"{roles['label']} holds a class for every {roles['text']}", sure)
    texts = _first(PLAIN_TEXTS, by_name)
    if texts and isinstance(_first_value(rows, by_name[texts]), str):
        others = [c for c in columns if c != by_name[texts] and isinstance(_first_value(rows, c), str)]
        why = f"{by_name[texts]} holds text, and no column holds a prompt or an answer"
        return Detected("text", {"text": by_name[texts]}, why, 0.5 if others else 0.8)
    return None


def _named_pair(prompt: str, answer: str, roles: dict[str, str], by_name: dict[str, str]) -> Detected:
    canonical = {("prompt", "completion"), ("question", "answer"), ("instruction", "output")}
    kind = {"instruction": "alpaca", "question": "question_answer"}.get(prompt, "prompt_completion")
    if kind == "question_answer" and answer != "answer":
        kind = "prompt_completion"
    rivals = [by_name[name] for name in _ANSWERS if name in by_name and name != answer and name != prompt]
    why = f"has the columns {roles['prompt']} and {roles['completion']}"
    if "input" in roles:
        why += f"; {roles['input']} is added to the {prompt}"
    if rivals:
        why += f"; {', '.join(rivals)} could also be the answer"
    confidence = 1.0 if (prompt, answer) in canonical else 0.9
    return Detected(kind, roles, why, confidence - (0.3 if rivals else 0.0))


def _from_mapping(
    mapping: dict[str, str], columns: Sequence[str], rows: Sequence[Mapping[str, Any]], named: Sequence[str] = ()
) -> Detected:
    """`named` are the columns in the prompt template."""
    roles = dict(mapping)
    why = f"columns set: {_listed(mapping)}" if mapping else f"your template uses {', '.join(named)}"
    free = [column for column in columns if column not in roles.values() and column not in named]
    by_name = {plain(column): column for column in reversed(free)}
    _check_together(mapping)
    for group in (_SIDES, _COMPARED):
        for role in group if roles.keys() & set(group) else ():
            if role not in roles and (usual := _first((role, *_OTHER_NAMES.get(role, ())), by_name)):
                roles[role] = by_name[usual]
                why += f"; {roles[role]} is the {role}, by its name"
            elif role not in roles:
                raise _no_column_for(role, mapping, free, rows)
    if "text" in roles and "label" in roles:
        return Detected("classification", roles, why, 1.0)
    if "text" in roles:
        return Detected("text", roles, why, 1.0)
    if "first" in roles:
        vote = vote_in(roles["winner"], roles["first"], roles["second"], rows)
        prompt = _first((*_PROMPTS, "context"), {plain(name): name for name in columns if name not in roles.values()})
        if "prompt" not in roles and prompt and not named:
            roles["prompt"] = next(name for name in columns if plain(name) == prompt)
        return Detected("comparison", roles, why, 1.0, vote=vote)
    if "messages" in roles:
        keys = _turn_keys(_first_value(rows, roles["messages"]))
        if named:
            raise _apart("messages", f"{_listed(mapping)} and a prompt template")
        kind = "kto" if "label" in roles else "sharegpt" if keys and keys[0] == "from" else "messages"
        return Detected(kind, roles, why, 1.0)
    if "chosen" in roles:
        prompt = _first((*_PROMPTS, *_CONVERSATIONS), by_name)
        if "prompt" not in roles and prompt and not named:
            roles["prompt"] = by_name[prompt]
        return Detected("preference", roles, why, 1.0 if "prompt" in mapping else 0.8)
    if (text := _labelled_text(roles, free, rows, by_name)) is not None:
        roles = {role: column for role, column in roles.items() if role != "prompt"} | {"text": text}
        return Detected("classification", roles, f"{why}; {roles['label']} holds a class for every {text}", 0.9)
    for role, names in (("prompt", _PROMPTS), ("completion", _ANSWERS)):
        if role in roles or (role == "prompt" and named):
            continue
        name = _first(names, by_name)
        if name is None:
            raise _no_column_for(role, mapping, free, rows)
        roles[role] = by_name[name]
        why += f"; {roles[role]} is the {role}, by its name"
    known = {"prompt", "completion"} - ({"prompt"} if named else set()) <= mapping.keys()
    return Detected("kto" if "label" in roles else "prompt_completion", roles, why, 1.0 if known else 0.8)


_SIDES = ("chosen", "rejected")
_COMPARED = ("first", "second", "winner")
_OTHER_NAMES = {"chosen": ("preferredoutput",), "rejected": ("nonpreferredoutput",)}
# The roles beside which each may be set, besides prompts, and how that is written.
_ALONE = {
    "text": (("label", "system", "tools"), "{text: column} for plain text, or {text: column, label: column}"),
    "choices": (
        ("prompt", "completion", "label", "input", "history", "system", "tools"),
        "{prompt: column, choices: column, completion: column}",
    ),
    "messages": (("label", "system", "tools"), "{messages: column} or {messages: column, system: column}"),
    "first": (
        (*_COMPARED, "prompt", "system", "tools"),
        "{prompt: column, first: column, second: column, winner: column}",
    ),
    "chosen": (
        (*_SIDES, "prompt", "input", "history", "system", "tools"),
        "{prompt: column, chosen: column, rejected: column}",
    ),
}


def _check_together(mapping: Mapping[str, str]) -> None:
    """Raise InputError for roles of two formats: one of them would be ignored."""
    for role, (beside, _) in _ALONE.items():
        group = next((group for group in (_SIDES, _COMPARED) if role in group), (role,))
        if mapping.keys() & set(group) and mapping.keys() - {*group, *beside}:
            raise _apart(role, _listed(mapping))


def _apart(role: str, mapped: str) -> InputError:
    what = {
        "text": "plain text or texts with labels",
        "messages": "whole conversations",
        "choices": "choices",
    }
    pairs = "two answers and a vote" if role == "first" else "chosen and rejected answers"
    return InputError(
        f"Columns of {what.get(role, pairs)} cannot be combined with these roles",
        given=mapped,
        allowed=_ALONE[role][1],
        try_="name each with --column ROLE=COLUMN (data.columns), and leave out the others",
    )


def _no_column_for(
    role: str, mapping: Mapping[str, str], free: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> ColumnsUnknown:
    likely = suggested_texts(free, rows) or (list(free) if role == "winner" else [])
    hint = f'add it: --column {role}="{likely[0]}", or {role}: {likely[0]} in data.columns' if likely else None
    if role in _SIDES and not likely:
        hint = (
            "a row needs two answers, each in a column of its own; for the answer alone, set --column completion=COLUMN"
        )
    return ColumnsUnknown(
        f"No column is set as {'' if role in (*_SIDES, 'first', 'second') else 'the '}{role}",
        given=_listed(mapping) or None,
        allowed=f"columns of this data: {', '.join(free)}" if free else None,
        try_=hint,
    )


def _labelled_text(
    roles: Mapping[str, str], free: Sequence[str], rows: Sequence[Mapping[str, Any]], by_name: Mapping[str, str]
) -> str | None:
    """The text column if only a class column, and at most the prompt, was set; else None."""
    if "label" not in roles or roles.keys() - {"label", "prompt", "system"} or _first(_ANSWERS, by_name):
        return None
    labels = column_values(rows, roles["label"])
    if {str(label).strip().lower() for label in labels} <= {"true", "false"} or not are_classes(labels):
        return None
    named = _first(TEXTS, by_name)
    return roles.get("prompt") or (by_name[named] if named else next(iter(likely_texts(free, rows)), None))


def _checked_mapping(mapping: Mapping[str, str], columns: Sequence[str]) -> dict[str, str]:
    checked: dict[str, str] = {}
    for role, column in mapping.items():
        known = _ROLE_ALIASES.get(plain(role))
        if known is None:
            raise InputError(
                "There is no such column role",
                given=f"{role}: {column}",
                allowed=", ".join(dict.fromkeys(_ROLE_ALIASES.values())),
                try_=did_you_mean(role, _ROLE_ALIASES),
            )
        if column not in columns:
            close = nearest(column, columns) or next((c for c in columns if plain(c) == plain(column)), None)
            raise InputError(
                f"The data has no column {column!r}",
                given=f"{role}: {column}",
                allowed=", ".join(columns),
                try_=f"did you mean {close}?" if close else None,
            )
        checked[known] = column
    return checked


# Layouts that are not read: the column that tells, a key inside it, what it is, and what to do.
_FOREIGN = (
    (
        "mapping",
        "",
        "an export of ChatGPT (conversations with a mapping of messages)",
        "write each conversation as an object with messages, a list of role and content, in the order of its nodes",
    ),
    (
        "chat_messages",
        "",
        "an export of Claude (conversations with chat_messages)",
        "write each conversation as an object with messages, a list of role (sender) and content (text)",
    ),
    (
        "body",
        "messages",
        "requests of OpenAI's batch API, which hold no answers",
        "join them with the responses by custom_id: write each row as an object with messages, a list of role and "
        "content, that ends with the answer",
    ),
    (
        "response",
        "body",
        "responses of OpenAI's batch API, which hold no questions",
        "join them with the requests by custom_id: write each row as an object with messages, a list of role and "
        "content, that ends with the answer",
    ),
    (
        "paragraphs",
        "",
        "articles of SQuAD (paragraphs with qas)",
        'keep the object around them, {"data": [...]}, in a .json file, or write a row for each question, with '
        "context, question and answers",
    ),
)


def _foreign_layout(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> tuple[str, str] | None:
    """What data of another tool looks like, and what to do. None if it is not known."""
    for column, key, what, hint in _FOREIGN:
        held = _first_value(rows, column) if column in columns else None
        if isinstance(held, dict | list) and (not key or key in held):
            return what, hint
    return None


def _no_usable_column(columns: Sequence[str], rows: Sequence[Mapping[str, Any]], name: str) -> InputError:
    if (foreign := _foreign_layout(columns, rows)) is not None:
        what, hint = foreign
        return InputError(
            f"{name} looks like {what}, a layout that is not read",
            given=f"columns {', '.join(columns)}",
            allowed="; ".join(FORMATS.values()),
            try_=hint,
        )
    texts = suggested_texts(columns, rows)
    asked = next((column for column in columns if plain(column) in _PROMPTS), None)
    talks = [column for column in columns if plain(column) in _CONVERSATIONS]
    if talks:
        held = shorten(json.dumps(_first_value(rows, talks[0]), ensure_ascii=False, default=str), 100)
        hint = f"{talks[0]} must hold lists of objects with role and content, but holds {held}"
    elif len(texts) >= 2:
        example = f"{{prompt: {texts[0]}, completion: {texts[1]}}}"
        flags = f'--column prompt="{texts[0]}" --column completion="{texts[1]}"'
        hint = f"set the columns, for example {flags} (data.columns={example})"
    elif asked:
        hint = f"add a column of answers to the prompts in {asked}, or train on prompts alone with rewards (rloo, grpo)"
    elif texts:
        hint = f'to train on {texts[0]} as plain text (stage: pretraining), set --column text="{texts[0]}"'
    else:
        hint = "write each row as an object with a prompt and a completion"
    return (InputError if talks or len(columns) < 2 else ColumnsUnknown)(
        f"No usable column in {name}",
        given=f"columns {', '.join(columns)}" if columns else "no columns",
        allowed="; ".join(FORMATS.values()),
        try_=hint,
    )


def _conversation_column(
    columns: Sequence[str], rows: Sequence[Mapping[str, Any]], by_name: dict[str, str]
) -> tuple[str | None, str]:
    named = [by_name[name] for name in _CONVERSATIONS if name in by_name]
    answers = {by_name[name] for name in (*_ANSWERS, *_PROMPTS, "chosen", "rejected") if name in by_name}
    for column in [*named, *(column for column in columns if column not in named and column not in answers)]:
        keys = _turn_keys(_first_value(rows, column))
        if keys:
            return column, "sharegpt" if keys[0] == "from" else "messages"
    return None, ""


def _turn_keys(value: Any) -> tuple[str, str] | None:
    """The keys of role and text if `value` is a list of messages (possibly as JSON text), else None."""
    if isinstance(value, str) and value.lstrip()[:2] == "[{":
        value = json_or(value, None)
    turn = value[0] if isinstance(value, (list, tuple)) and value else None
    if not isinstance(turn, dict):
        return None
    role = next((key for key in ROLE_KEYS if key in turn), None)
    text = next((key for key in TEXT_KEYS if key in turn), None)
    return (role, text) if role and text else None


def _lists_tools(rows: Sequence[Mapping[str, Any]], column: str) -> bool:
    values = [row.get(column) for row in rows]
    return any(tools_text(value) for value in values) and all(tools_text(value) is not None for value in values[:20])


def _holds_calls(value: Any) -> bool:
    value = json_or(value, None) if isinstance(value, str) else value
    return isinstance(value, list) and bool(value) and all(map(call_of, value))


def _first_value(rows: Sequence[Mapping[str, Any]], column: str) -> Any:
    return next((row[column] for row in rows if row.get(column) not in (None, "", [])), None)


def _first(names: Sequence[str], by_name: Mapping[str, str]) -> str | None:
    return next((name for name in names if name in by_name), None)


def _listed(mapping: Mapping[str, str]) -> str:
    return shorten(", ".join(f"{role}: {column}" for role, column in mapping.items()))


FORMAT = "prompts"

_NAMES = ("prompt", "prompts", "instruction", "question", "query", "problem", "request", "user", "human", "input")
_OPEN = {"role": "assistant", "content": ""}


def detect_prompts(
    columns: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    mapping: Mapping[str, str],
    name: str,
    template: str | None,
) -> Detected:
    """Like `detect`, but a column of prompts is enough if no column holds answers. Raises InputError like `detect`."""
    try:
        detected = detect(columns, rows, mapping, name, template)
        if not detected.is_guess and (detected.format != "text" or "text" in mapping):
            return detected
        refusal: InputError | None = None
    except InputError as error:
        refusal = error
    by_name = {column.strip().lower(): column for column in reversed(columns)}
    column = mapping.get("prompt") or next((by_name[alias] for alias in _NAMES if alias in by_name), None)
    if column is None or column not in columns or mapping.keys() - {"prompt", "system"} or template:
        if refusal is None:
            return detected
        raise refusal
    roles = {"prompt": column}
    if system := mapping.get("system") or by_name.get("system"):
        roles["system"] = system
    unused = [other for other in columns if other not in roles.values()]
    return Detected(FORMAT, roles, f"the column {column} holds prompts, and no column holds answers", 0.8, unused)


def example_of(
    row: Mapping[str, Any], detected: Detected, system_prompt: str | None
) -> tuple[list[Message], list[str]]:
    """The turns of `row` as from `convert`, and remarks; without an answer, the last turn is empty.

    Raises UnusableRow like `convert`.
    """
    if detected.format == FORMAT:
        # A placeholder answer, so that the row passes the same checks as all others.
        filled = replace(detected, format="prompt_completion", columns=detected.columns | {"completion": "\0answer"})
        messages, remarks = convert({**row, "\0answer": "-"}, filled, system_prompt)
        return [*messages[:-1], dict(_OPEN)], remarks
    try:
        return convert(row, detected, system_prompt)
    except UnusableRow as problem:
        if problem.reason != NO_ANSWER:
            raise
    return _answered_by_nobody(turns_of_row(row, detected), detected, system_prompt)


def script_in(row: Mapping[str, Any], detected: Detected) -> list[Message]:
    """The turns of `row` without its answers, also those after the last answer, and an empty answer at the end (none
    if the row has turns of tools). Raises UnusableRow like `convert`."""
    if detected.format == FORMAT:
        return example_of(row, detected, None)[0]
    turns = [turn for turn in turns_of_row(row, detected) if turn["role"] != "assistant"]
    if any(turn["role"] not in ("system", "user") for turn in turns):
        return turns
    return _answered_by_nobody(turns, detected, None)[0]


def _answered_by_nobody(
    turns: Sequence[Message], detected: Detected, system_prompt: str | None
) -> tuple[list[Message], list[str]]:
    filled = Detected("messages", {"messages": "\0turns"}, detected.why, detected.confidence)
    row = {"\0turns": [*turns, {"role": "assistant", "content": "-"}]}
    messages, remarks = convert(row, filled, system_prompt)
    return [*messages[:-1], dict(_OPEN)], remarks
