"""The section `evaluation`: what is measured before and after training."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationInfo, field_validator

from ftlab.config.sections import Section, field

SIZED = ("self", "general_reading")  # asked of every real base, in a number that depends on the length of the run


class EvaluationConfig(Section):
    after_training: bool = field(
        True, "Evaluate after training", "Compare the result with its base as soon as training ends."
    )
    before_training: bool = field(
        True,
        "Evaluate the base first",
        "Evaluate the base before the first training step, so that its scores are ready when training ends. Off: after "
        "training. No effect if Evaluate after training is off.",
        advanced=True,
    )
    max_rows: int = field(
        200, "Maximum test rows", "More rows give narrower intervals and take longer.", unit="rows", ge=1
    )
    max_new_tokens: int | None = field(
        None,
        "Longest answer",
        "Longer answers are cut. Empty: slightly more than the longest reference answer.",
        unit="tokens",
        ge=1,
        le=8192,
    )
    samples: int = field(
        1,
        "Answers per row",
        "Above 1, each side answers every row this many times, at the temperature below. The score of a row is the "
        "mean over its answers; pass^k is the share of rows where all of them are right.",
        advanced=True,
        ge=1,
        le=64,
    )
    temperature: float = field(
        0.0,
        "Temperature",
        "0: greedy decoding. Above 0: answers to the test rows are sampled, as they will be in use; general questions "
        "stay greedy.",
        advanced=True,
        ge=0,
        le=2,
        validate_default=True,
    )
    batch_size: int = field(32, "Batch size", "Lower it if memory runs out.", advanced=True, ge=1, le=1024)
    measures: str = field(
        "auto",
        "Measures",
        "Names separated by commas, such as exact_match, bleu, rouge_l. auto: chosen from the reference answers.",
        advanced=True,
        min_length=1,
    )
    labels: str | None = field(
        None,
        "Labels",
        "Class labels, separated by commas. Empty: the labels in the data.",
        advanced=True,
    )
    likelihood: bool = field(
        False,
        "Labels by likelihood",
        "Also classify by the label with the highest likelihood, not only by the written answer. Each question is read "
        "once for all labels; many of them still take time.",
        advanced=True,
    )
    schema_file: str | None = field(
        None,
        "JSON schema",
        "A file with a JSON schema that answers must match. Empty: inferred from the reference answers.",
        advanced=True,
        min_length=1,
    )
    pattern: str | None = field(
        None,
        "Pattern",
        "A regular expression that a good answer matches somewhere; ^\\d+ hours$ must match the whole answer.",
        advanced=True,
        min_length=1,
    )
    own_metrics: str | None = field(
        None,
        "Custom metrics",
        "Python files with one evaluate.Metric class each, separated by commas. ftlab runs their code.",
        advanced=True,
        min_length=1,
    )
    prompted: bool = field(
        False,
        "Prompted base",
        "Also compare with the base prompted with instructions and examples: is tuning needed at all? The evaluation "
        "takes 50% longer.",
    )
    system_prompt: str | None = field(
        None,
        "System prompt of the prompted base",
        "The instructions you would give the base instead of tuning it. Empty: examples only.",
        advanced=True,
        min_length=1,
    )
    examples: int = field(
        3,
        "Examples of the prompted base",
        "Training examples in the prompt of the base. More of them help more and take up context.",
        advanced=True,
        ge=0,
        le=100,
    )
    retrieved: int = field(
        0,
        "Retrieved rows",
        "Also compare with retrieval: the number of nearest training rows to put before each question, for the base "
        "and for the adapted model. 0: off. Near copies of a question are never used.",
        advanced=True,
        ge=0,
        le=100,
    )
    documents: str | None = field(
        None,
        "Documents",
        "Files or folders (PDF, Word, HTML, Markdown, text), separated by commas: with retrieval, their passages stand "
        "before each question in place of training rows. Empty: training rows.",
        advanced=True,
        min_length=1,
    )
    probes: str | None = field(
        "auto",
        "General probes",
        "Tests of forgetting, separated by commas: self (how far the answers to 100 neutral prompts moved from the "
        "base's own, for any base; self:40 asks 40 of them); samples, files or Hub ids of questions with checkable "
        "answers or choices; or none. A column `kind`, here and in the replay data, separates kinds that were replayed "
        "from kinds that were not. auto: self, with 50 to 100 prompts, within a fifth of the run's time; for the "
        "starter, self and general_probes.",
        advanced=True,
    )
    general_text: str | None = field(
        "auto",
        "General text",
        "Text unrelated to the task; a rise in its bits per byte is forgetting. Samples, files or Hub ids, separated "
        "by commas, or none. Documents are scored in full, conversations on their answers, each on its own line. "
        "auto: general_text and general_chat for the starter; general_reading for other bases, with 35 to 120 passages "
        "depending on the run's time (general_reading:60 scores 60 of them).",
        advanced=True,
    )
    forgetting_limit: float = field(
        0.05,
        "Forgetting limit",
        "The largest acceptable drop in general accuracy (0.05: 5 points) and rise in bits per byte of general text "
        "(0.05: 5%). The verdict `kept` rules out a larger loss; a smaller limit takes more questions.",
        advanced=True,
        ge=0,
        le=1,
    )
    margin: float | None = field(
        None,
        "Margin",
        'How many points worse is still good enough: adds a verdict of "no worse". Set it before you see results; a '
        "later change is reported. Empty: off.",
        unit="points",
        advanced=True,
        gt=0,
        le=100,
    )
    memorisation: bool = field(
        True,
        "Check for memorization",
        "Compares training rows with unseen rows: is the loss lower, and does the model complete answers word for "
        "word?",
        advanced=True,
    )

    @field_validator("temperature")
    @classmethod
    def _samples_differ(cls, value: float, info: ValidationInfo) -> float:
        if value == 0 and (info.data.get("samples") or 1) > 1:
            raise ValueError(
                "above 0 if evaluation.samples is above 1: greedy decoding (temperature 0) gives the same answer "
                "each time. Set evaluation.temperature to the value used in production, such as 0.7"
            )
        return value

    @field_validator("documents")
    @classmethod
    def _retrieved_from(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value and info.data.get("retrieved") == 0:
            raise ValueError("only with retrieval. Set evaluation.retrieved to the number of passages, such as 3")
        return value

    @field_validator("measures", "labels", "own_metrics", "documents", mode="before")
    @classmethod
    def _joined(cls, value: Any) -> Any:
        return ", ".join(map(str, value)) if isinstance(value, list | tuple) else value

    @field_validator("documents", mode="before")
    @classmethod
    def _without_commas(cls, value: Any) -> Any:  # stands last: it comes before _joined
        if isinstance(value, list | tuple) and (odd := next((path for path in value if "," in str(path)), None)):
            raise ValueError(f"paths without a comma. Name the folder of {odd}, or rename it")
        return value


def sized(name: str) -> tuple[str, int | None]:
    """A source and the number of its rows to ask: `self:40` is ("self", 40). None: all rows."""
    source, sign, number = name.rpartition(":")
    return (source, int(number)) if sign and number.isdecimal() and source in SIZED else (name, None)


def names(text: str | None) -> list[str]:
    """The parts of `text` between commas; empty for None."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]
