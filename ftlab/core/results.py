"""What the other results of a run hold: preferences, answers before and after, rewards, judgments, strengths."""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from ftlab.core.comparison import ComparisonJson, DifferenceJson, KeptAnswer, MeasureJson, QuestionJson


class AccuracyJson(TypedDict):
    """The share of held-out pairs whose chosen answer wins, and the p of the exact sign test."""

    accuracy: float
    interval: list[float]
    ties: int
    p: float


class PreferenceFiguresJson(AccuracyJson):
    """The rewards of chosen and rejected answers: see `ftlab.evaluation.before_after.evaluate_preferences`."""

    rows: int
    measure: str
    margin: float
    margin_interval: list[float]
    margin_p: float
    reward_chosen: float
    reward_rejected: float
    by_log_probability: NotRequired[dict[str, AccuracyJson]]
    logp_chosen: NotRequired[dict[str, float]]
    logp_rejected: NotRequired[dict[str, float]]


class PreferencesJson(PreferenceFiguresJson):
    """What preferences.json holds."""

    run: str
    stage: str
    created: float
    split: str
    question: NotRequired[QuestionJson]
    seconds: float
    notes: list[str]


class AnswerFiguresJson(TypedDict):
    """Means over answers: see `ftlab.evaluation.before_after.figures`."""

    words: float
    tokens: float
    cut_share: float
    repetition: float
    distinct_2: float


class ContestantJson(AnswerFiguresJson):
    weights: str


class WinRateJson(TypedDict):
    """How often the run scores higher than one contestant: see `ftlab.evaluation.before_after.win_rate`."""

    wins: int
    ties: int
    losses: int
    win_rate: float | None
    interval: list[float] | None
    p: NotRequired[float]
    difference: float
    difference_interval: list[float]
    difference_p: NotRequired[float]


class RewardVerdictJson(TypedDict):
    """What one reward model says of the answers before and after."""

    reward_model: str
    weights: str
    created: float
    rows: int
    mean_scores: dict[str, float]
    against: dict[str, WinRateJson]
    proxy: str
    notes: list[str]


class BeforeAfterJson(TypedDict):
    """What before_after.json holds: the answers of the contestants base, start and adapted to the same prompts."""

    run: str
    stage: str
    start: str | None
    created: float
    split: str
    question: NotRequired[QuestionJson]
    seconds: float
    rows: int
    contestants: dict[str, ContestantJson]
    settings: dict[str, Any]
    win_rates: dict[str, RewardVerdictJson]
    notes: list[str]


class RewardedJson(TypedDict):
    """Means over greedy answers to held-out prompts; `rewards` by name, `reward` their weighted sum."""

    reward: float
    rewards: dict[str, float]
    completion_length: float
    cut_share: float
    repetition: float


class RewardDifferenceJson(TypedDict):
    difference: float
    interval: list[float]
    p: float


class RewardComparisonJson(RewardDifferenceJson):
    """Rewards before and after training."""

    rows: int
    start: RewardedJson
    adapted: RewardedJson
    rewards: dict[str, RewardDifferenceJson]
    test: str


class RewardsJson(RewardComparisonJson):
    """What rewards.json holds."""

    run: str
    created: float
    split: str
    settings: dict[str, Any]
    notes: list[str]


class JudgeJson(TypedDict):
    url: str
    model: str


class PositionJson(TypedDict):
    """Rows in which both orders were judged `alike` among `rows`; which answer was preferred by its place where not."""

    alike: int
    rows: int
    share: float | None
    first: int
    second: int
    p: float


class LongerJson(TypedDict):
    """In how many of the decided `rows` with answers of different length the longer one won."""

    won: int
    rows: int


class JudgementJson(TypedDict):
    """What a model as judge says of the answers of two sides: see `ftlab.evaluation.judge.summarise`."""

    id: str
    created: float
    judge: JudgeJson
    sides: list[str]
    titles: dict[str, str]
    rows: int
    judged: int
    complete: bool
    wins: int
    ties: int
    losses: int
    same_answers: int
    unreadable: int
    open: int
    win_rate: float | None
    interval: list[float] | None
    p: float
    test: str
    better: bool | None
    position: PositionJson
    longer: LongerJson
    requests: int
    tokens: dict[str, int]
    cost: float | None
    rule: str
    proxy: str
    settings: dict[str, Any]
    text: str
    notes: list[str]
    answers: str  # changes when an answer does


class JudgedLineJson(TypedDict):
    """One request to a judge and its reply; `choice` is a side, a tie, or None if the reply names none."""

    judgement: NotRequired[str]
    key: str
    row: int
    order: list[str]
    choice: str | None
    reply: str
    refused: bool
    cut: bool
    prompt_tokens: int | None
    completion_tokens: int | None
    seconds: float
    created: float


class HarnessSettingsJson(TypedDict):
    limit: int | None
    num_fewshot: int | None
    apply_chat_template: bool
    lm_eval: str
    versions: dict[str, Any]


class HarnessJson(TypedDict):
    """What harness.json holds: the measures of tasks of lm-evaluation-harness."""

    run: str
    created: float
    tasks: list[str]
    weights: dict[str, str]
    seconds: float
    measures: list[MeasureJson]
    settings: HarnessSettingsJson


class MeasureNameJson(TypedDict):
    name: str
    title: str
    help: str
    kind: Literal["share", "score", "loss"]
    unit: str
    better: Literal["higher", "lower"] | None


class StrengthJson(TypedDict):
    """One strength (0: the base): `difference` to the model as trained, and what was `kept`, by measure."""

    strength: float
    value: float | None
    interval: list[float] | None
    difference: DifferenceJson | None
    kept: dict[str, float | None]
    forgetting: KeptAnswer | None


class ScoredStrengthsJson(TypedDict):
    """Several strengths on the rows of one split."""

    split: str
    rows: int
    measure: MeasureNameJson
    kept: list[MeasureNameJson]
    strengths: list[StrengthJson]
    notes: list[str]


class StrengthsJson(ScoredStrengthsJson):
    """What strengths.json holds: see `ftlab.evaluation.strengths.measure_strengths`."""

    run: str
    created: float
    weights_sha256: dict[str, str]
    seconds: float
    proposed: float
    rule: str
    why: str
    test: ScoredStrengthsJson | None


class EvaluatedJson(TypedDict, total=False):
    """What `ftlab.evaluation.compare.evaluate_whole` measured of a run, by the kind of result."""

    preferences: PreferencesJson
    comparison: ComparisonJson
    before_after: BeforeAfterJson
