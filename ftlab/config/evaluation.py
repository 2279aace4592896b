"""What a run is measured by, before and after training."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationInfo, field_validator

from ftlab.config.sections import Section, field

SIZED = ("self", "general_reading")  # what is asked of every real base: as much as the run affords


class EvaluationConfig(Section):
    after_training: bool = field(
        True, "Evaluate after training", "Compare the result with its base as soon as training ends."
    )
    before_training: bool = field(
        True,
        "Ask the base first",
        "The base is asked before the first training step, so that its scores stand when training ends. Off: it is "
        "asked after training. Not done where Evaluate after training is off.",
        advanced=True,
    )
    max_rows: int = field(
        200, "Test rows at most", "More rows give narrower intervals and take longer.", unit="rows", ge=1
    )
    max_new_tokens: int | None = field(
        None,
        "Longest answer",
        "Answers are cut after so many tokens. Empty: somewhat more than the longest reference answer has.",
        unit="tokens",
        ge=1,
        le=8192,
    )
    samples: int = field(
        1,
        "Answers per row",
        "Above 1, each side answers every row so many times, at the temperature below. A row counts with the mean over "
        "its answers, and pass^k says in how many rows all of them are right.",
        advanced=True,
        ge=1,
        le=64,
    )
    temperature: float = field(
        0.0,
        "Temperature",
        "0: the most likely answer (greedy decoding). Above 0 answers to the rows are drawn, as the model will draw "
        "them in use; general questions stay greedy.",
        advanced=True,
        ge=0,
        le=2,
        validate_default=True,
    )
    batch_size: int = field(32, "Answers at once", "Lower it when memory runs out.", advanced=True, ge=1, le=1024)
    measures: str = field(
        "auto",
        "Measures",
        "Names separated by commas, such as exact_match, bleu, rouge_l. auto: those that suit the reference answers.",
        advanced=True,
        min_length=1,
    )
    labels: str | None = field(
        None,
        "Labels",
        "The labels of a classification, separated by commas. Empty: those found in the data.",
        advanced=True,
    )
    likelihood: bool = field(
        False,
        "Labels by likelihood",
        "Also classify by which label the model finds likeliest, not only by what it writes. Slow with many labels.",
        advanced=True,
    )
    schema_file: str | None = field(
        None,
        "JSON schema",
        "A JSON schema file that answers must keep to. Empty: the reference answers decide.",
        advanced=True,
        min_length=1,
    )
    pattern: str | None = field(
        None,
        "Pattern",
        "A regular expression that is found in a good answer, such as ^\\d+ hours$ for answers that are nothing else.",
        advanced=True,
        min_length=1,
    )
    own_metrics: str | None = field(
        None,
        "Metrics of your own",
        "Python files with one evaluate.Metric class each, separated by commas. Their code is run.",
        advanced=True,
        min_length=1,
    )
    prompted: bool = field(
        False,
        "Also ask a prompted base",
        "Compare with the base given a prompt and examples too: is tuning needed at all? Takes half as long again.",
    )
    system_prompt: str | None = field(
        None,
        "System prompt of the prompted base",
        "What you would tell the base instead of tuning it. Empty: examples alone.",
        advanced=True,
        min_length=1,
    )
    examples: int = field(
        3,
        "Examples of the prompted base",
        "Training examples shown to the base before each question. More help more, and take room in the context.",
        advanced=True,
        ge=0,
        le=100,
    )
    probes: str | None = field(
        "auto",
        "General probes",
        "What shows forgetting, with commas between: self (how the base's own answers to 100 neutral prompts changed, "
        "on any base; self:40: to 40 of them), samples, files or Hub ids of questions with checkable answers or "
        "choices, or none. A column kind, in these and in the replay data, tells kinds that were replayed from kinds "
        "that were not. auto is self, with 50 to 100 prompts as a fifth of the run's time affords, and for the starter "
        "self and general_probes.",
        advanced=True,
    )
    general_text: str | None = field(
        "auto",
        "General text",
        "Text that has nothing to do with the task, whose bits per byte show what was forgotten: samples, files or Hub "
        "ids with commas between them, or none. Documents count as a whole, of conversations the answers do, apart. "
        "auto takes general_text and general_chat for the starter; for other bases general_reading, with 35 to 120 "
        "passages as the run's time affords (general_reading:60: 60 of them).",
        advanced=True,
    )
    forgetting_limit: float = field(
        0.05,
        "Forgetting limit",
        "The largest acceptable loss of general accuracy (0.05 is 5 points) and rise in bits of general text (5%). "
        "Kept means that such a loss is ruled out; the smaller the limit, the more questions that takes.",
        advanced=True,
        ge=0,
        le=1,
    )
    memorisation: bool = field(
        True,
        "Look for memorised rows",
        "Compares training rows with rows it has never seen: is the loss lower, and are answers continued word for "
        "word?",
        advanced=True,
    )

    @field_validator("temperature")
    @classmethod
    def _samples_differ(cls, value: float, info: ValidationInfo) -> float:
        if value == 0 and (info.data.get("samples") or 1) > 1:
            raise ValueError(
                "above 0 where evaluation.samples is above 1: greedy decoding (temperature 0) gives the same answer "
                "each time. Set evaluation.temperature to what the model is used with, such as 0.7"
            )
        return value

    @field_validator("measures", "labels", "own_metrics", mode="before")
    @classmethod
    def _joined(cls, value: Any) -> Any:
        return ", ".join(map(str, value)) if isinstance(value, list | tuple) else value


def sized(name: str) -> tuple[str, int | None]:
    """A source and how many of its rows are asked: of `self:40` self and 40; all (None) where there is no number."""
    source, sign, number = name.rpartition(":")
    return (source, int(number)) if sign and number.isdecimal() and source in SIZED else (name, None)


def names(text: str | None) -> list[str]:
    """The parts of `text` between commas; none of None."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]
