"""What each check takes for a defect, and what it leaves alone."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ftlab.config import DataConfig
from ftlab.data.checks import Report, check
from ftlab.data.checks.run import nothing_wrong
from ftlab.data.inspection import inspect
from ftlab.data.splits import prepare
from ftlab.errors import InputError

CITIES = ("Paris", "Rome", "Oslo", "Cairo", "Lima", "Quito", "Seoul", "Hanoi", "Delhi", "Accra", "Dakar", "Sofia")
THINGS = ("museum", "harbour", "old bridge", "night market", "opera house", "railway station", "garden", "city wall")
TIMES = ("early in the morning", "after lunch", "on a rainy day", "with two small children", "without a car")


def clean_rows(count: int = 60) -> list[dict[str, str]]:
    """Rows about different places, so that none repeats another."""
    rows = []
    for number in range(count):
        city, thing, when = CITIES[number % 12], THINGS[number * 7 % 8], TIMES[number * 3 % 5]
        prompt = f"How do I get to the {thing} of {city} {when}, number {number}, and what does the ticket cost?"
        answer = f"Take line {number} to {city} centre, walk to the {thing}, and pay {number + 3} at the desk {when}."
        rows.append({"prompt": prompt, "completion": answer})
    return rows


def kinds_of(
    tmp_path: Path, rows: list[dict[str, Any]], test: list[dict[str, Any]] | None = None
) -> dict[str, list[int]]:
    return {finding.kind: finding.rows for finding in report_on(tmp_path, rows, test).findings}


def report_on(tmp_path: Path, rows: list[dict[str, Any]], test: list[dict[str, Any]] | None = None) -> Report:
    folder = tmp_path / "data"
    folder.mkdir(exist_ok=True)
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if test is not None:
        (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in test))
    return check(str(folder))


def test_clean_rows_have_no_finding(tmp_path: Path) -> None:
    assert kinds_of(tmp_path, clean_rows()) == {}


def test_the_later_copy_is_the_duplicate_and_names_the_first(tmp_path: Path) -> None:
    rows = clean_rows()
    rows[40] = dict(rows[3])
    finding = report_on(tmp_path, rows).findings[0]
    assert (finding.kind, finding.rows, finding.matches) == ("exact_duplicate", [40], [("train", 3)])


def test_case_and_signs_make_a_near_duplicate_not_an_exact_one(tmp_path: Path) -> None:
    rows = clean_rows()
    rows[40] = {"prompt": rows[3]["prompt"].upper() + "!", "completion": rows[3]["completion"]}
    assert kinds_of(tmp_path, rows) == {"near_duplicate": [40]}


def test_short_texts_that_differ_in_one_word_are_no_copies(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"What is {left} + {right}?", "completion": str(left + right)}
        for left in range(8)
        for right in range(8)
    ]
    rows += [
        {"prompt": f"What is {left} - {right}?", "completion": str(left - right)}
        for left in range(8)
        for right in range(8)
    ]
    assert kinds_of(tmp_path, rows) == {}


def test_operators_and_signs_of_numbers_tell_prompts_apart(tmp_path: Path) -> None:
    rows = [{"prompt": f"Is {n} above 5?", "completion": str(n > 5)} for n in range(-30, 30)]
    assert kinds_of(tmp_path, rows) == {}


def test_overlap_is_found_whatever_the_case_and_points_to_the_held_out_row(tmp_path: Path) -> None:
    rows, fresh = clean_rows(80)[:60], clean_rows(80)[60:]
    fresh[5] = {"prompt": rows[11]["prompt"].lower(), "completion": "Another answer that is long enough to be one."}
    leak = report_on(tmp_path, rows, fresh).findings[0]
    assert (leak.kind, leak.split, leak.rows, leak.matches) == ("overlap", "train", [11], [("test", 5)])


def test_another_system_prompt_makes_it_another_question(tmp_path: Path) -> None:
    rows = [row | {"system": "Be brief."} for row in clean_rows()]
    rows[40] = {
        "system": "Be rude.",
        "prompt": rows[3]["prompt"],
        "completion": "Find it out by yourself, will you?",
    }
    assert kinds_of(tmp_path, rows) == {}
    rows[40]["system"] = "Be brief."
    assert kinds_of(tmp_path, rows) == {"conflicting_answers": [3, 40]}


def test_labels_of_one_word_are_no_defect(tmp_path: Path) -> None:
    rows = [row | {"completion": ("cheap", "dear", "free")[n % 3]} for n, row in enumerate(clean_rows())]
    assert kinds_of(tmp_path, rows) == {}


def test_classes_with_fewer_than_100_rows_are_named(tmp_path: Path) -> None:
    labels = ["cheap"] * 110 + ["dear"] * 20 + ["free"] * 5
    rows = [row | {"completion": label} for row, label in zip(clean_rows(135), labels, strict=True)]
    advice = {item.topic: item for item in report_on(tmp_path, rows).advice}
    # What is held out is not trained on: the counts are those of the split that a run makes.
    learned = prepare(DataConfig(source=str(tmp_path / "data"))).splits["train"]
    counts = Counter(row["messages"][-1]["content"] for row in learned)
    assert advice["classes"].rows_per_class == counts and counts["free"]
    assert f"'dear' ({counts['dear']})" in advice["classes"].text
    assert advice["rows"].text.startswith("107 training rows") and "28 held out" in advice["rows"].text
    assert f"{counts['cheap'] / counts['free']:.0f} times" in advice["balance"].text and advice["rows"].level == "low"
    assert all(item.url.startswith("https://") for item in advice.values())


@pytest.mark.parametrize(
    ("turns", "problem"),
    [
        (["user", "user", "assistant"], "two user turns in a row"),
        (["assistant", "user", "assistant"], "the assistant speaks first"),
        (["user", "system", "assistant"], "a system turn in the middle"),
        (["system", "assistant"], "no user turn"),
        (["user", "assistant", "user"], "the last turn has no answer"),
    ],
)
def test_roles_out_of_order_are_said_in_words(tmp_path: Path, turns: list[str], problem: str) -> None:
    rows: list[dict[str, Any]] = [
        {"messages": [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["completion"]}]}
        for row in clean_rows()
    ]
    rows[7] = {"messages": [{"role": role, "content": f"turn {n} of the {role}"} for n, role in enumerate(turns)]}
    findings = {finding.kind: finding for finding in report_on(tmp_path, rows).findings}
    assert findings["roles"].rows == [7] and findings["roles"].detail["problems"] == {problem: 1}


def test_json_is_only_asked_for_where_nearly_all_answers_are_json(tmp_path: Path) -> None:
    rows = clean_rows()
    for row in rows[:30]:
        row["completion"] = json.dumps({"answer": row["completion"]})
    assert "broken_json" not in kinds_of(tmp_path, rows)


def test_html_is_no_remain_where_the_data_is_about_it_or_in_code(tmp_path: Path) -> None:
    rows = clean_rows()
    rows[4]["completion"] += " Write `<br>` or:\n```html\n<p>this</p>\n```"
    assert kinds_of(tmp_path, rows) == {}
    for row in rows[:40]:
        row["completion"] = f"<p>{row['completion']}</p>"
    assert "html" not in kinds_of(tmp_path, rows)


def test_accents_and_other_scripts_are_no_damage(tmp_path: Path) -> None:
    rows = clean_rows()
    rows[4]["completion"] += " Zoë, José, naïve, Ærø, “quoted” – done … 5 °C, 3 €, 🙂"
    assert kinds_of(tmp_path, rows) == {}


def test_two_languages_on_purpose_are_no_outliers(tmp_path: Path) -> None:
    rows = clean_rows()
    for number, row in enumerate(rows[:25]):
        row["completion"] = (
            f"Nehmen Sie bitte die Linie {number} bis zur Haltestelle am Markt und gehen Sie dann zu Fuß."
        )
    assert "language" not in kinds_of(tmp_path, rows)


def test_rows_that_cannot_be_read_are_a_finding_not_a_failure(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = clean_rows()
    rows[3] = {"prompt": [{"role": 5, "content": "no role"}], "completion": "a role is no number"}
    rows[9] = {"question": "other columns"}
    finding = next(f for f in report_on(tmp_path, rows).findings if f.kind == "unusable")
    assert finding.rows == [3, 9] and sum(finding.detail["reasons"].values()) == 2


def test_stop_gives_what_was_found_so_far(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in clean_rows()))
    phases: list[str] = []
    report = check(str(path), progress=lambda name, *_: phases.append(name), should_stop=lambda: "roles" in phases)
    assert report.stopped and phases[0] == "reading" and "near duplicates" not in phases
    assert report.rows == 60 and report.findings == []


def test_of_a_very_large_source_every_nth_row_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in clean_rows(100)))
    report = check(str(path), most_rows=40)
    assert (report.rows, report.checked) == (100, 34) and "one row in 3" in report.notes[-1]


def test_a_source_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file"):
        check(str(tmp_path / "none.jsonl"))


def long_and_short(tmp_path: Path) -> Path:
    """60 short rows and 20 of about 600 tokens of the starter."""
    rows = clean_rows()
    rows += [
        {"prompt": f"Tell me more about number {n}.", "completion": f"It is {n}. " + f"Word{n} and more {n}. " * 90}
        for n in range(20)
    ]
    file = tmp_path / "long.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def starter_tokenizer() -> Any:
    from ftlab.models.load import load_tokenizer

    return load_tokenizer("starter")


def test_a_longer_max_length_is_offered_first_with_its_cost_where_the_base_reads_the_rows(tmp_path: Path) -> None:
    file, tokenizer = str(long_and_short(tmp_path)), starter_tokenizer()
    report = check(file, tokenizer=tokenizer, base="big", context=8192)
    (finding,) = [finding for finding in report.findings if finding.kind == "too_long"]
    longest, summed = max(finding.detail["tokens"]), sum(finding.detail["tokens"])
    assert len(finding.rows) == 20 and finding.remedies == ("raise", "drop", "shorten")
    assert longest <= finding.detail["raise_to"] < longest + 64 and finding.detail["raise_to"] % 64 == 0
    assert f"{summed:,} tokens an epoch" in finding.detail["raise_cost"]
    # The starter itself reads no more than 512 tokens: there it is no remedy, and no length is promised.
    report = check(file, tokenizer=tokenizer, base="starter", context=512)
    (finding,) = [finding for finding in report.findings if finding.kind == "too_long"]
    assert finding.remedies == ("drop", "shorten")
    assert (
        report.tokens["suggested_max_length"] == 512
        and "25.0% of the rows are longer" in report.tokens["suggested_why"]
    )


def test_whether_it_is_enough_counts_only_rows_that_will_be_trained(tmp_path: Path) -> None:
    report = check(str(long_and_short(tmp_path)), tokenizer=starter_tokenizer(), base="starter", context=512)
    text = report.advice[0].text
    # 16 of 80 will be held out, and of the 64 others some are too long.
    held, cut = re.search(r"Not counted: (\d+) held out, (\d+) too long", text).groups()
    assert (held, text.split()[0]) == ("16", str(64 - int(cut))) and int(cut)


def test_where_no_row_would_be_trained_nothing_is_promised(tmp_path: Path) -> None:
    file = tmp_path / "long.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"{n}?", "completion": "word " * 900}) + "\n" for n in range(30)))
    report = check(str(file), tokenizer=starter_tokenizer(), base="starter", context=512)
    assert report.advice[0].text.startswith("No row would be trained on. Not counted:")


@pytest.mark.parametrize("more", [{}, {"group_by": "who"}, {"test_fraction": 0.0}, {"near_duplicates": "apart"}])
def test_the_rows_that_are_enough_are_those_that_the_data_tab_counts(tmp_path: Path, more: dict) -> None:
    rows = [row | {"who": n // 9} for n, row in enumerate(clean_rows(65))]
    rows += [row | {"prompt": row["prompt"] + " Please."} for row in rows[:6]]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    data = DataConfig(source=str(file), **more)
    assert check(data).advice[0].text.startswith(f"{inspect(data).splits['train']} training rows")


def test_nothing_wrong_is_only_said_of_what_was_looked_at(tmp_path: Path) -> None:
    file = tmp_path / "clean.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in clean_rows()), encoding="utf-8")
    text = nothing_wrong(check(str(file)).as_dict())
    names = "Not checked: names and postal addresses."
    assert text == f"No problems found. Lengths in tokens were not checked: no base was given. {names}"
    assert nothing_wrong(check(str(file), tokenizer=starter_tokenizer()).as_dict()) == f"No problems found. {names}"
    text = nothing_wrong(check(str(file), tokenizer=starter_tokenizer(), most_rows=30).as_dict())
    assert text == f"No problems found in 30 of 60 rows. The other 30 were not checked. {names}"
    text = nothing_wrong(check(str(file), should_stop=lambda: True).as_dict())
    assert "so far" in text and "0 of 60 rows" in text


def test_answers_marked_as_bad_are_no_mistakes_and_are_said_to_be_unread(tmp_path: Path) -> None:
    rows = [row | {"label": n % 3 > 0} for n, row in enumerate(clean_rows())]
    report = report_on(tmp_path, rows)
    assert report.format == "kto" and report.findings == [] and report.usable == 40
    assert "Not checked: 20 answers marked as bad; names and postal addresses." in nothing_wrong(report.as_dict())


def test_numbers_that_end_an_answer_are_found(tmp_path: Path) -> None:
    rows = [
        row | {"completion": f"{row['completion']} It is {n}+{n}={2 * n}.\n#### {2 * n}"}
        for n, row in enumerate(clean_rows())
    ]
    (numbers,) = [item for item in report_on(tmp_path, rows).advice if item.topic == "numbers"]
    assert "60 of 60 answers end in a number" in numbers.text and "final_number" in numbers.text
