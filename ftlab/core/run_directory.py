"""One run on disk: the contract between whoever trains (writes) and whoever shows (reads)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftlab.core.files import read_cached, read_json, read_jsonl, tail

EXPORT_RECORD = Path("ftlab") / "export.json"  # in an export: what it is, and what was checked
WORK_LOCK = ".work.lock"  # beside a status.json: held by the process that writes it, as long as it lives


class _Answers:
    """What was measured of a run by one question, in the folder `evaluation`."""

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
    def preferences_file(self) -> Path:
        """How often the chosen answer wins on the held-out preferences."""
        return self.evaluation / "preferences.json"

    @property
    def before_after_file(self) -> Path:
        """Length and repetition of the answers of base, start and run to the same held-out prompts, and win rates."""
        return self.evaluation / "before_after.json"

    @property
    def before_after_answers_file(self) -> Path:
        """Those answers."""
        return self.evaluation / "before_after.jsonl"

    @property
    def harness_file(self) -> Path:
        """What base and adapted model reached in tasks of lm-evaluation-harness."""
        return self.evaluation / "harness.json"

    def comparison(self) -> dict[str, Any] | None:
        return read_json(self.comparison_file)

    def predictions(self) -> list[dict[str, Any]]:
        return read_jsonl(self.predictions_file, whole=True)

    def preferences(self) -> dict[str, Any] | None:
        return read_json(self.preferences_file)

    def before_after(self) -> dict[str, Any] | None:
        return read_json(self.before_after_file)

    def before_after_answers(self) -> list[dict[str, Any]]:
        return read_jsonl(self.before_after_answers_file, whole=True)


@dataclass(frozen=True)
class Question(_Answers):
    """What was asked of a run beside its own comparison: other rows, sides or measures, in a folder of its own."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def evaluation(self) -> Path:
        return self.path

    def asked(self) -> str:
        """What was asked, in words."""
        files = (self.comparison_file, self.preferences_file, self.before_after_file)
        stored: dict[str, Any] = next(filter(None, map(read_cached, files)), {})
        return (stored.get("question") or {}).get("text") or stored.get("suite") or self.name


@dataclass(frozen=True)
class RunDirectory(_Answers):
    """One run on disk. Everything another process may know about the run is in here."""

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
        """Held while somebody looks whether the run is at work, and then starts or deletes it. Beside it: it may go."""
        beside = self.path.parent
        return (beside if os.access(beside, os.W_OK) else self.path) / f".{self.id}.lock"

    @property
    def work_lock(self) -> Path:
        """Held by the process that trains the run, as long as it lives."""
        return self.path / WORK_LOCK

    @property
    def evaluation_lock(self) -> Path:
        """Held by the process that evaluates the run (or lets it be judged), as long as it lives."""
        return self.evaluation / WORK_LOCK

    @property
    def stop_file(self) -> Path:
        """Exists once somebody asked the run to stop."""
        return self.path / "stop"

    @property
    def queue_file(self) -> Path:
        """Where it was moved to among the runs that wait."""
        return self.path / "queue.json"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def samples_file(self) -> Path:
        """Answers that were tried while learning from rewards, some of each logged step."""
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
        """The prompts that the base answers before training, where its own answers are replayed."""
        return self.data / "replay_prompts.jsonl"

    @property
    def self_replay_file(self) -> Path:
        """Those answers, as tokens."""
        return self.data / "self_replay.parquet"

    @property
    def teacher_file(self) -> Path:
        """What the base holds likely along those answers."""
        return self.data / "self_replay.safetensors"

    @property
    def asked_file(self) -> Path:
        """How the prompts of the training rows were made (data.asked); not a row of the data is in it."""
        return self.path / "asked.json"

    @property
    def template_file(self) -> Path:
        """The chat template that the run trains with; the tokenizer of its result has it too."""
        return self.data / "chat_template.jinja"

    @property
    def columns_file(self) -> Path:
        """The small columns beside the text of the held-out rows."""
        return self.data / "columns.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def start(self) -> Path:
        """A copy of the adapter that the run was started from; not there when it started from its base."""
        return self.path / "start"

    @property
    def adapter(self) -> Path:
        """The result of every method that leaves the base alone."""
        return self.path / "adapter"

    @property
    def model(self) -> Path:
        """The result of full fine-tuning."""
        return self.path / "model"

    @property
    def checksums_file(self) -> Path:
        """What the files of the result were when training had saved them."""
        return self.path / "checksums.json"

    @property
    def exports(self) -> Path:
        """What was handed over from the app or to the Hub. Safe to delete."""
        return self.path / "exports"

    def export_folder(self, kind: str) -> Path:
        """The result as a folder that loads without ftlab; `kind` is adapter or merged."""
        return self.exports / kind

    def export_zip(self, kind: str) -> Path:
        return self.exports / f"{self.id}-{kind}.zip"

    @property
    def strength_file(self) -> Path:
        """Which strength of the result somebody chose after training; not there where it is used as trained."""
        return self.path / "strength.json"

    @property
    def strengths_file(self) -> Path:
        """What several strengths reach on the task and keep elsewhere."""
        return self.evaluation / "strengths.json"

    @property
    def verification_file(self) -> Path:
        """What was checked of the result after training (does it change the logits of the base?)."""
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

    def scores_file(self, side: str) -> Path:
        """`side` is base or adapted."""
        return self.evaluation / f"{side}.json"

    def result_file(self, key: str) -> Path:
        """What a model said, by the hash of the model and of what it was asked."""
        return self.evaluation / "results" / f"{key}.json"

    def result_files(self, model: str) -> list[Path]:
        """Those that begin with the hash of one model."""
        return sorted((self.evaluation / "results").glob(f"{model}-*.json"))

    def question(self, name: str) -> Question:
        """The comparison of this run that is called `name`, beside the run's own."""
        return Question(self.evaluation / name)

    def questions(self) -> list[Question]:
        """What was asked beside the run's own comparison, the newest last."""
        names = ("comparison.json", "preferences.json", "before_after.json")
        # An older ftlab kept those on other data in suites/.
        files = [
            file for name in names for place in ("*", "suites/*") for file in self.evaluation.glob(f"{place}/{name}")
        ]
        folders = dict.fromkeys(file.parent for file in sorted(files, key=lambda file: file.stat().st_mtime))
        return [Question(folder) for folder in folders]

    def with_side(self, side: str) -> RunDirectory | Question:
        """Where the answers of `side`, as trained, to the held-out rows lie: in the run's own comparison, or in the
        newest that has it."""
        places: list[RunDirectory | Question] = [self, *reversed(self.questions())]
        for place in places:
            comparison = read_cached(place.comparison_file) or {}
            as_trained = not comparison.get("suite") and comparison.get("strength", 1) == 1
            if as_trained and any(other.get("name") == side for other in comparison.get("sides", [])):
                return place
        return self

    @property
    def rewards_file(self) -> Path:
        """What the rewards of a run say of its answers to held-out prompts, before and after."""
        return self.evaluation / "rewards.json"

    @property
    def reward_answers_file(self) -> Path:
        """Those answers, with the rewards of each."""
        return self.evaluation / "reward_answers.jsonl"

    @property
    def judged_file(self) -> Path:
        """What other models say of the answers: one judgement for each judge and pair of sides."""
        return self.evaluation / "judged.json"

    @property
    def judged_answers_file(self) -> Path:
        """Each request to such a judge and its reply."""
        return self.evaluation / "judged.jsonl"

    @property
    def judging_file(self) -> Path:
        """What was last asked of such a judge from the app."""
        return self.evaluation / "judging.json"

    @property
    def judging_lock(self) -> Path:
        """Held by whoever lets this run be judged."""
        return self.evaluation / ".judging.lock"

    @property
    def report_file(self) -> Path:
        return self.evaluation / "report.html"

    @property
    def report_markdown_file(self) -> Path:
        return self.evaluation / "report.md"

    @property
    def tracking(self) -> Path:
        """What experiment trackers wrote, where some were asked for."""
        return self.path / "tracking"

    @property
    def notebook_file(self) -> Path:
        """A notebook that repeats the run."""
        return self.path / "repeat.ipynb"

    @property
    def result(self) -> Path:
        """The folder of what was trained: an adapter, or a whole model."""
        return self.adapter if self.adapter.exists() else self.model

    @property
    def has_result(self) -> bool:
        return (self.adapter / "adapter_config.json").exists() or (self.model / "config.json").exists()

    def metrics(self) -> list[dict[str, Any]]:
        return read_jsonl(self.metrics_file)

    def rewards(self) -> dict[str, Any] | None:
        return read_json(self.rewards_file)

    def reward_answers(self) -> list[dict[str, Any]]:
        return read_jsonl(self.reward_answers_file, whole=True)

    def harness(self) -> dict[str, Any] | None:
        return read_json(self.harness_file)

    def samples(self) -> list[dict[str, Any]]:
        return read_jsonl(self.samples_file)

    def manifest(self) -> dict[str, Any]:
        return read_json(self.manifest_file, {})

    def verification(self) -> dict[str, Any] | None:
        return read_json(self.verification_file)

    def judgements(self) -> list[dict[str, Any]]:
        """What other models say of the answers, the newest first."""
        return read_json(self.judged_file, {"judgements": []})["judgements"]

    def log_tail(self, characters: int = 4000) -> str:
        """The end of the training log, at most `characters` bytes of it."""
        return tail(self.log_file, characters)
