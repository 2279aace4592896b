"""The comparison in words: is the adapted model better, what did it forget, what to do next."""

from __future__ import annotations

from typing import Any

from ftlab.config import RunConfig
from ftlab.evaluation.significance import LEVEL, p_text

FORGETTING_LIMIT = 0.05
# Below this share of exact answers on both sides the task is free text, where equality says nothing.
_INFORMATIVE_SHARE = 0.05
_FEW_ROWS = 50


def judge(base: dict[str, Any], adapted: dict[str, Any], tests: dict[str, float]) -> dict[str, Any]:
    """The verdict on the scores of two sides and the p of each measure.

    Returns text (one sentence), better (True, False, or None when the data cannot tell), p, measure (what decided),
    forgot (True when general accuracy fell by more than 5 points).
    """
    if adapted["exact_match"] is None:
        judged = _by_documents(base, adapted, tests)
    else:
        informative = max(base["exact_match"], adapted["exact_match"]) >= _INFORMATIVE_SHARE
        judged = _by_exact_match(base, adapted, tests) if informative else _by_free_text(base, adapted, tests)
    judged["forgot"] = has_forgotten(base, adapted)
    if judged["forgot"]:
        # "and" where the two point the same way, "but" where a gain was paid for.
        link = "and" if judged["better"] is False else "but"
        judged["text"] += (
            f", {link} it forgot: general accuracy {percent(adapted['general_accuracy'])} "
            f"against {percent(base['general_accuracy'])}"
        )
    judged["text"] += "."
    return judged


def has_forgotten(base: dict[str, Any], adapted: dict[str, Any]) -> bool:
    """Whether general accuracy fell by more than 5 points."""
    before, after = base.get("general_accuracy"), adapted.get("general_accuracy")
    # The small term keeps a fall of exactly 5 points on the right side of binary fractions.
    return before is not None and after is not None and before - after > FORGETTING_LIMIT + 1e-9


def warnings(base: dict[str, Any], adapted: dict[str, Any]) -> list[str]:
    """Notes on the result itself: what was forgotten, answers that were cut, too few rows."""
    notes = []
    if has_forgotten(base, adapted):
        lost = 100 * (base["general_accuracy"] - adapted["general_accuracy"])
        notes.append(
            f"General accuracy fell by {lost:.3g} points. Mix in general examples (data.replay), lower the learning "
            "rate, or train fewer epochs."
        )
    cut = adapted["truncated_answers"]
    if cut > 0.1 * adapted["rows"]:
        notes.append(
            f"{cut} of {adapted['rows']} answers of the adapted model reached the length limit and were cut. Raise "
            "evaluation.max_new_tokens; if that does not help, the model has not learned to stop."
        )
    if adapted["rows"] < _FEW_ROWS:
        rows = "documents" if adapted["exact_match"] is None else "rows"
        notes.append(
            f"Only {adapted['rows']} held-out {rows}: the intervals are wide. Hold out more for a firmer verdict."
        )
    return notes


def next_steps(comparison: dict[str, Any], config: RunConfig) -> list[str]:
    """What to do next, the most urgent first, in sentences."""
    base, adapted, verdict = comparison["base"], comparison["adapted"], comparison["verdict"]
    steps = []
    if has_forgotten(base, adapted):
        if config.data.replay is None:
            steps.append("Train again with general examples mixed in (Replay data), which protects what the base knew.")
        else:
            steps.append("Raise the share of replay data, lower the learning rate, or train fewer epochs.")
    if verdict["better"] is True and adapted["exact_match"] is None:
        steps.append("Look at the documents that it predicts worse than its base, and try the model in Chat.")
        steps.append("Plain text teaches a subject, not how to answer: tune on examples of answers next, if it should.")
    elif verdict["better"] is True:
        steps.append("Read the answers that got worse, then try the model in Chat on prompts of your own.")
        steps.append("Let people who know the subject compare both models before anybody relies on it.")
    elif verdict["better"] is False:
        steps.append("Look at the training curve; then try a lower learning rate, fewer epochs, or cleaner examples.")
    elif adapted["rows"] < 2 * _FEW_ROWS:
        steps.append("Hold out more rows: with so few, only a large difference can be told from chance.")
    else:
        steps.append("Train for more epochs, with a higher rank, or with more examples of the task.")
    if adapted["truncated_answers"] > 0.1 * adapted["rows"]:
        steps.append("Raise the longest answer (evaluation.max_new_tokens): many answers were cut.")
    if config.is_starter:
        steps.append("The starter is a toy: repeat the run on a real base before drawing conclusions.")
    return steps


def percent(share: float) -> str:
    """A share of 0 to 1 with a decimal where it has one: 86%, 97.5%; never 0% or 100% for what is not quite that."""
    value = 100 * share
    text = f"{value:.1f}".removesuffix(".0")
    if (text == "0" and value > 0) or (text == "100" and value < 100):
        return "<0.1%" if text == "0" else ">99.9%"
    return f"{text}%"


def number(value: float) -> str:
    """A perplexity with three figures: 1.04, 24.3, 1,234."""
    if value >= 999.5:
        return f"{value:,.0f}" if value < 1e6 else f"{value:.1e}"
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def tenths(value: float) -> str:
    """A BLEU score with one decimal: 24.3."""
    return f"{value:.1f}"


def _by_exact_match(base: dict[str, Any], adapted: dict[str, Any], tests: dict[str, float]) -> dict[str, Any]:
    p = tests["exact_match"]
    gained = adapted["exact_match"] > base["exact_match"]
    scores = f"exact match {percent(adapted['exact_match'])} against {percent(base['exact_match'])}"
    evidence = f"{scores} ({p_text(p)}, {adapted['rows']} rows)"
    if p >= LEVEL:
        return _verdict(f"No clear difference: {evidence}", None, p, "exact_match")
    word = "better" if gained else "worse"
    return _verdict(f"The adapted model is {word}: {evidence}", gained, p, "exact_match")


def _by_free_text(base: dict[str, Any], adapted: dict[str, Any], tests: dict[str, float]) -> dict[str, Any]:
    p, p_bleu = tests["perplexity"], tests["bleu"]
    gained = adapted["perplexity"] < base["perplexity"]
    fit = f"perplexity of the reference answers {number(adapted['perplexity'])} against {number(base['perplexity'])}"
    fit += f" ({p_text(p)}, {adapted['rows']} rows)"
    overlap = f"BLEU {tenths(adapted['bleu'])} against {tenths(base['bleu'])} ({p_text(p_bleu)})"
    if p >= LEVEL:
        return _verdict(f"No clear difference: {fit}, {overlap}", None, p, "perplexity")
    word = "better" if gained else "worse"
    if p_bleu >= LEVEL:
        # To find the reference likelier is not yet to answer well: a model that babbles can do it.
        unproven = f"that its own answers are {word} is not shown: {overlap}"
        return _verdict(f"The adapted model fits this data {word}: {fit}; {unproven}", None, p_bleu, "bleu")
    if (adapted["bleu"] > base["bleu"]) != gained:
        return _verdict(f"The measures disagree: {fit}, {overlap}", None, p, "perplexity")
    return _verdict(f"The adapted model is {word}: {fit}, {overlap}", gained, p, "perplexity")


def _by_documents(base: dict[str, Any], adapted: dict[str, Any], tests: dict[str, float]) -> dict[str, Any]:
    p = tests["perplexity"]
    gained = adapted["perplexity"] < base["perplexity"]
    evidence = (
        f"perplexity {number(adapted['perplexity'])} against {number(base['perplexity'])}, "
        f"{number(adapted['bits_per_byte'])} bits per byte against {number(base['bits_per_byte'])} "
        f"({p_text(p)}, {adapted['rows']} documents)"
    )
    if p >= LEVEL:
        return _verdict(f"No clear difference on unseen documents: {evidence}", None, p, "perplexity")
    word = "better" if gained else "worse"
    return _verdict(f"The adapted model predicts unseen documents {word}: {evidence}", gained, p, "perplexity")


def _verdict(text: str, better: bool | None, p: float, measure: str) -> dict[str, Any]:
    return {"text": text, "better": better, "p": p, "measure": measure}
