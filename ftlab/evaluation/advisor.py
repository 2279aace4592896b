"""Prompting, examples, retrieval, or training: a recommendation from a short form and the runs of this workspace.
Sources of the advice are listed once, at the top."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from ftlab.core.comparison import ComparisonJson
from ftlab.core.words import listed
from ftlab.errors import InputError
from ftlab.evaluation.figures import in_sentence, value_text


@dataclass(frozen=True)
class Source:
    """`where` is a venue or an arXiv number."""

    name: str
    where: str

    def __str__(self) -> str:
        return f"{self.name} ({self.where})"


FEW_SHOT = Source("Brown et al., Language Models are Few-Shot Learners", "NeurIPS 2020, arXiv 2005.14165")
CHEAPER = Source(
    "Liu et al., Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning",
    "NeurIPS 2022, arXiv 2205.05638",
)
RETRIEVAL = Source(
    "Lewis et al., Retrieval-Augmented Generation for Knowledge-Intensive NLP Tasks", "NeurIPS 2020, arXiv 2005.11401"
)
RETRIEVAL_OR_TUNING = Source(
    "Ovadia et al., Fine-Tuning or Retrieval? Comparing Knowledge Injection in LLMs", "EMNLP 2024, arXiv 2312.05934"
)
NEW_FACTS = Source(
    "Gekhman et al., Does Fine-Tuning LLMs on New Knowledge Encourage Hallucinations?",
    "EMNLP 2024, arXiv 2405.05904",
)
BOTH = Source("Zhang et al., RAFT: Adapting Language Model to Domain Specific RAG", "COLM 2024, arXiv 2403.10131")
FEW_EXAMPLES = Source("Zhou et al., LIMA: Less Is More for Alignment", "NeurIPS 2023, arXiv 2305.11206")
OPENAI = Source("OpenAI, guide to supervised fine-tuning", "platform documentation")
PREFERENCES = Source("Rafailov et al., Direct Preference Optimization", "NeurIPS 2023, arXiv 2305.18290")
DOMAIN = Source("Gururangan et al., Don't Stop Pretraining", "ACL 2020, arXiv 2004.10964")
REPLAY = Source(
    "Ibrahim et al., Simple and Scalable Strategies to Continually Pre-train Large Language Models",
    "TMLR 2024, arXiv 2403.08763",
)
FORGETS_LESS = Source("Biderman et al., LoRA Learns Less and Forgets Less", "TMLR 2024, arXiv 2405.09673")
FROM_SCRATCH = Source(
    "Hoffmann et al., Training Compute-Optimal Large Language Models", "NeurIPS 2022, arXiv 2203.15556"
)


CHANGES = {
    "style": "style and tone",
    "format": "a fixed format: JSON, labels, a template",
    "facts": "facts it does not know",
    "skill": "a task it does poorly",
    "language": "a language or jargon it has not mastered",
}
FRESHNESS = {
    "never": "never or rarely",
    "yearly": "about once a year",
    "monthly": "about once a month",
    "weekly": "about once a week",
    "daily": "every day or faster",
}
BUDGETS = {
    "none": "no GPU",
    "small": "one GPU for a few hours, or Colab",
    "large": "several GPUs for days",
}
LATENCIES = {
    "relaxed": "a few seconds are fine",
    "tight": "quick or cheap: short prompts",
}


@dataclass(frozen=True)
class Question:
    """One question of the form. `options` is empty if a number is asked for."""

    name: str
    title: str
    help: str
    options: dict[str, str]


QUESTIONS = (
    Question("change", "What should change?", "Everything that applies.", CHANGES),
    Question("freshness", "How often does the knowledge change?", "Only matters where facts should change.", FRESHNESS),
    Question("examples", "Examples at hand", "Prompts with the right answer; 0 when there are none.", {}),
    Question(
        "text_mb", "Plain text at hand, in megabytes", "Handbooks, articles or emails of your field; 0 for none.", {}
    ),
    Question("budget", "Budget", "What you can train on.", BUDGETS),
    Question("latency", "How fast must answers come?", "Examples and passages in the prompt take time.", LATENCIES),
)


@dataclass(frozen=True)
class Needs:
    """A filled form. `text_mb` is in megabytes of UTF-8."""

    change: tuple[str, ...]
    freshness: str = "yearly"
    examples: int = 0
    text_mb: float = 0.0
    budget: str = "small"
    latency: str = "relaxed"

    def wants(self, *changes: str) -> bool:
        return any(change in self.change for change in changes)


def build_needs(
    change: Iterable[str],
    *,
    freshness: str = "yearly",
    examples: Any = 0,
    text_mb: Any = 0,
    budget: str = "small",
    latency: str = "relaxed",
) -> Needs:
    """The answers, validated. Raises InputError naming the question."""
    wanted = tuple(dict.fromkeys(part.strip() for part in change if part.strip()))
    if not wanted:
        raise InputError("Nothing to change is named", allowed=", ".join(CHANGES))
    for name in wanted:
        _one_of("What should change", name, CHANGES)
    _one_of("How often the knowledge changes", freshness, FRESHNESS)
    _one_of("The budget", budget, BUDGETS)
    _one_of("How fast answers must come", latency, LATENCIES)
    return Needs(
        wanted,
        freshness,
        int(_number("Examples at hand", examples, whole=True)),
        _number("Plain text at hand", text_mb),
        budget,
        latency,
    )


def _one_of(name: str, value: str, allowed: dict[str, str]) -> None:
    if value not in allowed:
        raise InputError(f"{name} cannot take this value", given=value, allowed=", ".join(allowed))


def _number(name: str, entry: Any, *, whole: bool = False) -> float:
    try:
        value = float(entry if entry not in (None, "") else 0)
    except (TypeError, ValueError):
        value = math.nan
    if not 0 <= value < 1e12 or (whole and value != int(value)):
        allowed = "a whole number, 0 or more" if whole else "a number, 0 or more"
        raise InputError(f"{name} cannot take this value", given=entry, allowed=allowed)
    return value


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
    """`summary` is one or two sentences. `figures` is empty if nothing was measured. `steps` are what to do next."""

    summary: str
    recommendations: tuple[Recommendation, ...]
    figures: tuple[str, ...]
    steps: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        values = asdict(self)
        for as_stored, recommendation in zip(values["recommendations"], self.recommendations, strict=True):
            as_stored["title"] = recommendation.title
            for reason, known in zip(as_stored["reasons"], recommendation.reasons, strict=True):
                reason["source"] = str(known.source) if known.source else None
        return values


@dataclass(frozen=True)
class Evidence:
    """`text` holds the figures in one sentence. `tuning`, `over_prompting` and `over_retrieval` are True (better than
    the base, the prompted base, the base with retrieval), False (worse) or None (no clear difference). What was not
    measured is absent from `known`. `verdict` is the sentence about that, `choice` the one from `which_of`.
    `forgetting` says what was forgotten; None if it was not measured."""

    run: str
    text: str
    known: frozenset[str]
    tuning: bool | None = None
    over_prompting: bool | None = None
    over_retrieval: bool | None = None
    choice: str = ""
    verdict: str = ""
    forgot: bool = False
    forgetting: str | None = None


def advise(needs: Needs, evidence: Evidence | None = None) -> Advice:
    """What to do first for `needs`. Figures from the user's own run, if there are any, outweigh the rules."""
    recommendations = (
        _prompting(needs, evidence),
        _retrieval(needs, evidence),
        _tuning(needs, evidence),
        _pretraining(needs),
    )
    order = list(STANDS)
    ranked = tuple(
        sorted(recommendations, key=lambda recommendation: order.index(recommendation.stand))
    )  # stable sort: among equal stands, cheap first
    return Advice(_summary(ranked, evidence), ranked, _figures(evidence), _steps(needs, ranked, evidence))


def _prompting(needs: Needs, evidence: Evidence | None) -> Recommendation:
    reasons = [
        Reason("A system prompt with a few examples takes minutes, and is often enough.", FEW_SHOT),
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
        reasons.append(Reason("Your run was not compared with it, so it is unknown whether tuning was needed."))
    if needs.latency == "tight" and stand != "no":
        reasons.append(
            Reason("Examples in the prompt are read again for every answer; tuned weights are cheaper to run.", CHEAPER)
        )
    return Recommendation("prompting", stand, tuple(reasons))


def _retrieval(needs: Needs, evidence: Evidence | None) -> Recommendation:
    if evidence and "over_retrieval" in evidence.known and not needs.wants("facts"):
        if evidence.over_retrieval:
            text = f"Of training rows, measured on your data, and beaten by the tuned model: {evidence.text}."
            return Recommendation("retrieval", "no", (Reason(text),))
        better = "it does better than the tuned model"
        better = better if evidence.over_retrieval is False else "no difference from the tuned model is shown"
        text = f"Nearest training rows before each question: on your data {better}: {evidence.text}."
        return Recommendation("retrieval", "now", (Reason(text),))
    if not needs.wants("facts"):
        text = "Nothing needs to be looked up: you want to change how the model answers, not what it knows."
        return Recommendation("retrieval", "no", (Reason(text),))
    reasons = [
        Reason(
            "Models use facts that are looked up for each question better than facts trained into them.",
            RETRIEVAL_OR_TUNING,
        ),
    ]
    if needs.freshness in _CHANGING:
        reasons.insert(
            0,
            Reason(
                "A search index is updated within minutes; weights have to be trained again.",
                RETRIEVAL,
            ),
        )
    reasons.append(Reason("Answers can cite their source, so people can check them.", RETRIEVAL))
    if needs.latency == "tight":
        reasons.append(Reason("It adds latency: a search, and passages in every prompt. Keep them short."))
    return Recommendation("retrieval", "now", tuple(reasons))


def _tuning(needs: Needs, evidence: Evidence | None) -> Recommendation:
    if not needs.wants("style", "format", "skill", "language"):
        text = "New facts are learned slowly from examples, and once learned they make the model invent others."
        return Recommendation("tuning", "no", (Reason(text, NEW_FACTS),))
    reasons: list[Reason] = []
    stand = "now"
    if evidence and evidence.over_retrieval is False:
        stand = "no"
        reasons.append(Reason(f"On your data it is worse than retrieval, which needs no training: {evidence.text}."))
    elif evidence and evidence.over_prompting:
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
                    OPENAI,
                )
            )
        elif needs.budget == "none":
            stand = "later"
            reasons.append(Reason("It needs a GPU for a few hours. A free one in Colab is enough for a small base."))
    if needs.wants("style", "format"):
        reasons.append(
            Reason("Style and format are learned from about a thousand good examples, or fewer.", FEW_EXAMPLES)
        )
    if needs.wants("skill"):
        reasons.append(
            Reason(
                "On narrow tasks a tuned model did better than examples in the prompt, at a lower cost per answer.",
                CHEAPER,
            )
        )
    if needs.wants("style"):
        reasons.append(
            Reason(
                "Where there is no single right answer, learn from pairs of a better and a worse one (stage dpo).",
                PREFERENCES,
            )
        )
    if needs.wants("facts"):
        reasons.append(
            Reason(
                "Tune how it answers, not the facts; with passages in the training prompts it learns to use them.",
                BOTH,
            )
        )
    if evidence and evidence.forgot:
        reasons.append(Reason(f"Your run forgot. {evidence.forgetting} Mix in general examples, or more of them."))
    elif stand == "now":
        reasons.append(Reason("LoRA forgets less of what the base knew than full training.", FORGETS_LESS))
    return Recommendation("tuning", stand, tuple(reasons))


def _pretraining(needs: Needs) -> Recommendation:
    lasting = needs.wants("facts") and needs.freshness not in _CHANGING
    scratch = Reason(
        "A model of your own from scratch takes about 20 tokens of text for each weight: 80 gigabytes for a billion.",
        FROM_SCRATCH,
    )
    if not (needs.wants("language") or lasting):
        text = "It teaches a language or a field from plain text, which is not what you want to change."
        if needs.wants("facts"):
            text = "What it teaches is outdated before the next training run ends."
        return Recommendation("pretraining", "no", (Reason(text), scratch))
    reasons = [
        Reason(
            "More plain text before any examples helped in all four fields that were tried.",
            DOMAIN,
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
        reasons.append(Reason("Mix in general text, or it forgets what it knew.", REPLAY))
        if needs.wants("language"):
            reasons.append(Reason("Examples come after it: plain text teaches the language, not how to answer."))
    return Recommendation("pretraining", "later" if short_of else "now", (*short_of, *reasons, scratch))


_WAYS = {"prompted": "prompting", "retrieved": "retrieval"}


def which_of(comparison: ComparisonJson) -> str:
    """Whether to use prompting, retrieval or tuning, and why, in one sentence. Empty if tuning was compared with
    neither of the others. Without a clear difference, the answer is that the data cannot tell."""
    verdicts = comparison.get("verdicts", {})
    against = {way: verdicts[f"adapted_vs_{way}"] for way in _WAYS if f"adapted_vs_{way}" in verdicts}
    if not against:
        return ""
    figures = _of_ways(comparison, next(iter(against.values())).get("measure"))
    lost = [way for way, verdict in against.items() if verdict["better"] is False]
    even = [way for way, verdict in against.items() if verdict["better"] is None]
    if not lost and not even:
        adds = verdicts.get("adapted_retrieved_vs_adapted")
        what = "tuning with retrieval" if adds and adds["better"] else "tuning"
        than = listed([_WAYS[way] for way in against])
        return f"Take {what}: the tuned model is better than {than} ({figures})."
    both = [verdicts.get(f"adapted_retrieved_vs_{way}") for way in against]
    adds = verdicts.get("adapted_retrieved_vs_adapted")
    if not (adds and adds["better"] is False) and all(verdict and verdict["better"] for verdict in both):
        than = listed([_WAYS[way] for way in against])
        return f"Take tuning with retrieval: together they are better than {than} ({figures})."
    if lost:
        take = lost[0]
        if len(lost) == 2 and (between := verdicts.get("retrieved_vs_prompted")) and between["better"]:
            take = "retrieved"
        return f"Take {_WAYS[take]}: it is better than the tuned model, and needs no training ({figures})."
    names = listed([_WAYS[way] for way in even])
    need = "needs" if len(even) == 1 else "need"
    return f"Cannot tell whether tuning is better than {names} ({figures}); {names} {need} no training."


def _of_ways(comparison: ComparisonJson, decided: str | None) -> str:
    """The deciding measure and the tokens read, for all sides on this machine."""
    sides = {side["name"]: side["title"] for side in comparison.get("sides", []) if "outside" not in side}
    texts = []
    for measure in comparison.get("measures", []):
        if measure["name"] in (decided, "prompt_tokens"):
            values = {name: measure["values"].get(name) for name in sides}
            # The list is comma-separated, and titles like "Base, prompted" contain a comma.
            called = {name: in_sentence(title).replace(",", "") for name, title in sides.items()}
            known = [f"{called[name]} {value_text(measure, v)}" for name, v in values.items() if v is not None]
            texts.append(f"{in_sentence(measure['title'])}: {', '.join(known)}")
    return "; ".join(texts)


def _summary(ranked: tuple[Recommendation, ...], evidence: Evidence | None) -> str:
    names = [recommendation.title.lower() for recommendation in ranked if recommendation.stand == "now"]
    waiting = [recommendation.title.lower() for recommendation in ranked if recommendation.stand == "later"]
    measured = evidence is not None and "over_prompting" in evidence.known
    if not names:
        text = "Nothing is ready yet."
    elif len(names) == 1:
        text = f"{names[0].capitalize()}."
    elif names[0] == "prompting" and not measured:
        text = f"Try prompting first and measure it; then {listed(names[1:])}, if that is not enough."
    else:
        text = f"{listed(names).capitalize()}, together."
    if waiting:
        text += f" {listed(waiting).capitalize()}: not yet."
    return text


def _figures(evidence: Evidence | None) -> tuple[str, ...]:
    if evidence is None:
        return ()
    lines = [f"Run {evidence.run}. {evidence.text}."]
    return tuple(line for line in (*lines, evidence.choice or evidence.verdict, evidence.forgetting) if line)


def _steps(needs: Needs, ranked: tuple[Recommendation, ...], evidence: Evidence | None) -> tuple[str, ...]:
    stands = {recommendation.method: recommendation.stand for recommendation in ranked}
    steps = []
    if evidence is None:
        steps.append("Hold out some rows and measure the prompted base on them before you train anything.")
    elif "over_prompting" not in evidence.known:
        steps.append(
            "Compare with prompting and with retrieval: "
            f"python -m ftlab evaluate {evidence.run} --prompted --examples 3 --retrieved 3"
        )
    if stands["retrieval"] == "now":
        steps.append("Put the documents into a search index. ftlab does not do that; it tunes and measures the model.")
    if stands["pretraining"] == "now":
        steps.append("python -m ftlab train --set stage=pretraining --set data.source=text.txt")
    if stands["tuning"] == "now" and not (evidence and evidence.over_prompting):
        steps.append("python -m ftlab train --set data.source=my.jsonl")
    if stands["tuning"] == "later" and needs.examples < FEWEST_EXAMPLES:
        steps.append(f"Collect at least {FEWEST_EXAMPLES} examples, ideally several hundred, reviewed by experts.")
    if evidence and evidence.forgot:
        steps.append("Train again with general examples mixed in, or more of them (data.replay, data.replay_fraction).")
    return tuple(steps)
