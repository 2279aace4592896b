"""What the checks say of rows that are read and still wrong, and that they are silent about rows that only look so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ftlab.api import fix
from ftlab.cli.main import main
from ftlab.config import DataConfig
from ftlab.core.workspace import Workspace
from ftlab.data.checks import check
from ftlab.data.checks.finding import KINDS, Finding
from ftlab.data.remedies import action_for, is_mended, needs_decision, plan_for
from ftlab.data.splits import prepare
from ftlab.data.version_store import history, resolve, rows_of

CASES = Path(__file__).parents[1] / "cases"
NEW = {"mojibake", "media", "left_over", "doubled_keys", "unused_label", "alike_sides", "tie", "against_scores"}
NEW |= {"few_answers", "stock_answers", "one_template"}


def findings_of(source: Path | str) -> dict[str, Finding]:
    return {finding.kind: finding for finding in check(str(source)).findings if finding.kind in NEW}


def found_in(rows: list[dict[str, Any]], tmp_path: Path) -> dict[str, Finding]:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return findings_of(path)


WORDS = "blue red old new small large wooden metal quick slow quiet loud bright dark plain round".split()
THINGS = "chair table lamp shelf desk sofa clock mirror carpet basket drawer bench".split()


def varied(n: int) -> dict[str, Any]:
    """A row unlike the others in its words, so that only what a test plants is odd."""
    thing, word, other = THINGS[n % 12], WORDS[n % 16], WORDS[(n * 7 + 3) % 16]
    asked = (
        f"Do you sell a {word} {thing}?",
        f"I look for something {word} to go with my {other} {thing}.",
        f"How long does it take until the {thing} comes to my house in {other} paper?",
        f"My {thing} broke. What now?",
    )[n % 4]
    said = (
        f"Yes, we have three of them, and one is {other}.",
        f"A {other} {THINGS[(n * 5 + 1) % 12]} would suit it best, I think.",
        f"Usually two days, or a week where roads are {word}.",
        f"Send us the parts and we mend it for free, unless it was {other} before.",
    )[(n // 4 + n) % 4]
    return {"prompt": f"{asked} ({n})", "completion": said}


def test_a_picture_that_is_not_trained_is_found_in_every_row() -> None:
    for name in ("llava.json", "mllm_messages.json"):
        finding = findings_of(CASES / "04-images-lost" / name)["media"]
        assert len(finding.rows) == 24 or len(finding.rows) == check(str(CASES / "04-images-lost" / name)).rows
        assert finding.remedies == ("none", "drop") and not is_mended(finding)


@pytest.mark.parametrize(
    "text", ["<|image|> What is it?", "What does <video> show?", "![](data:image/png;base64,iVBORw0KGgo)", "<image>"]
)
def test_marks_of_pictures_are_found_in_text(tmp_path: Path, text: str) -> None:
    rows = [varied(n) | ({"prompt": f"{text} {n}"} if n < 3 else {}) for n in range(40)]
    assert found_in(rows, tmp_path)["media"].rows == [0, 1, 2]


def test_html_and_code_about_pictures_are_no_pictures(tmp_path: Path) -> None:
    rows = [varied(n) for n in range(40)]
    rows[3]["completion"] = "Write `<image>` where the picture goes, or <img src='a.png'> in a page."
    rows[5]["prompt"] = "What does <image xlink:href='a'/> mean in SVG?"
    assert not found_in(rows, tmp_path)


def test_keys_that_stand_twice_are_found_with_their_name(tmp_path: Path) -> None:
    finding = findings_of(CASES / "05-duplicate-keys/dupkeys.jsonl")["doubled_keys"]
    assert len(finding.rows) == 24 and finding.excerpts == ["completion: twice in 24 rows"]
    lines = [json.dumps(varied(n)) for n in range(30)]
    lines[4] = '{"messages": [{"role": "user", "content": "a", "content": "b"}, {"role": "assistant", "content": "c"}]}'
    (tmp_path / "a.json").write_text("[" + ",\n".join(lines) + "]")
    assert check(str(tmp_path / "a.json")).findings[0].kind in ("doubled_keys", "unusable")
    assert findings_of(tmp_path / "a.json")["doubled_keys"].rows == [4]


def test_left_over_words_are_found_and_none_as_a_class_is_not(tmp_path: Path) -> None:
    finding = findings_of(CASES / "08-none-strings/none_strings.jsonl")["left_over"]
    texts = [json.loads(line)["completion"] for line in (CASES / "08-none-strings/none_strings.jsonl").open()]
    assert (
        finding.rows == [row for row, text in enumerate(texts) if not text.startswith("Item")]
        and len(finding.rows) == 14
    )
    classes = [{"text": varied(n)["prompt"], "label": ("none", "card", "loan")[n % 3]} for n in range(48)]
    assert not found_in(classes, tmp_path)
    classes[7]["label"] = "nan"
    assert found_in(classes, tmp_path)["left_over"].rows == [7]


def test_pairs_that_say_nothing_are_found() -> None:
    for name in ("dpo_nfd.jsonl", "dpo_ws_only.jsonl"):
        assert len(findings_of(CASES / "09-dpo-pairs-that-say-nothing" / name)["alike_sides"].rows) == 48
    tied = findings_of(CASES / "09-dpo-pairs-that-say-nothing/uf_ties.jsonl")
    assert tied["tie"].rows == list(range(1, 48, 2)) and "against_scores" not in tied
    assert len(findings_of(CASES / "11-votes-of-other-tools/arena_votes.jsonl")["tie"].rows) == 24


def test_a_choice_against_its_scores_is_found(tmp_path: Path) -> None:
    rows = [
        {"prompt": varied(n)["prompt"], "chosen": varied(n)["completion"], "rejected": f"No {n}."}
        | {"chosen_score": 4 if n != 5 else 1, "rejected_score": 2}
        for n in range(40)
    ]
    found = found_in(rows, tmp_path)
    assert found["against_scores"].rows == [5] and set(found) == {"against_scores"}


def test_a_column_of_grades_that_is_not_understood_is_found(tmp_path: Path) -> None:
    rows = [varied(n) | {"quality": ("excellent", "poor", "medium")[n % 3]} for n in range(40)]
    assert found_in(rows, tmp_path)["unused_label"].excerpts[0].startswith("quality: excellent (14)")
    rows = [varied(n) | {"label": ("billing", "shipping")[n % 2]} for n in range(40)]
    assert not found_in(rows, tmp_path)


MISREAD = {
    "Windows Cyrillic as Western": ("Где мой заказ {}? Заказ приедет завтра утром.", "cp1251", "cp1252"),
    "UTF-8 as Western": ("Größe {} fehlt, schöne Grüße aus Köln.", "utf-8", "cp1252"),
    "UTF-8 as Cyrillic": ("Größe {} fehlt, schöne Grüße aus Köln.", "utf-8", "cp1251"),
    "UTF-8 as Chinese": ("Größe {} fehlt, schöne Grüße.", "utf-8", "gb18030"),
    "Greek as Western": ("Πού είναι η παραγγελία {}; Η παραγγελία έρχεται αύριο.", "cp1253", "cp1252"),
    "Chinese as Western": ("我的订单{}在哪里？订单明天早上到达仓库。", "gbk", "latin-1"),
    "Mac as Western": ("Où est passée ma commande {} ? Elle a été expédiée hier, à bientôt.", "cp1252", "mac_roman"),
}


@pytest.mark.parametrize("kind", MISREAD)
def test_text_that_was_read_in_the_wrong_encoding_is_found(tmp_path: Path, kind: str) -> None:
    text, meant, read = MISREAD[kind]
    rows = [varied(n) | {"prompt": text.format(n).encode(meant).decode(read, "replace")} for n in range(40)]
    finding = found_in(rows, tmp_path)["mojibake"]
    assert len(finding.rows) == 40 and finding.remedy == "none"
    right = [varied(n) | {"prompt": text.format(n)} for n in range(40)]
    assert "mojibake" not in found_in(right, tmp_path)


def test_few_answers_are_found_with_their_share_and_labels_are_not(tmp_path: Path) -> None:
    rows = [varied(n) | {"completion": varied(n % 12)["completion"]} for n in range(60)]
    finding = found_in(rows, tmp_path)["few_answers"]
    assert "different answers in 60 rows" in finding.excerpts[0] and finding.detail["share"] <= 0.2
    labels = [{"prompt": varied(n)["prompt"], "completion": ("card", "loan", "fee")[n % 3]} for n in range(60)]
    assert not found_in(labels, tmp_path)
    assert not found_in([varied(n) for n in range(60)], tmp_path)


def test_answers_alike_but_for_a_name_and_prompts_of_one_template_are_found(tmp_path: Path) -> None:
    names = [first + last for first in ("Ann", "Ben", "Cleo", "Dan", "Eva") for last in "aoiesn"]
    rows = [
        varied(n) | {"completion": f"Dear {name}, thank you for your message, we will answer soon."}
        for n, name in enumerate(names * 2)
    ]
    finding = found_in(rows, tmp_path)["stock_answers"]
    assert finding.excerpts[0].startswith("100% of the answers: dear … thank you for your message")
    rows = [varied(n) for n in range(60)]
    for n in range(0, 60, 2):
        rows[n]["prompt"] = f"Tell me all about the price of a {THINGS[n // 2 % 12]} today, order {n}."
    assert found_in(rows, tmp_path)["one_template"].detail["share"] == 0.5


def test_what_training_will_not_see_is_one_line(tmp_path: Path) -> None:
    rows = [varied(n) | {"id": n, "source": "web", "who": "Ann"} for n in range(40)]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    line = "3 columns are not used: id, source, who."
    assert line in check(str(path)).notes
    assert line in prepare(DataConfig(source=str(path))).manifest["notes"]
    grouped = prepare(DataConfig(source=str(path), group_by="id")).manifest["notes"]
    assert "2 columns are not used: source, who." in grouped


HELD = {
    "secret": "key sk-proj-" + "a1B2c3D4e5F6g7H8i9J0" * 2,
    "card": "card 4111 1111 1111 1111",
    "iban": "IBAN DE89 3704 0044 0532 0130 00",
    "id_number": "my SSN is 536-90-4399",
    "email": "ann@firm.com",
    "phone": "phone +49 30 901820",
}


PROMISED = [(kind, remedy) for kind, about in KINDS.items() for remedy in (about.remedy, *about.others)]


@pytest.mark.parametrize(
    "kind, remedy",
    # Shortening needs a base: test_remedies.py.
    [(kind, remedy) for kind, remedy in PROMISED if remedy not in ("none", "shorten")],
)
def test_every_remedy_that_a_finding_promises_changes_its_rows(kind: str, remedy: str) -> None:
    rows = {"train": [{"prompt": f"My {HELD.get(kind, 'lamp')}", "completion": text} for text in ("Yes.", "No.")]}
    rows["test"] = [rows["train"][0]]
    matches = [("test", 0)] if remedy == "move" else [("train", 1)]
    finding = Finding(kind, "train", [0], matches)
    plan = plan_for(rows, [action_for(finding, {"prompt": "prompt", "completion": "completion"}, remedy)])
    assert ("train", 0) in plan.changed | plan.gone | plan.moved, plan.sentences


def test_data_fix_does_what_it_promises_for_keys_that_stand_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [json.dumps(varied(n)) for n in range(30)]
    lines[4] = lines[4].replace("{", '{"prompt": "Other", ', 1)
    Path("a.jsonl").write_text("\n".join(lines))
    flags = ["--base", "none", "--only", "doubled_keys", "--workspace", "w", "--json"]
    assert main(["data", "fix", "a.jsonl", *flags]) == 0
    mended = json.loads(capsys.readouterr().out)
    version = resolve(mended["source"], Workspace.open("w"))
    assert [row.id for row in rows_of(version) if row.excluded] == [4]
    assert fix(str(tmp_path / "a.jsonl"), base=None, only=["doubled_keys"], workspace="api").total == 29
    # Nothing is left to change: no further version is made.
    assert main(["data", "fix", version.source, *flags]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == version.source
    assert len(history(Workspace.open("w"))) == 2


def test_conflicting_answers_that_need_a_decision_are_not_promised_a_fix() -> None:
    assert needs_decision(Finding("conflicting_answers", "train", [1, 4], [("train", 1), ("train", 4)]))
    assert not needs_decision(Finding("conflicting_answers", "train", [1, 4], [("train", 1), ("train", 1)]))
    assert not needs_decision(Finding("overlap", "train", [1], [("test", 1)]))
