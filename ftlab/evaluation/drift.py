"""How far a run has drifted from its base: KL and agreement on the base's own answers, general questions and text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ftlab.core.comparison import (
    ChangedAnswerJson,
    ComparisonJson,
    DriftJson,
    DriftOfKindJson,
    ForgettingJson,
    KeptAnswer,
    MeasureJson,
    PartJson,
    parts_of,
)
from ftlab.core.words import listed
from ftlab.evaluation.asking import Asked
from ftlab.evaluation.figures import nats, percent
from ftlab.evaluation.forgetting import General, forgetting_of
from ftlab.evaluation.losses import CHAT, DOCUMENTS, GeneralText
from ftlab.evaluation.material import Material
from ftlab.evaluation.metrics.measures import measure_losses
from ftlab.evaluation.metrics.table import BUILT_IN, Measure, of_rows, of_values
from ftlab.evaluation.probes import (
    HELD_RULE,
    MOST_SHOWN,
    NOT_REPLAYED,
    REPLAYED,
    TOP,
    Choice,
    Followed,
    Probe,
    Written,
    by_replay,
    is_right,
    was_replayed,
)
from ftlab.evaluation.rows import Result

# Fixed before any measurement with them, from the table of issue 18 (SmolLM2 on banking intents): 0.43 nats and 75% as
# trained, 0.018 and 94% when the base's answers were held.
KEPT_KL, KEPT_AGREEMENT = 0.05, 0.90
LOST_KL = 0.15
_FEWEST_PROMPTS = 20  # for an interval to be judged

RULE = (
    "places of the base's own greedy answers, of at most 40 tokens; forward KL of base to model, of the base's "
    f"distribution the {TOP} likeliest tokens one by one and the others as one (so a little too low, never too high)"
)
AGREEMENT = Measure(
    "base_agreement",
    "Same next token as the base",
    "On the base's own answers to neutral prompts: how often the most likely next token is the base's. A change can be "
    "for better or worse.",
    RULE,
    better=None,
    group="general",
)
KL = Measure(
    "base_kl",
    "KL to the base",
    "How far its next-token probabilities moved from the base's, on the same answers. 0: nothing changed.",
    RULE,
    unit="nats",
    better=None,
    group="general",
    kind="score",
)
_OF_TASK = "KL to the base on the task"
_OF_TASK_HELP = (
    "The same, on the base's own answers to held-out prompts of the task. Learning the task moves it, so it is shown "
    "but never judged. Across runs it predicts forgetting (arXiv 2509.04259)."
)


def figures_of(followed: Sequence[Followed]) -> DriftJson | None:
    """`kl` (nats per token) and `agreement` (0 to 1) over all positions, with `kl_interval` (95%, by resampling
    prompts), `agreement_interval` (Wilson's, at the effective number of positions), `prompts` and `tokens`. None
    without any position."""
    import numpy as np

    from ftlab.evaluation.significance import bootstrap, share_interval

    rows = [row for row in followed if row.tokens]
    if not rows:
        return None
    table = np.array([[row.kl, row.tokens] for row in rows], dtype=np.float64)
    kl, tokens = table.sum(axis=0)
    ends = bootstrap({"": table}, lambda drawn: drawn[:, 0] / drawn[:, 1])[0][""]
    places = [(float(place < row.same), number) for number, row in enumerate(rows) for place in range(row.tokens)]
    same = [value for value, _ in places]
    return {
        "kl": float(kl / tokens),
        "kl_interval": ends and [max(0.0, ends[0]), ends[1]],
        "agreement": sum(same) / len(same),
        "agreement_interval": [float(end) for end in share_interval(same, [number for _, number in places]) or ()],
        "prompts": len(rows),
        "tokens": len(same),
    }


def answer_of_figures(figures: DriftJson) -> KeptAnswer:
    """kept, lost or unknown, by limits fixed beforehand: see `KEPT_KL`, `KEPT_AGREEMENT` and `LOST_KL`.

    Kept: the whole interval of KL is below 0.05 nats and that of agreement above 90%. Lost: the whole interval of KL is
    above 0.15 nats and that of agreement below 90%. A handful of prompts is not enough to judge.
    """
    if figures["prompts"] < _FEWEST_PROMPTS or not figures["kl_interval"]:
        return "unknown"
    (low, high), (least, most) = figures["kl_interval"], figures["agreement_interval"]
    if high < KEPT_KL and least > KEPT_AGREEMENT:
        return "kept"
    return "lost" if low > LOST_KL and most < KEPT_AGREEMENT else "unknown"


def drift_parts(
    prompts: Sequence[Probe], written: Sequence[Written], followed: Sequence[Followed] | None
) -> list[PartJson]:
    """How the base's answers changed: a dict for all prompts and, if some are of replayed kinds, one for the rest. The
    rest is judged as well, since training did not hold those kinds.

    Each has the figures of `figures_of`, `measure`, `title`, `answer` and `text`. The first one also has `of_kinds`
    (the figures of each kind, the largest KL first, and whether it was `replayed`) and `changed`, the prompts with the
    largest KL per token (`prompt`, `kind`, `kl`, and the answers of `base` and `side`).
    """
    if not followed:
        return []
    parts = []
    for ending, how, places in _groups(prompts):
        figures = figures_of([followed[i] for i in places])
        if figures is None:
            continue
        whole = not ending
        part: PartJson = {
            "measure": f"{KL.name}{ending}",
            "title": f"neutral prompts{how}",
            **figures,
            "answer": answer_of_figures(figures),
            "p_kept": None,
            "p_lost": None,
            "enough": None,
            "kinds": [],
            "of_kinds": _by_kind(prompts, followed) if whole else [],
            "changed": _most_changed(prompts, written, followed) if whole else [],
            "text": "",
        }
        part["text"] = _in_words(part)
        parts.append(part)
    return parts


def drift_measures(
    prompts: Sequence[Probe],
    followed: Mapping[str, Sequence[Followed] | None],
    of_task: Mapping[str, Sequence[Followed] | None],
) -> list[MeasureJson]:
    """Agreement and KL of each side (the first one is the base) as measures, again for kinds that were not replayed if
    some were, and the KL on the task. Sides that were not asked (None) have no value."""
    measures = []
    for ending, how, places in _groups(prompts):
        each = {side: figures_of([rows[i] for i in places]) if rows else None for side, rows in followed.items()}
        for info, own in ((AGREEMENT, 1.0), (KL, 0.0)):
            measures.append(_measure(info, own, each, len(places), ending, f"{info.title}{how and f' ({how[4:]})'}"))
    tasks = {side: figures_of(rows) if rows else None for side, rows in of_task.items()}
    if any(tasks.values()):
        prompted = max(task["prompts"] for task in tasks.values() if task)
        of_the_task = _measure(KL, 0.0, tasks, prompted, "_task", _OF_TASK)
        of_the_task["help"] = _OF_TASK_HELP
        measures.append(of_the_task)
    return measures


def _groups(prompts: Sequence[Probe]) -> list[tuple[str, str, list[int]]]:
    """All prompts, on which any two runs can be compared, and those of kinds that were not replayed if some were: name
    suffix, description, and positions."""
    groups = [("", "", list(range(len(prompts))))]
    parted = by_replay([prompt.replayed for prompt in prompts])
    if len(parted) > 1:
        groups.append(("_not_replayed", " of kinds not replayed", parted[NOT_REPLAYED]))
    return groups


def _measure(
    info: Measure,
    own: float,
    figures: Mapping[str, DriftJson | None],
    rows: int,
    ending: str,
    title: str,
) -> MeasureJson:
    """KL or AGREEMENT, as given by `info`. `own` is the value of the base against itself."""
    values: dict[str, float | None] = {}
    intervals: dict[str, list[float] | None] = {}
    for side, known in figures.items():
        if known is None:
            values[side], intervals[side] = None, None
        elif info is KL:
            values[side], intervals[side] = known["kl"], known["kl_interval"]
        else:
            values[side], intervals[side] = known["agreement"], known["agreement_interval"]
    values[next(iter(figures))] = own
    named = replace(info, name=f"{info.name}{ending}", title=title)
    return of_values(named, values, rows, intervals=intervals)


def _by_kind(prompts: Sequence[Probe], followed: Sequence[Followed]) -> list[DriftOfKindJson]:
    kinds: dict[tuple[str, bool | None], list[Followed]] = {}
    for prompt, row in zip(prompts, followed, strict=True):
        if prompt.kind and row.tokens:
            kinds.setdefault((prompt.kind, prompt.replayed), []).append(row)
    figures_of_kinds: list[DriftOfKindJson] = [
        {"kind": kind, "replayed": replayed, **figures}
        for (kind, replayed), rows in kinds.items()
        if (figures := figures_of(rows)) is not None
    ]
    return sorted(figures_of_kinds, key=lambda of_kind: -of_kind["kl"])


def _most_changed(
    prompts: Sequence[Probe], written: Sequence[Written], followed: Sequence[Followed]
) -> list[ChangedAnswerJson]:
    known = [i for i, row in enumerate(followed) if row.answer is not None and row.tokens and i < len(written)]
    order = sorted(known, key=lambda i: -followed[i].kl / followed[i].tokens)
    return [
        {
            "prompt": prompts[i].messages[-1]["content"],
            "kind": prompts[i].kind,
            "kl": followed[i].kl / followed[i].tokens,
            "base": written[i].text,
            "base_cut": written[i].cut,
            "side": followed[i].answer,
        }
        for i in order[:MOST_SHOWN]
    ]


def _in_words(part: PartJson) -> str:
    low, high = (percent(end) for end in part["agreement_interval"])
    text = (
        f"On the base's own answers to {part['prompts']} {part['title']}, the most likely next token is the base's in "
        f"{percent(part['agreement'])} of places (95% interval {low} to {high}), and the KL to the base is "
        f"{nats(part['kl'])} nats a token"
    )
    if part["kl_interval"]:
        text += f" ({nats(part['kl_interval'][0])} to {nats(part['kl_interval'][1])})"
    kept = f"below {KEPT_KL:g} nats and above {percent(KEPT_AGREEMENT)}"
    if part["answer"] == "kept":
        return f"{text}. Within the limits for kept ({kept}): expect a few words to differ."
    lost = f"above {LOST_KL:g} nats and below {percent(KEPT_AGREEMENT)}"
    if part["answer"] == "lost":
        return f"{text}. Beyond the limits for lost ({lost}): many answers differ in what they say."
    return f"{text}. Neither kept ({kept}) nor lost ({lost}) can be shown."


def changed_answers(comparison: ComparisonJson) -> list[ChangedAnswerJson]:
    """The three neutral prompts whose answers changed most, across all kinds (see `drift_parts`). Empty if not
    measured."""
    answers = [answer for part in parts_of(comparison) for answer in part.get("changed") or []]
    return sorted(answers, key=lambda answer: -answer["kl"])[:3]


def kinds_in_words(comparison: ComparisonJson) -> str:
    """Agreement and KL of each kind of prompt, replayed kinds listed separately. Empty if not measured."""
    sentences = []
    for part in parts_of(comparison):
        kinds = part.get("of_kinds") or []
        for replayed, words in ((False, "kinds that were not replayed"), (True, "replayed kinds")):
            each = [kind for kind in kinds if bool(kind["replayed"]) is replayed]
            words = words if len({bool(kind["replayed"]) for kind in kinds}) > 1 else "by kind"
            listing = ", ".join(f"{kind['kind']} {percent(kind['agreement'], 0)} ({nats(kind['kl'])})" for kind in each)
            sentences += [f"Same next token (and KL), {words}: {listing}."] if each else []
    return " ".join(sentences)


_UNKNOWN_TITLE = "General questions"
_UNKNOWN_HELP = (
    "Share of general questions answered right. A fall means forgetting. It is unknown whether their kinds were "
    "replayed: that takes a column kind in both the questions and the replay data."
)
_TITLE_OF_CHOICES = "Multiple choice"
_CHOICE_RULE = (
    "the choice with the largest summed log-probability as the answer in a chat, without the stop token; ties are wrong"
)
_CHOICES = {
    name: Measure(
        f"choices_{name}",
        f"Multiple choice ({how})",
        "Share of multiple-choice questions whose right choice is the likeliest. A fall means forgetting.",
        _CHOICE_RULE,
        group="general",
    )
    for name, how in ((NOT_REPLAYED, "kinds not replayed"), (REPLAYED, "replayed kinds"))
}
_APART = " (kinds not replayed)"
_MOST_LISTED = 8  # kinds; the rest is only counted
_TEXTS = {DOCUMENTS: "general documents", CHAT: "general chat answers"}


def general_measures(material: Material, asked: Asked, results: Mapping[str, Result]) -> list[MeasureJson]:
    """A measure for general questions of kinds that were not replayed and one for kinds that were, the same for
    multiple choice and for the base's answers to neutral prompts, and one for each form of general text."""
    measures = _of_questions(
        material.probes, {side: [answer.text for answer in result.probe_answers] for side, result in results.items()}
    )
    measures += _of_choices(material.choices, {side: result.choices for side, result in results.items()})
    if any(result.followed for result in results.values()):
        measures += drift_measures(
            material.neutral,
            *({side: result.followed.get(name) for side, result in results.items()} for name in ("own", "own_task")),
        )
    for form, text in asked.general.items():
        losses = {side: result.general[form] for side, result in results.items() if form in result.general}
        [measure] = measure_losses(
            {side: of_side.nll for side, of_side in losses.items()},
            {side: of_side.tokens for side, of_side in losses.items()},
            text.pieces.sizes,
            name=f"{form}_bits_per_byte",
            group="general",
        )
        measure["help"] += _of_kinds(text)
        measures.append(measure)
    return measures


def regrouped(
    measures: Sequence[MeasureJson], rows: Sequence[Mapping[str, Any]], kinds: frozenset[str] | None
) -> list[MeasureJson]:
    """`measures` of a comparison with its general questions split by the replayed `kinds` of several runs.

    `rows` are those of its probes.jsonl. A kind replayed by one of the runs counts as replayed for all, so that all are
    measured on the same questions.
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
    old = [measure for measure in measures if measure["name"] in (NOT_REPLAYED, REPLAYED)]
    if not old or not probes:
        return list(measures)
    place = measures.index(old[0])
    new = _of_questions(probes, {side: [row[side] for row in rows] for side in old[0]["values"]})
    return [*measures[:place], *new, *(measure for measure in measures[place:] if measure not in old)]


def general_forgetting(
    material: Material, asked: Asked, results: Mapping[str, Result], *, limit: float, side: str = "adapted"
) -> ForgettingJson | None:
    """What `side` lost of what `base` knew (see `forgetting_of`), for each group of questions and each form of text,
    and how far its answers moved."""
    probes, choices = material.probes, material.choices
    two = {"base": results["base"], side: results[side]}
    every = []
    for name, places in by_replay([probe.replayed for probe in probes]).items():
        known = {at: [is_right(result.probe_answers[i].text, probes[i]) for i in places] for at, result in two.items()}
        how = "" if _unknown(probes, places) else " (replayed kinds)" if probes[places[0]].replayed else _APART
        kinds = [probes[i].kind for i in places]
        every.append(General(name, f"general questions{how}", known, kinds=kinds))
    for name, places in by_replay([choice.replayed for choice in choices]).items():
        known = {at: [result.choices[i] for i in places] for at, result in two.items()}
        how = "" if _unknown(choices, places) else " (replayed kinds)" if choices[places[0]].replayed else _APART
        kinds = [choices[i].kind for i in places]
        every.append(General(_CHOICES[name].name, f"multiple-choice questions{how}", known, kinds=kinds))
    for form, text in asked.general.items():
        if all(form in result.general for result in two.values()):
            losses = {at: result.general[form].nll for at, result in two.items()}
            every.append(General(f"{form}_bits_per_byte", _TEXTS[form], losses=losses, sizes=text.pieces.sizes))
    moved = drift_parts(material.neutral, two["base"].written.get("own", []), two[side].followed.get("own"))
    return forgetting_of(every, limit=limit, side=side, moved=moved)


def _of_questions(probes: Sequence[Probe], answers: Mapping[str, Sequence[str]]) -> list[MeasureJson]:
    measures = []
    for name, places in by_replay([probe.replayed for probe in probes]).items():
        right = {side: [float(is_right(texts[i], probes[i])) for i in places] for side, texts in answers.items()}
        measure = of_rows(BUILT_IN[name], right)
        if any(probes[i].held for i in places):
            measure["rule"] = HELD_RULE
        kinds = list(dict.fromkeys(kind for i in places if (kind := probes[i].kind)))
        if kinds:
            listing = f": {listed(kinds)}" if len(kinds) <= _MOST_LISTED else ""
            measure["help"] += f" {len(kinds)} {'kind' if len(kinds) == 1 else 'kinds'}{listing}."
        if _unknown(probes, places):
            measure["title"], measure["help"] = _UNKNOWN_TITLE, _UNKNOWN_HELP
        measures.append(measure)
    return measures


def _of_choices(choices: Sequence[Choice], known: Mapping[str, Sequence[bool]]) -> list[MeasureJson]:
    measures = []
    for name, places in by_replay([choice.replayed for choice in choices]).items():
        right = {side: [float(rows[i]) for i in places] for side, rows in known.items()}
        info = _CHOICES[name]
        measures.append(of_rows(replace(info, title=_TITLE_OF_CHOICES) if _unknown(choices, places) else info, right))
    return measures


def _unknown(probes: Sequence[Probe | Choice], places: Sequence[int]) -> bool:
    return any(probes[i].replayed is None for i in places)


def _of_kinds(text: GeneralText) -> str:
    """Which kinds of text were replayed and which were not, as far as known."""
    sentence = ""
    for replayed, words in ((False, "not replayed"), (True, "replayed, so trained")):
        kinds = [kind for kind, known in text.kinds.items() if known is replayed]
        sentence += f" Kinds that were {words}: {listed(kinds)}." if kinds else ""
    return sentence
