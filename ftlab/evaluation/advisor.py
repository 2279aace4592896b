"""Prompting, retrieval, fine-tuning or pretraining? A recommendation with reasons, sources and a person's own figures.

Rules, not a model: the same answers give the same advice, and each reason can be read and checked.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ftlab.evaluation import advisor_sources as sources
from ftlab.evaluation.advisor_form import Needs
from ftlab.evaluation.advisor_sources import Source
from ftlab.wording import listed

TITLES = {
    "prompting": "Prompting",
    "retrieval": "Retrieval",
    "tuning": "Fine-tuning",
    "pretraining": "Continued pretraining",
}
STANDS = {"now": "do this", "later": "not yet", "no": "not for this"}
FEWEST_EXAMPLES = 50
FEWEST_TEXT_MB = 50.0
_BYTES_PER_TOKEN = 4
_CHANGING = ("monthly", "weekly", "daily")


@dataclass(frozen=True)
class Reason:
    text: str
    source: Source | None = None


@dataclass(frozen=True)
class Recommendation:
    """`stand` is now (do this), later (when something has changed), or no."""

    method: str
    stand: str
    reasons: tuple[Reason, ...]

    @property
    def title(self) -> str:
        return TITLES[self.method]


@dataclass(frozen=True)
class Advice:
    """`summary` is one or two sentences; `figures` is empty where nothing was measured; `steps` are what to do next."""

    summary: str
    recommendations: tuple[Recommendation, ...]
    figures: tuple[str, ...]
    steps: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        found = asdict(self)
        for one, recommendation in zip(found["recommendations"], self.recommendations, strict=True):
            one["title"] = recommendation.title
            for reason, given in zip(one["reasons"], recommendation.reasons, strict=True):
                reason["source"] = str(given.source) if given.source else None
        return found


@dataclass(frozen=True)
class Evidence:
    """`text` holds the figures in one sentence. `tuning` and `over_prompting` are True (better than the base, than the
    prompted base), False (worse) or None (no clear difference). What was not measured is absent from
    `known`. `verdict` is the sentence on that; `forgetting` says what was forgotten, None where nobody looked."""

    run: str
    text: str
    known: frozenset[str]
    tuning: bool | None = None
    over_prompting: bool | None = None
    verdict: str = ""
    forgot: bool = False
    forgetting: str | None = None


def advise(needs: Needs, evidence: Evidence | None = None) -> Advice:
    """What to do first for `needs`; figures of a person's own run, where there are some, outweigh the rules."""
    found = (
        _prompting(needs, evidence),
        _retrieval(needs),
        _tuning(needs, evidence),
        _pretraining(needs),
    )
    order = list(STANDS)
    ranked = tuple(sorted(found, key=lambda one: order.index(one.stand)))  # equal stands keep their order: cheap first
    return Advice(_summary(needs, ranked, evidence), ranked, _figures(evidence), _steps(needs, ranked, evidence))


def _prompting(needs: Needs, evidence: Evidence | None) -> Recommendation:
    reasons = [
        Reason("A system prompt and a few examples in it take minutes, and often suffice.", sources.FEW_SHOT),
    ]
    stand = "now"
    if evidence and "over_prompting" in evidence.known:
        if evidence.over_prompting:
            stand = "no"
            reasons = [Reason(f"Measured on your data, and beaten by the tuned model: {evidence.text}.")]
        elif evidence.over_prompting is False:
            reasons.insert(0, Reason(f"On your data it does better than the tuned model: {evidence.text}."))
        else:
            reasons.insert(0, Reason(f"On your data no difference from the tuned model is shown: {evidence.text}."))
    elif evidence:
        reasons.append(Reason("Your run was not compared with it: without that nobody knows if tuning was needed."))
    if needs.latency == "tight" and stand != "no":
        reasons.append(
            Reason(
                "Examples in the prompt are read again for every answer: tuned weights answer cheaper.", sources.CHEAPER
            )
        )
    return Recommendation("prompting", stand, tuple(reasons))


def _retrieval(needs: Needs) -> Recommendation:
    if not needs.wants("facts"):
        text = "Nothing has to be looked up: how the model answers should change, not what it knows."
        return Recommendation("retrieval", "no", (Reason(text),))
    reasons = [
        Reason(
            "Facts that are looked up for each question are used better than facts that were trained in.",
            sources.RETRIEVAL_OR_TUNING,
        ),
    ]
    if needs.freshness in _CHANGING:
        reasons.insert(
            0,
            Reason(
                "What changes that often is replaced in a search index within minutes; weights are trained again.",
                sources.RETRIEVAL,
            ),
        )
    reasons.append(Reason("The answer can name where it comes from, so that people can check it.", sources.RETRIEVAL))
    if needs.latency == "tight":
        reasons.append(Reason("It costs time: a search, and passages that stand in every prompt. Keep them short."))
    return Recommendation("retrieval", "now", tuple(reasons))


def _tuning(needs: Needs, evidence: Evidence | None) -> Recommendation:
    if not needs.wants("style", "format", "skill", "language"):
        reasons = (
            Reason(
                "New facts are learnt slowly from examples, and once learnt they make the model invent others.",
                sources.NEW_FACTS,
            ),
        )
        return Recommendation("tuning", "no", reasons)
    reasons, stand = [], "now"
    if evidence and evidence.over_prompting:
        reasons.append(Reason(f"On your data it beats prompting: {evidence.text}."))
    elif evidence and "over_prompting" in evidence.known:
        stand = "no" if evidence.over_prompting is False else "later"
        better = "worse than" if stand == "no" else "not shown to be better than"
        reasons.append(Reason(f"On your data it is {better} prompting, which needs no training: {evidence.text}."))
    elif evidence and evidence.tuning:
        reasons.append(Reason(f"On your data it beats the bare base: {evidence.text}."))
    elif evidence and "tuning" in evidence.known:
        stand = "later"
        what = "made it worse" if evidence.tuning is False else "made no clear difference"
        reasons.append(Reason(f"On your data it {what}: {evidence.text}. Look at data and settings first."))
    measured = bool(evidence and (evidence.tuning or evidence.over_prompting))
    if not measured and stand == "now":
        if needs.examples < FEWEST_EXAMPLES:
            stand = "later"
            reasons.append(
                Reason(
                    f"{needs.examples or 'No'} examples are too few: gains begin at {FEWEST_EXAMPLES} to 100.",
                    sources.OPENAI,
                )
            )
        elif needs.budget == "none":
            stand = "later"
            reasons.append(Reason("It needs a GPU for some hours. A free one in Colab is enough for a small base."))
    if needs.wants("style", "format"):
        reasons.append(
            Reason("Style and format are learnt from about a thousand good examples, or fewer.", sources.FEW_EXAMPLES)
        )
    if needs.wants("skill"):
        reasons.append(
            Reason(
                "On narrow tasks a tuned model did better than examples in the prompt, at a lower cost per answer.",
                sources.CHEAPER,
            )
        )
    if needs.wants("style"):
        reasons.append(
            Reason(
                "Where there is no single right answer, learn from pairs of a better and a worse one (stage dpo).",
                sources.PREFERENCES,
            )
        )
    if needs.wants("facts"):
        reasons.append(
            Reason(
                "Tune how it answers, not the facts; with passages in the training prompts it learns to use them.",
                sources.BOTH,
            )
        )
    if evidence and evidence.forgot:
        reasons.append(Reason(f"Your run forgot. {evidence.forgetting} Mix in general examples, or more of them."))
    elif stand == "now":
        reasons.append(Reason("LoRA forgets less of what the base knew than full training.", sources.FORGETS_LESS))
    return Recommendation("tuning", stand, tuple(reasons))


def _pretraining(needs: Needs) -> Recommendation:
    lasting = needs.wants("facts") and needs.freshness not in _CHANGING
    scratch = Reason(
        "A model of your own from scratch takes about 20 tokens of text for each weight: 80 gigabytes for a billion.",
        sources.FROM_SCRATCH,
    )
    if not (needs.wants("language") or lasting):
        text = "It teaches a language or a field from plain text, which is not what should change here."
        if needs.wants("facts"):
            text = "What it teaches is out of date before the next training ends."
        return Recommendation("pretraining", "no", (Reason(text), scratch))
    reasons = [
        Reason(
            "More plain text, before any examples, brought gains in each of the four fields that were tried.",
            sources.DOMAIN,
        )
    ]
    short_of = []
    if needs.text_mb < FEWEST_TEXT_MB:
        tokens = FEWEST_TEXT_MB / _BYTES_PER_TOKEN
        short_of.append(
            Reason(
                f"{needs.text_mb:g} megabytes of plain text are too few: a rule of thumb here is {FEWEST_TEXT_MB:g}, "
                f"about {tokens:g} million tokens."
            )
        )
    if needs.budget != "large":
        short_of.append(Reason("It takes GPUs for days, unless the base is small."))
    if not short_of:
        reasons.append(Reason("Mix general text in, or it forgets what it knew.", sources.REPLAY))
        if needs.wants("language"):
            reasons.append(Reason("Examples come after it: plain text teaches the language, not how to answer."))
    return Recommendation("pretraining", "later" if short_of else "now", (*short_of, *reasons, scratch))


def _summary(needs: Needs, ranked: tuple[Recommendation, ...], evidence: Evidence | None) -> str:
    names = [one.title.lower() for one in ranked if one.stand == "now"]
    waiting = [one.title.lower() for one in ranked if one.stand == "later"]
    measured = evidence is not None and "over_prompting" in evidence.known
    if not names:
        text = "Nothing is ready to be done yet."
    elif len(names) == 1:
        text = f"{names[0].capitalize()}."
    elif names[0] == "prompting" and not measured:
        text = f"Prompting first, measured; then {listed(names[1:])}, if that is not enough."
    else:
        text = f"{listed(names).capitalize()}, together."
    if waiting:
        text += f" {listed(waiting).capitalize()}: not yet."
    return text


def _figures(evidence: Evidence | None) -> tuple[str, ...]:
    if evidence is None:
        return ()
    lines = [f"Run {evidence.run}. {evidence.text}."]
    return tuple(line for line in (*lines, evidence.verdict, evidence.forgetting) if line)


def _steps(needs: Needs, ranked: tuple[Recommendation, ...], evidence: Evidence | None) -> tuple[str, ...]:
    stands = {one.method: one.stand for one in ranked}
    steps = []
    if evidence is None:
        steps.append("Set some rows aside and measure the base with a prompt on them, before anything is trained.")
    elif "over_prompting" not in evidence.known:
        steps.append(f"Compare with prompting: python -m ftlab evaluate {evidence.run} --prompted --examples 3")
    if stands["retrieval"] == "now":
        steps.append("Put the documents into a search index. ftlab does not do that; it tunes and measures the model.")
    if stands["pretraining"] == "now":
        steps.append("python -m ftlab train --set stage=pretraining --set data.source=text.txt")
    if stands["tuning"] == "now" and not (evidence and evidence.over_prompting):
        steps.append("python -m ftlab train --set data.source=my.jsonl")
    if stands["tuning"] == "later" and needs.examples < FEWEST_EXAMPLES:
        steps.append(f"Collect at least {FEWEST_EXAMPLES} examples, better some hundred, judged by people who know.")
    if evidence and evidence.forgot:
        steps.append("Train again with general examples mixed in, or more of them (data.replay, data.replay_fraction).")
    return tuple(steps)
