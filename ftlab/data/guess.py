"""Guesses which column is the prompt and which the answer when headers follow no known convention: by name, content and
length.

The words are common headers for such columns in a dozen languages. They only choose between columns whose cells
qualify. A guess is made only if one pair stands out, since a wrong pair trains a wrong model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ftlab.data.cells import are_classes

# Header words. A stem of five letters or more, or in a script without spaces, also matches inside a word (Kundenfrage);
# a shorter one must be a whole word. What was said takes precedence over who said it (Kundenantwort is an answer).
_ASKED = """ask asked asks ask-us inquiry enquiry question query prompt request instruction complaint issue problem
incoming inbound received original source before input wrote writes frage anfrage anliegen beschwerde
eingang schreibt schrieb demande requête requete plainte pregunta consulta solicitud queja domanda
richiesta reclamo pergunta pedido solicitação vraag verzoek klacht pytanie zapytanie вопрос запрос
обращение питання soru talep fråga spørgsmål kysymys otázka kérdés întrebare سؤال استفسار प्रश्न सवाल 问题
提问 咨询 输入 指令 原文 質問 問い合わせ 入力 질문 문의 요청 입력 câu-hỏi คำถาม""".split()
_ASKERS = """customer client guest user visitor patient student caller buyer tenant citizen reader human they kunde
kundin gast gäste nutzer patientin mieter bürger cliente huésped ospite hóspede usuario utente
utilisateur klant klient gość клиент пользователь клієнт müşteri misafir kund عميل العميل ग्राहक 客户 用户
顾客 お客様 顧客 고객 사용자""".split()
_ANSWERED = """answer answered reply replied replies response responded completion output target solution resolution
outgoing outbound sent after draft expected gold summary translation corrected rewritten antwort
antworten antworteten antwortet geantwortet erwiderung rückmeldung lösung zusammenfassung übersetzung
réponse reponse répondu résumé traduction respuesta contestación solución resumen traducción risposta
soluzione riassunto traduzione resposta resumo tradução antwoord oplossing samenvatting vertaling
odpowiedź rozwiązanie ответ решение перевод відповідь cevap yanıt svar vastaus odpověď válasz răspuns
إجابة جواب رد उत्तर जवाब 回答 答案 回复 答复 输出 译文 返信 答え 出力 답변 응답 출력 답 trả-lời คำตอบ""".split()
_ANSWERERS = """we our ours us said agent support staff team assistant bot clerk desk wir unser unsere uns nous notre
nosotros nuestra nuestro noi nostra nós nossa wij ons my nasza мы наш biz vi meidän support-team 客服 我们
当店 당사""".split()
# Columns that accompany a pair: who, when, how good; internal remarks; a heading that is not a message.
_BESIDE = """id no nr num number nummer date datum fecha time zeit created updated name by von rating score stars
bewertung note notes notiz notizen internal intern remark status state priority priorität tag tags
language lang sprache url link email mail phone telefon subject betreff objet asunto oggetto assunto
title titel titre category kategorie type typ channel kanal author autor agent agente owner assignee
operator bearbeiter mitarbeiter employee length count version 日期 编号 标题 备注 날짜 번호 제목""".split()
_CLASSES = """label class category categoría catégorie categoria kategorie klasse intent topic thema sentiment
stimmung department abteilung queue tema sujet 分类 类别 标签 カテゴリ 분류""".split()
_OWN = re.compile(
    r"[\u0600-\u06ff\u0900-\u0dff\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"
)  # scripts matched inside words

_NUMBER = re.compile(r"[-+]?[\d.,\s]*\d\s*[%€$£]?")
_CODE = re.compile(
    r"[#A-Za-z]{0,10}[-_/:.#]?\d+([-_/:.][A-Za-z0-9]+)*|[0-9a-fA-F]{8,}(-[0-9a-fA-F]{4,})*"  # T-0412, #88, a UUID
    r"|(?=\w*\d)(?=\w*[A-Za-z])[\w-]{6,40}|\S+@\S+\.\S+|https?://\S+|\+?[\d\s()/-]{7,20}"
)
_DATE = re.compile(
    r"(\w+,?\s+)?(\d{1,4}[-./]\d{1,2}[-./]\d{1,4}|\d{1,2}\.?\s+\w{3,10}\.?,?\s+\d{2,4}|\w{3,10}\.?\s+\d{1,2},?\s+\d{4}"
    r"|\d{4}年\d{1,2}月\d{1,2}日|\d{1,2}[-\s]\w{3}[-\s]\d{2,4})([T,\s]+\d{1,2}[:.h]\d{2}.*)?|\d{1,2}:\d{2}(:\d{2})?\s*([ap]m)?",
    re.IGNORECASE,
)
_CHARACTERS = 2000  # of a cell that are examined
_LONGER = 1.5  # a text is chosen by length if it is this many times longer than the next
_ASKS = 0.2  # the share of cells with a question mark that makes a column the prompt if another has fewer


@dataclass(frozen=True)
class Guess:
    """`roles`: prompt and completion, or text and label, each with its column; `why` in words."""

    roles: dict[str, str]
    why: str


@dataclass(frozen=True)
class _Column:
    name: str
    kind: str  # text, short, classes, structured, code, date, number, name, empty
    length: float  # mean characters per cell
    asks: float  # share of cells with a question mark
    asked: int  # from the header: the asking side, the answering side, or something beside them
    answered: int
    beside: bool
    classes: bool

    @property
    def side(self) -> int:
        """Positive for a header of the asking side, negative for one of the answering side."""
        return self.asked - self.answered


def guess_columns(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Guess | None:
    """The prompt and answer columns (or text and label) in `rows`. None if no pair stands out."""
    seen = [_column(name, [row.get(name) for row in rows]) for name in columns]
    asking = [column for column in seen if _can_ask(column)]
    answering = [column for column in seen if _can_answer(column)]
    answer = _best([column for column in answering if column.side < 0], -1)
    if answer is None and any(column.side < 0 for column in answering):
        return None  # several answers, none of which stands out
    prompt = _best([column for column in asking if column.side > 0], +1)
    if prompt is None and any(column.side > 0 for column in asking):
        return None
    # Texts with an uninformative header: the prompt or the answer, if the other one is named.
    plain = [column for column in seen if column.kind == "text" and column.side == 0 and not column.beside]
    if prompt and answer:
        return _pair(prompt, answer, "by their names and contents")
    if answer and (prompt := _longest(plain)):
        return _pair(prompt, answer, f"{answer.name} by its name, {prompt.name} as the text that it answers")
    if prompt and len(plain) == 1:
        return _pair(prompt, plain[0], f"{prompt.name} by its name, {plain[0].name} as the only other text")
    return _by_content(seen, [*plain, *([prompt] if prompt else [])]) if answer is None else None


def names_classes(header: str) -> bool:
    """Whether the header of a column suggests that it holds classes."""
    return _names(_words_of(header), _CLASSES)


def is_never_a_prompt(cells: Sequence[Any]) -> bool:
    """Whether a column holds only codes, dates, numbers or personal names."""
    return _kind(_texts(cells)) in ("code", "date", "number", "name")


def _by_content(seen: Sequence[_Column], texts: Sequence[_Column]) -> Guess | None:
    """Of two texts, the one that asks; of one text, its class or its extract."""
    if len(texts) == 2:
        first, second = sorted(texts, key=lambda column: -column.asks)
        if first.asks - second.asks >= _ASKS:
            return _pair(first, second, f"the cells of {first.name} ask, those of {second.name} do not")
        return None
    if len(texts) != 1:
        return None
    others = [
        column
        for column in seen
        if column is not texts[0] and column.kind in ("classes", "structured", "short", "number")
    ]
    structured = [column for column in others if column.kind == "structured"]
    if len(structured) == 1:
        return _pair(texts[0], structured[0], f"{structured[0].name} holds what is to be read out of {texts[0].name}")
    classes = [column for column in others if column.kind == "classes"]
    labels = [column for column in classes if column.classes]
    if not labels and len(others) == 1:
        labels = [column for column in classes if not column.beside]
    if len(labels) != 1:
        return None
    return Guess(
        {"text": texts[0].name, "label": labels[0].name}, f"{labels[0].name} holds a class for every {texts[0].name}"
    )


def _pair(prompt: _Column, answer: _Column, why: str) -> Guess:
    return Guess({"prompt": prompt.name, "completion": answer.name}, why)


def _can_ask(column: _Column) -> bool:
    # Words for who asks also head columns of names and numbers. A prompt may be a word or two.
    return column.kind == "text" or (
        column.kind in ("short", "classes", "structured") and column.side >= 2 and not column.beside
    )


def _can_answer(column: _Column) -> bool:
    if column.kind == "text":
        return True
    return column.kind not in ("date", "empty", "name") and column.side <= -2 and not column.beside


def _best(named: Sequence[_Column], sign: int) -> _Column | None:
    """The column whose header names it most clearly. None if another one is as likely."""
    texts = [column for column in named if column.kind == "text" and not column.beside] or [
        column for column in named if column.kind == "text"
    ]
    ranked = sorted(texts or named, key=lambda column: (-sign * column.side, -column.length))
    if not ranked:
        return None
    first, others = ranked[0], ranked[1:]
    rivals = [column for column in others if column.side == first.side and column.length * _LONGER > first.length]
    return None if rivals or any(column.length > 2 * first.length for column in others) else first


def _longest(texts: Sequence[_Column]) -> _Column | None:
    ranked = sorted(texts, key=lambda column: -column.length)
    if len(ranked) > 1 and ranked[1].length * _LONGER > ranked[0].length:
        return None
    return ranked[0] if ranked else None


def _column(name: str, cells: Sequence[Any]) -> _Column:
    texts = _texts(cells)
    words = _words_of(name)
    kind = "empty" if len(texts) < max(1, len(cells) / 2) else _kind(texts)
    asked = 2 * _names(words, _ASKED) or int(_names(words, _ASKERS))
    answered = 2 * _names(words, _ANSWERED) or int(_names(words, _ANSWERERS))
    if asked == answered == 2:  # "Answer to the question": the first word is the head noun
        places = [next(i for i, word in enumerate(words) if _names([word], stems)) for stems in (_ASKED, _ANSWERED)]
        asked, answered = (asked, 0) if places[0] < places[1] else (0, answered)
    return _Column(
        name=name,
        kind=kind,
        length=sum(map(len, texts)) / max(1, len(texts)),
        asks=sum(any(mark in text for mark in "?？؟") for text in texts) / max(1, len(texts)),
        asked=asked,
        answered=answered,
        beside=_names(words, _BESIDE),
        classes=_names(words, _CLASSES),
    )


def _texts(cells: Sequence[Any]) -> list[str]:
    """The non-empty cells as text; for lists and objects, their first characters."""
    return [text for cell in cells if cell is not None and (text := str(cell).strip()[:_CHARACTERS])]


def _kind(texts: Sequence[str]) -> str:
    if not texts:
        return "empty"
    for kind, pattern in (("number", _NUMBER), ("date", _DATE), ("code", _CODE)):
        if _most(pattern.fullmatch(text) is not None for text in texts):
            return kind
    if _most(text[0] in "{[" and text[-1] in "}]" for text in texts):
        return "structured"
    if len(texts) >= 8 and are_classes(texts):
        return "classes"
    if len(texts) > 1 and _most(_is_name(text) for text in texts):
        return "name"
    different = len(set(texts))
    if sum(map(_length_in_words, texts)) / len(texts) < 3 or (len(texts) > 1 and different == 1):
        return "short"
    return "text"


def _most(truths: Any) -> bool:
    values = list(truths)
    return sum(values) >= 0.9 * len(values)


def _is_name(text: str) -> bool:
    """Whether a cell reads like a personal name: two or three capitalized words and nothing else."""
    words = text.split()
    return 1 < len(words) <= 3 and all(
        word[0].isupper() and word.replace("-", "").replace(".", "").isalpha() for word in words
    )


def _length_in_words(text: str) -> float:
    # Scripts without spaces: about two characters per word.
    own = len(_OWN.findall(text))
    return own / 2 + len(re.findall(r"[^\W_]+", _OWN.sub(" ", text)))


def _words_of(header: str) -> list[str]:
    return re.findall(r"[^\W_]+", re.sub(r"(?<=[a-zß-ÿ])(?=[A-Z])", " ", header).lower())


def _names(words: Sequence[str], stems: Sequence[str]) -> bool:
    inside = stems is not _BESIDE  # "count" is part of "account"
    return any(
        word == stem or (inside and (len(stem) >= 5 or _OWN.search(stem)) and stem in word)
        for word in words
        for stem in stems
    )
