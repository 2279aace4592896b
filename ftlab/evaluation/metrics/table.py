"""Every measure that ftlab brings: what it is called, what it says, and by which rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ftlab.evaluation.metrics.text import EXACT_MATCH_RULE, PROBE_RULE


@dataclass(frozen=True)
class Measure:
    """One measure. `group`: task (decides what is better), general (what was forgotten) or style (length, repetition);
    `kind`: share (0 to 1, shown in %), score or loss; `better`: which way is better, None where neither is."""

    name: str
    title: str
    help: str
    rule: str = ""
    unit: str = "%"
    better: Literal["higher", "lower"] | None = "higher"
    group: Literal["task", "general", "style"] = "task"
    kind: Literal["share", "score", "loss"] = "share"


BUILT_IN = {
    measure.name: measure
    for measure in (
        Measure("exact_match", "Exact match", "Share of answers equal to the reference.", EXACT_MATCH_RULE),
        Measure("bleu", "BLEU", "Overlap of word sequences with the reference.", unit="points", kind="score"),
        Measure(
            "general_accuracy",
            "General accuracy",
            "Share of general questions answered right. A fall is forgetting.",
            PROBE_RULE,
            group="general",
        ),
    )
}


def loss_measure(name: str, group: Literal["task", "general", "style"]) -> Measure:
    """The description of a measure of losses, by the end of its name: perplexity or bits_per_byte."""
    general = "General " if name.startswith("general_") else ""
    if name.endswith("bits_per_byte"):
        return Measure(
            name,
            f"{general}Bits per byte".capitalize(),
            "What the model needs to write down a byte of the text; the same for every tokenizer.",
            "summed loss in bits by the UTF-8 bytes of the text",
            unit="",
            better="lower",
            group=group,
            kind="loss",
        )
    return Measure(
        name,
        f"{general}Perplexity".capitalize(),
        f"How surprised the model is by {'general text' if general else 'the reference answers'}; 1 is certain.",
        "exp(summed loss / tokens) over all rows, tokens of the answers only",
        unit="",
        better="lower",
        group=group,
        kind="loss",
    )
