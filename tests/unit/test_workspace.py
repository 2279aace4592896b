import json
import threading

import pytest

from ftlab.config import build_config
from ftlab.core.files import anywhere, append_jsonl, check_reach, limited_to, locked, read_json, read_jsonl, write_json
from ftlab.core.workspace import Workspace
from ftlab.errors import InputError


@pytest.fixture
def workspace(tmp_path):
    return Workspace.open(tmp_path / "workspace")


def make_run(workspace, label):
    run = workspace.create_run(label)
    run.config_file.write_text("name: x\n")
    return run


def test_a_run_is_found_by_id_by_the_beginning_of_it_and_as_the_last(workspace):
    first, second = make_run(workspace, "Support Triage!"), make_run(workspace, "other")
    assert "support-triage" in first.id
    assert workspace.run(first.id) == first
    assert workspace.run(second.id[:-1]) == second
    assert workspace.run("last") == max((first, second), key=lambda run: run.id)


def test_an_unknown_run_names_the_nearest(workspace):
    run = make_run(workspace, "triage")
    with pytest.raises(InputError, match=f"did you mean {run.id}"):
        workspace.run(run.id[:-3] + "xyz")


def test_an_ambiguous_beginning_is_refused(workspace):
    make_run(workspace, "a"), make_run(workspace, "b")
    with pytest.raises(InputError, match="More than one run"):
        workspace.run("20")


def test_a_workspace_that_cannot_be_made_is_explained(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be created"):
        Workspace.open(tmp_path / "file" / "workspace")


def test_a_reader_never_sees_half_a_file(tmp_path):
    file = tmp_path / "status.json"
    write_json(file, {"n": 0, "text": "x" * 100_000})
    stop = threading.Event()

    def write():
        for n in range(50):
            write_json(file, {"n": n, "text": "x" * 100_000})
        stop.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = 0
    while not stop.is_set():
        assert len(read_json(file)["text"]) == 100_000
        seen += 1
    writer.join()
    assert seen > 0


def test_a_line_still_being_written_is_left_out(tmp_path):
    file = tmp_path / "metrics.jsonl"
    append_jsonl(file, {"step": 1})
    with file.open("a") as stream:
        stream.write('{"step": 2, "lo')
    assert read_jsonl(file) == [{"step": 1}]


def test_a_text_with_characters_that_end_a_line_elsewhere_stays_one_row(tmp_path):
    rows = [{"text": "one\u2028two\x85three"}, {"text": "four"}]
    for row in rows:
        append_jsonl(tmp_path / "predictions.jsonl", row)
    assert read_jsonl(tmp_path / "predictions.jsonl") == rows


def test_only_one_holds_the_device(workspace):
    with locked(workspace.device_lock) as first:
        assert first
        got = []
        thread = threading.Thread(target=lambda: got.append(_try(workspace)))
        thread.start()
        thread.join()
        assert got == [False]
    assert _try(workspace)


def _try(workspace):
    with locked(workspace.device_lock, wait=False) as mine:
        return mine


def test_a_deleted_run_is_gone(workspace):
    run = make_run(workspace, "a")
    workspace.delete_run(run)
    assert workspace.runs() == []
    assert json.dumps([path.name for path in workspace.root.iterdir() if path.name.startswith(".deleted")]) == "[]"


@pytest.mark.parametrize("asked", ["/etc/passwd", "~/.ssh", "a, /etc/passwd", {"x": [{"y": "../../etc"}]}, "/" * 9000])
def test_who_may_open_files_of_one_folder_names_no_other(workspace, asked):
    check_reach(asked)
    with limited_to([workspace.root]):
        with pytest.raises(InputError, match="only files in its workspace"):
            check_reach(asked)
        with anywhere():
            check_reach(asked)
    check_reach(asked)


def test_who_may_open_files_of_one_folder_names_what_is_no_file_and_what_lies_there(workspace):
    with limited_to([workspace.root]):
        for asked in ("support_triage", "owner/name", "version:abc", "", None, 3, "a: /b\nc", workspace.root / "x"):
            check_reach(asked)
        build_config({"data": {"system_prompt": "/no_think", "source": "support_triage"}})
        with pytest.raises(InputError, match="only files in its workspace"):
            build_config(None, ["data.source=/etc/passwd"])
