"""What comparison.json holds: its types, and the two forms of it.

Measures hold every figure once, and so does the file (`stored_form`). Readers get it with what follows from them beside
it (`whole_form`): the scores of each side, the p of each test, the verdict on the adapted model, the figures of the
first thing that was asked about forgetting. What an older ftlab wrote holds these itself; keys that it had not yet are
NotRequired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NotRequired

# typing's own cannot be made a schema of below Python 3.12 (pydantic).
from typing_extensions import TypedDict

from ftlab.core import earlier
from ftlab.core.files import DamagedFile, Stored, read_json

KeptAnswer = Literal["kept", "lost", "unknown"]


class DifferenceJson(TypedDict):
    """What a side differs by from the first one. `p` is two-sided by `test`; `gained` and `lost` count rows that are
    right or wrong, `clusters` what rows belong to; `rows` where fewer have a value on both sides. `p_adjusted`, among
    all measures (Holm), is never stored."""

    value: float
    interval: list[float] | None
    p: float | None
    test: str | None
    gained: NotRequired[int]
    lost: NotRequired[int]
    clusters: NotRequired[int]
    rows: NotRequired[int]
    p_adjusted: NotRequired[float | None]


class MeasureInfoJson(TypedDict):
    """A measure by itself: see `ftlab.evaluation.metrics.table.Measure`."""

    name: str
    title: str
    help: str
    rule: str
    unit: str
    better: Literal["higher", "lower"] | None
    group: Literal["task", "cost", "general", "style"]
    kind: Literal["share", "score", "loss"]


class MeasureJson(MeasureInfoJson):
    """A measure with its figures: `values` and 95% `intervals` of each side, `differences` of each later one."""

    values: dict[str, float | None]
    intervals: dict[str, list[float] | None]
    rows: int | None
    differences: dict[str, DifferenceJson]
    detail: dict[str, Any] | None


class NoWorseJson(TypedDict):
    """Whether a side is worse by less than `margin` points: `no_worse` is True, or None if that cannot be told.

    `interval` (95%) is of the difference, above 0 for the better. `needed`: about how many rows would tell if there is
    no difference; None where that is unknown. `earlier`: the margins under which the same two sides were compared
    before, if others (None: without one); empty where it was chosen before the results were known.
    """

    margin: float
    no_worse: bool | None
    difference: float | None
    interval: list[float] | None
    p: float | None
    rows: int | None
    needed: int | None
    earlier: list[float | None]
    text: str


class VerdictJson(TypedDict):
    """`better` is None if the data cannot tell; `measure` decided, `why` in words. `opposed`: a gain in form that is
    a loss in knowing. `forgetting` is None if nothing general was asked; `lost` says what was, as a verb."""

    text: str
    better: bool | None
    p: float | None
    measure: str | None
    why: NotRequired[str]
    opposed: NotRequired[str]
    no_worse: NotRequired[NoWorseJson]
    forgetting: NotRequired[KeptAnswer | None]
    forgot: NotRequired[bool]
    lost: NotRequired[str]


class KindJson(TypedDict):
    """The general questions of one kind; `fell`: by more than chance explains among all kinds."""

    kind: str
    asked: int
    lost: int
    gained: int
    fell: bool


class DriftJson(TypedDict):
    """How far next-token probabilities moved from the base's: `kl` in nats per token, `agreement` 0 to 1."""

    kl: float
    kl_interval: list[float] | None
    agreement: float
    agreement_interval: list[float]
    prompts: int
    tokens: int


class DriftOfKindJson(DriftJson):
    kind: str
    replayed: bool | None


class ChangedAnswerJson(TypedDict):
    prompt: str
    kind: str | None
    kl: float
    base: str
    base_cut: bool
    side: str | None


class QuestionsJson(TypedDict, total=False):
    """Of general questions: `score` is the share lost of what was known."""

    score: float | None
    interval: list[float] | None
    known: int
    lost: int
    gained: int
    asked: int
    accuracy: dict[str, float]
    accuracy_p: float


class TextsJson(TypedDict, total=False):
    """Of general text: `rise` 0.2 is a fifth more bits per byte."""

    bits_per_byte: dict[str, float]
    rise: float
    bits_p: float
    documents: int


class DriftPartJson(TypedDict, total=False):
    """As DriftJson, where answers of the base were followed."""

    kl: float
    kl_interval: list[float] | None
    agreement: float
    agreement_interval: list[float]
    prompts: int
    tokens: int
    of_kinds: list[DriftOfKindJson]
    changed: list[ChangedAnswerJson]


class PartJson(QuestionsJson, TextsJson, DriftPartJson):
    """One thing that was asked about forgetting: questions, texts, or the base's own answers; of the three kinds of
    figures it has one. `p_kept` and `p_lost` are one-sided, `enough` is how many of them would tell."""

    measure: str
    title: str
    answer: KeptAnswer
    p_kept: float | None
    p_lost: float | None
    enough: int | None
    kinds: NotRequired[list[KindJson]]
    decides: NotRequired[bool]
    text: str


class ForgettingJson(QuestionsJson, TextsJson):
    """What was kept and what was lost; beside `parts` the figures of the first questions and of the first texts."""

    limit: float
    rule: str
    answer: NotRequired[KeptAnswer]
    forgot: bool
    parts: NotRequired[list[PartJson]]
    text: str


class ChangeJson(TypedDict):
    name: str
    title: str
    change: str
    text: str


class GainLossJson(TypedDict):
    gained: list[ChangeJson]
    lost: list[ChangeJson]
    looks: NotRequired[list[ChangeJson]]
    moved: NotRequired[list[ChangeJson]]
    text: str
    forgetting: NotRequired[str | None]  # of an older ftlab


class ScoresJson(TypedDict, total=False):
    """The scores of one side. `perplexity` to `general_accuracy_replayed` follow from the measures of that name."""

    perplexity: float
    perplexity_interval: list[float] | None
    bits_per_byte: float
    bits_per_byte_interval: list[float] | None
    bleu: float | None
    bleu_interval: list[float] | None
    bleu_signature: str
    exact_match: float | None
    exact_match_interval: list[float] | None
    general_accuracy: float | None
    general_interval: list[float] | None
    general_accuracy_replayed: float | None
    general_interval_replayed: list[float] | None
    rows: int
    tokens: int
    bytes: int
    truncated_answers: int
    mean_answer_tokens: float
    general_rows: int
    general_rows_replayed: int


class MainScoresJson(TypedDict, total=False):
    """What `--json` prints of the scores of a side."""

    perplexity: float
    bits_per_byte: float
    bleu: float | None
    exact_match: float | None
    general_accuracy: float | None
    general_accuracy_replayed: float | None
    base_agreement: float
    base_kl: float
    rows: int


class LeakedPairJson(TypedDict):
    kind: str
    train_row: int | None
    held_out_row: int | None
    train: str
    held_out: str


class LeaksJson(TypedDict):
    """Held-out rows with a copy in training: see `ftlab.evaluation.memorisation.find_leaks`."""

    same: int
    near: int
    answer: NotRequired[int]
    held_out: int
    pairs: NotRequired[list[LeakedPairJson]]
    text: str


class ContinuationJson(TypedDict):
    """Of rows that were continued from the middle of their answers: shares of 0 to 1."""

    rows: int
    exact: float
    exact_interval: list[float] | None
    overlap: float
    longest: float


class ContinuedRowJson(TypedDict):
    """A training row that was continued word for word."""

    row: int
    given: str
    rest: str
    said: str


class MemoryFiguresJson(TypedDict):
    """How the model treats training rows beside unseen ones (`train`, `held_out`). `losses` of each side in nats per
    token; `gap` is unseen minus training; `carried_over`, of the improvement over the base on training rows, the share
    that unseen rows have too; `continuation` is None if all answers are short."""

    losses: dict[str, dict[str, float]]
    gap: float
    gap_interval: list[float] | None
    carried_over: float | None
    carried_over_interval: list[float] | None
    continuation: dict[str, ContinuationJson] | None
    continuation_p: float | None
    memorised: bool
    overfitted: bool
    text: str


class MemorisationJson(MemoryFiguresJson):
    """Those figures, with the rows that were looked at."""

    rows: dict[str, int]
    split: str
    rule: str
    examples: NotRequired[list[ContinuedRowJson]]  # an export leaves out what quotes the data
    leaks: LeaksJson


class OutsideJson(TypedDict):
    """Where a side answers that is not of this machine: the `model` behind `url`, or a `file` of answers with its
    `sha256`. `max_tokens` limits an answer (None: by the references); prices are per million tokens."""

    url: str | None
    model: str | None
    file: str | None
    sha256: str | None
    max_tokens: int | None
    price_in: float | None
    price_out: float | None
    at_once: int


class SideJson(TypedDict):
    name: str
    title: str
    what: str
    outside: NotRequired[OutsideJson]


class QuestionJson(TypedDict):
    name: str
    text: str


class ChangedJson(TypedDict):
    """How many rows are better and worse by the measure called `by`."""

    by: str
    better: int
    worse: int


class PromptedJson(TypedDict):
    """What stands before each question to the prompted base."""

    system: str | None
    examples: list[list[dict[str, str]]]


class SourceJson(TypedDict):
    """A document whose `passages` can be retrieved, with the sha256 of its file."""

    name: str
    sha256: str
    passages: int


class RetrievedJson(TypedDict):
    """How many training `rows`, or passages of `documents`, stand before each question, what `index` found them, and
    how many rows were left out because they are near copies of a question."""

    rows: int
    index: str
    left_out: int
    documents: NotRequired[list[SourceJson]]


class SettingsJson(TypedDict, total=False):
    """How the sides were asked and measured. `split`, `rows` and (as far as measures name their test) `tests` follow
    from the rest of the comparison. Of several stored runs side by side there is only `answers`, in words."""

    answers: str
    decoding: str
    samples: int
    temperature: float
    max_new_tokens: int
    longest_answer: str
    batch_size: int
    rows: int
    split: str
    probes: str | None
    replayed_kinds: list[str] | None
    probe_max_new_tokens: int
    context: int | None
    window: int
    bits_per_byte_rule: str
    exact_match_rule: str
    general_accuracy_rule: str
    neutral_prompts: int
    drift_rule: str
    tests: dict[str, str]
    prompted: PromptedJson
    retrieved: RetrievedJson
    device: str
    dtype: str
    quantised: bool
    price_per_hour: float | None
    margin: float | None
    versions: dict[str, str]


class ComparisonJson(TypedDict):
    """A comparison of a run with its base. Further sides (`prompted`, other runs) have their scores under their own
    names: read them with `scores_of`."""

    run: str
    created: float  # unix seconds
    weights_sha256: NotRequired[dict[str, str]]
    strength: NotRequired[float]
    split: str
    suite: NotRequired[str | None]
    question: NotRequired[QuestionJson]
    seconds: float | None
    seconds_before: NotRequired[float | None]
    rows: NotRequired[int]  # of several runs side by side, which have no scores
    base: NotRequired[ScoresJson]
    adapted: NotRequired[ScoresJson]
    tests: NotRequired[dict[str, float]]
    sides: NotRequired[list[SideJson]]
    measures: NotRequired[list[MeasureJson]]
    forgetting: NotRequired[ForgettingJson | None]
    gain_loss: NotRequired[GainLossJson]
    verdicts: NotRequired[dict[str, VerdictJson]]
    verdict: NotRequired[VerdictJson]
    changed: NotRequired[ChangedJson | None]
    memorisation: NotRequired[MemorisationJson | None]
    settings: SettingsJson
    notes: list[str]


def scores_of(comparison: ComparisonJson, side: str) -> ScoresJson:
    """The scores of `side`; none if it has none."""
    every: Mapping[str, Any] = comparison
    scores: ScoresJson | None = every.get(side)
    return scores or {}


def main_scores(comparison: ComparisonJson, side: str) -> MainScoresJson:
    """The scores of `side` that `--json` prints."""
    scores: Any = scores_of(comparison, side)
    known: Any = {name: scores[name] for name in MainScoresJson.__annotations__ if name in scores}
    return known


def verdict_of(comparison: ComparisonJson, side: str = "adapted") -> VerdictJson | None:
    """The verdict on `side` against the first side, or on two sides: `adapted_vs_prompted`."""
    verdict = comparison.get("verdicts", {}).get(side)
    return verdict or (comparison.get("verdict") if side == "adapted" else None)


def decided_by(comparison: ComparisonJson) -> str | None:
    """The name of the measure that decided the verdict on the adapted model."""
    verdict = verdict_of(comparison)
    return verdict.get("measure") if verdict else None


class FiguresJson(QuestionsJson, TextsJson):
    """Those of questions and those of texts."""


def first_figures(parts: Sequence[PartJson]) -> FiguresJson:
    """The figures of the first questions and of the first texts among `parts`; a score of None without questions."""
    figures: FiguresJson = {"score": None, "interval": None}
    names = (*QuestionsJson.__annotations__, *TextsJson.__annotations__)
    for part in parts:
        known: Any = {name: value for name, value in part.items() if name in names}
        figures = {**figures, **{name: value for name, value in known.items() if figures.get(name) is None}}
    return figures


def parts_of(comparison: ComparisonJson) -> list[PartJson]:
    """Everything that was asked about forgetting; nothing if it was not, or an older ftlab kept no parts."""
    forgetting = comparison.get("forgetting")
    return forgetting.get("parts") or [] if forgetting else []


def read_comparison(file: Path) -> ComparisonJson | None:
    """The comparison in `file`, whole; None if there is none. Raises DamagedFile."""
    stored = read_json(file)
    try:
        return None if stored is None else whole_form(stored)
    except DamagedFile:
        raise
    except (AttributeError, KeyError, TypeError) as error:
        raise DamagedFile(file, "it contains values of the wrong type") from error


def stored_form(comparison: ComparisonJson) -> dict[str, Any]:
    """`comparison` with each figure once, as its file holds it: without what `whole_form` gives back exactly."""
    stored: dict[str, Any] = {**comparison}
    for name, known in _following(comparison).items():
        value = stored.get(name)
        if value == known:
            del stored[name]
        elif isinstance(value, Mapping):
            stored[name] = _without(value, known)
    return stored


def _without(values: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """`values` without those that are `known`; of mappings within it the rest."""
    rest = {key: value for key, value in values.items() if key not in known or known[key] != value}
    return {
        key: _without(value, known[key]) if isinstance(value, Mapping) and key in known else value
        for key, value in rest.items()
    }


def _with(values: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """`values` and what is `known` beside them: see `_without`."""
    return {**known} | {
        key: _with(value, known[key]) if isinstance(value, Mapping) and isinstance(known.get(key), Mapping) else value
        for key, value in values.items()
    }


def whole_form(stored: Mapping[str, Any], scores: Mapping[str, ScoresJson] | None = None) -> ComparisonJson:
    """A comparison as it is read: `stored`, the `scores` of its sides, and what follows from its measures and verdicts;
    what it holds stays."""
    whole: Any = _beside(stored, {**stored, **(scores or {})})
    whole.update(earlier.comparison(whole))
    for name, known in _following(whole).items():
        value = whole.get(name, {})
        if isinstance(value, Mapping):
            whole[name] = _beside(stored, _with(value, known))
    comparison: ComparisonJson = whole
    return comparison


def _beside(stored: Mapping[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """`values`; where `stored` comes from a file, a key that they lack is reported as damage to it."""
    return stored.with_values(values) if isinstance(stored, Stored) else values


_SCORES = ("perplexity", "bits_per_byte", "bleu", "exact_match", "general_accuracy", "general_accuracy_replayed")
_NAMED_TESTS = ("perplexity", "exact_match", "bleu", "general_accuracy")
_INTERVALS = {
    "general_accuracy": "general_interval",
    "general_accuracy_replayed": "general_interval_replayed",
}
_DRIFT = ("base_agreement", "base_kl")  # how the names of measures begin that later sides have as scores, too


def _following(comparison: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What follows from other parts of `comparison`, by the names of its parts."""
    measures = comparison.get("measures")
    verdicts = comparison.get("verdicts") or {}
    forgetting = comparison.get("forgetting")
    following: dict[str, dict[str, Any]] = {}
    if measures and comparison.get("verdicts"):
        sides = [side["name"] for side in comparison.get("sides") or []]
        following |= {side: _scores(measures, side, first=side == sides[0]) for side in sides}
        following["tests"] = _tests(measures)
        if sides and "settings" in comparison:
            following["settings"] = _settings(comparison, sides[0])
    if "adapted" in verdicts:
        following["verdict"] = verdicts["adapted"]
    if forgetting and "answer" in forgetting and forgetting.get("parts"):
        following["forgetting"] = {**first_figures(forgetting["parts"])}
    return following


def _scores(measures: list[MeasureJson], side: str, *, first: bool) -> dict[str, Any]:
    scores: dict[str, Any] = {}
    for measure in measures:
        name = measure["name"]
        if side not in measure["values"]:
            continue
        if name in _SCORES:
            scores[name] = measure["values"][side]
            scores[_INTERVALS.get(name, f"{name}_interval")] = (measure.get("intervals") or {}).get(side)
        elif name.startswith(_DRIFT) and not first:
            scores[name] = measure["values"][side]
        if name == "bleu":
            scores["bleu_signature"] = measure.get("rule", "").removeprefix("sacrebleu, ")
    return scores


def _settings(comparison: Mapping[str, Any], first: str) -> dict[str, Any]:
    """The settings that other parts of a comparison hold too."""
    of_first = comparison.get(first) or {}
    split = {"split": comparison["split"]} if "split" in comparison else {}
    rows = {"rows": of_first["rows"]} if "rows" in of_first else {}
    return split | rows | {"tests": _test_names(comparison["measures"])}


def _test_names(measures: list[MeasureJson]) -> dict[str, str]:
    names = {}
    for measure in measures:
        difference = (measure.get("differences") or {}).get("adapted")
        test = difference.get("test") if difference else None
        if measure["name"] in _NAMED_TESTS and test:
            names[measure["name"]] = test
    return names


def _tests(measures: list[MeasureJson]) -> dict[str, float]:
    differences = {
        measure["name"]: measure.get("differences") or {} for measure in measures if measure["name"] in _SCORES
    }
    ps = {name: of["adapted"].get("p") for name, of in differences.items() if "adapted" in of}
    return {name: p for name, p in ps.items() if p is not None}
