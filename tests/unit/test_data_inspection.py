"""Looking at data is cheap, complete, and shows text as text."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ftlab.config import DataConfig
from ftlab.core.workspace import Workspace
from ftlab.data import inspection
from ftlab.data.inspection import inspect, look
from ftlab.data.splits import prepare
from ftlab.errors import InputError


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "a.jsonl"
    rows = [{"question": f"<script>{n}</script> " + "long " * 100, "answer": f"a{n}", "tags": [n]} for n in range(50)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_it_says_what_training_would_get(source: str) -> None:
    seen = inspect(source, test_fraction=0.2)
    assert (seen.rows, seen.examples, seen.format) == (50, 50, "question_answer")
    assert seen.splits == prepare(DataConfig(source=source, test_fraction=0.2)).manifest["splits"]
    assert seen.columns == ["question", "answer", "tags"] and seen.detected.unused == ["tags"]
    assert seen.mean_answer_characters == pytest.approx((10 * 2 + 40 * 3) / 50)
    assert json.loads(json.dumps(seen.as_dict()))["roles"] == {"prompt": "question", "completion": "answer"}


def test_a_page_shows_short_cells_and_ends_with_the_data(source: str) -> None:
    seen = inspect(source)
    page = seen.page(48, 10)
    assert len(page) == 2 and page[0]["answer"] == "a48" and page[0]["tags"] == "[48]"
    assert len(page[0]["question"]) == 200 and seen.page(50) == [] and seen.page(-5, 1)[0]["answer"] == "a0"


def test_messages_of_a_row_and_of_none(source: str) -> None:
    assert inspect(DataConfig(source=source, system_prompt="S")).messages(7)[-1]["content"] == "a7"
    with pytest.raises(InputError, match="0 to 49"):
        inspect(source).messages(50)


def test_paging_does_not_read_the_file_again_until_it_changes(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = inspect(source)
    assert inspect(source) is first
    assert inspect(source, seed=1) is not first
    Path(source).write_text(Path(source).read_text() + json.dumps({"question": "q", "answer": "a"}) + "\n")
    assert inspect(source).rows == 51


def test_a_wrong_setting_is_named(source: str) -> None:
    with pytest.raises(InputError, match=r"data\.test_fraction.*0\.9.*at most 0\.5"):
        inspect(source, test_fraction=0.9)


def test_importing_the_data_package_loads_nothing_heavy() -> None:
    heavy = ("torch", "transformers", "datasets", "pyarrow", "pandas", "numpy", "huggingface_hub", "jinja2")
    modules = ", ".join(f"ftlab.data.{path.stem}" for path in Path(inspection.__file__).parent.glob("[a-z]*.py"))
    code = f"import sys, {modules}; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_look_shows_the_rows_of_data_that_cannot_be_trained_on(tmp_path: Path, workspace: Workspace) -> None:
    path = tmp_path / "odd.jsonl"
    path.write_text("".join(json.dumps({"ticket": f"t{n}", "triage": f"a{n}"}) + "\n" for n in range(40)))
    seen = look(str(path), workspace)
    assert seen.problem and "No usable column" in seen.problem and seen.detected is None
    assert (seen.rows, seen.columns, seen.page(39, 5)) == (
        40,
        ["ticket", "triage"],
        [{"ticket": "t39", "triage": "a39"}],
    )
    assert seen.search("T3").indices == [3, *range(30, 40)] and json.dumps(seen.as_dict())
    with pytest.raises(InputError, match="No usable column"):
        seen.messages(0)
    mapped = look(str(path), workspace, columns={"completion": "triage"}, prompt_template="Ticket: {ticket}")
    assert mapped.problem is None and mapped.messages(3)[0]["content"] == "Ticket: t3"
    wrong = look(str(path), workspace, columns={"completion": "triage"}, prompt_template="Ticket: {tickt}")
    assert "did you mean {ticket}" in (wrong.problem or "") and wrong.page(0, 1)[0]["ticket"] == "t0"


def test_a_look_at_a_broken_file_shows_the_line(tmp_path: Path, workspace: Workspace) -> None:
    path = tmp_path / "odd.jsonl"
    rows = "".join(json.dumps({"prompt": f"t{n}", "completion": f"a{n}"}) + "\n" for n in range(40))
    path.write_text(rows + "{oops\n")
    seen = look(str(path), workspace)
    assert "line 41: not valid JSON" in (seen.problem or "") and seen.rows == 41
    assert "row 40: not valid JSON" in seen.page(40, 1)[0]["prompt"] and seen.format == "prompt_completion"
    path.write_bytes(b"PK\x00\xff" * 9)
    path.rename(tmp_path / "odd.csv")
    seen = look(str(tmp_path / "odd.csv"), workspace)
    assert "is not text" in (seen.problem or "") and (seen.rows, seen.page()) == (0, [])


def test_a_look_at_a_large_source_reads_a_sample(
    source: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "WHOLE", 20)
    monkeypatch.setattr(inspection, "load_rows", None)
    seen = look(source, workspace)
    assert seen.problem is None and seen.rows == 50 and "50 of 50 rows" in seen.notes[0]
    assert seen.messages(7)[-1]["content"] == "a7" and seen.search("a49").indices == [49]
    assert seen.mean_answer_characters == pytest.approx((10 * 2 + 40 * 3) / 50)
