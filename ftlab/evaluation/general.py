"""What has nothing to do with the task, kinds that were replayed apart from kinds that were not: measures, forgetting.

Replay trains the kinds that it holds. That a model still answers these shows what it was taught, not what it kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ftlab.evaluation.asking import Asked
from ftlab.evaluation.drift import drift_measures, drift_parts
from ftlab.evaluation.forgetting import General, forgetting_of
from ftlab.evaluation.general_text import CHAT, DOCUMENTS, GeneralText
from ftlab.evaluation.material import Material
from ftlab.evaluation.measures import measure_losses
from ftlab.evaluation.metrics.summary import of_rows
from ftlab.evaluation.metrics.table import BUILT_IN, Measure
from ftlab.evaluation.probes import HELD_RULE, NOT_REPLAYED, REPLAYED, Choice, Probe, by_replay, is_right, was_replayed
from ftlab.evaluation.scores import Result
from ftlab.wording import listed

_UNKNOWN = {
    "title": "General questions",
    "help": "Share of general questions answered right. A fall is forgetting. Whether their kinds were replayed is not "
    "known: that takes a column kind in both the questions and the replay data.",
}
_TITLE_OF_CHOICES = {"title": "Multiple choice"}
_CHOICE_RULE = (
    "the choice with the largest summed log-probability as the answer in a chat, without the stop token; ties are wrong"
)
_CHOICES = {
    name: Measure(
        f"choices_{name}",
        f"Multiple choice ({how})",
        "Share of general questions with choices in which the right one is the likeliest. A fall is forgetting.",
        _CHOICE_RULE,
        group="general",
    )
    for name, how in ((NOT_REPLAYED, "kinds not replayed"), (REPLAYED, "replayed kinds"))
}
_APART = " (kinds not replayed)"
_MOST_LISTED = 8  # kinds; more are counted
_TEXTS = {DOCUMENTS: "general documents", CHAT: "general chat answers"}


def general_measures(material: Material, asked: Asked, results: Mapping[str, Result]) -> list[dict[str, Any]]:
    """A measure for general questions of kinds that were not replayed, one for those of kinds that were, the same for
    multiple choice and for the base's answers to neutral prompts, and one for each form of general text."""
    found = _of_questions(
        material.probes, {side: [one.text for one in result.probe_answers] for side, result in results.items()}
    )
    found += _of_choices(material.choices, {side: result.choices for side, result in results.items()})
    if any(result.followed for result in results.values()):
        found += drift_measures(
            material.neutral,
            *({side: result.followed.get(name) for side, result in results.items()} for name in ("own", "own_task")),
        )
    for form, text in asked.general.items():
        losses = {side: result.general[form] for side, result in results.items() if form in result.general}
        [measure] = measure_losses(
            {side: one.nll for side, one in losses.items()},
            {side: one.tokens for side, one in losses.items()},
            text.pieces.sizes,
            name=f"{form}_bits_per_byte",
            group="general",
        )
        found.append(measure | {"help": f"{measure['help']}{_of_kinds(text)}"})
    return found


def regrouped(
    measures: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], kinds: frozenset[str] | None
) -> list[Mapping[str, Any]]:
    """`measures` of a comparison with its general questions parted by the replayed `kinds` of several runs.

    `rows` are those of its probes.jsonl. A kind that one of the runs replayed counts as replayed for all, so that all
    are measured by the same questions.
    """
    probes = [
        Probe(
            row["row"],
            [],
            row["reference"],
            row.get("kind"),
            was_replayed(row.get("kind"), kinds),
            bool(row.get("held")),
            tuple(row.get("also") or ()),
        )
        for row in rows
    ]
    old = [one for one in measures if one["name"] in (NOT_REPLAYED, REPLAYED)]
    if not old or not probes:
        return list(measures)
    place = measures.index(old[0])
    new = _of_questions(probes, {side: [row[side] for row in rows] for side in old[0]["values"]})
    return [*measures[:place], *new, *(one for one in measures[place:] if one not in old)]


def general_forgetting(
    material: Material, asked: Asked, results: Mapping[str, Result], *, limit: float, side: str = "adapted"
) -> dict[str, Any] | None:
    """What `side` lost of what `base` knew (see `forgetting_of`), of each group of questions and each form of text, and
    how far its answers moved."""
    probes, choices = material.probes, material.choices
    two = {"base": results["base"], side: results[side]}
    every = []
    for name, places in by_replay([one.replayed for one in probes]).items():
        known = {at: [is_right(one.probe_answers[i].text, probes[i]) for i in places] for at, one in two.items()}
        how = "" if _unknown(probes, places) else " (replayed kinds)" if probes[places[0]].replayed else _APART
        kinds = [probes[i].kind for i in places]
        every.append(General(name, f"general questions{how}", known, kinds=kinds))
    for name, places in by_replay([one.replayed for one in choices]).items():
        known = {at: [one.choices[i] for i in places] for at, one in two.items()}
        how = "" if _unknown(choices, places) else " (replayed kinds)" if choices[places[0]].replayed else _APART
        kinds = [choices[i].kind for i in places]
        every.append(General(_CHOICES[name].name, f"multiple-choice questions{how}", known, kinds=kinds))
    for form, text in asked.general.items():
        if all(form in one.general for one in two.values()):
            losses = {at: one.general[form].nll for at, one in two.items()}
            every.append(General(f"{form}_bits_per_byte", _TEXTS[form], losses=losses, sizes=text.pieces.sizes))
    moved = drift_parts(material.neutral, two["base"].written.get("own", []), two[side].followed.get("own"))
    return forgetting_of(every, limit=limit, side=side, moved=moved)


def _of_questions(probes: Sequence[Probe], answers: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    found = []
    for name, places in by_replay([one.replayed for one in probes]).items():
        right = {side: [float(is_right(texts[i], probes[i])) for i in places] for side, texts in answers.items()}
        measure = of_rows(BUILT_IN[name], right)
        if any(probes[i].held for i in places):
            measure["rule"] = HELD_RULE
        kinds = list(dict.fromkeys(kind for i in places if (kind := probes[i].kind)))
        if kinds:
            listing = f": {listed(kinds)}" if len(kinds) <= _MOST_LISTED else ""
            measure["help"] += f" {len(kinds)} {'kind' if len(kinds) == 1 else 'kinds'}{listing}."
        found.append(measure | (_UNKNOWN if _unknown(probes, places) else {}))
    return found


def _of_choices(choices: Sequence[Choice], known: Mapping[str, Sequence[bool]]) -> list[dict[str, Any]]:
    found = []
    for name, places in by_replay([one.replayed for one in choices]).items():
        right = {side: [float(rows[i]) for i in places] for side, rows in known.items()}
        found.append(of_rows(_CHOICES[name], right) | (_TITLE_OF_CHOICES if _unknown(choices, places) else {}))
    return found


def _unknown(probes: Sequence[Probe | Choice], places: Sequence[int]) -> bool:
    return any(probes[i].replayed is None for i in places)


def _of_kinds(text: GeneralText) -> str:
    """Which kinds of text were replayed and which were not, as far as that is known."""
    said = ""
    for replayed, words in ((False, "not replayed"), (True, "replayed, so trained")):
        kinds = [kind for kind, one in text.kinds.items() if one is replayed]
        said += f" Kinds that were {words}: {listed(kinds)}." if kinds else ""
    return said
