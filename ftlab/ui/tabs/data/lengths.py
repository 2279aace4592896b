"""HTML for the Checks panel: lengths in tokens, whether there are enough rows, and whether they are representative."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from ftlab.report.charts import histogram
from ftlab.ui.kit.html import badge, count, details, facts, heading, join, list_items, notice, percent

_PARTS = {"prompt": "Prompt", "completion": "Completion", "whole": "Whole row"}
_LEVELS = {"good": ("good", "enough"), "thin": ("warn", "thin"), "low": ("bad", "few")}


def lengths(tokens: Mapping[str, Any] | None) -> Markup:
    """Histograms of prompt, completion and whole row; what is truncated, and what is trained."""
    if not tokens or "whole" not in tokens:
        return Markup("")
    limit = tokens["max_length"]
    sampled = tokens["measured_rows"] < tokens["rows"]
    help = f"Tokens of {tokens['base']}, rendered with its chat template" + (
        f"; measured on {count(tokens['measured_rows'])} rows drawn at random." if sampled else "."
    )
    pictures = join(
        histogram(title, tokens[part], limit if part == "whole" else None)
        for part, title in _PARTS.items()
        if part in tokens  # plain text has no prompt and no completion
    )
    stop = tokens["stop_token_trained"]
    numbers = facts(
        [
            ("Left out", count(tokens["too_long"]), f"rows longer than {count(limit)} tokens"),
            ("Nothing to train", count(tokens["no_trained_token"]), "rows without a trained token"),
            ("Trained", percent(tokens["trained_share"], 0), "of all tokens; the rest is prompt"),
            (
                "Stop token",
                "trained" if stop else "not always trained",
                "else the model never stops" if not stop else "",
            ),
        ]
    )
    packing = tokens["packing"]
    advice = [
        f"{tokens['suggested_why']}; it is {count(limit)} now.",
        ("Packing is worth it: " if packing["suggested"] else "Packing is not needed: ") + packing["why"] + ".",
        *tokens["notes"],
    ]
    listed = list_items(advice)
    return Markup(
        '<section class="ft-card" data-part="lengths">{}<div class="ft-histograms">{}</div>{}'
        '<ul class="ft-notes">{}</ul></section>'
    ).format(heading("Lengths", help), pictures, numbers, listed)


def enough(advice: Sequence[Mapping[str, Any]]) -> Markup:
    """Whether the data are enough. Each remark with its source."""
    if not advice:
        return Markup("")
    lines = join(
        Markup(
            '<li>{} {}<div class="ft-source">Source: '
            '<a href="{}" target="_blank" rel="noopener noreferrer">{}</a></div>{}</li>'
        ).format(
            badge(_LEVELS[item["level"]][1], _LEVELS[item["level"]][0]),
            item["text"],
            item["url"],
            item["source"],
            _classes(item["rows_per_class"]) if item["topic"] == "classes" else "",
        )
        for item in advice
    )
    return Markup('<section class="ft-card" data-part="enough">{}<ul class="ft-advice">{}</ul></section>').format(
        heading("Is it enough?", "Rules of thumb, with their sources."), lines
    )


def _classes(counts: Mapping[str, int] | None) -> Markup:
    if not counts:
        return Markup("")
    most = max(counts.values())
    bars = join(
        Markup('<div class="ft-class"><span>{}</span><i style="width:{}%"></i><b>{}</b></div>').format(
            label, f"{55 * number / most:.1f}", count(number)
        )
        for label, number in list(counts.items())[:30]
    )
    return details("Rows per class", Markup('<div class="ft-classes">{}</div>').format(bars))


def coverage(covered: Mapping[str, Any] | None, texts: Sequence[tuple[str, str]], prompts: int) -> Markup:
    """Whether the data are representative. `texts` are (place, prompt) of the uncovered prompts; `prompts` counts those
    that a person entered."""
    if not covered:
        return Markup('<section class="ft-card" data-part="coverage">{}{}</section>').format(
            heading("Is it representative?"),
            notice("Too few held-out prompts to tell. Add real-world prompts above, then check again."),
        )
    asked = "real-world prompts" if prompts else "held-out prompts"
    words, length = covered["vocabulary"], covered["length"]
    uncovered = [topic for topic in covered["topics"] if not topic["covered"]]
    numbers = facts(
        [
            (
                "Prompts compared",
                count(covered["asked_prompts"]),
                f"{asked}, with {count(covered['train_prompts'])} of training",
            ),
            ("Words known", percent(words["covered"]), "of their words also occur in training"),
            (
                "Length",
                f"{length['asked']['median_words']} words",
                f"in training {length['train']['median_words']} (median)",
            ),
            ("Not covered", count(len(covered["uncovered"])), "prompts unlike anything in training"),
        ]
    )
    new = ", ".join(words["new_words"][:12])
    parts = [
        heading("Is it representative?", f"The {asked}, compared with the prompts of training."),
        numbers,
        Markup("<p><strong>New words:</strong> {}</p>").format(new) if new else "",
    ]
    if uncovered:
        lines = join(Markup("<li>{}: {}</li>").format(where, text) for where, text in texts)
        topics = "; ".join(f"{', '.join(topic['terms'])} ({_prompts(topic['prompts'])})" for topic in uncovered)
        parts.append(Markup("<p><strong>Topics missing from training:</strong> {}.</p>").format(topics))
        parts.append(Markup('<ul class="ft-shown">{}</ul>').format(lines))
    known = join(
        Markup("<li>{} ({}), for example: {}</li>").format(
            ", ".join(topic["terms"]), _prompts(topic["prompts"]), topic["example"]
        )
        for topic in covered["topics"]
        if topic["covered"]
    )
    if known:
        parts.append(details("Topics that training covers", Markup('<ul class="ft-notes">{}</ul>').format(known)))
    return Markup('<section class="ft-card" data-part="coverage">{}</section>').format(join(parts))


def _prompts(number: int) -> str:
    return f"{count(number)} {'prompt' if number == 1 else 'prompts'}"
