"""Why a run ended, in words."""

import errno
import signal

import pytest

from ftlab.core.jobs import write_status
from ftlab.errors import FtlabError, InputError
from ftlab.training.failures import DISK_FULL_CODE, explain_death, explain_exception
from ftlab.training.status import RunStatus, read_status


@pytest.mark.parametrize(
    "error, what, advice",
    [
        (MemoryError(), "ran out of memory", "smaller batch"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "ran out of memory", "QLoRA"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), "memory", "batch"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk is full", "FTLAB_HOME"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "disk is full", "FTLAB_HOME"),
        (ZeroDivisionError("division by zero"), "unexpected error", "log"),
        (FtlabError("It diverged", try_="a lower rate"), "It diverged", "a lower rate"),
    ],
)
def test_an_error_inside_the_run_is_named_with_a_remedy(error, what, advice):
    reason = explain_exception(error)
    assert what in reason["what"]
    assert advice in reason["try"]


def test_a_checkpoint_that_torch_cannot_write_is_not_an_unexpected_error(tmp_path):
    import torch

    with pytest.raises(RuntimeError) as caught:
        torch.save({"weight": torch.zeros(1000)}, "/dev/full")  # a device that is always full
    assert "No space" not in str(caught.value)
    reason = explain_exception(caught.value, tmp_path)
    assert reason["what"] == "A checkpoint could not be written."
    assert "resume" in reason["try"]


def test_what_torch_says_of_a_damaged_or_strange_pickle_is_never_handed_on(tmp_path, capsys):
    import pickle

    import torch

    class Runs:
        def __reduce__(self):
            return print, ("ran",)

    (tmp_path / "strange.pt").write_bytes(pickle.dumps(Runs()))
    torch.save({"strange": Runs()}, tmp_path / "zipped.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "zipped.pt").read_bytes()[:200])
    for name in ("strange.pt", "zipped.pt", "cut.pt"):
        with pytest.raises(Exception) as caught:
            torch.load(tmp_path / name, weights_only=True)
        reason = explain_exception(caught.value)
        assert "cannot be read" in reason["what"] and "resume" in reason["try"], (name, reason)
        assert "weights_only" not in str(reason) and "False" not in str(reason)
    assert capsys.readouterr().out == "", "what was in the pickle has run"


def test_wrong_input_is_marked_as_such():
    assert explain_exception(InputError("too long"))["kind"] == "input"


@pytest.mark.parametrize(
    "code, log, what",
    [
        (-signal.SIGKILL, "", "killed from outside (SIGKILL) at step 7 of 90"),
        (-signal.SIGTERM, "", "killed from outside (SIGTERM)"),
        (DISK_FULL_CODE, "", "The disk is full."),
        (None, "OSError: [Errno 28] No space left on device", "The disk is full."),
        (None, "torch.OutOfMemoryError: CUDA out of memory", "ran out of memory"),
        (None, "", "ended at step 7 of 90 without giving a reason"),
    ],
)
def test_a_process_that_is_gone_is_explained_from_what_it_left(tmp_path, code, log, what):
    (tmp_path / "train.log").write_text(log)
    reason = explain_death(code, tmp_path / "train.log", RunStatus(state="running", step=7, total_steps=90))
    assert what in reason["what"]
    assert reason["try"]


def test_a_status_of_a_newer_version_is_still_read(tmp_path):
    write_status(tmp_path / "status.json", RunStatus(state="running", step=3))
    text = (tmp_path / "status.json").read_text().replace('"step"', '"added_later": 1, "step"')
    (tmp_path / "status.json").write_text(text)
    assert read_status(tmp_path / "status.json").step == 3


def test_rows_of_an_evaluation_never_stand_where_steps_of_training_do(tmp_path):
    from ftlab.training.status import StatusWriter
    from ftlab.training.worker import _progress

    file = tmp_path / "status.json"
    writer = StatusWriter(file)
    try:
        writer.update(state="running", phase="training", step=1040, total_steps=1040)
        _progress(writer)("answers of the base", 354, 400)
        writer.update(state="failed")
    finally:
        writer.close()
    status = read_status(file)
    assert (status.step, status.total_steps, status.counted) == (1040, 1040, ("answer", 354, 400))
    assert "at answer 354 of 400" in explain_death(None, tmp_path / "train.log", status)["what"]
