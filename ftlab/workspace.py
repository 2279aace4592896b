"""Where things live on disk. The only module that builds paths inside a workspace.

The run directory is the contract between whoever trains (writes) and whoever shows (reads); see `RunDirectory`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftlab.errors import InputError, nearest

_ENVIRONMENT_VARIABLE = "FTLAB_HOME"


def default_root() -> Path:
    """`$FTLAB_HOME`, else `./workspace`."""
    return Path(os.environ.get(_ENVIRONMENT_VARIABLE) or "workspace").expanduser().absolute()


def write_text(path: Path, text: str) -> None:
    """Replace `path` in one step: a reader sees the old or the new text, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1, default=str) + "\n")


def read_json(path: Path, default: Any = None) -> Any:
    """The value in `path`, or `default` when there is no such file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return default


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    write_text(path, "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows))


def append_jsonl(path: Path, row: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The rows of `path`; none when it is missing. A last line still being written is left out."""
    rows: list[dict[str, Any]] = []
    with contextlib.suppress(FileNotFoundError):
        # Not splitlines, which also ends a line at rare characters that JSON leaves in a text.
        for line in path.read_bytes().split(b"\n"):
            # UnicodeDecodeError is one: a cut may go through a character.
            with contextlib.suppress(ValueError):
                rows.append(json.loads(line))
    return rows


@dataclass(frozen=True)
class Suite:
    """A comparison on other rows than the held-out ones of its run, in a folder of its own."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def comparison_file(self) -> Path:
        return self.path / "comparison.json"

    @property
    def predictions_file(self) -> Path:
        return self.path / "predictions.jsonl"

    @property
    def probes_file(self) -> Path:
        return self.path / "probes.jsonl"

    def comparison(self) -> dict[str, Any] | None:
        return read_json(self.comparison_file)

    def predictions(self) -> list[dict[str, Any]]:
        return read_jsonl(self.predictions_file)


@dataclass(frozen=True)
class RunDirectory:
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
    def packed_file(self) -> Path:
        """The result as one file to hand over."""
        return self.path / f"{self.id}.zip"

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
        """What a model said to one set of questions, by the hash of model and questions."""
        return self.evaluation / "results" / f"{key}.json"

    def suite(self, name: str) -> Suite:
        """The comparison of this run on the data set called `name`."""
        return Suite(self.evaluation / "suites" / name)

    def suites(self) -> list[Suite]:
        """The data sets beside the held-out rows on which this run was compared."""
        return [Suite(file.parent) for file in sorted(self.evaluation.glob("suites/*/comparison.json"))]

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
    def comparison_file(self) -> Path:
        return self.evaluation / "comparison.json"

    @property
    def rewards_file(self) -> Path:
        """What the rewards of a run say of its answers to held-out prompts, before and after."""
        return self.evaluation / "rewards.json"

    @property
    def reward_answers_file(self) -> Path:
        """Those answers, with the rewards of each."""
        return self.evaluation / "reward_answers.jsonl"

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
    def has_result(self) -> bool:
        return (self.adapter / "adapter_config.json").exists() or (self.model / "config.json").exists()

    def metrics(self) -> list[dict[str, Any]]:
        return read_jsonl(self.metrics_file)

    def rewards(self) -> dict[str, Any] | None:
        return read_json(self.rewards_file)

    def reward_answers(self) -> list[dict[str, Any]]:
        return read_jsonl(self.reward_answers_file)

    def before_after(self) -> dict[str, Any] | None:
        return read_json(self.before_after_file)

    def harness(self) -> dict[str, Any] | None:
        return read_json(self.harness_file)

    def before_after_answers(self) -> list[dict[str, Any]]:
        return read_jsonl(self.before_after_answers_file)

    def samples(self) -> list[dict[str, Any]]:
        return read_jsonl(self.samples_file)

    def manifest(self) -> dict[str, Any]:
        return read_json(self.manifest_file, {})

    def verification(self) -> dict[str, Any] | None:
        return read_json(self.verification_file)

    def comparison(self) -> dict[str, Any] | None:
        return read_json(self.comparison_file)

    def preferences(self) -> dict[str, Any] | None:
        return read_json(self.preferences_file, None)

    def predictions(self) -> list[dict[str, Any]]:
        return read_jsonl(self.predictions_file)

    def judgements(self) -> list[dict[str, Any]]:
        """What other models say of the answers, the newest first."""
        return read_json(self.judged_file, {"judgements": []})["judgements"]

    def log_tail(self, characters: int = 4000) -> str:
        """The end of the training log, at most `characters` bytes of it."""
        try:
            with self.log_file.open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - characters))
                return file.read().decode("utf-8", errors="replace")
        except FileNotFoundError:
            return ""


@dataclass(frozen=True)
class Workspace:
    """A folder that holds runs and uploads."""

    root: Path

    @classmethod
    def open(cls, root: str | os.PathLike[str] | None = None) -> Workspace:
        """The workspace at `root` (default: `default_root()`), created when missing.

        Raises InputError when the folder cannot be made or written to.
        """
        path = Path(root).expanduser().absolute() if root else default_root()
        try:
            (path / "runs").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"The workspace folder cannot be created: {error.strerror}",
                given=path,
                try_="choose a folder you may write to, with --workspace or FTLAB_HOME",
            ) from error
        if not os.access(path / "runs", os.W_OK):
            raise InputError(
                "The workspace folder cannot be written to",
                given=path,
                try_="choose another folder with --workspace or FTLAB_HOME",
            )
        return cls(path)

    @property
    def runs_folder(self) -> Path:
        return self.root / "runs"

    @property
    def uploads(self) -> Path:
        return self.root / "uploads"

    @property
    def versions_folder(self) -> Path:
        """Versions of data sets: `<name>/<version id>/rows.parquet` and `version.json`."""
        return self.root / "data"

    def version_folder(self, name: str, version_id: str) -> Path:
        return self.versions_folder / name / version_id

    @property
    def drafts(self) -> Path:
        """Judgements that are no version yet: `<version id or source>/<person>.json`."""
        return self.root / "drafts"

    @property
    def metrics_folder(self) -> Path:
        """Metric files that the app may run; whoever only opens the app cannot write to it."""
        return self.root / "metrics"

    @property
    def sweeps_folder(self) -> Path:
        """One file for each sweep: which runs belong to it."""
        return self.root / "sweeps"

    @property
    def page_cache(self) -> Path:
        """Where each row of a large file begins. Safe to delete."""
        return self.root / "cache" / "pages"

    @property
    def checks_folder(self) -> Path:
        """One folder for each check of a data set, with its report. Safe to delete."""
        return self.root / "cache" / "checks"

    @property
    def arena_database(self) -> Path:
        """The blind tests with their votes, unless FTLAB_DATABASE_URL names another database."""
        return self.root / "arena.sqlite"

    @property
    def arena_secret(self) -> Path:
        """What the links of the raters are signed with, unless FTLAB_SECRET says it."""
        return self.root / "arena.secret"

    @property
    def arena_lock(self) -> Path:
        """Held while the tables of the blind tests are made."""
        return self.root / "arena.lock"

    def votes_folder(self, test_id: str) -> Path:
        """The votes of a blind test as training data, with their provenance."""
        return self.root / "votes" / test_id

    @property
    def arena_backup(self) -> Path:
        """The tables as they were last sent to the Hub, and what came of it. Safe to delete."""
        return self.root / "arena-backup"

    @property
    def device_lock(self) -> Path:
        """Held by the one run that may use the device."""
        return self.root / "device.lock"

    def runs(self) -> list[RunDirectory]:
        """All runs, the newest first."""
        found = [path for path in self.runs_folder.iterdir() if (path / "config.yaml").exists()]
        return [RunDirectory(path) for path in sorted(found, key=lambda path: path.name, reverse=True)]

    def run(self, run_id: str) -> RunDirectory:
        """The run called `run_id`: its id, the unambiguous beginning or end of one, `last`, or the path of a run.

        Raises InputError naming the nearest known run.
        """
        known = {run.id: run for run in self.runs()}
        if run_id in known:
            return known[run_id]
        if run_id in ("last", "latest") and known:
            return next(iter(known.values()))
        if os.sep in run_id and (Path(run_id) / "config.yaml").exists():
            return RunDirectory(Path(run_id).absolute())
        matches = [run for name, run in known.items() if run_id and (name.startswith(run_id) or name.endswith(run_id))]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise InputError(
                f"More than one run matches {run_id!r}",
                given=run_id,
                allowed=", ".join(run.id for run in matches[:5]),
                try_="give more of the run's id",
            )
        close = nearest(run_id, known)
        raise InputError(
            f"There is no run called {run_id!r} in {self.root}",
            allowed=(", ".join(list(known)[:5]) + (" …" if len(known) > 5 else "")) if known else "no run exists yet",
            try_=f"did you mean {close}?" if close else "see them with: python -m ftlab runs list",
        )

    def create_run(self, label: str) -> RunDirectory:
        """A new, empty run directory whose id starts with the time, so that names sort by age."""
        slug = re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")[:40] or "run"
        path = self.runs_folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{slug}-{secrets.token_hex(2)}"
        path.mkdir(parents=True)
        return RunDirectory(path)

    def delete_run(self, run: RunDirectory) -> None:
        """Remove a run for good. The caller has made sure that it is not running."""
        # A rename first: a half-deleted folder must not look like a run.
        doomed = self.root / f".deleted-{run.id}"
        run.path.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold an exclusive lock on the file `path`; yields False when it is taken and `wait` is off.

    The operating system lets go of the lock when its process dies, so a crash leaves nothing to clean up.
    """
    import filelock

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except filelock.Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
