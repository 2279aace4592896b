"""Every file of a finished run, damaged in ten ways: each command still answers, and no other run is touched.

A seeded part of the pairs (file, damage) runs in CI. All of them, with the commands that load a model:
python -m pytest -m long -s tests/chaos/test_files.py
FTLAB_CHAOS_PAIRS says how many the short part takes (16).
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import random
import re
import shutil
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gradio")

from ftlab.cli.main import main
from ftlab.config import load_config
from ftlab.core.files import append_jsonl, write_json
from ftlab.core.jobs import write_status
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.training.setup import record_environment
from ftlab.training.status import RunStatus
from tests.chaos.disk import fill, small_disk
from tests.small_runs import make_base, make_run, save_result

SEED = 17
SHORT_PAIRS, SHORT_MODEL_PAIRS = int(os.environ.get("FTLAB_CHAOS_PAIRS", "16")), 3
VICTIM, HEALTHY = "20260102-000000-victim", "20260101-000000-healthy"


def _folder(file: Path, _: random.Random) -> None:
    file.unlink()
    (file / "inside").mkdir(parents=True)


def _flipped(file: Path, seeded: random.Random) -> None:
    raw = bytearray(file.read_bytes())
    raw[seeded.randrange(len(raw))] ^= 1 << seeded.randrange(8)
    file.write_bytes(raw)


DAMAGES: dict[str, Callable[[Path, random.Random], Any]] = {
    "empty": lambda file, _: file.write_bytes(b""),
    "cut in half": lambda file, _: os.truncate(file, file.stat().st_size // 2),
    "one bit flipped": _flipped,
    "zeros": lambda file, _: file.write_bytes(b"\0" * file.stat().st_size),
    "wrong type": lambda file, _: file.write_text("[7, null]\n"),
    "other values": lambda file, _: file.write_text('{"other": {"run": 1}}\n'),
    "not UTF-8": lambda file, _: file.write_bytes("{'größer'}".encode("utf-16") + b"\xff\xfe\x81"),
    "deleted": lambda file, _: file.unlink(),
    "a folder in its place": _folder,
    "nested too deeply": lambda file, _: file.write_text("[" * 1_000_000),
}


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with two finished and compared runs of a tiny base, and a sweep over both."""
    from ftlab.evaluation.compare import evaluate_whole
    from ftlab.evaluation.request import Request

    folder = tmp_path_factory.mktemp("files")
    base = make_base(folder / "base")
    probes = folder / "probes.jsonl"
    probes.write_text("".join(json.dumps({"prompt": f"{n}?", "completion": str(n)}) + "\n" for n in range(4)))
    workspace = Workspace.open(folder / "workspace")
    for place, name in enumerate((VICTIM, HEALTHY)):
        run = make_run(workspace.runs_folder, base, probes, name=name)
        save_result(run, base, seed=place)
        ended = RunStatus(state="completed", created=1.8e9, started=1.8e9, finished=1.8e9 + 60, step=4, total_steps=4)
        write_status(run.status_file, ended)
        for step in range(1, 5):
            append_jsonl(run.metrics_file, {"step": step, "loss": 2 / step, "epoch": step / 4, "time": 1.8e9 + step})
        run.log_file.write_text("trained in 60.0 s\n")
        record_environment(run, load_config(run.config_file), "cpu", resumed_at=None)
        write_json(run.verification_file, {"changes_logits": True, "largest_change": 0.5})
        evaluate_whole(run)
        evaluate_whole(run, Request(max_rows=3))  # another question
    runs = [{"run": name, "values": {"method.rank": rank}} for name, rank in ((VICTIM, 4), (HEALTHY, 8))]
    sweep = {"id": "sweep-20260103-000000", "created": 1.8e9, "settings": {"method.rank": [4, 8]}, "runs": runs}
    write_json(workspace.sweeps_folder / "sweep-20260103-000000.json", sweep)
    return workspace.root


@pytest.fixture(scope="module")
def app_of(origin: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Workspace]]:
    """The app over a copy of the workspace whose victim is put back before each damage."""
    from ftlab.ui.app import build_app

    root = tmp_path_factory.mktemp("app") / "workspace"
    shutil.copytree(origin, root)
    workspace = Workspace.open(root)
    yield build_app(workspace), workspace


def files_of(origin: Path) -> list[str]:
    run = origin / "runs" / VICTIM
    return sorted(str(file.relative_to(run)) for file in run.rglob("*") if file.is_file())


def put_back(origin: Path, workspace: Workspace) -> RunDirectory:
    """The victim as it was, whatever a damage and the commands have left."""
    run = workspace.runs_folder / VICTIM
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(origin / "runs" / VICTIM, run)
    return RunDirectory(run)


def answered(*words: str) -> str | None:
    """What is wrong with the answer of a command; None when it did its work or said in one sentence why not."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([str(word) for word in words])
    except BaseException:
        return f"ftlab {' '.join(map(str, words))}: {traceback.format_exc()[-1800:]}"
    if "Traceback" in err.getvalue() or (code and "ftlab: " not in err.getvalue()):
        return f"ftlab {' '.join(map(str, words))}: {code} {err.getvalue()[-1500:]}"
    return None


def answered_well(*words: str) -> bool | str:
    """True where a command did its work, else what it said."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        return main([str(word) for word in words]) == 0 or err.getvalue()


def listed(workspace: Workspace) -> dict[str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["runs", "list", "--json", "--workspace", str(workspace.root)])
    assert code == 0, err.getvalue()
    return {row["run"]: row["state"] for row in json.loads(out.getvalue())["runs"]}


class _Tracebacks(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if not record.exc_info and record.name == "ftlab.ui.kit.events":
            self.seen.append(record.getMessage())  # a tick that gave up
        if record.exc_info:
            self.seen.append(f"{record.getMessage()}: {logging.Formatter().formatException(record.exc_info)[-1800:]}")


def drawn(app: Any) -> list[str]:
    """What is wrong with a tick of a page that looks at the victim on every tab; it is drawn from nothing."""
    shown, wrong = drawn_tick(app, VICTIM)
    table = next((value for one, value in shown.items() if getattr(one, "elem_id", "") == "runs_table"), None)
    missing = table is None or HEALTHY not in str(table)
    return wrong or [f"tick: the healthy run is not listed: {table}"] * missing


def drawn_tick(app: Any, run: str | None) -> tuple[dict[Any, Any], list[str]]:
    """What the first tick of a page shows that looks at `run`, and what went wrong."""
    ticks = [one for one in app.fns.values() if one.fn is not None and one.fn.__name__ == "tick"]
    tick = max(ticks, key=lambda one: len(one.outputs))
    seen = _Tracebacks()
    logging.getLogger("ftlab").addHandler(seen)
    try:
        shown = tick.fn({}, *(_on_page(one, run) for one in tick.inputs[1:]))
    except BaseException:
        return {}, [f"tick: {traceback.format_exc()[-1800:]}"]
    finally:
        logging.getLogger("ftlab").removeHandler(seen)
    if not isinstance(shown, dict) or "__type__" in shown:
        return {}, seen.seen or ["tick: it drew nothing"]
    return shown, seen.seen


def _on_page(component: Any, run: str | None) -> Any:
    name = getattr(component, "elem_id", "") or ""
    if name in ("evaluate_run", "chat_run", "runs_run"):
        return run
    if name == "runs_other":
        return HEALTHY if run else ""
    return [] if name == "evaluate_others" else getattr(component, "value", None)


def light(workspace: Workspace) -> list[str]:
    place = ("--workspace", workspace.root)
    commands = [
        ("runs", "list"),
        ("runs", "show", VICTIM),
        ("runs", "show", VICTIM, "--json"),
        ("report", VICTIM),
        ("report", VICTIM, "--markdown"),
        ("sweep", "show", "last"),
        ("runs", "stop", VICTIM),
        ("notebook", VICTIM, "--to", workspace.root / "out.ipynb"),
    ]
    return [found for words in commands if (found := answered(*words, *place))]


def heavy(workspace: Workspace, *, again: bool) -> list[str]:
    """`again`: evaluating once more has to mend it."""
    place, target = ("--workspace", workspace.root), workspace.root / "exported"
    commands = [
        ("export", VICTIM, "--to", target),
        ("chat", VICTIM, "--message", "Hello", "--max-new-tokens", "4"),
        ("evaluate", VICTIM, HEALTHY),
        ("evaluate", VICTIM),
    ]
    found = [said for words in commands if (said := answered(*words, *place))]
    if again and answered_well("evaluate", VICTIM, *place) is not True:
        found.append(f"it cannot be evaluated again: {answered_well('evaluate', VICTIM, *place)}")
    left = [str(path) for path in workspace.root.glob(".exported*")]
    shutil.rmtree(target, ignore_errors=True)
    return found + [f"export left {left}"] * bool(left)


def trial(origin: Path, app: Any, workspace: Workspace, file: str, how: str, *, models: bool) -> list[str]:
    """All that went wrong with one file damaged in one way."""
    run = put_back(origin, workspace)
    DAMAGES[how](run.path / file, random.Random(f"{SEED} {file} {how}"))
    wrong = light(workspace) + drawn(app)
    if listed(workspace).get(HEALTHY) != "completed":
        wrong.append("the healthy run is not listed as completed")
    if models:
        # What lies in a folder's place or beside the scores is not mended by that.
        wrong += heavy(workspace, again=file.startswith("evaluation/") and how != "a folder in its place")
    if said := answered("runs", "delete", VICTIM, "--yes", "--workspace", workspace.root):
        wrong.append(said)
    elif run.path.exists():
        wrong.append("it was not deleted")
    return [f"--- {file}, {how}: {one}" for one in wrong]


def healthy_bytes(workspace: Workspace) -> dict[str, bytes]:
    run = workspace.runs_folder / HEALTHY
    # What a command writes on purpose: the report.
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.name not in ("report.html", "report.md")
    }


def pairs(origin: Path) -> list[tuple[str, str]]:
    every = [(file, how) for file in files_of(origin) for how in DAMAGES]
    random.Random(SEED).shuffle(every)
    return every


def survived(origin: Path, app_of: tuple[Any, Workspace], chosen: list[tuple[str, str]], models: set[int]) -> None:
    app, workspace = app_of
    before, wrong, bad = healthy_bytes(workspace), [], 0
    for place, (file, how) in enumerate(chosen):
        found = trial(origin, app, workspace, file, how, models=place in models)
        wrong += found
        bad += bool(found)
    print(f"\nfiles damaged and survived: {len(chosen) - bad} of {len(chosen)}")
    assert not wrong, f"{bad} of {len(chosen)}\n" + "\n".join(wrong)[:20000]
    assert healthy_bytes(workspace) == before


def test_a_damaged_file_of_one_run_stops_no_command_and_no_other_run(origin, app_of):
    chosen = pairs(origin)[:SHORT_PAIRS]
    survived(origin, app_of, chosen, set(range(SHORT_MODEL_PAIRS)))


@pytest.mark.long
@pytest.mark.timeout(5400)
def test_every_file_damaged_in_every_way_stops_no_command_and_no_other_run(origin, app_of):
    chosen = pairs(origin)
    survived(origin, app_of, chosen, set(range(len(chosen))))


def _tree(folder: Path) -> dict[str, bytes | None]:
    """All there is below `folder`; locks and what came before the disk was full are left to the caller."""
    found = {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}
    return {name: content for name, content in found.items() if not name.endswith(".lock") and "cache" not in name}


def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_made(origin, tmp_path):
    with small_disk(tmp_path / "disk", "40m") as disk:
        shutil.copytree(origin, disk / "workspace")
        workspace = disk / "workspace"
        (workspace / "data").mkdir()  # holds all data sets
        commands = [
            ("data", "fix", "messy_tickets", "--base", "none"),
            ("data", "export", "messy_tickets", disk / "out.jsonl"),
            ("train", "--set", "data.source=support_triage"),
            ("export", VICTIM, "--to", disk / "out"),
            ("report", VICTIM),
            ("report", VICTIM, "--to", disk / "report.html"),
            ("notebook", VICTIM, "--to", disk / "out.ipynb"),
            ("evaluate", VICTIM, "--rows", "2"),
        ]
        for words in commands:
            before = _tree(disk)
            # Half of what is written would fit, so it breaks off in the middle of it.
            ballast = fill(disk, leave=4096)
            said = answered_well(*words, "--workspace", workspace)
            ballast.unlink()
            assert said is not True and re.search(
                r"The disk is full\. [\d.]+ (bytes|kB) are free on the disk of", said
            ), said
            assert said.count("ftlab: ") == 1 and "Traceback" not in said, (words, said)
            assert _tree(disk) == before, words
        assert answered_well("evaluate", VICTIM, "--rows", "2", "--workspace", workspace) is True
