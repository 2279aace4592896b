"""Settings for several processes or machines that cannot be are refused before anything starts."""

from __future__ import annotations

import math

import pytest

from ftlab.config import build_config
from ftlab.errors import InputError
from ftlab.training.launcher import check_launcher, keep_configuration, threads_per_process
from ftlab.training.launching.launch import command
from ftlab.training.sizes import planned_steps
from tests.conftest import run_cli

TWO = "compute_environment: LOCAL_MACHINE\ndistributed_type: {kind}\nnum_processes: 2\nnum_machines: 1\n"


def asked(**launcher):
    return build_config({"launcher": {"device": "cpu"} | launcher})


@pytest.mark.parametrize(
    ("text", "launcher", "said"),
    [
        (None, {"processes": 2, "machines": 2}, "need an accelerate configuration"),
        (None, {"processes": 3, "machines": 2, "config_file": "x.yaml"}, "same number of processes"),
        (None, {"processes": 2, "config_file": "missing.yaml"}, "no such accelerate configuration"),
        ("a: [1,\n", {"processes": 2}, "not valid YAML at line 2"),
        ("- 1\n", {"processes": 2}, "it contains no settings"),
        ("model: {base: starter}\n", {"processes": 2}, "it names no distributed_type"),
        (TWO.format(kind="MULTI_GPU") + "fsdp: 1\n", {"processes": 2}, "unknown keys .*fsdp"),
        (TWO.format(kind="XLA"), {"processes": 2}, "does not support"),
        (TWO.format(kind="MULTI_GPU"), {"processes": 4}, "num_processes: 2 in the file, launcher.processes: 4"),
        (TWO.format(kind="MULTI_GPU") + "mpirun_config: {log_dir: /x}\n", {"processes": 2}, "unknown setting"),
        (TWO.format(kind="FSDP"), {"processes": 2}, "FULL_STATE_DICT"),
        (
            TWO.format(kind="FSDP") + "fsdp_config: {fsdp_state_dict_type: FULL_STATE_DICT}\n",
            {"processes": 2},
            "trains on the CPU",
        ),
        (
            TWO.format(kind="MULTI_CPU").replace("machines: 1", "machines: 2"),
            {"processes": 2, "machines": 2},
            "connect",
        ),
    ],
)
def test_what_cannot_be_launched_is_refused_in_words(tmp_path, monkeypatch, text, launcher, said):
    monkeypatch.chdir(tmp_path)
    if text is not None:
        (tmp_path / "accelerate.yaml").write_text(text)
        launcher = launcher | {"config_file": "accelerate.yaml"}
    with pytest.raises(InputError, match=said):
        check_launcher(asked(**launcher))


def test_a_loss_that_reads_the_whole_head_is_refused_where_no_process_has_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "accelerate.yaml").write_text(TWO.format(kind="DEEPSPEED"))
    launcher = {"device": "cpu", "processes": 2, "config_file": "accelerate.yaml"}
    with pytest.raises(InputError, match="whole head in each process"):
        check_launcher(build_config({"launcher": launcher, "optimisation": {"loss": "eaft"}}))


def test_more_processes_than_gpus_are_refused(monkeypatch):
    torch = pytest.importorskip("torch")
    there = torch.cuda.device_count()
    if there == 0:
        # The only thing that a machine without a GPU cannot have; what follows from the number is asked for real.
        monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    with pytest.raises(InputError, match=f"at most {there} on this machine"):
        check_launcher(build_config({"launcher": {"device": "cuda", "processes": there + 2}}))


def test_stages_that_were_not_written_for_it_train_in_one_process(tmp_path):
    with pytest.raises(InputError, match="supports only one process"):
        check_launcher(build_config({"stage": "grpo", "launcher": {"device": "cpu", "processes": 2}}))
    check_launcher(build_config({"stage": "dpo", "launcher": {"device": "cpu", "processes": 2}}))
    sharded = tmp_path / "fsdp.yaml"
    sharded.write_text("distributed_type: FSDP\n")
    with pytest.raises(InputError, match="dpo cannot share its weights"):
        check_launcher(build_config({"stage": "dpo", "launcher": {"processes": 2, "config_file": str(sharded)}}))


def test_the_command_line_refuses_it_in_one_sentence(tmp_path):
    done = run_cli(
        "train", "--set", "launcher.device=cpu", "--set", "launcher.machines=2", "--set", "launcher.processes=2",
        "--workspace", str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 2
    assert "accelerate config" in done.stderr and "Traceback" not in done.stderr
    assert not list((tmp_path / "runs").glob("*"))


def test_steps_count_the_rows_of_all_processes():
    settings = build_config({"optimisation": {"batch_size": 4, "gradient_accumulation": 2, "epochs": 3}}).optimisation
    # 100 rows, 2 processes of 4 rows, twice a step: 16 rows a step.
    steps = planned_steps(settings, 100, validation=True, processes=2)
    assert (steps.per_epoch, steps.total) == (math.ceil(100 / 16), 21)


def test_processes_on_cpus_share_the_cores_out(monkeypatch, workspace):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert threads_per_process(asked(processes=2).launcher) == 4
    assert threads_per_process(asked(processes=2, threads=3).launcher) == 3
    assert threads_per_process(asked(processes=16).launcher) == 1
    run = workspace.create_run("two")
    keep_configuration(run, asked(processes=2).launcher)
    words = " ".join(command(run, asked(processes=2).launcher))
    assert "--num_processes 2" in words and "--num_cpu_threads_per_process 4" in words
