"""What a run kept, lost and gained outside its task, and the measures that got better or worse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ftlab.core.comparison import (
    ChangeJson,
    ComparisonJson,
    ForgettingJson,
    GainLossJson,
    KeptAnswer,
    KindJson,
    MeasureJson,
    PartJson,
    QuestionsJson,
    TextsJson,
    first_figures,
    scores_of,
)
from ftlab.core.words import listed
from ftlab.evaluation.figures import change_text, in_sentence, nats, number, percent, points, signed, value_text
from ftlab.evaluation.losses import bits_per_byte
from ftlab.evaluation.margins import Kept, kept, kept_of_counts
from ftlab.evaluation.significance import LEVEL, holm, loss_difference, mcnemar, p_text, wilson_interval

KNEW = "what the base knew"
RULE = "of the general questions that the base answers right, the share that the adapted model answers wrong"
# With this many known questions, a fall of 5 points can be shown or ruled out: 59 with none lost (`kept_of_counts`).
ENOUGH_KNOWN = 60
_MOST_NAMED = 5  # kinds that fell; the rest is only counted
# A base that knows less has little to lose: no loss is then no evidence.
_KNOWS_ENOUGH = 0.2


@dataclass(frozen=True)
class General:
    """Knowledge unrelated to the task, by side: either `known`, whether each question was answered right, or `losses`,
    summed nats per text, with the UTF-8 `sizes` of the texts in bytes. `measure` is its name among the measures,
    `title` its name in sentences, `kinds` the kind of each question or text, if they have one."""

    measure: str
    title: str
    known: Mapping[str, Sequence[bool]] | None = None
    losses: Mapping[str, Sequence[float]] | None = None
    sizes: Sequence[int] = ()
    kinds: Sequence[str | None] = ()


def forgetting_of(
    every: Sequence[General],
    *,
    limit: float = 0.05,
    side: str = "adapted",
    moved: Sequence[PartJson] = (),
) -> ForgettingJson | None:
    """What `side` lost of what `base` knew, for each item of `every` and overall. None if nothing was asked.

    `moved` are parts that measure how far the base's own answers moved (`drift_parts`). They decide if the base knows
    fewer than 60 of the questions; otherwise net accuracy decides, and they are only shown (`decides` of each part).

    `answer`: kept (accuracy fell by less than `limit`, and bits per byte rose by less than that share; each is tested,
    so that a loss as large as the limit passes in at most 5% of cases), lost (one of them got significantly worse, Holm
    over all, and is not shown to be within the limit), or unknown. `forgot`: whether it is lost. The kinds of questions
    are treated as fixed: the result holds for these kinds, and the text says how far they differ. `parts` is a list
    with one dict for each: `measure`, `title`, its own `answer`, `p_kept`, `p_lost` (one-sided), `text` and `enough`
    (the number of questions or texts needed for an answer); and its figures. Questions: `score` (0 to 1, see RULE; None
    if the base knows none), `interval` (Wilson, 95%), `known`, `lost`, `gained` and `asked` in questions, `accuracy`
    {side: share}, `accuracy_p` (two-sided), `kinds` (a dict for each, the largest loss first: `kind`, `asked`, `lost`,
    `gained`, and `fell`: significantly, among all kinds). Texts: `bits_per_byte` {side: bits}, `rise` (0.2: a fifth
    more bits), `bits_p`. The figures of the first questions and of the first texts are also at the top level.
    """
    parts: list[PartJson] = []
    tests: list[Kept] = []
    for general in every:
        part: PartJson
        if general.known and general.known["base"]:
            asked = _of_questions(general.known["base"], general.known[side])
            test = _test_of_questions(asked, limit)
            part = {**_part(general, test), **asked, "kinds": _by_kind(general, side)}
        elif general.losses and general.losses["base"]:
            test = kept(general.losses["base"], general.losses[side], margin=limit, better="lower", relative=True)
            part = {**_part(general, test), **_of_text(general.losses["base"], general.losses[side], general.sizes)}
        else:
            continue
        parts.append(part)
        tests.append(test)
    if not parts and not moved:
        return None
    for part, test, judged in zip(parts, tests, _together(tests), strict=True):
        words = _questions_in_words if "asked" in part else _text_in_words
        part["answer"] = judged
        part["text"] = words(part, test, judged, limit)
    parts += [{**part} for part in moved]
    _decide(parts)
    deciding = [part["answer"] for part in parts if part["decides"]]
    answer: KeptAnswer = "lost" if "lost" in deciding else "kept" if set(deciding) == {"kept"} else "unknown"
    return {
        **first_figures(parts),
        "limit": limit,
        "rule": RULE,
        "answer": answer,
        "forgot": answer == "lost",
        "parts": parts,
        "text": " ".join(part["text"] for part in parts),
    }


def _part(general: General, test: Kept) -> PartJson:
    """The part for `general`, as far as its test can tell."""
    return {
        "measure": general.measure,
        "title": general.title,
        "answer": test.answer,
        "p_kept": test.p_kept,
        "p_lost": test.p_lost,
        "enough": test.enough,
        "text": "",
    }


def _decide(parts: Sequence[PartJson]) -> None:
    """Set `decides` in each of `parts`. If too few questions are known, only the drift of answers decides. A loss shown
    by what was asked or read always decides."""
    known = sum(part["known"] for part in parts if "asked" in part)
    by_moves = known < ENOUGH_KNOWN and any("kl" in part for part in parts)
    for part in parts:
        part["decides"] = by_moves if "kl" in part else not by_moves or part["answer"] == "lost"
        if not part["decides"] and "kl" in part:
            part["text"] += f" Shown only: the base answers {known} questions right, and these decide."
        elif not part["decides"] and "asked" not in part:
            part["text"] += " Shown only: the base's own answers decide."
        elif not part["decides"]:
            part["text"] += f" Shown only: the base answers fewer than {ENOUGH_KNOWN} questions right."


def is_unmeasured(comparison: ComparisonJson) -> bool:
    """Whether `comparison` did not measure what the adapted model forgot."""
    general = any(measure.get("group") == "general" for measure in comparison.get("measures") or [])
    return "adapted" in comparison and not general and answer_of(comparison) is None


def what_was_lost(forgetting: ForgettingJson) -> str:
    """A verb for the loss: "changed elsewhere" if only answers moved, which is not necessarily worse."""
    lost = [part for part in forgetting["parts"] if part["answer"] == "lost" and part.get("decides", True)]
    return "changed elsewhere" if lost and all("kl" in part for part in lost) else "forgot"


def kept_word(answer: KeptAnswer, forgetting: ForgettingJson | None) -> str:
    """The answer as a word: kept, changed (only answers moved), lost or cannot tell."""
    if answer == "lost" and forgetting and forgetting.get("parts") and what_was_lost(forgetting) != "forgot":
        return "changed"
    return {"kept": "kept", "lost": "lost", "unknown": "cannot tell"}[answer]


def kept_in_words(forgetting: ForgettingJson) -> str:
    """The end of a verdict: "what the base knew: lost, general questions 68% against 97%"."""
    words = [kept_word(forgetting["answer"], forgetting), lost_in_words(forgetting)]
    return f"{KNEW}: {', '.join(filter(None, words))}"


def lost_in_words(forgetting: ForgettingJson) -> str:
    """What was lost, with its figures: "general questions (kinds not replayed) 68% against 97%"."""
    losses = []
    for part in forgetting["parts"]:
        if part["answer"] != "lost" or not part.get("decides", True):
            continue
        if "kl" in part:
            figures = f"{percent(part['agreement'])} of places (KL to the base {nats(part['kl'])} nats a token)"
            losses.append(f"on {part['title']} its next token is the base's in {figures}")
        elif "accuracy" in part:
            base, after = (percent(part["accuracy"][side]) for side in ("base", "adapted"))
            losses.append(f"{part['title']} {after} against {base}{_worst_kind(part.get('kinds') or [])}")
        else:
            base, after = (number(part["bits_per_byte"][side]) for side in ("base", "adapted"))
            losses.append(f"bits per byte of {part['title']} {after} against {base}")
    return listed(losses)


def answer_of(comparison: ComparisonJson) -> KeptAnswer | None:
    """kept, lost or unknown, as stored in `comparison`. None if nothing general was asked.

    For comparisons from before there were three answers, it follows from the stored figures.
    """
    scored = comparison.get("forgetting")
    if scored and "answer" in scored:
        return scored["answer"]
    if scored and "asked" not in scored and "rise" not in scored:
        return "lost" if scored.get("forgot") else "unknown"
    if scored:
        answers = set()
        if scored.get("asked"):
            answers.add(_test_of_questions(scored, scored["limit"]).answer)
        if "rise" in scored:
            answers.add("lost" if scored["rise"] > 0 and scored["bits_p"] < LEVEL else "unknown")
        return "lost" if "lost" in answers else "kept" if answers == {"kept"} else "unknown"
    before, after = (scores_of(comparison, side).get("general_accuracy") for side in ("base", "adapted"))
    if before is None or after is None:
        return None
    p = (comparison.get("tests") or {}).get("general_accuracy")
    return "lost" if after < before and p is not None and p < LEVEL else "unknown"


def _of_questions(base: Sequence[bool], adapted: Sequence[bool]) -> QuestionsJson:
    pairs = list(zip(base, adapted, strict=True))
    knew, lost = sum(base), sum(old and not new for old, new in pairs)
    return {
        "score": lost / knew if knew else None,
        "interval": wilson_interval(lost, knew),
        "known": knew,
        "lost": lost,
        "gained": sum(new and not old for old, new in pairs),
        "asked": len(pairs),
        "accuracy": {"base": knew / len(pairs), "adapted": sum(adapted) / len(pairs)},
        "accuracy_p": mcnemar(base, adapted),
    }


def _by_kind(general: General, side: str) -> list[KindJson]:
    """The results for each kind of question, the largest loss first. Empty unless every question has a kind."""
    if not general.known or len(general.kinds) != len(general.known["base"]) or None in general.kinds:
        return []
    by_kind: dict[str, KindJson] = {}
    for kind, old, new in zip(general.kinds, general.known["base"], general.known[side], strict=True):
        counts = by_kind.setdefault(str(kind), {"kind": str(kind), "asked": 0, "lost": 0, "gained": 0, "fell": False})
        counts["asked"] += 1
        counts["lost"] += bool(old and not new)
        counts["gained"] += bool(new and not old)
    tests = [kept_of_counts(each["lost"], each["gained"], each["asked"], 0.0).p_lost for each in by_kind.values()]
    for each, p in zip(by_kind.values(), holm(tests), strict=True):
        each["fell"] = (p or 0) <= LEVEL
    return sorted(by_kind.values(), key=_change_of_kind)


def _change_of_kind(counts: KindJson) -> float:
    return (counts["gained"] - counts["lost"]) / counts["asked"]


def _worst_kind(kinds: Sequence[KindJson]) -> str:
    """ ", most in extraction (-93 points)" if that kind fell significantly."""
    if len(kinds) < 2 or not kinds[0]["fell"]:
        return ""
    return f", most in {kinds[0]['kind']} ({signed(points(_change_of_kind(kinds[0])), _change_of_kind(kinds[0]))})"


def _kinds_in_words(kinds: Sequence[KindJson]) -> str:
    """How far apart the kinds are, and which of them fell; "" for one kind."""
    if len(kinds) < 2:
        return ""
    ends = [
        f"{signed(points(change), change) if change else 'none'} ({each['kind']}, {each['asked']} questions)"
        for each in (kinds[0], kinds[-1])
        for change in [_change_of_kind(each)]
    ]
    fell = [each["kind"] for each in kinds if each["fell"]]
    named = (
        listed(fell) if len(fell) <= _MOST_NAMED else f"{listed(fell[:_MOST_NAMED])} and {len(fell) - _MOST_NAMED} more"
    )
    by_themselves = f" Fell by more than chance explains: {named}." if fell else ""
    return f" By kind, the change ranges from {ends[0]} to {ends[1]}; other kinds were not asked.{by_themselves}"


def _test_of_questions(figures: QuestionsJson, limit: float) -> Kept:
    test = kept_of_counts(figures["lost"], figures["gained"], figures["asked"], limit)
    if test.answer == "kept" and figures["known"] < _KNOWS_ENOUGH * figures["asked"]:
        answer: KeptAnswer = "lost" if test.p_lost <= LEVEL else "unknown"
        return Kept(answer, test.loss, limit, 1.0, test.p_lost, test.rows, None)
    return test


def _of_text(base: Sequence[float], adapted: Sequence[float], sizes: Sequence[int]) -> TextsJson:
    bits = {"base": bits_per_byte(base, sizes), "adapted": bits_per_byte(adapted, sizes)}
    rise = bits["adapted"] / bits["base"] - 1 if bits["base"] else 0.0
    return {"bits_per_byte": bits, "rise": rise, "bits_p": loss_difference(base, adapted), "documents": len(sizes)}


def _together(tests: Sequence[Kept]) -> list[KeptAnswer]:
    """The answer of each test. A loss counts only if it survives the correction for multiple tests."""
    adjusted = holm([test.p_lost for test in tests])
    return [
        "unknown" if test.answer == "lost" and (p or 0) > LEVEL else test.answer
        for test, p in zip(tests, adjusted, strict=True)
    ]


def _questions_in_words(part: PartJson, test: Kept, answer: str, margin: float) -> str:
    asked, limit, questions = part["asked"], points(margin), part["title"]
    interval, score = part["interval"], part["score"]
    if interval is None or score is None:
        return f"The base knew none of the {asked} {questions}, so they cannot show what was forgotten."
    low, high = interval
    share = f"{percent(score)} (95% interval {percent(round(low, 3))} to {percent(round(high, 3))})"
    more = f", and knows {part['gained']} that its base did not" if part["gained"] else ""
    lead = (
        f"The adapted model lost {part['lost']} of the {part['known']} {questions} that its base knew, {share}{more}."
    )
    change = "did not fall" if test.loss <= 0 else f"fell by {points(test.loss)}"
    kinds = part.get("kinds") or []
    spread = _kinds_in_words(kinds)
    if answer == "kept":
        like = f"of these {len(kinds)} kinds" if len(kinds) > 1 else "like these"
        ruled = f"a fall of {limit} or more is ruled out for questions {like} ({p_text(test.p_kept)}, one-sided)"
        return f"{lead} Accuracy {change}; {ruled}.{spread}"
    if answer == "lost":
        return f"{lead} Accuracy {change}, more than chance explains ({p_text(test.p_lost)}, one-sided).{spread}"
    if part["known"] < _KNOWS_ENOUGH * asked:
        return f"{lead} The base knew too few of the {asked} questions to tell whether anything was forgotten."
    fell = f"fell by {limit} or more" if margin else "fell at all"
    return (
        f"{lead} Accuracy {change}; {asked} questions cannot show whether it {fell}"
        f"{_would_tell(test, 'questions')}.{spread}"
    )


def _text_in_words(part: PartJson, test: Kept, answer: str, margin: float) -> str:
    bits, limit = part["bits_per_byte"], percent(margin)
    texts = "text" if part["documents"] == 1 else "texts"
    figures = f"{number(bits['adapted'])} bits per byte of {part['title']} against {number(bits['base'])}"
    if answer == "kept":
        return f"{figures}: a rise of {limit} or more is ruled out ({p_text(test.p_kept)}, one-sided)."
    if answer == "lost":
        return f"{figures}: worse by more than chance explains ({p_text(test.p_lost)}, one-sided)."
    return (
        f"{figures}: {part['documents']} {texts} cannot show whether it rose by {limit} or more"
        f"{_would_tell(test, 'texts')}."
    )


def _would_tell(test: Kept, what: str) -> str:
    return f"; about {test.enough:,} {what} would" if test.enough and test.enough > test.rows else ""


def with_adjusted(measures: Sequence[MeasureJson]) -> list[MeasureJson]:
    """`measures`, each difference with `p_adjusted`: its p adjusted over all measures of the side that have a better
    and a worse direction."""
    adjusted: list[MeasureJson] = [
        {**measure, "differences": {side: {**of} for side, of in (measure.get("differences") or {}).items()}}
        for measure in measures
    ]
    sides = dict.fromkeys(side for measure in adjusted for side in measure["differences"])
    for side in sides:
        tested = [
            measure["differences"][side]
            for measure in adjusted
            if side in measure["differences"] and measure.get("better")
        ]
        for difference, p in zip(tested, holm([difference.get("p") for difference in tested]), strict=True):
            difference["p_adjusted"] = p
    return adjusted


def counted(measures: Sequence[MeasureJson], side: str) -> int:
    """The number of measures of `side` that are corrected for together."""
    tested = [
        measure["differences"][side]
        for measure in measures
        if measure.get("better") and side in measure.get("differences", {})
    ]
    return sum(difference.get("p") is not None for difference in tested)


def direction(measure: MeasureJson, side: str, *, adjusted: bool = True) -> bool | None:
    """Whether `side` is significantly better than the first side. None if the data cannot tell.

    Uses the p adjusted over all listed measures, if `with_adjusted` set one; its own p with `adjusted` False.
    """
    difference = (measure.get("differences") or {}).get(side)
    if not difference or not measure["better"] or not difference["value"]:
        return None
    p = difference.get("p_adjusted") if adjusted else None
    p = difference["p"] if p is None else p
    return None if p is None or p >= LEVEL else (difference["value"] > 0) == (measure["better"] == "higher")


def is_look(measure: MeasureJson, side: str) -> bool:
    """Whether its own p is below 5% but the adjusted p is not: worth a look, not a finding."""
    return direction(measure, side) is None and direction(measure, side, adjusted=False) is not None


def gain_loss(
    measures: Sequence[MeasureJson], side: str = "adapted", *, forgetting: ForgettingJson | None = None
) -> GainLossJson:
    """What `side` gained and lost against the first side.

    `gained` and `lost` hold the measures that changed significantly after adjustment over all listed, `looks` those
    significant only by themselves, `moved` how far answers moved from the base's if that is beyond the limits. Losses
    shown by `forgetting` (see `forgetting_of`) count by their own one-sided test.
    """
    gained: list[ChangeJson] = []
    lost: list[ChangeJson] = []
    looks: list[ChangeJson] = []
    moved: list[ChangeJson] = []
    # Forgetting has its own test, which is one-sided.
    parts = forgetting.get("parts") or [] if forgetting else []
    forgotten = {
        part["measure"]: part
        for part in parts
        if isinstance(part, Mapping) and part.get("answer") == "lost" and part.get("decides", True)
    }
    for measure in with_adjusted(measures):
        better = direction(measure, side)
        if better is None and measure["name"] in forgotten:
            better = False
        if better is not None:
            test = forgotten.get(measure["name"]) if better is False else None
            # How far answers moved from the base is a change, not necessarily for the worse.
            (moved if "kl" in (test or {}) else gained if better else lost).append(_entry(measure, side, test))
        elif is_look(measure, side):
            looks.append(_entry(measure, side))
    return {
        "gained": gained,
        "lost": lost,
        "looks": looks,
        "moved": moved,
        "text": _in_words(gained, lost, looks, moved),
    }


def _entry(measure: MeasureJson, side: str, forgotten: PartJson | None = None) -> ChangeJson:
    """With the p of the test that names it: that of `forgotten`, which tests for a fall, if there is one."""
    first = next(iter(measure["values"]))
    two_sided = measure["differences"][side]["p"] if side in measure["differences"] else None
    one_sided = forgotten["p_lost"] if forgotten else None
    figures = " against ".join(value_text(measure, measure["values"][at]) for at in (side, first))
    change = change_text(measure, side, first)
    p = p_text(two_sided) if two_sided is not None else "beyond limits fixed beforehand"
    p = f"{p_text(one_sided)}, one-sided" if one_sided is not None else p
    text = f"{measure['title']} {change}: {figures} ({p})"
    return {"name": measure["name"], "title": measure["title"], "change": change, "text": text}


def _in_words(
    gained: Sequence[ChangeJson],
    lost: Sequence[ChangeJson],
    looks: Sequence[ChangeJson],
    moved: Sequence[ChangeJson],
) -> str:
    parts = []
    for word, entries in (("better in", gained), ("worse in", lost), ("answers moved from the base's:", moved)):
        if entries:
            parts.append(f"{word} {_listed(entries)}")
    text = "; ".join(parts)
    if not parts:
        text = "no change is shown"
    elif not lost and not moved:
        text += "; no loss is shown"
    elif not gained:
        text += "; no gain is shown"
    by_itself = f" Below 5% only on its own, so worth a look but not a finding: {_listed(looks)}." if looks else ""
    return f"{text[:1].upper()}{text[1:]}.{by_itself}"


def _listed(entries: Sequence[ChangeJson]) -> str:
    return listed([f"{in_sentence(entry['title'])} ({entry['change']})" for entry in entries])
