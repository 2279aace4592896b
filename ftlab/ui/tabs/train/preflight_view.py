"""The result of a preflight as a card: verdict, numbers, changes to make it fit, warnings. Also a rate trial."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from ftlab.core.endpoint import money
from ftlab.core.words import byte_size
from ftlab.ui.kit.html import count, details, duration, facts, join, list_items, notice, percent, pick_button, table

if TYPE_CHECKING:
    from ftlab.training.preflight.advice import Advice
    from ftlab.training.preflight.finding import Preflight
    from ftlab.training.preflight.rate_trial import RateTrial
    from ftlab.training.sizes import Remedy


def card(preflight: Preflight, checked: str) -> Markup:
    """The requirements of a run in one line; verdict, numbers and warnings are collapsed. If the run does not fit, the
    changes that would make it fit are open."""
    from ftlab.training.preflight.finding import verdict

    kind = "bad" if preflight.fits is False else "warn" if preflight.is_tight else "good"
    if preflight.fits is not False and preflight.kind == "estimate":
        kind = "info"
    loud = [advice for advice in preflight.warnings if advice.kind != "info"]
    notes = list_items(preflight.notes)
    body = Markup('<section class="ft-card" data-fits="{}">{}{}{}<div class="ft-help">{}</div>{}</section>').format(
        {True: "yes", False: "no", None: "unknown"}[preflight.fits],
        notice(Markup("<strong>{}</strong>").format(verdict(preflight)), kind=kind),
        _numbers(preflight),
        _warnings(preflight.warnings),
        f"Measured: {checked}." if preflight.kind == "measured" else f"Estimated: {checked}.",
        Markup('<ul class="ft-notes">{}</ul>').format(notes) if notes else "",
    )
    summary = f"Time and memory ({len(loud)} to look at)" if loud else "Time and memory"
    return line(preflight) + _changes(preflight.remedies) + details(summary, body)


def line(preflight: Preflight) -> Markup:
    """Time and memory in a sentence."""
    from ftlab.training.preflight.finding import verdict

    if preflight.fits is False:
        return notice(Markup("<strong>{}</strong>").format(verdict(preflight)), kind="bad")
    parts = []
    if preflight.total_seconds is not None:
        parts.append(f"about {duration(preflight.total_seconds)}")
    elif preflight.steps is not None:
        parts.append(f"{count(preflight.steps)} steps, time not known yet")
    if preflight.peak_bytes is not None and preflight.available_bytes is not None:
        about = "about " if preflight.kind == "estimate" else ""
        where = "GPU memory" if preflight.device == "cuda" else "memory"
        parts.append(f"{about}{byte_size(preflight.peak_bytes)} of {byte_size(preflight.available_bytes)} free {where}")
    text = "; ".join(parts) or verdict(preflight).rstrip(".")
    source = " (estimate: the base is not on this machine)" if preflight.kind == "estimate" else " on this machine"
    if preflight.cost is not None:
        source += f"; cost {money(preflight.cost)}"
    return Markup('<p class="ft-takes-line" data-kind="{}"><strong>{}</strong>{}.</p>').format(
        preflight.kind, f"{text[:1].upper()}{text[1:]}", source
    )


def trial_card(trial: RateTrial) -> Markup:
    """The losses after a trial of three learning rates, and which rate is in the form now."""
    rows = [
        [
            Markup("<b>{}</b>").format(f"{tried.rate:g}") if tried.rate == trial.taken else f"{tried.rate:g}",
            "no number" if tried.loss is None else f"{tried.loss:.4f}",
            "diverged" if tried.diverged else "taken" if tried.rate == trial.taken else "",
        ]
        for tried in trial.tried
    ]
    return Markup('<section class="ft-card" data-rate="{}">{}{}<div class="ft-help">{}</div></section>').format(
        "" if trial.taken is None else f"{trial.taken:g}",
        notice(trial.text, kind="good" if trial.clear else "bad" if trial.taken is None else "info"),
        table(["Learning rate", "Validation loss", ""], rows, label="Rate trial"),
        f"Before training {trial.before:.4f}. Short trials slightly favor high rates.",
    )


def _numbers(preflight: Preflight) -> Markup:

    rows: list[tuple[str, Any, str]] = []
    about = "about " if preflight.kind == "estimate" else ""
    if preflight.peak_bytes is not None and preflight.available_bytes is not None:
        where = "the GPU" if preflight.device == "cuda" else "this machine"
        rows.append(
            (
                "Memory",
                f"{about}{byte_size(preflight.peak_bytes)}",
                f"peak, of {byte_size(preflight.available_bytes)} free on {where}",
            )
        )
    elif preflight.available_bytes is not None:
        rows.append(("Free memory", byte_size(preflight.available_bytes), "on the device that trains"))
    if preflight.total_seconds is not None:
        parts = [f"training {duration(preflight.training_seconds)}"]
        parts += [f"{count(preflight.evaluations)} validations {duration(preflight.evaluation_seconds)}"] * bool(
            preflight.evaluations
        )
        if preflight.before_seconds is not None and preflight.after_seconds is not None:
            parts.append(
                f"evaluation before {duration(preflight.before_seconds)} and after {duration(preflight.after_seconds)}"
            )
        rows.append(("Time", f"about {duration(preflight.total_seconds)}", ", ".join(parts)))
    if preflight.seconds_per_step is not None:
        rows.append(("Steps", count(preflight.steps), f"{preflight.seconds_per_step:.3g} s each"))
    elif preflight.steps is not None:
        rows.append(("Steps", count(preflight.steps), "weight updates"))
    if preflight.cost is not None:
        rows.append(("Cost", money(preflight.cost), f"at {preflight.price_per_hour:g} per hour"))
    if preflight.tokens is not None:
        padding = f"{percent(preflight.padding_share, 0)} of the computation is padding"
        padding = padding if (preflight.padding_share or 0) >= 0.005 else "no computation is spent on padding"
        rows.append(("Tokens an epoch", count(preflight.tokens), padding))
        rows.append(("Trained tokens", count(preflight.trained_tokens), "answer tokens only"))
    if preflight.rows is not None:
        longest = f"the longest has {count(preflight.longest_row)} tokens" if preflight.longest_row else "to train on"
        rows.append(("Rows", count(preflight.rows), longest))
    if preflight.trained_parameters is not None:
        share = f"{percent(preflight.trained_share, 2)} of {count(preflight.total_parameters)}"
        rows.append(("Trained weights", count(preflight.trained_parameters), share))
    elif preflight.total_parameters is not None:
        rows.append(("Weights", f"about {preflight.total_parameters / 1e9:.3g} billion", "in the base"))
    if preflight.checkpoint_bytes is not None and preflight.result_bytes is not None:
        rows.append(
            ("Checkpoint", byte_size(preflight.checkpoint_bytes), f"the result: {byte_size(preflight.result_bytes)}")
        )
    return facts(rows)


def _changes(remedies: Sequence[Remedy]) -> Markup:
    """How to make it fit, least harmful first, each with a button that applies it to the form."""
    from ftlab.training.preflight.finding import remedy_text

    if not remedies:
        return Markup("")
    items = (
        Markup("<li>{} {}</li>").format(remedy_text(remedy), pick_button(number, "Use it", label=f"Use {remedy.what}"))
        for number, remedy in enumerate(remedies)
    )
    return Markup('<div><strong>How to make it fit</strong><ol class="ft-changes">{}</ol></div>').format(join(items))


def _warnings(warnings: Sequence[Advice]) -> Markup:
    """Warnings are open; explanations are collapsed."""
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
