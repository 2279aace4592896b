"""What the Checks panel shows, without a browser, and what its remedies do to a version."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("gradio")

from ftlab.config import DataConfig
from ftlab.data.checks import Finding, check
from ftlab.data.checks.job import Request
from ftlab.data.remedies import answer_group, give_answer, is_mended, mend_findings
from ftlab.data.version_store import rows_of
from ftlab.data.versions import create
from ftlab.ui.tabs.data import checks_view as data_checks_view
from ftlab.ui.tabs.data import findings as data_findings
from ftlab.ui.tabs.data import lengths as data_lengths

ATTACK = "<script>alert(1)</script><img src=x onerror=alert(2)>{{value}}${value}"


@pytest.fixture
def report(tmp_path: Path) -> dict:
    """A real report of rows in which every text is an attack: two of them conflict, one is a copy."""
    file = tmp_path / "attack.jsonl"
    lines = [
        {ATTACK: "x", "prompt": f"{ATTACK} {n} or not?", "completion": f"{ATTACK} is {n} here."} for n in range(12)
    ]
    lines += [lines[0], lines[1] | {"completion": f"{ATTACK} is another."}]
    lines += [{ATTACK: "x", "prompt": f"Mail a{n}@acme-corp.io {ATTACK}", "completion": ATTACK} for n in range(2)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return check(str(file), prompts=[ATTACK]).as_dict() | {"name": ATTACK, "notes": [ATTACK]}


def texts(report: dict) -> Iterator[str]:
    yield data_findings.totals(report)
    yield data_findings.cards(report["findings"])
    yield data_findings.row_beside_match(ATTACK, [(ATTACK, {ATTACK: ATTACK, "turns": [{"content": ATTACK}]})])
    yield data_findings.progress(ATTACK, 1, 2, 0.5)
    yield data_findings.what_was_done(ATTACK, 2, ATTACK, 1)
    counts = [{"topic": "classes", "level": "low", "text": ATTACK, "source": ATTACK, "url": "https://example.org",
               "rows_per_class": {ATTACK: 3}}]  # fmt: skip
    yield data_lengths.enough(counts)
    yield data_lengths.coverage(report["coverage"] | {"topics": [_topic()]}, [(ATTACK, ATTACK)], 1)


def _topic() -> dict:
    return {"terms": [ATTACK], "prompts": 3, "covered": False, "similarity": 0.1, "example": ATTACK}


def test_text_of_the_data_is_never_markup(report: dict) -> None:
    assert {"conflicting_answers", "exact_duplicate", "email"} <= {finding["kind"] for finding in report["findings"]}
    for text in texts(report):
        assert "<script" not in text and "<img" not in text
        assert "&lt;script&gt;alert(1)" in text


def test_a_card_says_how_many_where_why_and_what_to_do_and_hides_addresses(report: dict) -> None:
    html = data_findings.cards(report["findings"])
    assert "Remove the copy, keep the first" in html and "counts twice" in html and "1 row of train" in html
    assert "a1@acme-corp.io" not in html and "Mask them in 2 rows" in html and "Drop 2 rows" in html
    assert 'data-pick="row:' in html and 'aria-label="Read row 12 of train"' in html
    # No answer has a majority: then nothing can be given by itself, and a person has to say which is right.
    assert "Use the most common answer" not in html and "Press a row to choose the right answer" in html


def test_at_most_twenty_rows_of_a_finding_are_offered_and_the_rest_is_counted() -> None:
    finding = Finding("html", "train", list(range(1234))).as_dict()
    html = data_findings.cards([finding])
    assert len(re.findall(r'data-pick="row:', html)) == 20 and "and 1,214 more" in html and "Drop 1,234 rows" in html


def test_the_totals_count_by_severity_and_say_when_the_checks_were_stopped(report: dict) -> None:
    findings = [Finding(kind, "train", [0]).as_dict() for kind in ("overlap", "secret", "html", "one_word_answer")]
    assert "2 errors, 1 warning and 2 notes" in data_findings.totals(report | {"findings": findings})
    clean = data_findings.totals(report | {"findings": [], "notes": []})
    assert "No problems found." in clean and "ft-good" in clean
    stopped = data_findings.totals(report | {"findings": [], "stopped": True, "notes": []})
    assert "so far" in stopped and "ft-good" not in stopped


def test_progress_is_in_words_with_a_bar() -> None:
    html = data_findings.progress("near duplicates", 41200, 100000, 0.78)
    assert "Near duplicates, 41,200 of 100,000 rows" in html and 'aria-valuenow="78"' in html
    assert "ft-bar-busy" in data_findings.progress("usable rows", 0, 1, None)
    assert "Stopping" in data_findings.progress("languages", 1, 5000, 0.5, stopping=True)


def test_a_histogram_has_a_bar_for_each_length_and_the_line_where_the_limit_is() -> None:
    part = {"p50": 3, "p95": 8, "max": 9, "histogram": {"edges": [0, 5, 10], "counts": [4, 1]}}
    inside = data_lengths.histogram("Whole row", part, 8)
    assert inside.count("<rect") == 2 and 'x1="800.0"' in inside and "max_length 8" in inside
    # The line is brought into the picture when it is near, and only named when it is far.
    near = data_lengths.histogram("Whole row", part, 20)
    assert 'x1="980.4"' in near
    far = data_lengths.histogram("Whole row", part, 512)
    assert "<line" not in far and "max_length 512 is off the chart" in far
    heights = [float(height) for height in re.findall(r'height="([\d.]+)"', inside)]
    assert heights[0] == pytest.approx(4 * heights[1])


def test_a_report_for_another_length_says_so() -> None:
    data = DataConfig(source="messy_tickets")
    made, wanted = Request(data, max_length=512), Request(data, max_length=128)
    text = data_checks_view._made_for(made, wanted)
    assert "at most 512 tokens" in text and "128 now" in text and "Check again" in text
    assert data_checks_view._made_for(made, Request(data, prompts=("Hello?",))) == ""


def test_what_is_mended_unless_told_otherwise_are_errors_and_warnings_with_a_remedy() -> None:
    kinds = ("overlap", "near_duplicate", "html", "not_covered")
    mended = [kind for kind in kinds if is_mended(Finding(kind, "train", [0]))]
    assert mended == ["overlap", "near_duplicate"]
    assert is_mended(Finding("html", "train", [0]), {"html"})
    assert not is_mended(Finding("html", "train", [0]), {"overlap"})
    assert is_mended(Finding("html", "train", [0]), {"overlap"}, {"html": "drop"})


def test_a_finding_of_a_source_mends_its_first_version(workspace, tmp_path: Path, report: dict) -> None:
    source = str(tmp_path / "attack.jsonl")
    findings = [Finding.from_dict(finding) for finding in json.loads(json.dumps(report["findings"]))]
    copy = next(finding for finding in findings if finding.kind == "exact_duplicate")
    mended = mend_findings(create(source, workspace, who="Ada"), [copy], report["roles"], who="Ada")
    assert [row.id for row in rows_of(mended) if row.excluded] == [12] and mended.who == "Ada"
    assert "exact_duplicate" not in {finding.kind for finding in check(mended.source, workspace=workspace).findings}


def test_the_right_answer_goes_to_all_rows_with_that_prompt_and_to_no_other(workspace, tmp_path: Path) -> None:
    file = tmp_path / "two.jsonl"
    pairs = [("One?", "yes"), ("Two?", "no"), ("One?", "no"), ("Three?", "maybe"), ("Two?", "yes"), ("One?", "never")]
    file.write_text("".join(json.dumps({"prompt": p, "completion": c}) + "\n" for p, c in pairs))
    report = check(str(file))
    conflict = next(finding for finding in report.findings if finding.kind == "conflicting_answers")
    assert answer_group(conflict, 2) == [0, 2, 5] and answer_group(conflict, 4) == [1, 4]
    version = give_answer(create(str(file), workspace), conflict, 4, "Two it is.", report.roles, who="Ada")
    answers = [row.cells["completion"] for row in rows_of(version)]
    assert answers == ["yes", "Two it is.", "no", "maybe", "Two it is.", "never"]
