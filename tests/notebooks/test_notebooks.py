"""The notebooks run from top to bottom, hold no outputs, and define no logic of their own."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import ROOT, offline_environment, write_easy_rows

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# The loop of the blind test trains four times.
RUN = [pytest.param(path, marks=[pytest.mark.long] * path.stem.startswith("04")) for path in NOTEBOOKS]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_free_of_outputs_and_of_logic(path: Path):
    cells = nbformat.read(path, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert not any(line.startswith(("def ", "class ")) for cell in code for line in cell.source.splitlines())
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code) == 1
    assert any("assert " in cell.source for cell in code)


@pytest.mark.train
@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", RUN, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom_offline(path: Path, tmp_path: Path, monkeypatch):
    """On little data of one's own: the sample and its replay are trained by the `quickstart` fixture."""
    for name, value in offline_environment(tmp_path / "network.txt").items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(path, as_version=4)
    parameters = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    data = write_easy_rows(tmp_path / "rows.jsonl")
    given = {"data": os.fspath(data), "replay": None, "workspace": os.fspath(tmp_path / "workspace")}
    parameters.source += "".join(f"\n{name} = {value!r}" for name, value in given.items())
    NotebookClient(
        notebook, timeout=800, kernel_name="python3", resources={"metadata": {"path": str(ROOT / "notebooks")}}
    ).execute()
    assert not (tmp_path / "network.txt").exists(), (tmp_path / "network.txt").read_text()
