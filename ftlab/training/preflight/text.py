"""The result of a preflight in words, for the terminal and the page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ftlab.core.words import duration
from ftlab.training.preflight.finding import Preflight
from ftlab.training.preflight.memory import Remedy


def as_lines(preflight: Preflight) -> Iterator[str]:
    """The finding as text, one fact a line."""
    for name, value in facts(preflight):
        yield f"{name:<12} {value}"
    for remedy in preflight.remedies:
        yield f"would fit    {remedy_text(remedy)}"
        yield f"             {settings_text(remedy.settings)}"
    for advice in preflight.warnings:
        yield f"{'note' if advice.kind == 'info' else 'warning':<12} {advice.what} {advice.why} {advice.try_}"
    for note in preflight.notes:
        yield f"{'note':<12} {note}"


def facts(preflight: Preflight) -> Iterator[tuple[str, str]]:
    """(name, value) of what is known."""
    yield "verdict", verdict(preflight)
    if preflight.peak_bytes is not None:
        about = "about " if preflight.kind == "estimate" else ""
        free = f" of {amount(preflight.available_bytes)} free" if preflight.available_bytes is not None else ""
        yield "memory", f"{about}{amount(preflight.peak_bytes)}{free}"
        yield "", f"peak memory: {what_peaks(preflight)}"
    elif preflight.available_bytes is not None:
        yield "memory", f"{amount(preflight.available_bytes)} free"
    if preflight.total_seconds is not None and preflight.training_seconds is not None:
        yield "time", f"about {duration(preflight.total_seconds)} in all"
        yield from _times(preflight)
    elif preflight.steps:
        yield "steps", f"{preflight.steps:,}"
    if preflight.cost is not None:
        yield "cost", f"{preflight.cost:,.2f} at {preflight.price_per_hour:g} per hour"
    if preflight.tokens and preflight.computed_tokens:
        yield (
            "tokens",
            f"{preflight.tokens:,} an epoch, {preflight.trained_tokens or 0:,} of them trained; "
            f"{preflight.computed_tokens:,} are computed ({preflight.padding_share:.0%} padding)",
        )
    if preflight.computing:
        yield "computing", ", ".join(preflight.computing)
    if preflight.rows is not None:
        cut = f", {preflight.rows_too_long:,} left out as too long" if preflight.rows_too_long else ""
        longest = f", the longest has {preflight.longest_row:,} tokens" if preflight.longest_row else ""
        yield "rows", f"{preflight.rows:,} training, {preflight.validation_rows or 0:,} validation{cut}{longest}"
    if preflight.trained_parameters and preflight.total_parameters:
        share = f"{100 * (preflight.trained_share or 0):.3g} %"
        yield "weights", f"{preflight.trained_parameters:,} trained, {share} of {preflight.total_parameters:,}"
    elif preflight.total_parameters:
        yield "weights", f"about {preflight.total_parameters / 1e9:.3g} billion"
    if preflight.result_bytes is not None and preflight.checkpoint_bytes is not None:
        result, checkpoint = amount(preflight.result_bytes), amount(preflight.checkpoint_bytes)
        yield "disk", f"{result} the result, {checkpoint} a checkpoint"


def _times(preflight: Preflight) -> Iterator[tuple[str, str]]:
    """What the time is made of, in the order in which it passes."""
    if preflight.before_seconds is not None:
        yield "", f"{duration(preflight.before_seconds)} the base before training"
    yield "", f"{duration(preflight.startup_seconds or 0)} loading and preparing"
    steps = f"{preflight.steps:,} steps of {_seconds(preflight.seconds_per_step)}"
    yield "", f"{duration(preflight.training_seconds or 0)} training: {steps}"
    if preflight.evaluations:
        yield "", f"{duration(preflight.evaluation_seconds or 0)} validation, {preflight.evaluations} times"
    if preflight.after_seconds is not None:
        yield "", f"{duration(preflight.after_seconds)} the comparison after training"


def what_peaks(preflight: Preflight) -> str:
    """Which memory is counted, and over which parts of a run."""
    whole = preflight.after_seconds is not None  # the comparison was measured
    parts = "asking the base, training and the comparison" if whole else "training alone"
    kind = "reserved by its process on the GPU" if preflight.device == "cuda" else "resident memory of its process"
    return f"{kind}, {parts}"


def verdict(preflight: Preflight) -> str:
    """Whether it fits, in a sentence."""
    where = "the GPU's memory" if preflight.device == "cuda" else "memory"
    if preflight.kind == "estimate":
        if preflight.fits is None:
            return "Cannot tell whether it fits: the base is not on this machine."
        answer = "should fit" if preflight.fits else "probably does not fit"
        return f"It {answer} into {where}. An estimate from {preflight.estimated_from}, not a measurement."
    if preflight.fits:
        return f"It fits into {where}, with little to spare." if preflight.is_tight else f"It fits into {where}."
    if preflight.out_of_memory_in:
        return f"It does not fit: memory ran out during: {preflight.out_of_memory_in}."
    return f"It does not fit into {where}."


def remedy_text(remedy: Remedy) -> str:
    """What to change, the memory it then takes, and what it costs."""
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
