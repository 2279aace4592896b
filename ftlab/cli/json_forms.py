"""What each command prints with `--json`: `FORMS`, from which `.ci/reference.py` writes json.schema.json and the table
of json.md. Commands import these types for mypy only: at run time they would load most of ftlab.

A dataclass is printed as its `as_dict()`, else as its fields; `With` names what `as_dict` adds or changes. A docstring
is the note in the table.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any, NotRequired, get_type_hints

from typing_extensions import TypedDict

from ftlab.arena.loop import LoopJson
from ftlab.arena.preferences import SummaryJson
from ftlab.arena.results import FlagJson, PooledJson, RaterJson, TallyJson, VoteCountsJson
from ftlab.config import RunConfig
from ftlab.core.comparison import ComparisonJson, MainScoresJson
from ftlab.core.run_results import (
    BeforeAfterJson,
    JudgementJson,
    PreferencesJson,
    RewardsJson,
    StrengthsJson,
    TasksJson,
)
from ftlab.data.checks.finding import FindingJson
from ftlab.data.checks.run import Report
from ftlab.data.curation import Diff
from ftlab.data.export import Exported as ExportedData
from ftlab.data.export import Pushed as PushedData
from ftlab.data.version_store import VersionJson
from ftlab.evaluation import embeddings, judge_plan, outside
from ftlab.evaluation.advisor import Advice
from ftlab.evaluation.seeds import SeedsVerdict
from ftlab.export import verify
from ftlab.export.export import Exported
from ftlab.export.push import Upload
from ftlab.models.bases.known import Kept
from ftlab.synthesis import plan as writing
from ftlab.synthesis.make import Made
from ftlab.training.elsewhere import Transfer
from ftlab.training.preflight.advice import AdviceJson
from ftlab.training.preflight.finding import Preflight
from ftlab.training.sizes import RemedyJson
from ftlab.training.status import RunStatus
from ftlab.training.sweep import SweepRowJson, SweepRunJson
from ftlab.training.verify import VerificationJson


class With:
    """In the schema: the fields of a dataclass, with `keys` (a type each) added or in their place, None: left out."""

    def __init__(self, **keys: Any) -> None:
        self.keys = keys

    def __get_pydantic_core_schema__(self, kind: Any, handler: Any) -> Any:
        hints = get_type_hints(kind, include_extras=True)
        keys = {field.name: hints[field.name] for field in fields(kind)} | self.keys
        make: Any = TypedDict  # mypy takes no names at run time
        return handler.generate_schema(
            make(kind.__name__, {name: key for name, key in keys.items() if key is not None})
        )


class ScoredForm(TypedDict):
    run: str
    directory: str
    base: MainScoresJson
    adapted: MainScoresJson


class QuickstartForm(ScoredForm):
    seconds: float


class EvaluatedForm(QuickstartForm):
    """`measures`: the value of each side, by measure."""

    measures: dict[str, dict[str, float | None]]
    before_after: NotRequired[BeforeAfterJson]


class BeforeAfterForm(TypedDict):
    run: str
    before_after: NotRequired[BeforeAfterJson]
    seconds: float


class EvaluationPlanForm(TypedDict):
    run: str
    plans: list[outside.Plan | embeddings.EmbeddingPlan]


class SeveralTasksForm(TypedDict):
    runs: list[TasksJson]


class MeasuredStrengthsForm(StrengthsJson):
    chosen: float


class ChosenForm(TypedDict):
    run: str
    strength: float


class JudgedForm(JudgementJson):
    run: str


class JudgePlanForm(TypedDict):
    run: str
    plan: judge_plan.Plan


class ReportForm(TypedDict):
    """`report` is its path."""

    run: str
    report: str
    verdict: str


class SavedForm(VersionJson):
    source: str


class FixedForm(SavedForm):
    done: str
    left: list[str]
    base: str


class UnfixedForm(TypedDict):
    version: str | None
    done: list[str]
    left: list[str]
    base: str


class WritingPlanForm(TypedDict):
    plan: Annotated[writing.Plan, With(writer=str)]


class SplitForm(SavedForm):
    notes: list[str]


class VersionsForm(TypedDict):
    versions: list[VersionJson]


class UsedForm(SavedForm):
    runs: list[str]


BaseForm = Annotated[Kept, With(path=str, bytes=int)]


class BasesForm(TypedDict):
    folder: str
    bases: list[BaseForm]


class RemovedForm(TypedDict):
    removed: str
    bytes: int


# `try` is no name in a class.
SaidForm = TypedDict(
    "SaidForm",
    {"what": str, "why": str | None, "given": str | None, "allowed": str | None, "try": str | None},
)


class FailureForm(TypedDict):
    error: SaidForm
    exit_code: int


class TrainedForm(TypedDict):
    run: str
    directory: str
    state: str
    error: NotRequired[SaidForm]
    exit_code: NotRequired[int]


class StartedForm(TypedDict):
    sweep: str
    runs: list[SweepRunJson]


class SeedsForm(StartedForm):
    verdict: NotRequired[SeedsVerdict]


class SendsForm(TypedDict):
    sends: Transfer


class SweepForm(TypedDict):
    sweep: str
    settings: dict[str, list[Any]]
    runs: list[SweepRowJson]
    verdict: NotRequired[SeedsVerdict]


class ListedForm(TypedDict):
    """One run; of a damaged one only `run`, `state` and `damage`."""

    run: str
    state: str
    damage: NotRequired[str]
    data: NotRequired[str]
    base: NotRequired[str]
    stage: NotRequired[str]
    start: NotRequired[str | None]
    method: NotRequired[str]
    preference_accuracy: NotRequired[float | None]
    exact_match: NotRequired[float | None]
    perplexity: NotRequired[float | None]


class RunsForm(TypedDict):
    runs: list[ListedForm]


class AskedForm(TypedDict):
    name: str
    asked: str
    verdict: str


class RunForm(TypedDict):
    """What is damaged or was not measured is null."""

    run: str
    directory: str
    config: RunConfig | None
    status: RunStatus
    comparison: ComparisonJson | None
    also_asked: list[AskedForm]
    preferences: PreferencesJson | None
    before_after: BeforeAfterJson | None
    rewards: RewardsJson | None
    verification: VerificationJson | None
    strength: float | None
    damage: NotRequired[list[str]]


class StoppedForm(TypedDict):
    run: str
    state: str
    message: str


class ResumedForm(TypedDict):
    run: str
    step: int
    warnings: list[str]


class QueueForm(TypedDict):
    queue: list[str]


class DeletedForm(TypedDict):
    deleted: str


class ChatForm(TypedDict):
    """`cut`: sides that reached `--max-new-tokens`."""

    run: str
    base: str
    adapted: str
    cut: list[str]
    notes: list[str]


class TestForm(TypedDict):
    test: str


class CreatedForm(TestForm):
    title: str
    prompts: int
    left_out: int
    planned: int
    power: str


class GeneratingForm(TestForm):
    state: str


class GeneratedForm(GeneratingForm):
    answers: int
    wanted: int
    flags: list[FlagJson]


class LinksForm(TestForm):
    """Printed when the page opens."""

    url: str
    links: dict[str, str]


class FetchedForm(TypedDict):
    """Votes by test."""

    votes: dict[str, int]


class VerdictForm(TallyJson):
    """`quality` is of raters; `everyone` is null, or the verdict without exclusion."""

    test: str
    report: str


class HiddenForm(TestForm):
    revealed: None
    votes: int
    planned: int | None


class JudgedTestForm(TestForm):
    judged: int


class TestPlanForm(TestForm):
    plan: judge_plan.Plan


class RatersForm(TestForm):
    raters: list[RaterJson]


class VoidedForm(TestForm):
    rater: str
    votes: int
    voided: int


class FolderForm(TestForm):
    folder: str


class VotesForm(FolderForm, SummaryJson):
    """`left_out`: rows by reason."""


class ListedTestForm(VoteCountsJson):
    test: str
    title: str


class TestsForm(TypedDict):
    tests: list[ListedTestForm]


class CheckedForm(TypedDict):
    run: str
    folder: str
    verification: verify.VerificationJson


class NotebookForm(TypedDict):
    """`notebook` is its path."""

    run: str
    notebook: str


class ReasonForm(TypedDict):
    text: str
    source: str | None


class RecommendationForm(TypedDict):
    method: str
    title: str
    stand: str
    reasons: list[ReasonForm]


# The form of every command, or its forms by what sets them apart.
FORMS: dict[str, Any] = {
    "quickstart": QuickstartForm,
    "advise": Annotated[Advice, With(recommendations=list[RecommendationForm])],
    "data inspect": Annotated[Report, With(findings=list[FindingJson])],
    "data fix": {"": FixedForm, "nothing to fix": UnfixedForm},
    "data make": {
        "": Annotated[Made, With(version=str, shown=dict[str, str], examples=None)],
        "without `--yes`": WritingPlanForm,
    },
    "data accept": SavedForm,
    "data split": SplitForm,
    "data export": Annotated[ExportedData, With(thoughts=None)],
    "data push": PushedData,
    "data versions list": VersionsForm,
    "data versions create": SavedForm,
    "data versions show": UsedForm,
    "data versions diff": Diff,
    "data versions delete": VersionJson,
    "base get": BaseForm,
    "base list": BasesForm,
    "base remove": RemovedForm,
    "preflight": Annotated[
        Preflight,
        With(
            trained_share=float | None,
            padding_share=float | None,
            tight=bool,
            remedies=list[RemedyJson],
            warnings=list[AdviceJson],
        ),
    ],
    "train": {"": TrainedForm, "`--seeds`": SeedsForm, "`--on`, without `--yes`": SendsForm},
    "runs list": RunsForm,
    "runs show": RunForm,
    "runs stop": StoppedForm,
    "runs resume": ResumedForm,
    "runs move": QueueForm,
    "runs delete": DeletedForm,
    "sweep start": StartedForm,
    "sweep show": SweepForm,
    "evaluate": {
        "": EvaluatedForm,
        "a stage without answers": PreferencesJson,
        "`--reward-model`": BeforeAfterForm,
        "`--tasks`": TasksJson,
        "`--tasks`, several runs": SeveralTasksForm,
        "`--against`, without `--yes`": EvaluationPlanForm,
    },
    "strength": {"": MeasuredStrengthsForm, "`--set`": ChosenForm},
    "judge": {"": JudgedForm, "without `--yes`": JudgePlanForm},
    "report": ReportForm,
    "chat": ChatForm,
    "arena create": CreatedForm,
    "arena generate": {"": GeneratedForm, "`--detach`": GeneratingForm},
    "arena serve": LinksForm,
    "arena send": LinksForm,
    "arena fetch": FetchedForm,
    "arena verdict": {"": VerdictForm, "result hidden": HiddenForm},
    "arena pool": PooledJson,
    "arena judge": {"": JudgedTestForm, "without `--yes`": TestPlanForm},
    "arena raters": RatersForm,
    "arena void": VoidedForm,
    "arena export": {"": VotesForm, "`--analysis`": FolderForm},
    "arena list": TestsForm,
    "arena loop": LoopJson,
    "export": {"": Annotated[Exported, With(bytes=int)], "`--check`": CheckedForm},
    "push": Upload,
    "notebook": NotebookForm,
}


def forms_of(command: str) -> dict[str, Any]:
    """The forms of `command` by what sets them apart; one that has no other under an empty name."""
    form = FORMS[command]
    return form if isinstance(form, dict) else {"": form}
