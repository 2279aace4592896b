"""The types of a blind test's progress, and of its result as `tally.evaluate` returns and the command line prints it.

Shares are 0 to 1, intervals are [low, high] at 95%, p is two-sided. A `text` says the same in a sentence.
"""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

Interval = list[float] | None
Word = Literal["better", "worse", "no_worse", "no_difference", "not_enough"]
Neither = Literal["both_good", "both_bad", "tie", "skip"]  # votes that choose no side


class RaterJson(TypedDict):
    """`beside`: the numbers of other raters who joined by the open link from the same address."""

    id: str
    number: int
    pseudonym: str
    group: str
    open_link: bool
    revoked: bool
    voided: bool
    joined: float
    beside: list[int]
    votes: int
    skipped: int
    last: float | None


class VoteCountsJson(TypedDict):
    """The progress of a test, without revealing who leads. `votes` includes the `automatic` ones but not the `skipped`.
    `voided` votes are excluded from all other numbers, except those of their rater. `asked`: the planned votes that
    people give, without the ties that come by themselves on the `identical` comparisons (None and 0 before a test
    opens)."""

    state: str
    votes: int
    planned: int | None
    skipped: int
    automatic: int
    identical: int
    asked: int | None
    voided: int
    answers: int
    answers_wanted: int
    revealed: str | None


class ProgressJson(VoteCountsJson):
    raters: list[RaterJson]


class FlagJson(TypedDict):
    """An answer that might reveal a side; without prompt and contestant, the instructions of the test."""

    prompt: int | None
    contestant: str | None
    what: str
    excerpt: str


class EvidencePointJson(TypedDict):
    votes: int
    prompts: int
    wins: int
    log10: float


class EvidenceJson(TypedDict):
    """Odds for a difference: current, highest, and their path in at most 200 points. They decide at `threshold`.
    `crossed_at` is the number of votes at which they did."""

    now: float
    highest: float
    threshold: float
    crossed_at: int | None
    prompts: int
    wins: int
    interval: Interval
    path: list[EvidencePointJson]
    text: str


class AgreementJson(TypedDict):
    """Krippendorff's alpha. `value` is None if nothing can be compared."""

    value: float | None
    interval: Interval
    prompts: int
    p: float | None
    text: str


class RatersDifferJson(TypedDict):
    """`low` and `high` are the raters who chose a contestant least and most often: [name, win rate]."""

    p: float | None
    low: list[str | float] | None
    high: list[str | float] | None
    text: str


class TestedJson(TypedDict):
    """A share of votes, its interval over prompts, and the p of a sign test over prompts. None without votes."""

    share: float | None
    interval: Interval
    p: float | None


class PositionJson(TestedJson):
    left: int
    votes: int
    text: str


class StratumJson(TypedDict):
    votes: int
    wins: int
    win_rate: float | None
    interval: Interval


class LengthJson(TestedJson):
    """`second_is`: the votes on which the second contestant's answer was `longer`, and those on which it was
    `shorter`."""

    longer_won: int
    votes: int
    second_is: dict[str, StratumJson]
    confounded: bool
    text: str


class StyleJson(TypedDict):
    """The share of votes that the second contestant would win at equal style. None if that cannot be estimated.
    `features` are those in which the answers differ."""

    prompts: int
    win_rate: float | None
    interval: Interval
    features: list[str]
    text: str


class CorrectedJson(TypedDict):
    """The win rate of the second contestant (a tie is half) from votes and a judge model that they correct. None with
    too few prompts. `prompts` have votes, `judged` were judged. `votes_alone` is the interval without the judge. The
    judge's `weight` is 0 to 1. `agree` counts prompts on which both say the same."""

    judge: str
    prompts: int
    judged: int
    win_rate: float | None
    interval: Interval
    votes_alone: Interval
    weight: float | None
    agree: int | None
    kappa: float | None
    text: str


class GuessesJson(TestedJson):
    """`with_vote` guesses were made by raters who had chosen a side; `followed_vote` of them name that side."""

    right: int
    guesses: int
    followed_vote: int
    with_vote: int
    text: str


class StrengthJson(TypedDict):
    id: str
    title: str
    strength: float
    interval: list[float]
    wins: int
    losses: int
    ties: int


class QualityJson(TypedDict):
    """How reliable a rater is. `seconds`: their median time for a vote. The others are [times, of how many]: attention
    items right, repeated items judged the same, and pairs with another rater's vote on the same answers that agree."""

    rater: str
    group: str
    votes: int
    seconds: float | None
    attention: list[int]
    consistency: list[int]
    agreement: list[int]
    excluded: bool


class EveryoneJson(TypedDict):
    """The verdict that all raters would give, without the rule of exclusion."""

    verdict: Word
    text: str


class GroupJson(TypedDict):
    """The votes on one topic, of one rater, or by one criterion."""

    name: str
    votes: NotRequired[int]
    wins: int
    losses: int
    ties: int
    win_rate: float | None
    interval: Interval
    p: NotRequired[float]
    p_adjusted: NotRequired[float | None]


class PromptsJson(TypedDict):
    """Prompts by the majority of their votes."""

    wins: int
    losses: int
    split: int
    interval: Interval


class OutcomeJson(TypedDict):
    """A verdict on two contestants, or on all of them (the figures of one pair are then None). `raters_then` of
    `raters` had voted when it was decided. `general`: it applies to raters at large."""

    verdict: Word
    text: str
    winner: str | None
    general: bool
    raters: int
    raters_then: int
    win_rate: float | None
    interval: Interval
    p: float | None
    prompts: PromptsJson | None
    evidence: EvidenceJson | None


class PairJson(OutcomeJson):
    """The decision on two contestants; `wins` and `win_rate` are those of the second one. `margin`, in points, is that
    of a test of "no worse than" (0: of "better"). Then `p` is one-sided, and `more` is about how many more votes decide
    if they go on like this, None if that cannot be told."""

    first: str
    second: str
    decided_by: str | None
    wins: int
    decided: int
    clustered: bool
    general_interval: Interval
    level: float
    fewest: int
    reached: bool
    margin: float
    more: int | None


class ContestantJson(TypedDict):
    id: str
    title: str


class VotesJson(TypedDict):
    cast: int
    planned: int | None
    decided: int
    prompts: int
    raters: int
    opened_early: int | None


class TiesJson(TypedDict):
    both_good: int
    both_bad: int
    identical_prompts: int
    share: float | None
    text: str


class CountsJson(TypedDict):
    wins: dict[str, int]
    both_good: int
    both_bad: int
    tie: int
    skip: int


class OverviewJson(TypedDict):
    contestants: list[ContestantJson]
    counts: CountsJson
    votes: VotesJson
    ties: TiesJson


class JudgedJson(OverviewJson, OutcomeJson):
    """The result of `verdict.judge` for votes. With two contestants it also has the keys of PairJson."""

    first: NotRequired[str]
    second: NotRequired[str]
    decided_by: NotRequired[str | None]
    wins: NotRequired[int]
    decided: NotRequired[int]
    clustered: NotRequired[bool]
    general_interval: NotRequired[Interval]
    level: NotRequired[float]
    fewest: NotRequired[int]
    reached: NotRequired[bool]
    margin: NotRequired[float]
    more: NotRequired[int | None]
    ranking: list[StrengthJson]
    pairs: list[PairJson]
    by_topic: list[GroupJson]
    by_rater: list[GroupJson]
    by_group: list[GroupJson]
    by_criterion: list[GroupJson]
    alpha: AgreementJson
    between_raters: RatersDifferJson
    position: PositionJson
    length: LengthJson
    style: StyleJson
    guesses: GuessesJson
    notes: list[str]


class PooledTestJson(TypedDict):
    """One of several tests judged together: prompts by the majority of their votes, and the votes."""

    test: str
    title: str
    wins: int
    losses: int
    split: int
    votes: int


class PooledJson(TypedDict):
    """Several tests judged together, from the side of the second contestant. `interval` is over prompts and raters.
    `evidence`: the products of the one-sided evidence "above" and "below"; each decides at `threshold`. `p_differ`: of
    tests that differ by chance only."""

    tests: list[PooledTestJson]
    verdict: Word
    text: str
    win_rate: float | None
    interval: Interval
    prompts: PromptsJson
    raters: int
    margin: float
    evidence: dict[str, float]
    threshold: float
    p_differ: float
    notes: list[str]


class RegisteredJson(TypedDict):
    """The SHA-256 of the plan of a test when it opened (UTC seconds), and whether the plan was `kept` since."""

    sha256: str
    at: float
    kept: bool


class TallyJson(JudgedJson):
    """The current state of a test. `revealed`: why the tally may be seen, None while it must stay hidden. `asked`: how
    many prompts count. `registered` is None for tests of an ftlab that registered no plan, `corrected` for those that
    no model has judged. `quality` lists all raters. `everyone` is None unless the plan's rule excluded some of them."""

    id: str
    title: str
    state: str
    created: float
    live: bool
    asked: int
    revealed: str | None
    registered: RegisteredJson | None
    corrected: CorrectedJson | None
    quality: list[QualityJson]
    everyone: EveryoneJson | None
