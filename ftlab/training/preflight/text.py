"""The finding of a preflight in words, for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ftlab.core.words import duration
from ftlab.training.preflight.finding import Preflight
from ftlab.training.preflight.memory import Remedy


def as_lines(found: Preflight) -> Iterator[str]:
    """The finding as text, one fact a line."""
    for name, value in facts(found):
        yield f"{name:<12} {value}"
    for remedy in found.remedies:
        yield f"would fit    {remedy_text(remedy)}"
        yield f"             {settings_text(remedy.settings)}"
    for advice in found.warnings:
        yield f"{'note' if advice.kind == 'info' else 'warning':<12} {advice.what} {advice.why} {advice.try_}"
    for note in found.notes:
        yield f"{'note':<12} {note}"


def facts(found: Preflight) -> Iterator[tuple[str, str]]:
    """(name, value) of what is known."""
    yield "verdict", verdict(found)
    if found.peak_bytes is not None:
        about = "about " if found.kind == "estimate" else ""
        free = f" of {amount(found.available_bytes)} free" if found.available_bytes is not None else ""
        yield "memory", f"{about}{amount(found.peak_bytes)}{free}"
        yield "", f"the most that the run holds at once: {what_peaks(found)}"
    elif found.available_bytes is not None:
        yield "memory", f"{amount(found.available_bytes)} free"
    if found.total_seconds is not None and found.training_seconds is not None:
        yield "time", f"about {duration(found.total_seconds)} in all"
        yield from _times(found)
    elif found.steps:
        yield "steps", f"{found.steps:,}"
    if found.cost is not None:
        yield "cost", f"{found.cost:,.2f} at {found.price_per_hour:g} per hour"
    if found.tokens and found.computed_tokens:
        yield (
            "tokens",
            f"{found.tokens:,} an epoch, {found.trained_tokens or 0:,} of them trained; {found.computed_tokens:,} are "
            f"computed ({found.padding_share:.0%} padding)",
        )
    if found.computing:
        yield "computing", ", ".join(found.computing)
    if found.rows is not None:
        cut = f", {found.rows_too_long:,} left out as too long" if found.rows_too_long else ""
        longest = f", the longest has {found.longest_row:,} tokens" if found.longest_row else ""
        yield "rows", f"{found.rows:,} training, {found.validation_rows or 0:,} validation{cut}{longest}"
    if found.trained_parameters and found.total_parameters:
        share = f"{100 * (found.trained_share or 0):.3g} %"
        yield "weights", f"{found.trained_parameters:,} trained, {share} of {found.total_parameters:,}"
    elif found.total_parameters:
        yield "weights", f"about {found.total_parameters / 1e9:.3g} billion"
    if found.result_bytes is not None and found.checkpoint_bytes is not None:
        result, checkpoint = amount(found.result_bytes), amount(found.checkpoint_bytes)
        yield "disk", f"{result} the result, {checkpoint} a checkpoint"


def _times(found: Preflight) -> Iterator[tuple[str, str]]:
    """What the time is made of, in the order in which it passes."""
    if found.before_seconds is not None:
        yield "", f"{duration(found.before_seconds)} the base before training"
    yield "", f"{duration(found.startup_seconds or 0)} loading and preparing"
    steps = f"{found.steps:,} steps of {_seconds(found.seconds_per_step)}"
    yield "", f"{duration(found.training_seconds or 0)} training: {steps}"
    if found.evaluations:
        yield "", f"{duration(found.evaluation_seconds or 0)} validation, {found.evaluations} times"
    if found.after_seconds is not None:
        yield "", f"{duration(found.after_seconds)} the comparison after training"


def what_peaks(found: Preflight) -> str:
    """What of memory is counted, and of which parts of a run the peak is the peak."""
    whole = found.after_seconds is not None  # the comparison was measured
    parts = "asking the base, training and the comparison" if whole else "training alone"
    kind = "reserved by its process on the GPU" if found.device == "cuda" else "resident memory of its process"
    return f"{kind}, {parts}"


def verdict(found: Preflight) -> str:
    """Whether it fits, in a sentence."""
    where = "the GPU's memory" if found.device == "cuda" else "memory"
    if found.kind == "estimate":
        if found.fits is None:
            return "Nobody can say whether it fits: the base is not on this machine."
        answer = "should fit" if found.fits else "will hardly fit"
        return f"It {answer} into {where}. An estimate from {found.estimated_from}, not a measurement."
    if found.fits:
        return f"It fits into {where}, with little to spare." if found.is_tight else f"It fits into {where}."
    if found.out_of_memory_in:
        return f"It does not fit: memory ran out during: {found.out_of_memory_in}."
    return f"It does not fit into {where}."


def remedy_text(remedy: Remedy) -> str:
    """What to change, what it takes then, and what it costs."""
    known = "measured" if remedy.measured else "calculated"
    peak = f" ({amount(remedy.peak)}, {known})" if remedy.peak else ""
    what = remedy.what[:1].upper() + remedy.what[1:]
    return f"{what}{peak}. {remedy.costs}"


def settings_text(settings: dict[str, Any]) -> str:
    """Settings as the command line takes them."""
    return " ".join(
        f"--set {name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in settings.items()
    )


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2g} s"


def amount(size: int) -> str:
    """`size` bytes in three digits: 1.06 GB, 512 MB."""
    for unit, power in (("GB", 30), ("MB", 20), ("kB", 10)):
        if size >= 1 << power:
            value = size / (1 << power)
            return f"{value:.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
    return f"{size} bytes"
