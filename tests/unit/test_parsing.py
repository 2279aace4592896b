"""Settings of people and strangers: what is wrong with them is one sentence, and nothing is started."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from ftlab.config import RunConfig, build_config, load_config
from ftlab.core.parsing import parse_json, parse_yaml, read_yaml
from ftlab.core.workspace import Workspace
from ftlab.errors import InputError

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{one}: &{one} [{', '.join([f'*{before}'] * 9)}]\n" for before, one in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGED = "a: &a {x: 1}\n" + "".join(
    f"{one}: &{one} {{k: [{', '.join([f'*{before}'] * 9)}]}}\n"
    for before, one in zip("abcdefgh", "bcdefghi", strict=True)
)
# Each with what the sentence says, the line among it.
WRONG = {
    "digits": ("optimisation:\n  seed: " + "9" * 5000, "line 2, column 9: 9999", "too many digits"),
    "hexadecimal": ("optimisation: {seed: 0x" + "f" * 5000 + "}", "line 1", "too many digits"),
    "no_such_day": ("name: 2024-02-30", "line 1, column 7: 2024-02-30 cannot be read", "quotation marks"),
    "no_such_hour": ("name: 2024-01-01T99:99:99", "line 1", "hour must be in 0..23"),
    "deep": ("data: " + "[" * 150 + "]" * 150, "line 1", "nested more than 100 levels deep"),
    "deeper": ("data: " + "[" * 20_000, "nested more than 100 levels deep", ""),
    "laughs": (LAUGHS, "line 6", "more than 100,000 values with aliases expanded"),
    "merged": (MERGED, "more than 100,000 values", ""),
    "itself": ("a: &a [*a]", "line 1", "an alias that contains itself"),
    "twice": ("data:\n  source: a\n  source: b", "line 3, column 3", "'source' appears twice"),
    "tab": ("data:\n\tsource: a", "line 2", "indent with spaces"),
    "code": ("name: !!python/object/apply:os.system [ls]", "line 1", "could not determine a constructor"),
    "no_number": ("name: !!int abc", "line 1", "abc cannot be read"),
    "binary": ("name: !!binary x", "line 1", "base64"),
    "list_as_key": ("? [a, b]\n: c", "line 1", "unhashable"),
    "zero": ("name: a\x00b", "special characters are not allowed", ""),
    "two": ("name: a\n---\nname: b", "line 2", "another document"),
    "large": ("name: " + "x" * 1_100_000, "too large for settings", "1,048,576"),
    "number_as_key": ("1: 2", "Keys should be strings", ""),
    "nan": ("optimisation: {learning_rate: .nan}", "a finite number", ""),
}


@pytest.mark.parametrize("name", WRONG)
def test_yaml_that_cannot_be_read_is_one_sentence_with_its_line(tmp_path: Path, name: str) -> None:
    text, *said = WRONG[name]
    file = tmp_path / "run.yaml"
    file.write_text(text, encoding="utf-8")
    begun = time.process_time()
    with pytest.raises(InputError) as caught:
        load_config(file)
    assert time.process_time() - begun < 5
    assert all(part in caught.value.message() for part in said), caught.value.message()
    assert len(caught.value.message()) < 700


def test_yaml_in_the_encodings_of_editors_is_read(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    for raw in (b"\xef\xbb\xbfname: \xc3\xa9", "name: é".encode("utf-16"), "name: é\r\n".encode()):
        file.write_bytes(raw)
        assert read_yaml(file) == {"name": "é"}
    file.write_bytes(b"name: a\nname2: \xe9")
    with pytest.raises(InputError, match="not UTF-8 text at line 2"):
        read_yaml(file)
    assert parse_yaml("base: &b {x: 1}\nother: {<<: *b, y: 2}", "it")["other"] == {"x": 1, "y": 2}


def test_json_beyond_the_limits_is_a_value_error() -> None:
    for text in ("[" * 100_000, "[" * 200 + "]" * 200, "9" * 5000, "{", '{"a": ' * 150 + "1" + "}" * 150):
        with pytest.raises(ValueError):
            parse_json(text)
    assert parse_json("[" * 90 + "]" * 90)
    assert parse_json('{"a": "\\ud83d\\ude00 \\ud83d \\ude00"}') == {"a": "😀 \ufffd \ufffd"}


ODD: list[Any] = [
    [], {}, [1], {"a": 1}, {1: 2}, None, True, "", "x" * 300, "\ud83d", "a\x00b", "nan", b"a", [[[]]],
    10**30, -(10**30), 10**400, 10**5000, float("nan"), float("inf"), -1, 0, 1e308,
]  # fmt: skip


def test_every_setting_takes_or_refuses_every_kind_of_value_in_words(tmp_path: Path) -> None:
    deep: Any = []
    for _ in range(500):
        deep = [deep]
    places = [(name,) for name in RunConfig.model_fields]
    for name, field in RunConfig.model_fields.items():
        places += [(name, inner) for inner in getattr(field.annotation, "model_fields", ())]
    for place in places:
        for odd in [*ODD, deep]:
            values = {place[0]: odd if len(place) == 1 else {place[1]: odd}}
            try:
                config = build_config(values)
            except InputError as error:
                error.message().encode()
                continue
            file = tmp_path / "run.yaml"
            file.write_text(config.to_yaml(), encoding="utf-8")
            assert load_config(file).model_dump() == config.model_dump()
            config.resolved()


def test_a_program_that_sends_wrong_types_is_told_in_one_sentence_and_starts_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    gr = pytest.importorskip("gradio")
    from ftlab.ui import programs

    monkeypatch.chdir(workspace.root)  # "../.." is a source, too: a folder without data
    offered: dict[str, Any] = {}
    monkeypatch.setattr(programs.gr, "api", lambda function, **_: offered.setdefault(function.__name__, function))
    with gr.Blocks():
        programs.offer(workspace)
    deep: Any = {}
    for _ in range(300):
        deep = {"data": deep}
    odd = [*(one for one in ODD if not isinstance(one, bytes)), deep, "no-such-thing", "../..", "version:x"]
    of_config = (
        [{"data": {"source": one}} for one in odd if one not in (None, {})]
        + [{"optimisation": {"learning_rate": one}} for one in (float("nan"), [], "x", 10**40)]
        + [{"data": one} for one in odd if one]
    )
    calls: list[tuple[str, dict[str, Any]]] = [
        ("train", {"config": one}) for one in [*of_config, *odd] if one not in (None, {})
    ]
    calls += [("inspect", {"source": one}) for one in odd]
    calls += [("inspect", {"source": "support_triage", "settings": one}) for one in odd if one not in (None, {})]
    calls += [(name, {"run": one}) for name in ("status", "stop", "evaluate", "chat") for one in odd if name != "chat"]
    calls += [("evaluate", {"run": "last", "max_rows": one}) for one in odd]
    calls += [("chat", {"message": "hi", name: one}) for name in ("run", "system", "temperature") for one in odd]
    calls += [("arena_results", {"test": one}) for one in odd]
    for name, given in calls:
        with pytest.raises(gr.Error) as caught:
            offered[name](**given)
        said = str(caught.value.message)
        assert "Something went wrong" not in said and "Traceback" not in said, (name, str(given)[:80], said)
        said.encode()
    assert workspace.runs() == [] and not list(workspace.runs_folder.iterdir())
