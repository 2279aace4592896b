"""A newcomer's table is read as the newcomer means it; where nobody could know, nothing is guessed."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from ftlab.config import DataConfig, build_config
from ftlab.core.workspace import Workspace
from ftlab.data import version_store, versions
from ftlab.data.formats import detect, detect_prompts
from ftlab.data.inspection import look
from ftlab.errors import InputError
from ftlab.training import supervisor

ROWS = 24
ROOMS = ["cold", "loud", "dark", "small", "warm", "wet"]


def cells(make: str) -> list[Any]:
    """The cells of one column, by what they hold."""
    kinds: dict[str, Any] = {
        "id": lambda n: f"T-{1000 + n}",
        "uuid": lambda n: f"3f2b{n:04x}-9c1d-4e5f-8a7b-1234567890ab",
        "number": lambda n: str(7 * n + 3),
        "date": lambda n: f"2026-03-{n + 1:02} 14:{n + 10}",
        "german date": lambda n: f"{n + 1}.03.2026",
        "long date": lambda n: f"{n + 1} March 2026",
        "agent": lambda n: ["Anna Maria Weber", "Tom Hill", "Li Wei"][n % 3],
        "guests": lambda n: f"{['Mia', 'Ben', 'Zoe', 'Max'][n % 4]} {'ABCDEF'[n // 4]}ox",
        "mail": lambda n: f"guest{n}@example.org",
        "stars": lambda n: str(n % 5 + 1),
        "class": lambda n: ["billing", "rooms", "food"][n % 3],
        "class 2": lambda n: ["high", "low"][n % 2],
        "ask": lambda n: f"Hello, room {n} is too {ROOMS[n % 6]} for us. Please change it.",
        "ask?": lambda n: f"Is room {n} still free for the weekend with two children?",
        "title": lambda n: f"Room {n} too {ROOMS[n % 6]}",
        "reply": lambda n: (
            f"We are sorry about room {n}. Somebody will be with you in ten minutes, and we will call you."
        ),
        "draft": lambda n: (
            f"Sorry about room {n}. Somebody will come to you in ten minutes, and we call you after that."
        ),
        "note": lambda n: f"Regular guest, has been here {n + 2} times, likes the quiet side.",
        "short": lambda n: ["Paris", "Rome", "Oslo"][n % 3] + str(n),
        "word": lambda n: f"word{chr(97 + n)}",
        "json": lambda n: json.dumps({"room": n, "problem": ROOMS[n % 6]}),
        "zh ask": lambda n: f"我的房间{n}太冷了，请帮我换一个房间。",
        "zh reply": lambda n: f"非常抱歉，我们马上为您更换房间{n}，请稍等。",
        "ja ask": lambda n: f"部屋{n}がとても寒いです。変えていただけますか。",
        "ja reply": lambda n: f"申し訳ございません。すぐに部屋{n}をご用意いたします。",
        "ar ask": lambda n: f"الغرفة رقم {n} باردة جدا ونريد تغييرها من فضلكم",
        "ar reply": lambda n: f"نعتذر عن ذلك وسوف نجهز لكم الغرفة رقم {n} خلال دقائق",
        "same": lambda n: "You are a friendly assistant of the hotel Pinebrook.",
        "empty": lambda n: "" if n % 5 else "This guest came back and was happy with it.",
    }
    return [kinds[make](n) for n in range(ROWS)]


def table(columns: dict[str, str]) -> list[dict[str, Any]]:
    made = {name: cells(kind) for name, kind in columns.items()}
    return [{name: made[name][n] for name in columns} for n in range(ROWS)]


PAIRS: list[tuple[dict[str, str], tuple[str, str]]] = [
    ({"Ticket No": "id", "Gast schreibt": "ask", "What we said": "reply"}, ("Gast schreibt", "What we said")),
    # In another order, with dates, people and ratings beside them.
    (
        {"Reply": "reply", "Date": "date", "Agent": "agent", "Customer message": "ask", "Rating": "stars"},
        ("Customer message", "Reply"),
    ),
    ({"Anfrage": "ask", "Unsere Antwort": "reply", "Datum": "german date"}, ("Anfrage", "Unsere Antwort")),
    ({"Kundenfrage": "ask", "Kundenantwort": "reply"}, ("Kundenfrage", "Kundenantwort")),
    ({"Demande du client": "ask", "Réponse": "reply", "Note": "note"}, ("Demande du client", "Réponse")),
    ({"Fecha": "long date", "Pregunta": "ask", "Respuesta": "reply"}, ("Pregunta", "Respuesta")),
    ({"domanda": "ask", "risposta": "reply", "autore": "agent"}, ("domanda", "risposta")),
    ({"Pergunta do hóspede": "ask", "Resposta": "reply"}, ("Pergunta do hóspede", "Resposta")),
    ({"Vraag": "ask", "Antwoord": "reply", "Klantnummer": "number"}, ("Vraag", "Antwoord")),
    ({"Вопрос клиента": "ask", "Наш ответ": "reply", "№": "number"}, ("Вопрос клиента", "Наш ответ")),
    ({"soru": "ask", "cevap": "reply"}, ("soru", "cevap")),
    ({"编号": "number", "客户问题": "zh ask", "客服回复": "zh reply"}, ("客户问题", "客服回复")),
    ({"お客様の質問": "ja ask", "回答": "ja reply", "日付": "date"}, ("お客様の質問", "回答")),
    ({"سؤال العميل": "ar ask", "الرد": "ar reply"}, ("سؤال العميل", "الرد")),
    # Only one of the two is named.
    ({"ID": "uuid", "Text": "ask", "Reply": "reply"}, ("Text", "Reply")),
    ({"Subject": "title", "Body": "ask", "Our reply": "reply"}, ("Body", "Our reply")),
    ({"Guest": "ask", "Col 2": "reply", "mail": "mail"}, ("Guest", "Col 2")),
    ({"text": "ask", "summary": "reply"}, ("text", "summary")),
    # Named by nobody: what asks is the prompt.
    ({"A": "id", "B": "reply", "C": "ask?"}, ("C", "B")),
    ({"Column1": "date", "Column2": "ask?", "Column3": "reply", "Column4": "stars"}, ("Column2", "Column3")),
    # Short answers, and what is read out of a text.
    ({"Frage": "ask?", "Richtige Antwort": "short"}, ("Frage", "Richtige Antwort")),
    ({"ticket": "ask", "triage": "json"}, ("ticket", "triage")),
    # An ID, a date or a name is no prompt whatever stands over it.
    ({"Request": "id", "Guest wrote": "ask", "Response": "reply"}, ("Guest wrote", "Response")),
    ({"user": "guests", "message": "ask", "reply": "reply"}, ("message", "reply")),
    ({"Query": "date", "Complaint": "ask", "Answer": "reply"}, ("Complaint", "Answer")),
    (
        {"Request time": "date", "Request": "ask", "Response time": "number", "Response": "reply"},
        ("Request", "Response"),
    ),
    ({"Setting": "same", "Guest text": "ask", "Desk": "reply"}, ("Guest text", "Desk")),
    ({"Guest says": "ask", "We answer": "reply", "Follow-up": "empty"}, ("Guest says", "We answer")),
]


@pytest.mark.parametrize(("columns", "pair"), PAIRS, ids=[" | ".join(columns) for columns, _ in PAIRS])
def test_the_text_that_asks_and_what_answers_it_are_found(columns: dict[str, str], pair: tuple[str, str]) -> None:
    rows = table(columns)
    found = detect(list(columns), rows)
    assert (found.columns["prompt"], found.columns["completion"]) == pair
    assert {"input", "system"}.isdisjoint(found.columns)


CLASSES = [
    ({"Nachricht": "ask", "Kategorie": "class"}, ("Nachricht", "Kategorie")),
    ({"ID": "id", "What they wrote": "ask", "Column3": "class"}, ("What they wrote", "Column3")),
    ({"Text": "ask", "Abteilung": "class", "Agent": "agent", "Kanal": "class 2"}, ("Text", "Abteilung")),
]


@pytest.mark.parametrize(("columns", "pair"), CLASSES, ids=[" | ".join(columns) for columns, _ in CLASSES])
def test_a_text_with_its_class_is_a_classification(columns: dict[str, str], pair: tuple[str, str]) -> None:
    found = detect(list(columns), table(columns))
    assert (found.format, found.columns["text"], found.columns["label"]) == ("classification", *pair)


UNSURE = [
    {"links": "ask", "rechts": "reply"},  # neither names nor cells say which side asks
    {"English": "draft", "Deutsch": "reply"},
    {"a": "ask", "b": "reply", "c": "draft"},
    {"Question": "ask", "First answer": "draft", "Second answer": "reply"},
    {"Guest question": "ask?", "Guest request": "ask", "Reply": "reply"},
    {"Customer message": "ask", "Internal note": "note"},
    {"Nachricht": "ask", "Bearbeiter": "agent"},
    {"ID": "id", "Story": "ask"},
    {"Story": "ask", "colour": "class", "size": "class 2"},
    {"ID": "id", "Date": "date", "Stars": "stars"},
    {"from": "word", "to": "short"},
]


@pytest.mark.parametrize("columns", UNSURE, ids=[" | ".join(columns) for columns in UNSURE])
def test_where_no_pair_stands_out_nothing_is_guessed(columns: dict[str, str]) -> None:
    with pytest.raises(InputError, match="No usable column"):
        detect(list(columns), table(columns))


def test_names_that_tools_use_are_not_guessed_over() -> None:
    known = {"prompt": "number", "completion": "reply", "Guest question": "ask?"}
    assert detect(list(known), table(known)).columns == {"prompt": "prompt", "completion": "completion"}
    code = {"input": "id", "output": "word"}
    assert detect(list(code), table(code)).columns == {"prompt": "input", "completion": "output"}
    story = {"title": "title", "text": "ask", "author": "agent"}
    assert detect(list(story), table(story)).format == "text"


def test_a_text_beside_prompts_is_no_answer_where_the_model_writes_the_answers() -> None:
    columns = {"prompt": "ask?", "background": "note"}
    assert detect_prompts(list(columns), table(columns), {}, "x", None).columns == {"prompt": "prompt"}


def test_what_was_guessed_stays_with_the_version_and_the_run(tmp_path: Path, workspace: Workspace) -> None:
    file = tmp_path / "desk.csv"
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.DictWriter(opened, ["Ticket No", "Gast schreibt", "What we said"])
        writer.writeheader()
        writer.writerows(table({"Ticket No": "id", "Gast schreibt": "ask", "What we said": "reply"}))
    pair = {"prompt": "Gast schreibt", "completion": "What we said"}
    seen = look(str(file), workspace)
    assert seen.problem is None and seen.detected is not None
    assert seen.detected.columns == pair and seen.detected.is_guess and "guessed" in seen.why
    first = versions.create(DataConfig(source=str(file)), workspace)
    assert first.details["columns"] == pair
    assert versions.create(DataConfig(source=str(file)), workspace).id == first.id
    cut = versions.derive(first, list(version_store.rows_of(first))[:20], "cut", workspace=workspace)
    assert look(cut.source, workspace).detected.columns == pair
    run, config = supervisor.create(build_config({"data": {"source": str(file)}}), workspace)
    assert config.data.columns == run.manifest()["columns"] == pair


@pytest.mark.parametrize(
    ("columns", "kind"),
    [
        ({"text": "A long story about a harbor and a lamp, number {n}.", "kind": "stories"}, "text"),
        ({"text": "A long story about a harbor and a lamp, number {n}.", "Kategorie": "stories"}, "classification"),
        ({"prompt": "Which ocean lies between Africa and Asia, number {n}?", "kind": "facts"}, None),
    ],
    ids=["a corpus with sources", "a named class", "prompts without answers"],
)
def test_a_column_of_kinds_is_no_answer_unless_its_header_says_so(columns, kind):
    others = {"stories": "news", "facts": "sums"}
    rows = [
        {name: others[cell] if cell in others and n % 2 else cell.format(n=n) for name, cell in columns.items()}
        for n in range(40)
    ]
    if kind is None:
        with pytest.raises(InputError):
            detect(list(columns), rows)
    else:
        assert detect(list(columns), rows).format == kind
