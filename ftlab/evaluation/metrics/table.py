"""Every measure that ftlab brings: what it is called, what it says, and by which rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ftlab.data.final_number import FINAL_NUMBER_RULE
from ftlab.evaluation.metrics.classes import LABEL_RULE
from ftlab.evaluation.metrics.form import LABEL_NAMED_RULE, REFERENCE_NAMED_RULE
from ftlab.evaluation.metrics.numbers import NUMBER_RULE
from ftlab.evaluation.metrics.structured import CODE_RULE, FIELDS_RULE, JSON_RULE
from ftlab.evaluation.metrics.text import EXACT_MATCH_RULE, PROBE_RULE, TOKEN_F1_RULE


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
        Measure(
            "normalised_match",
            "Exact match, normalised",
            "Share of answers equal to the reference but for small things.",
            PROBE_RULE,
        ),
        Measure(
            "final_number",
            "Final number right",
            "Share of answers that end in the number of the reference, whatever the way to it.",
            FINAL_NUMBER_RULE,
        ),
        Measure("accuracy", "Accuracy", "Share of answers that are the right label.", LABEL_RULE),
        Measure(
            "macro_f1",
            "Macro F1",
            "Mean F1 of the labels; a rare label counts as much as a frequent one.",
            f"mean over the labels of the references; {LABEL_RULE}",
        ),
        Measure(
            "label_named",
            "Right label named",
            "Share of answers in which the right label stands, whatever is around it.",
            LABEL_NAMED_RULE,
        ),
        Measure(
            "reference_named",
            "Reference named",
            "Share of answers in which the reference stands, whatever is around it.",
            REFERENCE_NAMED_RULE,
        ),
        Measure("json_valid", "Valid JSON", "Share of answers that a program can read.", JSON_RULE),
        Measure("json_fields", "Fields right", "Share of the fields of each answer that are right.", FIELDS_RULE),
        Measure("pattern", "Pattern found", "Share of answers in which the regular expression is found."),
        Measure("number_given", "Number given", "Share of answers with a number in them.", NUMBER_RULE),
        Measure(
            "mean_absolute_error",
            "Mean absolute error (capped)",
            "How far the numbers of the answers are from those of the references.",
            f"{NUMBER_RULE}; an answer without a number, and one that is farther off than the references are from each "
            "other, counts as that far off",
            unit="",
            better="lower",
            kind="score",
        ),
        Measure("code_parses", "Code parses", "Share of answers that are Python without syntax errors.", CODE_RULE),
        Measure("token_f1", "Token F1", "Overlap of single words with the reference.", TOKEN_F1_RULE),
        Measure("bleu", "BLEU", "Overlap of word sequences with the reference.", unit="points", kind="score"),
        Measure("chrf", "chrF", "Overlap of character sequences with the reference.", unit="points", kind="score"),
        Measure("rouge1", "ROUGE-1", "Overlap of single words with the reference, as summaries are scored."),
        Measure("rouge2", "ROUGE-2", "Overlap of word pairs with the reference, as summaries are scored."),
        Measure("rouge_l", "ROUGE-L", "Longest sequence of words in common with the reference."),
        Measure(
            "general_accuracy",
            "General accuracy",
            "Share of general questions answered right. A fall is forgetting.",
            PROBE_RULE,
            group="general",
        ),
        Measure(
            "answer_words",
            "Words per answer",
            "How long the answers are.",
            "words by white space",
            unit="words",
            better=None,
            group="style",
            kind="score",
        ),
        Measure(
            "length_ratio",
            "Length to reference",
            "Words of all answers by words of all references; 1 is as long.",
            "words by white space",
            unit="",
            better=None,
            group="style",
            kind="score",
        ),
        Measure(
            "repetition",
            "Repetition",
            "How much the answers repeat themselves.",
            "mean share of word triples that occurred before in the same answer",
            better="lower",
            group="style",
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
        f"How surprised the model is by {'general text' if general else 'what it should have said'}; 1 is certain.",
        "exp(summed loss / tokens) over all rows, of the tokens that training learns from",
        unit="",
        better="lower",
        group=group,
        kind="loss",
    )
