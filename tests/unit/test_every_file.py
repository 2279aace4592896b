"""Files as people have them: their own encodings, Excel's habits, JSON of every layout, spreadsheets.

The files in tests/cases stand for reported situations; the other members of each kind are written here.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from ftlab.config import DataConfig
from ftlab.core.workspace import Workspace
from ftlab.data.inspection import look
from ftlab.data.load import load_rows, remember
from ftlab.data.splits import detect_format
from ftlab.errors import InputError

CASES = Path(__file__).parents[1] / "cases"
ROWS = [
    {"prompt": f"Where is order {n}?", "completion": f"Order {n} arrives tomorrow morning at the depot."}
    for n in range(24)
]


def rows_of(path: Path, **settings: Any) -> list[dict[str, Any]]:
    return list(load_rows(DataConfig(source=str(path), **settings)).splits["train"])


def notes_of(path: Path) -> str:
    return " ".join(load_rows(DataConfig(source=str(path))).notes)


def table(rows: list[dict[str, str]], separator: str = ",") -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), delimiter=separator)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def lines(rows: list[Any]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


# A question and an answer as support writes them, with the encodings that were usual where it is spoken.
SPOKEN = {
    "ru": ("Где мой заказ?", "Ваш заказ прибудет завтра утром на склад.", "cp1251 koi8-r cp866 mac_cyrillic iso8859-5"),
    "uk": ("Де моє замовлення?", "Ваше замовлення прибуде завтра, дякуємо за терпіння.", "cp1251 koi8-u"),
    "pl": ("Gdzie jest moje zamówienie?", "Zamówienie dotrze jutro, dziękujemy za cierpliwość.", "cp1250 iso8859-2"),
    "cs": ("Kde je moje objednávka?", "Vaše objednávka dorazí zítra, děkujeme za trpělivost.", "cp1250"),
    "de": ("Wo ist meine Bestellung? Größe XL", "Sie kommt morgen früh, schöne Grüße aus Köln.", "cp1252 mac_roman"),
    "fr": ("Où est passée ma commande ?", "Votre commande a été expédiée hier, à bientôt.", "cp1252 mac_roman"),
    "el": ("Πού είναι η παραγγελία μου;", "Η παραγγελία σας έρχεται αύριο το πρωί.", "cp1253 iso8859-7"),
    "tr": ("Siparişim nerede? Değişti mi?", "Siparişiniz yarın sabah depoya ulaşacak.", "cp1254"),
    "he": ("איפה ההזמנה שלי?", "ההזמנה שלך תגיע מחר בבוקר למחסן.", "cp1255"),
    "ar": ("أين طلبي؟", "سيصل طلبك صباح الغد إلى المستودع.", "cp1256"),
    "th": ("คำสั่งซื้อของฉันอยู่ที่ไหน", "คำสั่งซื้อของคุณจะมาถึงพรุ่งนี้เช้า", "cp874"),
    "ja": ("私の注文はどこですか。", "ご注文の商品は明日の朝に倉庫へ到着します。", "shift_jis euc_jp iso2022_jp"),
    "zh": ("我的订单在哪里？", "您的订单明天早上到达仓库。", "gb18030 gbk hz"),
    "tw": ("我的訂單在哪裡？", "您的訂單明天早上到達倉庫。", "big5"),
    "ko": ("제 주문은 어디에 있나요?", "고객님의 주문은 내일 아침 창고에 도착합니다.", "euc_kr cp949"),
}
WRITTEN = [
    (language, encoding)
    for language, (*_, usual) in SPOKEN.items()
    for encoding in [*usual.split(), "utf-16-le", "utf-16-be", "utf-16", "utf-32", "utf-8-sig"]
]


def spoken(language: str, share: int = 1) -> list[dict[str, str]]:
    """24 rows, of which one in `share` is in `language` and the others are English."""
    asked, answered, _ = SPOKEN[language]
    return [{"prompt": f"{asked} {n}", "completion": answered} if n % share == 0 else ROWS[n] for n in range(24)]


@pytest.mark.parametrize(("language", "encoding"), WRITTEN)
def test_text_is_read_in_the_encoding_it_was_saved_in(tmp_path: Path, language: str, encoding: str) -> None:
    # One phrase alone does not tell two encodings apart that share most of their letters.
    for share in (1,) if encoding == "iso8859-2" else (1, 8):
        rows = spoken(language, share)
        for name, text in (("a.csv", table(rows)), ("a.tsv", table(rows, "\t")), ("a.jsonl", lines(rows))):
            (tmp_path / name).write_bytes(text.encode(encoding))
            assert rows_of(tmp_path / name) == rows, (name, share)
        text = "\n".join(row["completion"] for row in rows)
        (tmp_path / "a.txt").write_bytes(text.encode(encoding))
        assert [row["text"] for row in rows_of(tmp_path / "a.txt")] == text.split("\n"), share


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("enc_cp1251.csv", "Где мой заказ 3?"),
        ("enc_euckr.csv", "주문 3은 어디에 있나요"),
        ("enc_gbk.csv", "我的订单3在哪里？"),
        ("enc_greek.csv", "Πού είναι η παραγγελία 3;"),
    ],
)
def test_the_reported_tables_are_read_and_say_their_encoding(name: str, prompt: str) -> None:
    path = CASES / "01-csv-legacy-encoding" / name
    assert rows_of(path)[3]["prompt"] == prompt and "If letters look wrong" in notes_of(path)
    text = rows_of(CASES / "01-csv-legacy-encoding/enc_cp1251.txt")
    assert text[0]["text"].startswith("Заказ 0 приедет завтра утром.")


def test_an_encoding_can_be_named_and_is_remembered(tmp_path: Path, workspace: Workspace) -> None:
    path = tmp_path / "short.csv"
    path.write_bytes(b"prompt,completion\n" + "нет,да\n".encode("cp866") * 12)
    named = DataConfig(source=str(path), encoding="cp866")
    assert rows_of(path, encoding="cp866")[0] == {"prompt": "нет", "completion": "да"}
    assert look(named, workspace).page(0, 1) == [{"prompt": "нет", "completion": "да"}]
    remember(named, workspace)
    loaded = load_rows(DataConfig(source=str(path)), workspace)
    assert loaded.splits["train"][0]["prompt"] == "нет" and not loaded.notes
    with pytest.raises(InputError, match=r"no such encoding.*klingon"):
        rows_of(path, encoding="klingon")
    with pytest.raises(InputError, match="line 2: not ascii text"):
        rows_of(path, encoding="ascii")


def test_lines_of_another_encoding_are_named_not_read_as_something(tmp_path: Path) -> None:
    path = tmp_path / "joined.csv"
    path.write_bytes(table(spoken("de")).encode() + "Größe?,schön\n".encode("cp1252"))
    with pytest.raises(InputError, match=r"line 26: not UTF-8 text, while other lines are"):
        rows_of(path)


ABOVE = {
    "sep": "sep={0}\n",
    "quoted sep": '"sep={0}"\n',
    "title": "Export of tickets 2026\n\n",
    "padded title": "Export of tickets 2026{0}\n{0}\n",
    "block": "Export date:{0}2026-01-01\nMade by:{0}Ann Lee\n\n",
    "sep and title": "sep={0}\nExport of tickets\n",
}


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("above", ABOVE)
def test_what_excel_and_reports_put_above_the_header_is_no_row(tmp_path: Path, above: str, separator: str) -> None:
    path = tmp_path / "a.csv"
    wide = [row | {"queue": f"q{n % 3}"} for n, row in enumerate(ROWS)]
    path.write_text(ABOVE[above].replace("{0}", separator) + table(wide, separator))
    assert rows_of(path) == wide
    assert ("above the header" in notes_of(path)) == (above not in ("sep", "quoted sep"))


def test_the_reported_excel_files_have_24_rows(tmp_path: Path) -> None:
    for name in ("sep_line_comma.csv", "sep_line_semicolon.csv"):
        assert rows_of(CASES / "07-excel-sep-line" / name) == ROWS


NO_HEADER = {
    "pairs": [(row["prompt"], row["completion"]) for row in ROWS],
    "ids": [(str(n), row["prompt"], row["completion"]) for n, row in enumerate(ROWS)],
    "classes": [(f"My card did not arrive, part {n}.", ("card", "loan", "fee")[n % 3]) for n in range(24)],
    "dates": [(f"2026-01-{n + 1:02}", f"note {n}", row["completion"]) for n, row in enumerate(ROWS)],
}
HEADERS = {
    "names": ("Guest writes", "We answer"),
    "a form": ("What did the guest ask?", "What did you answer?"),
    "numbers": ("0", "1"),
    "a sentence": ("Please describe what happened in your own words", "What was answered by the team?"),
    "an unnamed one": ("", "text of the ticket"),
}


@pytest.mark.parametrize("kind", NO_HEADER)
def test_a_table_without_a_header_loses_no_row(tmp_path: Path, kind: str) -> None:
    path, out = tmp_path / "a.csv", io.StringIO()
    csv.writer(out).writerows(NO_HEADER[kind])
    path.write_text(out.getvalue())
    assert [tuple(row.values()) for row in rows_of(path)] == NO_HEADER[kind]
    assert list(rows_of(path)[0])[:2] == ["column 1", "column 2"] and "has no header" in notes_of(path)


@pytest.mark.parametrize("kind", HEADERS)
def test_a_header_is_never_a_row(tmp_path: Path, kind: str) -> None:
    path, out = tmp_path / "a.csv", io.StringIO()
    csv.writer(out).writerows([HEADERS[kind], *NO_HEADER["pairs"]])
    path.write_text(out.getvalue())
    assert [tuple(row.values()) for row in rows_of(path)] == NO_HEADER["pairs"]


def pandas(orient: str) -> str:
    import pandas as pd

    return pd.DataFrame(ROWS).to_json(orient=orient)


ODD_JSON = {
    "bom between.jsonl": "\ufeff" + lines(ROWS[:9]) + "\ufeff" + lines(ROWS[9:]),
    "bom without a line end.jsonl": lines(ROWS[:9]).rstrip() + "\ufeff" + lines(ROWS[9:]),
    "pretty.jsonl": "\n".join(json.dumps(row, indent=2) for row in ROWS),
    "pretty.json": "\n\n".join(json.dumps(row, indent=2) for row in ROWS),
    "one line.jsonl": "".join(map(json.dumps, ROWS)),
    "commas.jsonl": ",\n".join(map(json.dumps, ROWS)) + ",\n",
    "commas.json": ",\n".join(json.dumps(row, indent=1) for row in ROWS),
    "trailing comma.json": "[" + ",\n".join(map(json.dumps, ROWS)) + ",\n]",
    "lists joined.json": json.dumps(ROWS[:9]) + "\n" + json.dumps(ROWS[9:]),
    "lists joined.jsonl": json.dumps(ROWS[:9]) + json.dumps(ROWS[9:]),
    "records.jsonl": "".join("\x1e" + json.dumps(row) + "\n" for row in ROWS),
    **{f"pandas {orient}.json": orient for orient in ("split", "records", "index", "columns", "table")},
    "header first.json": json.dumps([list(ROWS[0]), *(list(row.values()) for row in ROWS)]),
}


@pytest.mark.parametrize("name", ODD_JSON)
def test_json_of_every_layout_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    text = ODD_JSON[name]
    (tmp_path / name).write_text(pandas(text) if name.startswith("pandas") else text, encoding="utf-8")
    assert rows_of(tmp_path / name) == ROWS


def test_rows_without_names_are_columns_by_number(tmp_path: Path) -> None:
    (tmp_path / "values.json").write_text(pandas("values"))
    rows = rows_of(tmp_path / "values.json")
    assert [list(row.values()) for row in rows] == [list(row.values()) for row in ROWS]


@pytest.mark.parametrize("name", ["bom_mid.jsonl", "pandas_index.json", "pretty_concat.jsonl"])
def test_the_reported_json_is_read(name: str) -> None:
    assert rows_of(CASES / "14-json-lines-odd" / name) == ROWS


def test_json_lines_in_windows_letters_are_read() -> None:
    rows = rows_of(CASES / "14-json-lines-odd/enc_cp1252.jsonl")
    assert rows[5] == {
        "prompt": "Wo ist Bestellung 5? Größe XL",
        "completion": "Bestellung 5 kommt morgen früh für Sie.",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (lines(ROWS[:3]) + '{"prompt": "x", completion: "y"}\n' + lines(ROWS[3:]), "line 4: not valid JSON"),
        (json.dumps(ROWS[0], indent=2) + "\n" + json.dumps(ROWS[1], indent=2)[:-9], "line 7: not valid JSON"),
        (json.dumps(ROWS)[:-1], "not valid JSON"),
        (json.dumps(ROWS).replace("}, {", "} {"), "Expecting ',' delimiter"),
    ],
)
def test_json_that_is_wrong_is_still_refused_at_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(InputError, match=message):
        rows_of(tmp_path / "a.jsonl")


def test_a_spreadsheet_is_read_below_its_title_with_merged_cells_dates_and_numbers(workspace: Workspace) -> None:
    path = CASES / "sheets/a.xlsx"
    rows = rows_of(path)
    assert len(rows) == 12
    assert rows[1] == {
        "prompt": "Where is order 1?",
        "completion": "Order 1 arrives.",
        "when": "2026-01-02 12:00:00",
        "n": 2.5,
        "cat": "ship",
    }
    assert rows[0]["when"] == "2026-01-01" and rows[2]["n"] is True and rows[3]["n"] == 3
    assert [row["cat"] for row in rows] == ["ship"] * 12
    notes = notes_of(path)
    for part in ("1 formulas of", "3 merged cells", "Support export 2026", "Not read in a.xlsx: Notes (1 row)"):
        assert part in notes, notes
    assert rows_of(path, split="Notes") == [{"who": "Ann", "what": "x"}]
    assert look(DataConfig(source=str(path), split="Notes"), workspace).columns == ["who", "what"]
    with pytest.raises(InputError, match=r"no such sheet.*Tickets, Notes"):
        rows_of(path, split="Nots")


def test_open_document_and_old_excel_files_are_read() -> None:
    rows = rows_of(CASES / "sheets/a.ods")
    assert len(rows) == 12 and rows[3] == {"prompt": "Q 3", "completion": "A 3", "n": 3, "d": "2026-01-01", "cat": ""}
    old = rows_of(CASES / "sheets/a.xls")
    assert len(old) == 12 and old[2] == {"prompt": "Where is order 2?", "completion": "Order 2 arrives.", "n": 2}


def test_sheets_called_train_and_test_are_splits_and_hidden_ones_are_said() -> None:
    loaded = load_rows(DataConfig(source=str(CASES / "sheets/splits.xlsx")))
    assert {split: len(rows) for split, rows in loaded.splits.items()} == {"train": 12, "test": 12}
    assert any("Hidden sheets of splits.xlsx were not read: secret" in note for note in loaded.notes)
    assert detect_format(loaded, DataConfig(source="x")).columns == {"prompt": "prompt", "completion": "completion"}


@pytest.mark.parametrize("raw", [b"PK\x03\x04junk", b"hello", b""])
def test_a_damaged_spreadsheet_is_refused_in_words(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "a.xlsx").write_bytes(raw)
    with pytest.raises(InputError, match=r"a\.xlsx"):
        rows_of(tmp_path / "a.xlsx")
