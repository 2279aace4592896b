"""What has nothing to do with the task, kinds that were replayed apart from kinds that were not: measures, forgetting.

Replay trains the kinds that it holds. That a model still answers these shows what it was taught, not what it kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ftlab.evaluation.asking import Asked
from ftlab.evaluation.forgetting import score_forgetting
from ftlab.evaluation.general_text import CHAT, DOCUMENTS, GeneralText
from ftlab.evaluation.measures import measure_answers, measure_losses
from ftlab.evaluation.metrics.text import is_general_match
from ftlab.evaluation.probes import Probe, by_replay
from ftlab.evaluation.scores import Result
from ftlab.wording import listed

_UNKNOWN = {
    "title": "General questions",
    "help": "Share of general questions answered right. A fall is forgetting. Whether their kinds were replayed is not "
    "known: that takes a column kind in both the questions and the replay data.",
}
_APART = " (kinds not replayed)"
_MOST_LISTED = 8  # kinds; more are counted
_TEXTS = {DOCUMENTS: "A general text", CHAT: "A general answer in a chat"}


def general_measures(probes: Sequence[Probe], asked: Asked, results: Mapping[str, Result]) -> list[dict[str, Any]]:
    """A measure for general questions of kinds that were not replayed, one for those of kinds that were, and one for
    each form of general text."""
    found = []
    for name, places in by_replay(probes).items():
        answers = {side: [result.probe_answers[i].text for i in places] for side, result in results.items()}
        [measure], _ = measure_answers([name], answers, [probes[i].reference for i in places])
        kinds = list(dict.fromkeys(kind for i in places if (kind := probes[i].kind)))
        if kinds:
            listing = f": {listed(kinds)}" if len(kinds) <= _MOST_LISTED else ""
            measure["help"] += f" {len(kinds)} {'kind' if len(kinds) == 1 else 'kinds'}{listing}."
        found.append(measure | (_UNKNOWN if _unknown(probes, places) else {}))
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


def general_forgetting(
    probes: Sequence[Probe], asked: Asked, results: Mapping[str, Result], *, limit: float
) -> dict[str, Any] | None:
    """What `adapted` lost of what `base` knew; None where nothing general was asked.

    As `score_forgetting`, of general questions of kinds that were not replayed (of those that were, where there are no
    others) and of documents, and with `parts`, one for each measure, named by `measure`. `forgot` is whether any of
    these was; `text` tells all.
    """
    two = {side: results[side] for side in ("base", "adapted")}
    parts: list[dict[str, Any]] = []
    for name, places in by_replay(probes).items():
        known = {
            side: [is_general_match(one.probe_answers[i].text, probes[i].reference) for i in places]
            for side, one in two.items()
        }
        how = "" if _unknown(probes, places) else " (replayed kinds)" if probes[places[0]].replayed else _APART
        if found := score_forgetting(known, limit=limit, questions=f"general questions{how}"):
            parts.append(found | {"measure": name})
    for form, text in asked.general.items():
        losses = {side: one.general[form].nll for side, one in two.items()}
        if found := score_forgetting(None, losses, text.pieces.sizes, limit=limit, text=_TEXTS[form]):
            parts.append(found | {"measure": f"{form}_bits_per_byte"})
    if not parts:
        return None
    first: dict[str, Any] = {}
    for one in reversed(parts):
        first |= one
    del first["measure"]
    forgot, said = any(one["forgot"] for one in parts), " ".join(one["text"] for one in parts)
    return first | {"forgot": forgot, "text": said, "parts": parts}


def _unknown(probes: Sequence[Probe], places: Sequence[int]) -> bool:
    return any(probes[i].replayed is None for i in places)


def _of_kinds(text: GeneralText) -> str:
    """Which kinds of text were replayed and which were not, as far as that is known."""
    said = ""
    for replayed, words in ((False, "not replayed"), (True, "replayed, so trained")):
        kinds = [kind for kind, one in text.kinds.items() if one is replayed]
        said += f" Kinds that were {words}: {listed(kinds)}." if kinds else ""
    return said
