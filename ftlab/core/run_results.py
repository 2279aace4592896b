"""What an evaluation stores of a run beside comparison.json, and `--json` prints: the types of preferences.json,
rewards.json, before_after.json, judged.json, harness.json and strengths.json.

Shares and win rates are 0 to 1, an interval is [low, high] of 95%, a p is two-sided. Keys that are not required are
missing from the files of older versions, or where they mean nothing.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from ftlab.core.comparison import ComparisonJson, DifferenceJson, KeptAnswer, MeasureJson, QuestionJson


class PairAccuracyJson(TypedDict):
    """How often the chosen answer of a pair wins; `ties` are no wins, and the test leaves them out."""

    accuracy: float
    interval: list[float]
    ties: NotRequired[int]
    p: NotRequired[float]


class BeforeAndAfterJson(TypedDict):
    before: PairAccuracyJson
    after: PairAccuracyJson


class MarginJson(PairAccuracyJson):
    """`margin`: reward of the chosen answer minus that of the rejected one. `measure` says what the reward is."""

    rows: int
    measure: str
    margin: float
    margin_interval: NotRequired[list[float]]
    margin_p: NotRequired[float]
    reward_chosen: float
    reward_rejected: float
    by_log_probability: NotRequired[BeforeAndAfterJson]
    logp_chosen: NotRequired[dict[str, float]]
    logp_rejected: NotRequired[dict[str, float]]
    notes: NotRequired[list[str]]


class PreferencesJson(MarginJson):
    """preferences.json: the held-out preferences of a run."""

    run: str
    stage: str
    created: float
    split: str
    question: NotRequired[QuestionJson]
    seconds: float


class RewardedJson(TypedDict):
    """The answers of one side to the held-out prompts: means, in rewards, tokens and shares."""

    reward: float
    rewards: dict[str, float]
    completion_length: float
    cut_share: float
    repetition: float


class RewardDifferenceJson(TypedDict):
    difference: float
    interval: list[float]
    p: NotRequired[float]


class ComparedRewardsJson(RewardDifferenceJson):
    rows: int
    start: RewardedJson
    adapted: RewardedJson
    rewards: dict[str, RewardDifferenceJson]
    test: NotRequired[str]


class RewardsJson(ComparedRewardsJson):
    """rewards.json: the rewards of a run before and after reinforcement."""

    run: str
    created: float
    split: str
    settings: dict[str, Any]
    notes: list[str]


class AnswersJson(TypedDict):
    """The answers of one contestant: mean words and tokens of one, and shares."""

    words: float
    tokens: float
    cut_share: float
    repetition: float
    distinct_2: float
    weights: NotRequired[str]


class WinRateJson(TypedDict):
    """How often the run scores higher than another contestant; `win_rate` and `interval` are None when all tie."""

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
    """What one reward model says of the answers, against `start` and `base`."""

    reward_model: str
    weights: str
    created: float
    rows: int
    mean_scores: dict[str, float]
    against: dict[str, WinRateJson]
    proxy: str
    notes: list[str]


class BeforeAfterJson(TypedDict):
    """before_after.json: the answers of base, start and run (`adapted`) to the same held-out prompts."""

    run: str
    stage: str
    start: str | None
    created: float
    split: str
    question: NotRequired[QuestionJson]
    seconds: float
    rows: int
    contestants: dict[str, AnswersJson]
    settings: dict[str, Any]
    win_rates: dict[str, RewardVerdictJson]
    notes: list[str]


class PositionJson(TypedDict):
    """Rows judged alike in both orders; `first` and `second`: the place that was preferred where the orders differ."""

    alike: int
    rows: int
    share: float | None
    first: int
    second: int
    p: float


class JudgementJson(TypedDict):
    """One entry of judged.json: what a judge behind an address says of `sides[1]` against `sides[0]`."""

    id: str
    created: float
    judge: dict[str, str]
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
    longer: dict[str, int]
    requests: int
    tokens: dict[str, int]
    cost: float | None
    rule: str
    proxy: str
    settings: dict[str, Any]
    text: str
    notes: list[str]
    answers: NotRequired[str]


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


class TasksSettingsJson(TypedDict):
    limit: int | None
    num_fewshot: int | None
    apply_chat_template: bool
    lm_eval: str
    versions: dict[str, Any]


class TasksJson(TypedDict):
    """harness.json: tasks of lm-evaluation-harness."""

    run: str
    created: float
    tasks: list[str]
    weights: dict[str, str]  # the hashes of the trained weights
    seconds: float
    measures: list[MeasureJson]
    settings: TasksSettingsJson


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
