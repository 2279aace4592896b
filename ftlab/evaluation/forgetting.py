"""What a run kept, lost and gained, and the remedies for a loss."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftlab.config import SELF, RunConfig, usual_learning_rate, why_not_held
from ftlab.config.methods import fields_of
from ftlab.config.stages import PREFERENCE_STAGES, REWARD_STAGES
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
from ftlab.evaluation.figures import change_text, in_sentence, nats, number, percent, signed, value_text
from ftlab.evaluation.losses import bits_per_byte
from ftlab.evaluation.significance import (
    LEVEL,
    Kept,
    holm,
    kept,
    kept_of_counts,
    loss_difference,
    mcnemar,
    p_text,
    wilson_interval,
)

RULE = "of the general questions that the base answers right, the share that the adapted model answers wrong"
# So many known questions can show a fall of 5 points, or rule it out: 59 of which none is lost (`kept_of_counts`).
ENOUGH_KNOWN = 60
_MOST_NAMED = 5  # kinds that fell; more are counted
# A base that knows less cannot lose much: that nothing was lost says nothing.
_KNOWS_ENOUGH = 0.2


@dataclass(frozen=True)
class General:
    """What has nothing to do with the task, by side: either `known`, of every question whether it was answered right,
    or `losses`, summed nats per text, with the UTF-8 `sizes` of the texts in bytes. `measure` is its name among the
    measures, `title` what it is called in sentences, `kinds` the kind of each question or text, where they have one."""

    measure: str
    title: str
    known: Mapping[str, Sequence[bool]] | None = None
    losses: Mapping[str, Sequence[float]] | None = None
    sizes: Sequence[int] = ()
    kinds: Sequence[str | None] = ()


def score_forgetting(
    known: Mapping[str, Sequence[bool]] | None,
    losses: Mapping[str, Sequence[float]] | None = None,
    sizes: Sequence[int] | None = None,
    *,
    limit: float = 0.05,
    side: str = "adapted",
) -> ForgettingJson | None:
    """`forgetting_of` questions of one kind, and of texts of one kind."""
    every = []
    if known:
        every.append(General("general_accuracy", "general questions", known))
    if losses and sizes:
        every.append(General("general_bits_per_byte", "general text", losses=losses, sizes=sizes))
    return forgetting_of(every, limit=limit, side=side)


def forgetting_of(
    every: Sequence[General],
    *,
    limit: float = 0.05,
    side: str = "adapted",
    moved: Sequence[PartJson] = (),
) -> ForgettingJson | None:
    """What `side` lost of what `base` knew, of each thing in `every` and together; None where nothing was asked.

    `moved` are parts that say how far the base's own answers moved (`drift_parts`). They decide where the base knows
    fewer than 60 of the questions; else net accuracy does, and they are shown (`decides` of each part).

    `answer`: kept (accuracy fell by less than `limit`, and bits per byte rose by less than that share; each tested, so
    that a loss as large as the limit passes in at most 5% of cases), lost (one of them got worse by more than chance
    explains, Holm over all, and is not shown to be within the limit), or unknown. `forgot`: whether it is lost. The
    kinds of questions are taken as they are: what is told holds for these kinds, and the text says how far they differ.
    `parts` is a list with one dict for each: `measure`, `title`, its own `answer`, `p_kept`, `p_lost` (one-sided),
    `text` and `enough` (the number of questions or texts that would tell); and its figures. Questions: `score` (0 to 1,
    see RULE; None where the base knows none), `interval` (Wilson, 95%), `known`, `lost`, `gained` and `asked` in
    questions, `accuracy` {side: share}, `accuracy_p` (two-sided), `kinds` (a dict for each, the largest loss first:
    `kind`, `asked`, `lost`, `gained`, and `fell`: by more than chance explains among all kinds). Texts: `bits_per_byte`
    {side: bits}, `rise` (0.2: a fifth more bits), `bits_p`. The figures of the first questions and of the first texts
    also stand beside `parts`.
    """
    parts: list[PartJson] = []
    tests: list[Kept] = []
    for one in every:
        part: PartJson
        if one.known and one.known["base"]:
            asked = _of_questions(one.known["base"], one.known[side])
            test = _test_of_questions(asked, limit)
            part = {**_part(one, test), **asked, "kinds": _by_kind(one, side)}
        elif one.losses and one.losses["base"]:
            test = kept(one.losses["base"], one.losses[side], margin=limit, better="lower", relative=True)
            part = {**_part(one, test), **_of_text(one.losses["base"], one.losses[side], one.sizes)}
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
    parts += [{**one} for one in moved]
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
    """What is known of `general` from its test alone."""
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
    """Say of each of `parts` whether it `decides`: how far answers moved where too few questions are known; whatever is
    shown to be lost of what was asked or read always does."""
    known = sum(part["known"] for part in parts if "asked" in part)
    by_moves = known < ENOUGH_KNOWN and any("kl" in part for part in parts)
    for part in parts:
        part["decides"] = by_moves if "kl" in part else not by_moves or part["answer"] == "lost"
        if not part["decides"] and "kl" in part:
            part["text"] += f" Shown, does not decide: the base answers {known} questions right, and these decide."
        elif not part["decides"] and "asked" not in part:
            part["text"] += " Shown, does not decide: the base's own answers decide."
        elif not part["decides"]:
            part["text"] += f" Shown, does not decide: the base answers fewer than {ENOUGH_KNOWN} questions right."


def is_unmeasured(comparison: ComparisonJson) -> bool:
    """Whether nothing in `comparison` tells what the adapted model forgot."""
    general = any(one.get("group") == "general" for one in comparison.get("measures") or [])
    return "adapted" in comparison and not general and answer_of(comparison) is None


def what_was_lost(forgetting: ForgettingJson) -> str:
    """What is shown, as a verb: that answers changed where only that was seen, as it need not be for the worse."""
    lost = [part for part in forgetting["parts"] if part["answer"] == "lost" and part.get("decides", True)]
    return "changed elsewhere" if lost and all("kl" in part for part in lost) else "forgot"


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
    """kept, lost or unknown, as `comparison` tells it; None where nothing general was asked.

    Of one that was made before there were three answers: from the figures that it kept.
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


def _by_kind(one: General, side: str) -> list[KindJson]:
    """What happened to the questions of each kind, the largest loss first; none where not every question has one."""
    if not one.known or len(one.kinds) != len(one.known["base"]) or None in one.kinds:
        return []
    by_kind: dict[str, KindJson] = {}
    for kind, old, new in zip(one.kinds, one.known["base"], one.known[side], strict=True):
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
    """ ", most in extraction (-93 points)" where that kind fell by more than chance explains."""
    if len(kinds) < 2 or not kinds[0]["fell"]:
        return ""
    return (
        f", most in {kinds[0]['kind']} ({signed(_points(abs(_change_of_kind(kinds[0]))), _change_of_kind(kinds[0]))})"
    )


def _kinds_in_words(kinds: Sequence[KindJson]) -> str:
    """How far the kinds are apart, and which of them fell; "" for one kind."""
    if len(kinds) < 2:
        return ""
    ends = [
        f"{signed(_points(abs(change)), change) if change else 'none'} ({each['kind']}, {each['asked']} questions)"
        for each in (kinds[0], kinds[-1])
        for change in [_change_of_kind(each)]
    ]
    fell = [each["kind"] for each in kinds if each["fell"]]
    named = (
        listed(fell) if len(fell) <= _MOST_NAMED else f"{listed(fell[:_MOST_NAMED])} and {len(fell) - _MOST_NAMED} more"
    )
    by_themselves = f" By more than chance explains fell: {named}." if fell else ""
    return f" By kind the change runs from {ends[0]} to {ends[1]}; other kinds were not asked.{by_themselves}"


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
    """The answer of each test, where a loss must stand the correction for there being several."""
    adjusted = holm([test.p_lost for test in tests])
    return [
        "unknown" if test.answer == "lost" and (p or 0) > LEVEL else test.answer
        for test, p in zip(tests, adjusted, strict=True)
    ]


def _questions_in_words(part: PartJson, test: Kept, answer: str, margin: float) -> str:
    asked, limit, questions = part["asked"], _points(margin), part["title"]
    interval, score = part["interval"], part["score"]
    if interval is None or score is None:
        return f"The base knew none of the {asked} {questions}, so they cannot show what was forgotten."
    low, high = interval
    share = f"{percent(score)} (95% interval {percent(round(low, 3))} to {percent(round(high, 3))})"
    more = f", and knows {part['gained']} that its base did not" if part["gained"] else ""
    lead = (
        f"The adapted model lost {part['lost']} of the {part['known']} {questions} that its base knew, {share}{more}."
    )
    change = "did not fall" if test.loss <= 0 else f"fell by {_points(test.loss)}"
    kinds = part.get("kinds") or []
    spread = _kinds_in_words(kinds)
    if answer == "kept":
        like = f"of these {len(kinds)} kinds" if len(kinds) > 1 else "like these"
        ruled = f"a fall of {limit} or more is ruled out for questions {like} ({p_text(test.p_kept)}, one-sided)"
        return f"{lead} Accuracy {change}; {ruled}.{spread}"
    if answer == "lost":
        return f"{lead} Accuracy {change}, more than chance explains ({p_text(test.p_lost)}, one-sided).{spread}"
    if part["known"] < _KNOWS_ENOUGH * asked:
        return f"{lead} The base knew too few of the {asked} questions to tell whether something was forgotten."
    fell = f"fell by {limit} or more" if margin else "fell at all"
    return (
        f"{lead} Accuracy {change}; whether it {fell} cannot be told from {asked} questions"
        f"{_would_tell(test, 'questions')}.{spread}"
    )


def _text_in_words(part: PartJson, test: Kept, answer: str, margin: float) -> str:
    bits, limit = part["bits_per_byte"], percent(margin)
    texts = "text" if part["documents"] == 1 else "texts"
    figures = f"{number(bits['adapted'])} bits per byte of {part['title']} against {number(bits['base'])}"
    if answer == "kept":
        return f"{figures}: that it takes {limit} more, or worse, is ruled out ({p_text(test.p_kept)}, one-sided)."
    if answer == "lost":
        return f"{figures}: worse, by more than chance explains ({p_text(test.p_lost)}, one-sided)."
    return (
        f"{figures}: whether it takes {limit} more, or worse, cannot be told from {part['documents']} {texts}"
        f"{_would_tell(test, 'texts')}."
    )


def _would_tell(test: Kept, what: str) -> str:
    return f"; about {test.enough:,} {what} would" if test.enough and test.enough > test.rows else ""


def _points(share: float) -> str:
    text = f"{100 * share:.1f}".removesuffix(".0")
    return f"{text} point{'' if text == '1' else 's'}"


def with_adjusted(measures: Sequence[MeasureJson]) -> list[MeasureJson]:
    """`measures`, each difference with `p_adjusted`: its p among all of its side that have a better and a worse."""
    adjusted: list[MeasureJson] = [
        {**measure, "differences": {side: {**of} for side, of in (measure.get("differences") or {}).items()}}
        for measure in measures
    ]
    sides = dict.fromkeys(side for one in adjusted for side in one["differences"])
    for side in sides:
        tested = [one["differences"][side] for one in adjusted if side in one["differences"] and one.get("better")]
        for difference, p in zip(tested, holm([one.get("p") for one in tested]), strict=True):
            difference["p_adjusted"] = p
    return adjusted


def counted(measures: Sequence[MeasureJson], side: str) -> int:
    """How many measures of `side` the correction is over."""
    tested = [
        measure["differences"][side]
        for measure in measures
        if measure.get("better") and side in measure.get("differences", {})
    ]
    return sum(difference.get("p") is not None for difference in tested)


def direction(measure: MeasureJson, side: str, *, adjusted: bool = True) -> bool | None:
    """Whether `side` is better than the first side by more than chance explains; None when the data cannot tell.

    By the p among all measures that are listed, where `with_adjusted` gave one; by its own with `adjusted` False.
    """
    difference = (measure.get("differences") or {}).get(side)
    if not difference or not measure["better"] or not difference["value"]:
        return None
    p = difference.get("p_adjusted") if adjusted else None
    p = difference["p"] if p is None else p
    return None if p is None or p >= LEVEL else (difference["value"] > 0) == (measure["better"] == "higher")


def is_look(measure: MeasureJson, side: str) -> bool:
    """Whether its p is below 5% by itself and not among all that is listed: something to look at, and no finding."""
    return direction(measure, side) is None and direction(measure, side, adjusted=False) is not None


def gain_loss(
    measures: Sequence[MeasureJson], side: str = "adapted", *, forgetting: ForgettingJson | None = None
) -> GainLossJson:
    """What `side` gained and lost against the first side.

    `gained` and `lost` hold the measures that changed by more than chance explains among all that are listed, `looks`
    those that did so only by themselves, `moved` how far answers moved from the base's where that is beyond the limits.
    What `forgetting` (see `forgetting_of`) shows to be lost counts by its own one-sided test.
    """
    gained: list[ChangeJson] = []
    lost: list[ChangeJson] = []
    looks: list[ChangeJson] = []
    moved: list[ChangeJson] = []
    # What was forgotten is told by a test of its own, which asks in one direction only.
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
            # How far answers moved from the base is change, which need not be for the worse.
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
    """With the p of the test that names it: that of `forgotten`, which asks whether it fell, where there is one."""
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
    by_itself = f" Below 5% only by itself, so a look and no finding: {_listed(looks)}." if looks else ""
    return f"{text[:1].upper()}{text[1:]}.{by_itself}"


def _listed(entries: Sequence[ChangeJson]) -> str:
    return listed([f"{in_sentence(entry['title'])} ({entry['change']})" for entry in entries])


GENERAL_REPLAY = "general_replay"  # drawn from what the starter knows
GENERAL_DOCUMENTS = "general_documents"  # the same, as plain text
_WITH_REFERENCE = ("dpo", "kto")  # their beta holds a model to where it started; that of orpo and cpo does not
_MOST_REPLAY = 2.0  # the range of data.replay_fraction ends there


@dataclass(frozen=True)
class Remedy:
    """A run to try next: `changes` are settings by path ({"data.replay": "general_replay"}), for `with_settings`.

    `needs` is the path of a setting that only a person can fill in; it is empty where one click is enough.
    """

    title: str
    why: str
    changes: dict[str, Any]
    needs: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return {"title": self.title, "why": self.why, "changes": self.changes, "needs": self.needs}


def remedies(comparison: ComparisonJson, config: RunConfig) -> list[Remedy]:
    """Remedies for what `comparison` shows, the most promising first; empty if nothing is wrong.

    `config` is that of the run that was compared.
    """
    config = config.resolved()
    advice: list[Remedy] = []
    if shows_forgetting(comparison):
        advice += against_forgetting(config)
    memorisation = comparison.get("memorisation")
    if memorisation and (memorisation.get("memorised") or memorisation.get("overfitted")):
        known = [remedy.changes for remedy in advice]
        advice += [remedy for remedy in against_memorising(config) if remedy.changes not in known]
    return advice


def commands(comparison: ComparisonJson, config: RunConfig, config_file: Path) -> list[tuple[str, str]]:
    """Title and command line of every remedy, for whoever has no form to fill in; `config_file` is that of the run."""
    lines = []
    for remedy in remedies(comparison, config):
        changes = {remedy.needs: "YOUR_DATA"} if remedy.needs else {}
        settings = " ".join(f"--set {path}={value}" for path, value in (changes | remedy.changes).items())
        lines.append((remedy.title, f"python -m ftlab train {shlex.quote(str(config_file))} {settings}"))
    return lines


def shows_forgetting(comparison: ComparisonJson) -> bool:
    """Whether the score of forgetting says so, or the verdict where there is no score."""
    if comparison.get("forgetting"):
        return answer_of(comparison) == "lost"
    return bool(comparison["verdict"].get("forgot"))


def against_forgetting(config: RunConfig) -> list[Remedy]:
    """Replay and a lower rate, fewer epochs, a lower rank; where a run learns from preferences, a tighter rein."""
    advice: list[Remedy | None] = []
    rate = _lower_rate(config, "Smaller steps keep more of what the base knew, and learn the task more slowly.")
    if _can_hold(config):
        advice.append(_hold(config))
    if config.data.replay_source is not None:
        advice.append(_documents(config))
        # Measured on the starter (docs/replay.md): beside replay, 65% of the questions of other kinds instead of 35%.
        advice.append(rate)
    if config.stage in _WITH_REFERENCE and config.preference.beta is not None:
        advice.append(_held_back("preference.beta", config.preference.beta, 100.0))
    elif config.stage in REWARD_STAGES:
        advice.append(_held_back("reinforcement.beta", config.reinforcement.beta or 0.025, 10.0))
    elif config.stage not in PREFERENCE_STAGES and not _can_hold(config):
        advice.append(_replay(config))
    if rate not in advice:
        advice.append(rate)
    advice += _fewer_epochs(config, "Each epoch moves the model further from its base.")
    advice += _lower_rank(
        config, "Fewer trained weights change less of what the base knew, but may learn the task less well."
    )
    return [remedy for remedy in advice if remedy is not None]


def against_memorising(config: RunConfig) -> list[Remedy]:
    """Fewer epochs, a lower rank, dropout, a lower rate."""
    advice = _fewer_epochs(config, "Rows seen less often are less likely to be memorized.")
    advice += _lower_rank(config, "Fewer weights have less capacity for single rows.")
    if "dropout" in fields_of(config.method.name) and config.method.dropout < 0.1:
        advice.append(
            Remedy(
                "Use dropout of 0.1",
                "Dropping random parts of the adapter makes single rows harder to memorize.",
                {"method.dropout": 0.1},
            )
        )
    return [*advice, _lower_rate(config, "Smaller steps fit single rows less tightly.")]


def _can_hold(config: RunConfig) -> bool:
    """Whether the base's own answers could be held by their probabilities and are not. The starter is too small: it
    does not hold kinds that were not replayed (ftlab/docs/replay.md)."""
    held = config.data.replay_prompts is not None and config.data.replay_loss == "kl"
    return why_not_held(config) is None and not held


def _hold(config: RunConfig) -> Remedy:
    """Measured on SmolLM2 (ftlab/docs/replay.md): nothing else that was tried holds as much at the same score."""
    share = config.data.replay_fraction
    why = (
        "Before training the base answers prompts that ship with ftlab, and its probabilities along these answers "
        "are kept from moving while the task is learned. It needs no data of yours, and training takes longer."
    )
    if config.data.replay_prompts:
        title = "Hold the base's own answers by their probabilities, instead of learning them as text"
        return Remedy(title, why, {"data.replay_loss": "kl"})
    title = f"Hold it to the base's own answers: {_percent(share)} of the rows"
    if config.data.replay is not None:
        title += f", instead of mixing in {config.data.replay}"
        why += " Kinds that are not among the prompts are held as well; data that are mixed in hold their own kinds."
    return Remedy(title, why, {"data.replay": SELF, "data.replay_fraction": share, "data.replay_loss": "kl"})


def _replay(config: RunConfig) -> Remedy | None:
    share = config.data.replay_fraction
    if config.data.replay is not None:
        more = min(_MOST_REPLAY, round(2 * share, 3))
        if more == share:
            return None
        if config.data.replay_prompts:
            return Remedy(
                f"Hold it to more of the base's own answers: {_percent(more)} of the rows instead of {_percent(share)}",
                "More rows that pull toward the base keep it closer to it. Training takes longer.",
                {"data.replay_fraction": more},
            )
        return Remedy(
            f"Mix in more general examples: {_percent(more)} instead of {_percent(share)}",
            "General examples protect the kinds they contain. More of them protect more, but training takes longer. "
            "If a lost kind is not among them, name a data set that contains it.",
            {"data.replay_fraction": more},
        )
    why = (
        "The model is reminded of what it knew while it learns the task. It protects the kinds that the examples hold, "
        "others much less, and training takes longer."
    )
    if config.is_starter and config.stage == "sft":
        mixed_in = {"data.replay": GENERAL_REPLAY, "data.replay_fraction": share}
        return Remedy(
            f"Mix in general examples, {_percent(share)} of the rows, and documents, and halve the learning rate",
            why,
            {**mixed_in, "data.replay_text": GENERAL_DOCUMENTS, **_with_documents(config)},
        )
    kind = "texts" if config.stage == "pretraining" else "conversations"
    return Remedy(
        f"Mix in general {kind}: {_percent(share)} of the rows",
        f"{why} Name general {kind} of your own, or a data set of the Hub, as replay data.",
        {"data.replay_fraction": share},
        needs="data.replay",
    )


def _documents(config: RunConfig) -> Remedy | None:
    """Plain text beside conversations that are mixed in already; with half the rate, as it was measured on the
    starter."""
    if not config.is_starter or config.data.replay_text or config.data.replay_prompts or config.stage != "sft":
        return None
    share, changes = config.data.replay_text_fraction, _with_documents(config)
    title = f"Mix in plain documents too, {_percent(share)} of the rows, and halve the learning rate"
    why = (
        "Conversations that are mixed in hold what the model says in a chat, and documents what it knows outside one. "
        "Kinds that neither contains are protected much less."
    )
    return Remedy(title, why, {"data.replay_text": GENERAL_DOCUMENTS, **changes})


def _with_documents(config: RunConfig) -> dict[str, Any]:
    share, rate = config.data.replay_text_fraction, _half_rate(config)
    return {"data.replay_text_fraction": share, "optimisation.learning_rate": rate}


def _held_back(path: str, beta: float, most: float) -> Remedy | None:
    more = min(most, round(2 * beta, 4))
    if more == beta:
        return None
    return Remedy(
        f"Hold the model nearer to where it started: beta {more:g}",
        "A higher beta changes the model less, so it keeps more of what it knew and learns less of what people prefer.",
        {path: more},
    )


def _lower_rate(config: RunConfig, why: str) -> Remedy:
    rate, lower = _rate(config), _half_rate(config)
    return Remedy(f"Halve the learning rate: {lower:g} instead of {rate:g}", why, {"optimisation.learning_rate": lower})


def _rate(config: RunConfig) -> float:
    rate = config.optimisation.learning_rate
    return usual_learning_rate(config) if rate is None else rate


def _half_rate(config: RunConfig) -> float:
    return float(f"{_rate(config) / 2:.3g}")


def _fewer_epochs(config: RunConfig, why: str) -> list[Remedy]:
    steps, epochs = config.optimisation.max_steps, config.optimisation.epochs
    if steps is not None and steps > 1:
        title = f"Train half as long: {steps // 2} steps instead of {steps}"
        return [Remedy(title, why, {"optimisation.max_steps": steps // 2})]
    assert epochs is not None  # resolved() has set it
    fewer = round(epochs / 2, 2) if epochs < 2 else float(int(epochs // 2))
    title = f"Train half as long: {fewer:g} {'epoch' if fewer == 1 else 'epochs'} instead of {epochs:g}"
    return [Remedy(title, why, {"optimisation.epochs": fewer})]


def _lower_rank(config: RunConfig, why: str) -> list[Remedy]:
    rank = config.method.rank
    if "rank" not in fields_of(config.method.name) or rank < 2:
        return []
    # alpha goes with the rank: what LoRA adds is scaled by their ratio.
    alpha = max(1, config.method.alpha // 2)
    changes = {"method.rank": rank // 2, "method.alpha": alpha}
    return [Remedy(f"Halve the rank: {rank // 2} instead of {rank}", why, changes)]


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"
