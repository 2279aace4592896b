"""Whatever stands in the cells: a report or one message, never a traceback."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as some

from ftlab.config import DataConfig
from ftlab.data.checks import check
from ftlab.data.load import Loaded
from ftlab.data.remedies import action_for
from ftlab.errors import FtlabError
from tests.mended import apply_all

text = some.one_of(
    some.text(max_size=60),
    some.text(alphabet="a1@. {}[]\"'<>&;:+-\ud83d\x00\ufffd", max_size=60),
    some.sampled_from(["", " ", "ok", "{}", '[{"role": "user"}]', '{"a": 1}', "<p>", "a@b.org", "password: x1y2z3"]),
)
turn = some.fixed_dictionaries(
    {"role": some.sampled_from(["user", "assistant", "system", "tool", ""]), "content": some.one_of(text, some.none())}
)
cell = some.one_of(text, some.none(), some.integers(), some.lists(turn, max_size=4))
rows = some.one_of(
    some.lists(some.fixed_dictionaries({"prompt": cell, "completion": cell}), min_size=1, max_size=25),
    some.lists(some.fixed_dictionaries({"messages": some.lists(turn, max_size=5)}), min_size=1, max_size=25),
)


@settings(max_examples=40, deadline=None)
@given(train=rows, test=rows)
def test_any_rows_give_a_report_or_a_message(train: list[dict[str, Any]], test: list[dict[str, Any]]) -> None:
    loaded = Loaded("fuzz", "file", {"train": train, "test": test}, list(train[0]), [])
    try:
        report = check(DataConfig(source="fuzz"), loaded=loaded)
    except FtlabError:
        return
    json.dumps(report.as_dict())
    for finding in report.findings:
        assert all(0 <= row < len(loaded.splits[finding.split]) for row in finding.rows)
    actions = [action_for(finding, report.roles) for finding in report.findings if finding.remedy != "none"]
    after, sentences = apply_all(loaded.splits, actions)
    assert len(sentences) == len(actions) and sum(map(len, after.values())) <= len(train) + len(test)
