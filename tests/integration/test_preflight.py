"""A run is measured before it starts: by a real probe of the starter, which leaves nothing behind."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from ftlab.config import build_config, load_config
from ftlab.core.steps import Steps
from ftlab.models.starter import starter_path
from ftlab.training.preflight.finding import as_lines
from ftlab.training.preflight.measure import preflight, run_preflight
from ftlab.training.status import read_status
from tests.conftest import ROOT, last_json, offline_environment, run_cli

ONE_THREAD = {"launcher": {"threads": 1, "device": "cpu"}, "evaluation": {"after_training": False}}


def probes() -> list[int]:
    """Processes that measure, whoever started them from this test."""
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            if "ftlab.training.preflight.probe" in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child.pid)
        except psutil.NoSuchProcess:
            continue
    return found


def long_rows(path: Path, words: int = 25) -> Path:
    """Sixty rows; every fifth has four times as many words."""
    rows = [
        {"prompt": f"Number {n}: " + "word " * (words * (4 if n % 5 == 0 else 1)), "completion": f"It is {n}."}
        for n in range(60)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The starter on support tickets, measured on the command line: finding, progress, configuration, folder."""
    folder = tmp_path_factory.mktemp("preflight")
    (folder / "temporary").mkdir()
    config = build_config({"data": {"source": "support_triage"}, "optimisation": {"batch_size": 8}} | ONE_THREAD)
    (folder / "run.yaml").write_text(config.to_yaml())
    done = run_cli(
        "preflight",
        *(str(folder / "run.yaml"), "--workspace", str(folder / "workspace"), "--price", "3.6", "--json"),
        TMPDIR=str(folder / "temporary"),
    )
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(**last_json(done.stdout)), done.stderr.splitlines(), config, folder


def test_seconds_per_step_are_those_of_real_steps(measured, tmp_path):
    from ftlab.core.jobs import write_status
    from ftlab.core.run_directory import RunDirectory
    from ftlab.data.splits import freeze, prepare
    from ftlab.training.sft import prepare_training
    from ftlab.training.status import RunStatus, StatusWriter

    found, _, config, _ = measured
    run = RunDirectory(tmp_path)
    write_status(run.status_file, RunStatus())
    config = config.resolved()
    freeze(prepare(config.data), run)
    config.optimisation.max_steps = 6
    writer = StatusWriter(run.status_file)
    try:
        trainer = prepare_training(run, config, writer).trainer
        trainer.args.eval_on_start = False
        seconds = _seconds_of_steps(trainer)
    finally:
        writer.close()
    real = statistics.median(seconds[1:])
    # Taken at two times on a machine that has other work as well: of the same order, in the same unit.
    assert real / 10 < found.seconds_per_step < real * 10


def _seconds_of_steps(trainer) -> list[float]:
    from transformers import TrainerCallback

    marks = []

    class Marks(TrainerCallback):
        def on_step_begin(self, args, state, control, **_):
            marks.append(time.monotonic())

        def on_step_end(self, args, state, control, **_):
            marks.append(time.monotonic())

    trainer.add_callback(Marks())
    trainer.train()
    return [end - start for start, end in zip(marks[::2], marks[1::2], strict=True)]


def test_memory_is_above_that_of_the_libraries_and_below_the_machines(measured):
    found, *_ = measured
    assert found.fits
    # PyTorch, transformers and TRL alone take some hundred megabytes.
    assert 300e6 < found.peak_bytes < psutil.virtual_memory().total
    assert found.peak_bytes < found.available_bytes <= psutil.virtual_memory().total


def test_rows_tokens_steps_and_cost_add_up(measured):
    found, *_ = measured
    # support_triage brings 600 rows for training and 100 for validation: 75 batches of 8, six times.
    assert (found.rows, found.validation_rows, found.steps) == (600, 100, 450)
    assert 0 < found.trained_tokens < found.tokens <= found.computed_tokens
    assert found.total_seconds == pytest.approx(
        found.training_seconds + found.evaluation_seconds + found.startup_seconds
    )
    assert found.training_seconds == pytest.approx(450 * found.seconds_per_step)
    assert found.cost == pytest.approx(found.total_seconds * 0.001)  # 3.6 an hour is a thousandth a second
    # LoRA of rank 16 on all linear layers of 6 Llama layers (192 wide, 512 in between): (in + out) x 16 for each.
    shape = json.loads((starter_path() / "config.json").read_text())
    hidden, inner, layers = shape["hidden_size"], shape["intermediate_size"], shape["num_hidden_layers"]
    heads = shape.get("num_key_value_heads", shape["num_attention_heads"])
    keys = hidden // shape["num_attention_heads"] * heads
    per_layer = 2 * (hidden + hidden) + 2 * (hidden + keys) + 3 * (hidden + inner)
    assert found.trained_parameters == 16 * per_layer * layers
    # Saved in float32; a checkpoint holds AdamW's two moments of each weight as well.
    assert found.result_bytes == 4 * found.trained_parameters
    assert found.checkpoint_bytes == pytest.approx(3 * found.result_bytes, rel=0.01)


def test_memory_and_time_are_those_of_the_run_that_follows(quickstart, workspace):
    status = read_status(quickstart.run.status_file)
    config = load_config(quickstart.run.config_file)
    found = run_preflight(config, workspace)
    assert found.peak_bytes == pytest.approx(status.peak_bytes, rel=0.15)
    # Taken at two times on a machine that may have other work (a factor of 5 was seen): of the same order.
    assert status.seconds / 10 < found.total_seconds < status.seconds * 10
    assert found.total_seconds > found.before_seconds + found.after_seconds
    assert found.before_seconds > 0 and found.after_seconds > 0
    told = "\n".join(as_lines(found))
    assert "the base before training" in told and "the comparison after training" in told
    assert "resident memory of its process, asking the base, training and the comparison" in told


def test_the_base_with_examples_is_asked_where_memory_peaks_since_its_prompts_are_the_longest(tmp_path):
    from torch.nn.modules.module import register_module_forward_pre_hook

    from ftlab.evaluation.beginnings import common_beginning
    from ftlab.training.preflight.asking import Comparison
    from tests.small_runs import make_base, make_run

    run = make_run(tmp_path, make_base(tmp_path / "base"), "none", evaluation={"prompted": True})
    comparison = Comparison(run, load_config(run.config_file))
    prompts = {side: asked.questions["answers"].prompts for side, asked in comparison.asked.items()}
    longest = {side: max(map(len, each)) for side, each in prompts.items()}
    assert longest["prompted"] > 2 * longest["base"]
    read = []
    watch = register_module_forward_pre_hook(
        lambda module, given: read.append(tuple(given[0].shape)) if isinstance(module, torch.nn.Embedding) else None
    )
    try:
        measured = comparison.measure_base()
    finally:
        watch.remove()
    # What they begin with, the examples, is read once.
    common = common_beginning(sorted(prompts["prompted"], key=len)[-4:])
    assert common > longest["base"] and (1, common) in read
    assert (4, longest["prompted"] - common) in read, "a whole batch of them at once"
    assert min(measured.rates.read, measured.rates.written, measured.rates.scored) > 0


def test_progress_is_told_in_words_and_nothing_is_left_behind(measured):
    _, phases, _, folder = measured
    assert phases[0] == "reading the data"
    # The status is looked at now and then: what is over sooner than that is not told.
    assert any(phase.startswith(("one training step on ", "one validation step on ")) for phase in phases)
    assert list((folder / "workspace" / "runs").iterdir()) == []
    assert list((folder / "temporary").glob("ftlab*")) == []


def test_closing_the_measurement_ends_its_process(workspace, rows_file):
    steps = preflight(build_config({"data": {"source": str(rows_file)}} | ONE_THREAD), workspace)
    while not probes():
        next(steps)
    steps.close()
    assert probes() == []


def _probe_of(parent):
    """The measuring child; libraries start short-lived ones of their own."""
    for child in parent.children():
        try:
            if "ftlab.training.preflight.probe" in child.cmdline():
                return child
        except psutil.Error:
            continue
    return None


def test_a_measurement_ends_with_whoever_started_it(workspace, rows_file, tmp_path):
    (tmp_path / "temporary").mkdir()
    command = [sys.executable, "-m", "ftlab", "preflight", "--workspace", str(workspace.root)]
    parent = psutil.Popen(
        [*command, "--set", f"data.source={rows_file}"],
        cwd=ROOT,
        env=offline_environment() | {"TMPDIR": str(tmp_path / "temporary")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not (child := _probe_of(parent)) and time.monotonic() < deadline:
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    psutil.wait_procs([child], timeout=30)
    assert not child.is_running()
    assert list((tmp_path / "temporary").glob("ftlab*")) == []


def test_a_measurement_whose_starter_is_gone_removes_its_whole_folder(tmp_path):
    run = tmp_path / "ftlab-preflight-x" / "0"
    run.mkdir(parents=True)
    for number in range(300):
        (run / f"{number}.txt").write_text("x")
    command = [sys.executable, "-m", "ftlab.training.preflight.probe", str(run), str(tmp_path)]
    subprocess.run(command, cwd=ROOT, env=offline_environment(), stdin=subprocess.DEVNULL, capture_output=True)
    assert not run.parent.exists()


def test_where_most_rows_are_too_long_the_run_is_refused_as_it_would_be_later(tmp_path):
    data = long_rows(tmp_path / "rows.jsonl", words=60)
    done = run_cli(
        "preflight",
        *("--workspace", str(tmp_path / "workspace"), "--set", f"data.source={data}"),
        *("--set", "optimisation.max_length=32", "--set", "launcher.threads=1"),
    )
    assert done.returncode == 2
    assert "48 of 48 training rows are longer than 32 tokens" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_measurement_that_is_killed_is_a_finding_and_not_a_crash(workspace, rows_file):
    config = build_config({"data": {"source": str(rows_file)}, "method": {"name": "qlora"}} | ONE_THREAD)
    with Steps(preflight(config, workspace)) as steps:
        for _ in steps:
            for pid in probes():
                psutil.Process(pid).kill()
    found = steps.result
    assert found.fits is False
    assert found.remedies == []  # the base is in 4 bits already, and no batch was reached
    assert any("killed from outside" in note for note in found.notes)


@pytest.mark.skipif(
    sys.platform != "linux" or torch.version.cuda is not None,
    reason="RLIMIT_AS binds on Linux, and CUDA alone takes more address space than is allowed here",
)
@pytest.mark.long
def test_too_long_rows_are_named_and_memory_that_runs_out_is_a_finding_with_a_change_measured_to_fit(
    workspace, tmp_path, monkeypatch
):
    # The probe gets so little address space that the whole batch does not fit; everything else is real.
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import resource, sys\n"
        "if 'ftlab.training.preflight.probe' in sys.orig_argv:\n"
        "    resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}")
    data = long_rows(tmp_path / "rows.jsonl", words=80)
    with data.open("a") as file:
        for number in range(20):
            file.write(json.dumps({"prompt": f"Number {number}: " + "word " * 600, "completion": "Too long."}) + "\n")
    config = build_config({"data": {"source": str(data)}, "optimisation": {"batch_size": 48}} | ONE_THREAD)
    found = run_preflight(config, workspace)
    assert found.fits is False
    assert found.out_of_memory_in == "one training step on the longest batch"
    remedy = found.remedies[0]
    assert remedy.measured
    assert remedy.settings["optimisation.batch_size"] * remedy.settings["optimisation.gradient_accumulation"] == 48
    assert remedy.peak < 3 << 30 == found.available_bytes
    # 64 of the 80 rows are for training, the long ones among them by chance.
    assert found.rows + found.rows_too_long == 64
    assert 10 <= found.rows_too_long <= 20
    cut = next(advice for advice in found.warnings if advice.code == "rows_cut")
    assert f"{found.rows_too_long} of 64 training rows have more than 512 tokens" in cut.what
    assert probes() == []
