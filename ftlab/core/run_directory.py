"""One run on disk: the contract between the code that trains (writes) and the code that shows results (reads)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict

from ftlab.core import earlier
from ftlab.core.comparison import ComparisonJson, read_comparison
from ftlab.core.files import read_cached, read_json, read_jsonl, tail
from ftlab.core.run_results import BeforeAfterJson, JudgementJson, PreferencesJson, RewardsJson, TasksJson

EXPORT_RECORD = Path("ftlab") / "export.json"  # in an export: its description and verification
WORK_LOCK = ".work.lock"  # beside a status.json: held by the process that writes it, as long as it lives


class SourceJson(TypedDict):
    """A file, Hub data set or version that rows came from, as manifests and versions keep it."""

    name: str
    kind: str  # sample, file, hub or version
    path: str | None
    sha256: str | None
    rows: int
    revision: NotRequired[str]  # the commit of a Hub data set
    version: NotRequired[str]  # the id of a version


class ReplayJson(TypedDict):
    """What was mixed into the training rows against forgetting: `rows` of the `available` ones, `wanted` of which were
    asked for (`fraction` of the rows of the task)."""

    source: str
    kinds: list[str] | None
    fraction: float
    wanted: int
    rows: int
    available: int
    held_out_prompts_skipped: int
    dropped: dict[str, int]
    answers: NotRequired[str]
    loss: NotRequired[str]
    times: NotRequired[int]


class MadeRowsJson(TypedDict):
    """Rows of a run that a model wrote, by split; `unread` are those of them that nobody read before training."""

    by: str
    kind: str
    rows: dict[str, int]
    unread: dict[str, int]


class ManifestJson(TypedDict, total=False):
    """The content of `data/manifest.json`: where the frozen rows of a run came from, and what was done to them."""

    sources: list[SourceJson]
    format: str
    columns: dict[str, str]  # by role
    why: str
    rows_in: int
    dropped: dict[str, int]  # rows by the reason
    splits: dict[str, int]
    seed: int
    split_by: dict[str, str | None]
    made: MadeRowsJson | None
    replay: ReplayJson | None
    replay_text: ReplayJson | None
    prompt_fingerprints: dict[str, list[str]]
    notes: list[str]
    findings: list[dict[str, Any]]  # PreferenceFinding, of preference data
    tokens: dict[str, dict[str, int]]  # by split, counted when training began
    judged: dict[str, float]  # good and bad answers and their weights, of the stage kto


class _Answers:
    """The results of one evaluation of a run, in the folder `evaluation`."""

    @property
    def evaluation(self) -> Path:
        raise NotImplementedError

    @property
    def comparison_file(self) -> Path:
        return self.evaluation / "comparison.json"

    @property
    def predictions_file(self) -> Path:
        return self.evaluation / "predictions.jsonl"

    @property
    def probes_file(self) -> Path:
        """The answers to the general questions."""
        return self.evaluation / "probes.jsonl"

    @property
    def older_scores(self) -> list[Path]:
        """Where versions up to 0.1 wrote the scores of each side a second time."""
        return [self.evaluation / f"{side}.json" for side in ("base", "adapted")]

    @property
    def preferences_file(self) -> Path:
        """The win rate of the chosen answer on the held-out preferences."""
        return self.evaluation / "preferences.json"

    @property
    def before_after_file(self) -> Path:
        """Length, repetition and win rates of the answers of base, start and run to the same held-out prompts."""
        return self.evaluation / "before_after.json"

    @property
    def before_after_answers_file(self) -> Path:
        """Those answers."""
        return self.evaluation / "before_after.jsonl"

    @property
    def harness_file(self) -> Path:
        """The scores of base and adapted model in tasks of lm-evaluation-harness."""
        return self.evaluation / "harness.json"

    def comparison(self) -> ComparisonJson | None:
        return read_comparison(self.comparison_file)

    def predictions(self) -> list[dict[str, Any]]:
        return read_jsonl(self.predictions_file, whole=True)

    def preferences(self) -> PreferencesJson | None:
        return earlier.preferences(read_json(self.preferences_file))

    def before_after(self) -> BeforeAfterJson | None:
        return read_json(self.before_after_file)

    def before_after_answers(self) -> list[dict[str, Any]]:
        return read_jsonl(self.before_after_answers_file, whole=True)


@dataclass(frozen=True)
class Question(_Answers):
    """A further comparison of a run, on other rows, sides or measures than its own one, in a separate folder."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def evaluation(self) -> Path:
        return self.path

    def asked(self) -> str:
        """The comparison, in words."""
        files = (self.comparison_file, self.preferences_file, self.before_after_file)
        stored: dict[str, Any] = next(filter(None, map(read_cached, files)), {})
        return (stored.get("question") or {}).get("text") or stored.get("suite") or self.name


@dataclass(frozen=True)
class RunDirectory(_Answers):
    """One run on disk: everything that other processes may know about the run."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def config_file(self) -> Path:
        return self.path / "config.yaml"

    @property
    def status_file(self) -> Path:
        return self.path / "status.json"

    @property
    def start_lock(self) -> Path:
        """Held while a run is checked for activity and then started or deleted. Beside the run, which may be
        deleted."""
        beside = self.path.parent
        return (beside if os.access(beside, os.W_OK) else self.path) / f".{self.id}.lock"

    @property
    def work_lock(self) -> Path:
        """Held by the process that trains the run, as long as it lives."""
        return self.path / WORK_LOCK

    @property
    def evaluation_lock(self) -> Path:
        """Held by the process that evaluates or judges the run, as long as it lives."""
        return self.evaluation / WORK_LOCK

    @property
    def stop_file(self) -> Path:
        """Exists once the run was asked to stop."""
        return self.path / "stop"

    @property
    def queue_file(self) -> Path:
        """The position in the queue that the run was moved to."""
        return self.path / "queue.json"

    @property
    def place_file(self) -> Path:
        """Where the run trains, if not on this machine (training.place.PlaceJson)."""
        return self.path / "place.json"

    @property
    def expected_file(self) -> Path:
        """What was measured before the run started: time and memory (Preflight.as_dict)."""
        return self.path / "expected.json"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def samples_file(self) -> Path:
        """Answers during training: sampled while learning from rewards, a few per logged step; else the answers to
        some validation rows at each validation."""
        return self.path / "samples.jsonl"

    @property
    def log_file(self) -> Path:
        return self.path / "train.log"

    @property
    def data(self) -> Path:
        return self.path / "data"

    def split_file(self, split: str) -> Path:
        """`split` is train, validation or test."""
        return self.data / f"{split}.parquet"

    @property
    def manifest_file(self) -> Path:
        return self.data / "manifest.json"

    @property
    def replay_prompts_file(self) -> Path:
        """The prompts that the base answers before training, if its own answers are replayed."""
        return self.data / "replay_prompts.jsonl"

    @property
    def self_replay_file(self) -> Path:
        """Those answers, as tokens."""
        return self.data / "self_replay.parquet"

    @property
    def teacher_file(self) -> Path:
        """The base's token probabilities along those answers."""
        return self.data / "self_replay.safetensors"

    @property
    def asked_file(self) -> Path:
        """How the prompts of the training rows are built (`data.prompt_template`), without any row of the data."""
        return self.path / "asked.json"

    @property
    def template_file(self) -> Path:
        """The chat template that the run trains with; the tokenizer of its result has it too."""
        return self.data / "chat_template.jinja"

    @property
    def columns_file(self) -> Path:
        """The short columns of the held-out rows besides their text."""
        return self.data / "columns.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def start(self) -> Path:
        """A copy of the adapter that the run was started from; absent when it started from its base."""
        return self.path / "start"

    @property
    def adapter(self) -> Path:
        """The result of every method that does not change the base."""
        return self.path / "adapter"

    @property
    def model(self) -> Path:
        """The result of full fine-tuning."""
        return self.path / "model"

    @property
    def checksums_file(self) -> Path:
        """The checksums of the result's files as training saved them."""
        return self.path / "checksums.json"

    @property
    def exports(self) -> Path:
        """Exports made from the app or for the Hub. Safe to delete."""
        return self.path / "exports"

    def export_folder(self, kind: str) -> Path:
        """The result as a folder that loads without ftlab; `kind` is adapter, merged or gguf."""
        return self.exports / kind

    def export_zip(self, kind: str) -> Path:
        return self.exports / f"{self.id}-{kind}.zip"

    @property
    def strength_file(self) -> Path:
        """The strength of the result chosen after training; absent when it is used as trained."""
        return self.path / "strength.json"

    @property
    def strengths_file(self) -> Path:
        """The scores of several strengths on the task and elsewhere."""
        return self.evaluation / "strengths.json"

    @property
    def verification_file(self) -> Path:
        """The checks of the result after training (does it change the logits of the base?)."""
        return self.path / "verification.json"

    @property
    def environment_file(self) -> Path:
        return self.path / "environment.json"

    @property
    def evaluation(self) -> Path:
        return self.path / "evaluation"

    @property
    def evaluation_status_file(self) -> Path:
        return self.evaluation / "status.json"

    @property
    def evaluation_stop_file(self) -> Path:
        return self.evaluation / "stop"

    @property
    def evaluation_log_file(self) -> Path:
        return self.evaluation / "evaluate.log"

    def result_file(self, key: str) -> Path:
        """The answers of a model, by the hash of the model and of the prompts."""
        return self.evaluation / "results" / f"{key}.json"

    def result_files(self, model: str) -> list[Path]:
        """The result files of one model, by its hash."""
        return sorted((self.evaluation / "results").glob(f"{model}-*.json"))

    def question(self, name: str) -> Question:
        """The further comparison of this run named `name`."""
        return Question(self.evaluation / name)

    def questions(self) -> list[Question]:
        """The comparisons besides the run's own, newest last."""
        names = ("comparison.json", "preferences.json", "before_after.json")
        places = ("*", earlier.QUESTIONS)
        files = [file for name in names for place in places for file in self.evaluation.glob(f"{place}/{name}")]
        folders = dict.fromkeys(file.parent for file in sorted(files, key=lambda file: file.stat().st_mtime))
        return [Question(folder) for folder in folders]

    def and_neighbours(self) -> list[RunDirectory]:
        """This run, then the others of its folder."""
        return [self, *(RunDirectory(path) for path in sorted(self.path.parent.iterdir()) if path != self.path)]

    def with_side(self, side: str) -> RunDirectory | Question:
        """The comparison with the answers of `side`, as trained, to the held-out rows: the run's own, or the newest
        that includes it."""
        places: list[RunDirectory | Question] = [self, *reversed(self.questions())]
        for place in places:
            comparison = read_cached(place.comparison_file) or {}
            as_trained = not comparison.get("suite") and comparison.get("strength", 1) == 1
            if as_trained and any(other.get("name") == side for other in comparison.get("sides", [])):
                return place
        return self

    def with_ways(self) -> RunDirectory | Question:
        """The comparison with retrieval, else with the prompted base; the run's own if neither was asked."""
        place = self.with_side("retrieved")
        return self.with_side("prompted") if place is self else place

    @property
    def rewards_file(self) -> Path:
        """The rewards of the answers to held-out prompts, before and after training."""
        return self.evaluation / "rewards.json"

    @property
    def reward_answers_file(self) -> Path:
        """Those answers, with the rewards of each."""
        return self.evaluation / "reward_answers.jsonl"

    @property
    def outside_file(self) -> Path:
        """The answers of models behind an address, and of files, to held-out rows: one line each, as they came."""
        return self.evaluation / "outside.jsonl"

    @property
    def embeddings_file(self) -> Path:
        """The vectors of texts from models behind an address: one line each, as they came."""
        return self.evaluation / "embeddings.jsonl"

    @property
    def judged_file(self) -> Path:
        """Judgments of the answers by other models, one per judge and pair of sides."""
        return self.evaluation / "judged.json"

    @property
    def judged_answers_file(self) -> Path:
        """Each request to such a judge and its reply."""
        return self.evaluation / "judged.jsonl"

    @property
    def judging_file(self) -> Path:
        """The last request to a judge from the app."""
        return self.evaluation / "judging.json"

    @property
    def judging_lock(self) -> Path:
        """Held by the process that has this run judged."""
        return self.evaluation / ".judging.lock"

    @property
    def report_file(self) -> Path:
        return self.evaluation / "report.html"

    @property
    def report_markdown_file(self) -> Path:
        return self.evaluation / "report.md"

    @property
    def tracking(self) -> Path:
        """The output of experiment trackers, if any were configured."""
        return self.path / "tracking"

    @property
    def notebook_file(self) -> Path:
        """A notebook that repeats the run."""
        return self.path / "repeat.ipynb"

    @property
    def result(self) -> Path:
        """The folder of the trained weights: an adapter, or a whole model."""
        return self.adapter if self.adapter.exists() else self.model

    @property
    def has_result(self) -> bool:
        return (self.adapter / "adapter_config.json").exists() or (self.model / "config.json").exists()

    def metrics(self) -> list[dict[str, Any]]:
        return read_jsonl(self.metrics_file)

    def rewards(self) -> RewardsJson | None:
        return read_json(self.rewards_file)

    def reward_answers(self) -> list[dict[str, Any]]:
        return read_jsonl(self.reward_answers_file, whole=True)

    def harness(self) -> TasksJson | None:
        return read_json(self.harness_file)

    def samples(self) -> list[dict[str, Any]]:
        return read_jsonl(self.samples_file)

    def manifest(self) -> ManifestJson:
        return read_json(self.manifest_file, {})

    def verification(self) -> dict[str, Any] | None:
        return read_json(self.verification_file)

    def judgements(self) -> list[JudgementJson]:
        """Judgments of the answers by other models, newest first."""
        stored: list[JudgementJson] = read_json(self.judged_file, {"judgements": []})["judgements"]
        return stored

    def log_tail(self) -> str:
        """The end of the training log, at most 4,000 bytes of it."""
        return tail(self.log_file, 4000)
