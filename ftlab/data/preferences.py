"""Rows of preference data as pairs (prompt, chosen, rejected) or as judged answers (prompt, completion, label)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ftlab.data.conversion import Message, MissingColumn, UnusableRow, convert, usable_turns
from ftlab.data.formats import FORMATS, PREFERENCES, Detected
from ftlab.data.labelled import judgement
from ftlab.data.prompts_only import REWARD_STAGES, example_of
from ftlab.errors import InputError

PAIR_STAGES = ("dpo", "orpo", "cpo", "reward")
PREFERENCE_STAGES = (*PAIR_STAGES, "kto")

EMPTY_SIDE = "an empty side"
NO_JUDGEMENT = "no judgement (true or false)"
Reader = Callable[[Mapping[str, Any]], tuple[list[dict[str, Any]], list[str]]]


def reader(stage: str, detected: Detected, system_prompt: str | None = None) -> Reader:
    """The function that makes examples of one row, as `stage` needs them, with remarks on what had to be changed.

    It raises UnusableRow as `convert` does. An example holds messages (sft; with an empty answer where there is none:
    rloo, grpo), or prompt, chosen and rejected (dpo, orpo, cpo, reward), or prompt, completion and label (kto, where a
    pair makes two examples): all are lists of turns.
    """
    if stage in PAIR_STAGES:

        def pair(row: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
            prompt, chosen, rejected, remarks = pair_of_row(row, detected, system_prompt)
            return [{"prompt": prompt, "chosen": chosen, "rejected": rejected}], remarks

        return pair
    if stage == "kto":

        def judged(row: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
            if detected.format in PREFERENCES:
                prompt, chosen, rejected, remarks = pair_of_row(row, detected, system_prompt)
                sides = ((chosen, True), (rejected, False))
                return [{"prompt": prompt, "completion": side, "label": good} for side, good in sides], remarks
            label = judgement(row.get(detected.columns["label"]))
            if label is None:
                raise UnusableRow(NO_JUDGEMENT)
            messages, remarks = usable_turns(row, detected, system_prompt)
            return [{"prompt": messages[:-1], "completion": messages[-1:], "label": label}], remarks

        return judged

    take = example_of if stage in REWARD_STAGES else convert

    def messages_of(row: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
        messages, remarks = take(row, detected, system_prompt)
        return [{"messages": messages}], remarks

    return messages_of


def pair_of_row(
    row: Mapping[str, Any], detected: Detected, system_prompt: str | None = None
) -> tuple[list[Message], list[Message], list[Message], list[str]]:
    """Prompt, chosen and rejected of `row` as turns, and remarks.

    The prompt is what both conversations begin with, whole turns only, up to a turn of the assistant: the opening words
    that two answers share stay in the answers, and identical answers stay answers. Raises UnusableRow.
    """
    columns = detected.columns
    for side in ("chosen", "rejected"):
        if columns[side] not in row:
            raise MissingColumn(columns[side])
        if row[columns[side]] in (None, "", [], {}):
            raise UnusableRow(EMPTY_SIDE)
    sides, remarks = [], []
    for side in ("chosen", "rejected"):
        one = replace(detected, columns=columns | {"chosen": columns[side]})
        try:
            messages, changed = usable_turns(row, one, system_prompt)
        except UnusableRow as problem:
            if problem.reason == "empty answer":
                raise UnusableRow(EMPTY_SIDE) from None
            raise
        sides.append(messages)
        remarks += [remark for remark in changed if remark not in remarks]
    chosen, rejected = sides
    start = _first_answer(chosen, rejected)
    return chosen[:start], chosen[start:], rejected[start:], remarks


def check_format(stage: str, detected: Detected, name: str, columns: list[str]) -> None:
    """Raise InputError when data of this format cannot be used by `stage`."""
    pairs = detected.format in PREFERENCES and "rejected" in detected.columns
    if stage not in PREFERENCE_STAGES or pairs or (stage == "kto" and detected.format == "kto"):
        return
    found = f"{detected.format.replace('_', ' ')} ({', '.join(detected.columns.values())})"
    if detected.format == "kto":
        raise InputError(
            f"The stage {stage} learns from pairs of answers, and {name} holds single answers marked good or bad",
            given=f"columns {', '.join(columns)}, read as {found}",
            allowed=f"{FORMATS['preference']}; {FORMATS['openai_preference']}",
            try_="set stage: kto, which learns from single answers",
        )
    if detected.format in PREFERENCES:
        raise InputError(
            f"{name} has no column of rejected answers, and the stage {stage} compares chosen with rejected ones",
            given=f"columns {', '.join(columns)}",
            allowed=FORMATS["preference"],
            try_="say which column it is, e.g. data.columns={chosen: ..., rejected: ...}, or set stage: sft",
        )
    wanted = FORMATS["kto"] + "; " if stage == "kto" else ""
    raise InputError(
        f"The stage {stage} learns from preferences, and {name} holds none: there is no rejected answer",
        given=f"columns {', '.join(columns)}, read as {found}",
        allowed=f"{wanted}{FORMATS['preference']}; {FORMATS['openai_preference']}",
        try_="set stage: sft, which learns from examples of good answers, or take preference data such as "
        "brand_voice_preferences",
    )


def chat_of(example: Mapping[str, Any], side: str | None = None) -> list[Message]:
    """The whole conversation of an example with one `side` of it; without a side the chosen or judged one."""
    side = side or ("chosen" if "chosen" in example else "completion")
    return [*example["prompt"], *example[side]]


def _first_answer(one: list[Message], other: list[Message]) -> int:
    """The number of turns of the prompt that two conversations share."""
    most = min(len(one), len(other)) - 1  # each side keeps its last turn, which is an answer
    shared = next((i for i in range(most) if one[i] != other[i]), most)
    while shared and not (one[shared]["role"] == other[shared]["role"] == "assistant"):
        shared -= 1
    if shared == 0:
        raise UnusableRow("chosen and rejected answer different prompts")
    return shared


def balanced_weights(good: int, bad: int) -> tuple[float, float]:
    """Weights of good and bad answers with which both sides count the same, the larger side with 1.

    Ethayarajh et al. 2024 (arXiv 2402.01306, section 4.2): weight times number should be in a ratio of 1 to 4/3.
    Raises InputError when one side has no answers.
    """
    if not good or not bad:
        raise InputError(
            f"All answers are marked as {'good' if good else 'bad'}",
            given=f"{good} good and {bad} bad answers",
            allowed="some of either",
            try_="add answers of the other kind" + ("; good answers alone are for stage: sft" if good else ""),
        )
    return (round(bad / good, 4), 1.0) if good < bad else (1.0, round(good / bad, 4))


def cuts_long_answers(stage: str, whole: int, rows: int) -> bool:
    """Whether answers that are too long are cut, where `whole` of `rows` rows fit with all their answers.

    As examples are, rows with a longer answer are left out, unless that would leave half of them or fewer. An answer
    without its end has no stop token: where the chosen answers are the longer ones, pairs of a cut answer and a whole
    one teach not to stop. A reward model never learns from a cut answer.
    """
    return stage != "reward" and whole <= rows / 2
