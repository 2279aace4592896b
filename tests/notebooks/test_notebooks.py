"""The notebooks run from top to bottom, hold no outputs, and define no logic of their own."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from ftlab.api import Run
from ftlab.config import RunConfig
from ftlab.report.notebook import INSTALL
from tests.conftest import ROOT, Quickstart, end_runs, offline_environment, run_cli

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# What makes each quick here; the rest of its parameters stay, and so does what it expects. The runs of `quickstart` are
# taken over by those that need such a run, and that of 05 by 06.
SMALL: dict[str, dict[str, Any]] = {
    "00_launch": {},
    "01_data": {},
    "02_finetune": {"methods": ["lora", "prefix_tuning"], "steps": 25, "rows": 16, "replay": None},
    "03_evaluate": {"rows": 8},
    "04_blind_test": {},
    "05_preferences": {"start_steps": 25, "steps": 10, "rows": 12},
    "06_rlhf": {},
    "07_forgetting": {"steps": 45},
    "08_share": {},
}

EXECUTED = "FTLAB_TEST_NOTEBOOKS"  # a folder: the notebooks are written there as they were executed


def cells_of(path: Path) -> list[Any]:
    return nbformat.read(path, as_version=4).cells


def code_of(path: Path) -> list[Any]:
    return [cell for cell in cells_of(path) if cell.cell_type == "code"]


def execute(path: Path, network: Path, monkeypatch, **given: Any) -> Any:
    """Run a notebook in a kernel without a network, with other values of some parameters; returns it with outputs."""
    for name, value in offline_environment(network).items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(path, as_version=4)
    parameters = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    parameters.source += "".join(f"\n{name} = {value!r}" for name, value in given.items())
    folder = {"metadata": {"path": os.fspath(path.parent)}}
    try:
        NotebookClient(notebook, timeout=800, kernel_name="python3", resources=folder).execute()
    finally:
        if (executed := os.environ.get(EXECUTED)) and path in NOTEBOOKS:
            Path(executed).mkdir(parents=True, exist_ok=True)
            nbformat.write(notebook, Path(executed) / path.name)
    assert not network.exists(), network.read_text()
    return notebook


def expectations(notebook: Any) -> list[str]:
    """What `ftlab.expect` displayed, in order. There is one line for each call."""
    heads = ("As expected: ", "Expected, but not here: ")
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    texts = [output.get("data", {}).get("text/plain", "") for cell in cells for output in cell.outputs]
    lines = [text for text in texts if text.startswith(heads)]
    assert len(lines) == sum(cell.source.count("ftlab.expect(") for cell in cells)
    return lines


def test_the_series_is_complete():
    assert [path.stem for path in NOTEBOOKS] == list(SMALL)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_free_of_outputs_and_of_logic(path: Path):
    code = code_of(path)
    assert not any(cell.outputs or cell.execution_count for cell in code)
    lines = [line for cell in code for line in cell.source.splitlines()]
    assert not any(line.lstrip().startswith(("def ", "class ", "async def ")) for line in lines)
    assert "lambda" not in "".join(lines)
    inside = [line for line in lines if re.match(r"\s*(from|import) ftlab\.(?!api( |$))", line)]
    assert not inside, "everything comes from ftlab itself"
    assert all(len(line) <= 110 for line in lines), "it would have to be scrolled sideways"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_begins_with_a_badge_the_one_install_cell_and_the_one_cell_of_parameters(path: Path):
    code = code_of(path)
    badge = rf"colab\.research\.google\.com/github/[\w.-]+/[\w.-]+/blob/main/notebooks/{re.escape(path.name)}"
    assert re.search(badge, cells_of(path)[0].source)
    assert code[0].source == INSTALL
    assert ["parameters" in cell.metadata.get("tags", []) for cell in code] == [False, True] + [False] * (len(code) - 2)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_step_of_a_notebook_is_explained_and_checked(path: Path):
    cells = cells_of(path)
    for before, cell in itertools.pairwise(cells[3:]):
        if cell.cell_type == "code" and "parameters" not in cell.metadata.get("tags", []):
            assert before.cell_type == "markdown" or "parameters" in before.metadata.get("tags", []), cell.source
    steps = [cell.source for cell in code_of(path)[2:]]
    unchecked = [source for source in steps if "assert " not in source and "ftlab.expect(" not in source]
    assert not unchecked


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_ends_with_an_exercise_and_keeps_runs_on_drive_in_colab(path: Path):
    exercise, last = cells_of(path)[-2:]
    assert exercise.source.startswith("## Exercise\n")
    assert "<details><summary>What you should see</summary>" in exercise.source
    assert last.cell_type == "markdown"
    parameters, first = (cell.source for cell in code_of(path)[1:3])
    assert "\ndrive = True  # in Colab: that folder on Google Drive" in parameters
    assert "\nworkspace = ftlab.workspace_folder(workspace, drive=drive)\n" in first


def test_a_change_of_the_base_stands_in_the_parameters_alone():
    for path in NOTEBOOKS:
        others = [cell.source for cell in code_of(path) if "parameters" not in cell.metadata.get("tags", [])]
        assert not any('"starter"' in source or '"support_triage"' in source for source in others), path.stem


@pytest.mark.train
@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom_offline(path: Path, quickstart: Quickstart, tmp_path: Path, monkeypatch):
    """In the workspace of the session, whose run of the main job those take over that need one."""
    workspace = quickstart.workspace
    try:
        done = execute(
            path, tmp_path / "network.txt", monkeypatch, workspace=os.fspath(workspace.root), **SMALL[path.stem]
        )
    finally:
        end_runs(workspace)
    shown = [output for cell in done.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("text/html" in output.get("data", {}) for output in shown), "nothing to look at"
    assert [line for line in expectations(done) if not line.startswith("As expected: ")] == []


def test_an_expectation_that_fails_says_what_to_try_and_stops_nothing():
    cells = [f'import ftlab\nftlab.expect({holds}, "It <b>fits.", otherwise="Buy more.")' for holds in (True, None)]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    NotebookClient(notebook, timeout=100, kernel_name="python3").execute()
    assert expectations(notebook) == ["As expected: It <b>fits.", "Expected, but not here: It <b>fits. Buy more."]
    page = notebook.cells[1].outputs[0]["data"]["text/html"]
    assert "Expected, but not here:</b> It &lt;b&gt;fits. Buy more." in page


@pytest.mark.train
@pytest.mark.timeout(300)
def test_the_notebook_of_a_run_repeats_it_to_the_last_digit(workspace, tmp_path: Path, monkeypatch):
    """A tiny run, and the notebook that ftlab writes of it. On one machine and thread nothing may differ."""
    for name, value in offline_environment().items():
        monkeypatch.setenv(name, value)
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(f'{{"prompt": "Count to {n}.", "completion": "{n} is it."}}\n' for n in range(40)))
    config = RunConfig(
        name="tiny",
        data={"source": os.fspath(rows)},
        optimisation={"max_steps": 3, "batch_size": 8},
        evaluation={"max_rows": 3, "max_new_tokens": 8, "probes": None, "general_text": None, "memorisation": False},
        launcher={"device": "cpu", "threads": 1},
    )
    import ftlab

    first = ftlab.train(config, workspace=workspace.root).wait(show=False)
    notebook = tmp_path / "repeat.ipynb"
    written = run_cli("notebook", first.id, "--workspace", os.fspath(workspace.root), "--to", os.fspath(notebook))
    assert written.stdout.strip() == os.fspath(notebook), written.stderr
    nbformat.validate(nbformat.read(notebook, as_version=4))
    done = execute(notebook, tmp_path / "network.txt", monkeypatch)
    again = Run.find("last", workspace.root)
    assert again.id != first.id
    assert again.comparison().value("perplexity") == first.comparison().value("perplexity")
    assert list(again.metrics["loss"].dropna()) == list(first.metrics["loss"].dropna())
    waited = next(cell for cell in done.cells if "run.wait()" in cell.source)
    pictures = [one["data"]["text/html"] for one in waited.outputs if "text/html" in one.get("data", {})]
    assert len(pictures) == 1 and "completed" in pictures[0], "one curve, drawn anew in its place, and not once more"
    assert "differs" not in str(done.cells[-1].outputs[-1]["data"]["text/html"])

    rows.write_text(rows.read_text() + '{"prompt": "Stop.", "completion": "Yes."}\n')
    with pytest.raises(CellExecutionError) as caught:
        execute(notebook, tmp_path / "network.txt", monkeypatch)
    assert "InputError: The data differs from that of the run: rows.jsonl has changed since" in str(caught.value)
    assert "Traceback" not in str(caught.value), "one message is enough"
    assert len(workspace.runs()) == 2, "nothing was trained on other data"
