"""What a preflight found as a card: verdict, numbers, changes that would make it fit, warnings. And a rate trial."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from ftlab.ui.kit.html import count, details, duration, facts, join, list_items, notice, percent, pick_button, table

if TYPE_CHECKING:
    from ftlab.training.preflight.advice import Advice
    from ftlab.training.preflight.finding import Preflight
    from ftlab.training.preflight.rate_trial import RateTrial
    from ftlab.training.sizes import Remedy


def card(found: Preflight, checked: str) -> Markup:
    """What a run takes in a line; verdict, numbers and warnings are folded, unless it does not fit: then the changes
    that would make it fit stand open."""
    from ftlab.training.preflight.finding import verdict

    kind = "bad" if found.fits is False else "warn" if found.is_tight else "good"
    if found.fits is not False and found.kind == "estimate":
        kind = "info"
    loud = [advice for advice in found.warnings if advice.kind != "info"]
    notes = list_items(found.notes)
    body = Markup('<section class="ft-card" data-fits="{}">{}{}{}<div class="ft-help">{}</div>{}</section>').format(
        {True: "yes", False: "no", None: "unknown"}[found.fits],
        notice(Markup("<strong>{}</strong>").format(verdict(found)), kind=kind),
        _numbers(found),
        _warnings(found.warnings),
        f"Measured: {checked}." if found.kind == "measured" else f"Estimated: {checked}.",
        Markup('<ul class="ft-notes">{}</ul>').format(notes) if notes else "",
    )
    summary = f"Time and memory ({len(loud)} to look at)" if loud else "Time and memory"
    return line(found) + _changes(found.remedies) + details(summary, body)


def line(found: Preflight) -> Markup:
    """Time and memory in a sentence."""
    from ftlab.training.preflight.finding import amount, verdict

    if found.fits is False:
        return notice(Markup("<strong>{}</strong>").format(verdict(found)), kind="bad")
    parts = []
    if found.total_seconds is not None:
        parts.append(f"about {duration(found.total_seconds)}")
    elif found.steps is not None:
        parts.append(f"{count(found.steps)} steps, time not known yet")
    if found.peak_bytes is not None and found.available_bytes is not None:
        about = "about " if found.kind == "estimate" else ""
        where = "GPU memory" if found.device == "cuda" else "memory"
        parts.append(f"{about}{amount(found.peak_bytes)} of {amount(found.available_bytes)} free {where}")
    said = "; ".join(parts) or verdict(found).rstrip(".")
    source = " (estimate: the base is not on this machine)" if found.kind == "estimate" else " on this machine"
    if found.cost is not None:
        source += f"; cost {found.cost:,.2f}"
    return Markup('<p class="ft-takes-line" data-kind="{}"><strong>{}</strong>{}.</p>').format(
        found.kind, f"{said[:1].upper()}{said[1:]}", source
    )


def trial_card(found: RateTrial) -> Markup:
    """The losses after a trial of three learning rates, and which rate is in the form now."""
    rows = [
        [
            Markup("<b>{}</b>").format(f"{one.rate:g}") if one.rate == found.taken else f"{one.rate:g}",
            "no number" if one.loss is None else f"{one.loss:.4f}",
            "diverged" if one.diverged else "taken" if one.rate == found.taken else "",
        ]
        for one in found.tried
    ]
    return Markup('<section class="ft-card" data-rate="{}">{}{}<div class="ft-help">{}</div></section>').format(
        "" if found.taken is None else f"{found.taken:g}",
        notice(found.text, kind="good" if found.clear else "bad" if found.taken is None else "info"),
        table(["Learning rate", "Validation loss", ""], rows, label="Rate trial"),
        f"Before training {found.before:.4f}. A short trial favors high rates a little.",
    )


def _numbers(found: Preflight) -> Markup:
    from ftlab.training.preflight.finding import amount

    shown: list[tuple[str, Any, str]] = []
    about = "about " if found.kind == "estimate" else ""
    if found.peak_bytes is not None and found.available_bytes is not None:
        where = "the GPU" if found.device == "cuda" else "this machine"
        shown.append(
            (
                "Memory",
                f"{about}{amount(found.peak_bytes)}",
                f"peak, of {amount(found.available_bytes)} free on {where}",
            )
        )
    elif found.available_bytes is not None:
        shown.append(("Free memory", amount(found.available_bytes), "on the device that trains"))
    if found.total_seconds is not None:
        parts = [f"training {duration(found.training_seconds)}"]
        parts += [f"{count(found.evaluations)} validations {duration(found.evaluation_seconds)}"] * bool(
            found.evaluations
        )
        if found.before_seconds is not None and found.after_seconds is not None:
            parts.append(
                f"evaluation before {duration(found.before_seconds)} and after {duration(found.after_seconds)}"
            )
        shown.append(("Time", f"about {duration(found.total_seconds)}", ", ".join(parts)))
    if found.seconds_per_step is not None:
        shown.append(("Steps", count(found.steps), f"{found.seconds_per_step:.3g} s each"))
    elif found.steps is not None:
        shown.append(("Steps", count(found.steps), "weight updates"))
    if found.cost is not None:
        shown.append(("Cost", f"{found.cost:,.2f}", f"at {found.price_per_hour:g} per hour"))
    if found.tokens is not None:
        padding = f"{percent(found.padding_share, 0)} of what is computed is padding"
        padding = padding if (found.padding_share or 0) >= 0.005 else "nothing is computed for padding"
        shown.append(("Tokens an epoch", count(found.tokens), padding))
        shown.append(("Trained tokens", count(found.trained_tokens), "those of the answers"))
    if found.rows is not None:
        longest = f"the longest has {count(found.longest_row)} tokens" if found.longest_row else "to train on"
        shown.append(("Rows", count(found.rows), longest))
    if found.trained_parameters is not None:
        share = f"{percent(found.trained_share, 2)} of {count(found.total_parameters)}"
        shown.append(("Trained weights", count(found.trained_parameters), share))
    elif found.total_parameters is not None:
        shown.append(("Weights", f"about {found.total_parameters / 1e9:.3g} billion", "in the base"))
    if found.checkpoint_bytes is not None and found.result_bytes is not None:
        shown.append(("Checkpoint", amount(found.checkpoint_bytes), f"the result: {amount(found.result_bytes)}"))
    return facts(shown)


def _changes(remedies: Sequence[Remedy]) -> Markup:
    """What would make it fit, the most harmless first, each with a button that puts it into the form."""
    from ftlab.training.preflight.finding import remedy_text

    if not remedies:
        return Markup("")
    items = (
        Markup("<li>{} {}</li>").format(remedy_text(remedy), pick_button(number, "Use it", label=f"Use {remedy.what}"))
        for number, remedy in enumerate(remedies)
    )
    return Markup('<div><strong>What would make it fit</strong><ol class="ft-changes">{}</ol></div>').format(
        join(items)
    )


def _warnings(warnings: Sequence[Advice]) -> Markup:
    """Warnings stand open; what only explains is folded."""
    loud = [advice for advice in warnings if advice.kind != "info"]
    quiet = [advice for advice in warnings if advice.kind == "info"]
    boxes = join(_warning(advice) for advice in loud)
    if not quiet:
        return boxes
    return boxes + details(f"Worth knowing ({len(quiet)})", join(_warning(advice) for advice in quiet))


def _warning(advice: Advice) -> Markup:
    return notice(
        Markup("<strong>{}</strong><div>{}</div><div><em>Try:</em> {}</div>").format(
            advice.what, advice.why, advice.try_
        ),
        kind=advice.kind,
    )
