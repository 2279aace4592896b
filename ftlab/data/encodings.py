"""The encoding of a text file: detected from its text, set by a person, or refused; and text that was decoded with the
wrong encoding earlier."""

from __future__ import annotations

import codecs
import io
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from ftlab.errors import InputError, did_you_mean, shorten

Source = Callable[[], BinaryIO]  # opens the file each time it is called

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
_USUAL = ("utf-8", "utf-8-sig", "ascii")
_PIECE = 1 << 20
# A phrase with non-ASCII letters, up to the end of its cell. The text around it says nothing about the encoding.
_PHRASE = re.compile(rb'[^\r\n,;\t"]*[\x80-\xff][^\r\n,;\t"]*')
_MOST_PHRASES = 2000
_MOST_BYTES = 200_000
# Encodings that are subsets of a wider one: their letters have the same bytes there.
_WIDER = {
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "euc_kr": "cp949",
    "shift_jis": "cp932",
    "big5": "cp950",
}
# Rare encodings; they share most letters with common ones.
_RARE = ("iso8859-3", "iso8859-10", "iso8859-14", "iso8859-16", "hp-roman8")
_ESCAPED = re.compile(rb"\x1b\$[@B]|~\{[\x21-\x7e]{2}")  # ISO-2022-JP and HZ encode letters as ASCII


def check_encoding(name: str) -> str:
    """Python's name for the text encoding `name`. Raises InputError if Python does not know it."""
    try:
        info = codecs.lookup(name.strip())
        is_text = isinstance(codecs.encode("a", info.name), bytes)
    except (LookupError, UnicodeError, TypeError, ValueError):
        is_text = False
    if not is_text:
        known = ("utf-8", "utf-16", "cp1252", "cp1251", "cp1250", "mac_roman", "shift_jis", "gb18030", "big5", "euc_kr")
        raise InputError(
            "There is no such encoding",
            given=name,
            allowed=f"a text encoding of Python: {', '.join(known)}, ...",
            try_=did_you_mean(name, known),
        )
    return info.name


def find_encoding(source: Source, name: str, wanted: str | None = None) -> str:
    """The encoding of a text file for Python's `decode`: the `wanted` one, or the one detected from its text.

    Raises InputError if the file is not text, does not fit `wanted`, or has lines in different encodings.
    """
    if wanted:
        return _wanted(source, name, check_encoding(wanted))
    with source() as file:
        start = file.read(_PIECE)
    for mark, encoding in _MARKS:
        if start.startswith(mark):
            if _decodes(source, encoding):
                return encoding
            raise _no_text(source, name, start)
    if b"\x00" in start:
        for encoding in _by_zeros(start):
            if _looks_wide(start, encoding) and _decodes(source, encoding):
                return encoding
        raise _no_text(source, name, start)
    if _decodes(source, "utf-8"):
        return _escaped(start) if _ESCAPED.search(start) else "utf-8"
    phrases = _phrases(source)
    fitting = sum(_fits(phrase, "utf-8") for phrase in phrases)
    if 2 * fitting > len(phrases):
        raise _mixed(source, name)
    for encoding in _likely(phrases):
        if _decodes(source, encoding):
            return encoding
    raise _no_text(source, name, start)


def tell_encoding(encoding: str, name: str, notes: list[str], wanted: str | None = None) -> None:
    """Add a note unless the file is plain UTF-8 or its encoding was set."""
    if encoding not in _USUAL and not wanted:
        notes.append(f"{name} was read as {encoding} text. If letters look wrong, set its encoding.")


def decode(raw: bytes, name: str, notes: list[str], wanted: str | None = None) -> str:
    """The text in `raw`, without byte order marks. Raises InputError like `find_encoding`."""
    encoding = find_encoding(lambda: io.BytesIO(raw), name, wanted)
    tell_encoding(encoding, name, notes, wanted)
    return without_marks(raw.decode(encoding))


def without_marks(text: str) -> str:
    """`text` without byte order marks at its start, or at the start of a line where files were joined."""
    if "\ufeff" not in text:
        return text
    return re.sub(r"(?m)^\ufeff+", "", text)


def _wanted(source: Source, name: str, encoding: str) -> str:
    with source() as file:
        start = file.read(4)
    if encoding == "utf-8" and start.startswith(codecs.BOM_UTF8):
        encoding = "utf-8-sig"
    if not _decodes(source, encoding, zeros=True):
        line, excerpt = _first_wrong(source, encoding)
        raise InputError(
            f"{name}, line {line}: not {encoding} text",
            given=excerpt,
            allowed="the encoding that the file was saved in",
            try_="set another encoding, or none, to have it detected",
        )
    return encoding


def _decodes(source: Source, encoding: str, *, zeros: bool = False) -> bool:
    """Whether the whole file decodes in this encoding. A null character means that it does not, unless `zeros` is
    set."""
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        with source() as file:
            while piece := file.read(_PIECE):
                if "\x00" in decoder.decode(piece) and not zeros:
                    return False
        decoder.decode(b"", final=True)
        return True
    except UnicodeError:
        return False


def _by_zeros(start: bytes) -> list[str]:
    """UTF-16 or UTF-32 without a byte order mark: the zero bytes of ASCII characters are at fixed offsets."""
    counts = [start[place::4].count(0) for place in range(4)]
    if max(counts) > 3 * min(counts):
        if min(counts[2:]) > 0.8 * len(start) / 4 or min(counts[:2]) > 0.8 * len(start) / 4:
            return ["utf-32-le"] if counts[0] < counts[3] else ["utf-32-be"]
        return ["utf-16-le", "utf-16-be"] if counts[1] + counts[3] > counts[0] + counts[2] else ["utf-16-be"]
    return []


def _looks_wide(start: bytes, encoding: str) -> bool:
    """Whether a file with zero bytes is text in UTF-16 or UTF-32: it has ASCII punctuation, and few letters in odd
    places."""
    text = start[:40_000].decode(encoding, "ignore")
    plain = sum(letter < "\x80" for letter in text)
    return plain > len(text) / 100 and _odd_letters(text) < len(text) / 10


def _escaped(start: bytes) -> str:
    import chardet

    name = chardet.detect(start[:_MOST_BYTES], include_encodings=("utf-8", "ascii", "iso-2022-jp", "hz-gb-2312"))
    encoding = codecs.lookup(name["encoding"] or "utf-8").name
    return encoding if encoding not in ("ascii", "utf-8") and _fits(start, encoding) else "utf-8"


def _phrases(source: Source) -> list[bytes]:
    """Distinct phrases with non-ASCII letters."""
    phrases: dict[bytes, None] = {}
    with source() as file:
        for line in _lines(file):
            if not line.isascii():
                phrases.update(dict.fromkeys(match[:400] for match in _PHRASE.findall(line)))
                if len(phrases) >= _MOST_PHRASES:
                    break
    return list(phrases)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    for line in file:
        yield from line.split(b"\r")  # line ends of the classic Mac OS


def _fits(raw: bytes, encoding: str) -> bool:
    try:
        raw.decode(encoding)
        return True
    except UnicodeError:
        return False


def _likely(phrases: list[bytes]) -> list[str]:
    """The encodings that the phrases look like, the most likely first."""
    import chardet

    every = b"\n".join(phrases)[:_MOST_BYTES]
    eras = chardet.EncodingEra.ALL & ~chardet.EncodingEra.MAINFRAME
    names = [chardet.detect(every, encoding_era=eras, exclude_encodings=_RARE)["encoding"], "cp1252", "mac_roman"]
    known = list(dict.fromkeys(_wider(name) for name in names if name))
    read = {name: every.decode(name, "replace") for name in known}
    return sorted(known, key=lambda name: _odd_letters(read[name]))


def _wider(name: str) -> str:
    name = codecs.lookup(name).name
    return _WIDER.get(name, name)


_FOREIGN_WORD = re.compile(r"(?<![A-Za-z])[^\W\d_A-Za-z]{4,}(?![A-Za-z])")


def _odd_letters(text: str) -> int:
    """Non-ASCII characters in places where no language has them: an uppercase letter inside a word, a symbol between
    letters, a letter next to one of another script, a Latin word without one plain letter."""
    odd = sum(_is_latin(word[0]) for word in _FOREIGN_WORD.findall(text))
    for place, letter in enumerate(text):
        if letter < "\x80":
            continue
        before = text[place - 1] if place else " "
        after = text[place + 1] if place + 1 < len(text) else " "
        kind = unicodedata.category(letter)
        if kind in ("Cc", "Cn", "Co") or letter == "\ufffd":
            odd += 1
        elif kind[0] in "LM":
            beside = [other for other in (before, after) if other < "\x80" and other.isalpha()]
            odd += (kind == "Lu" and before.islower()) or (bool(beside) and not _is_latin(letter))
        else:
            odd += before.isalpha() and after.isalpha() and letter not in "’'‘·-–—\u200c\u200d"
    return odd


def _is_latin(letter: str) -> bool:
    name = unicodedata.name(letter, "")
    return name.startswith(("LATIN", "COMBINING")) or "ORDINAL" in name


def _first_wrong(source: Source, encoding: str) -> tuple[int, str]:
    """The number of the first line that is not in this encoding, and its text."""
    with source() as file:
        for number, line in enumerate(file, start=1):
            if not _fits(line, encoding):
                return number, shorten(line[:300].decode(encoding, "replace"), 80)
    return 1, ""


def _mixed(source: Source, name: str) -> InputError:
    line, excerpt = _first_wrong(source, "utf-8")
    return InputError(
        f"{name}, line {line}: not UTF-8 text, while other lines are",
        given=excerpt,
        allowed="one encoding for the whole file",
        try_="save the part that this line is from as UTF-8, then join the files again; or set an encoding",
    )


def _no_text(source: Source, name: str, start: bytes) -> InputError:
    with source() as file:
        size = file.seek(0, io.SEEK_END)
    return InputError(
        f"{name} is not text",
        given=f"{size} bytes beginning with {start[:8]!r}",
        allowed="text in UTF-8 or another encoding",
        try_="save it as UTF-8 (of a sheet: CSV UTF-8), or set its encoding",
    )


@dataclass(frozen=True)
class WronglyDecoded:
    """Text in the encoding `meant` that was decoded as `read`."""

    read: str
    meant: str

    def mended(self, text: str) -> str | None:
        """`text` decoded as intended. None if it was not decoded this way."""
        try:
            right = text.encode(self.read).decode(self.meant)
        except UnicodeError:
            return None
        return right if right != text else None


# Encodings that text is mistaken for: the defaults of Windows and the Mac by language, and of older command lines.
_MISTAKEN = ("cp1252", "latin-1", "mac_roman", "cp1251", "cp1250", "cp437", "gb18030", "shift_jis", "euc_kr")
_ONE_BYTE = _MISTAKEN[:6]
_WORDS = re.compile(r'[^\r\n,;\t"]*[^\x00-\x7f][^\r\n,;\t"]*')
_NEARLY_ALL = 0.9


def find_wrongly_decoded(texts: Iterable[str]) -> WronglyDecoded | None:
    """The decoding error shared by most non-ASCII texts. None if there is none, or it cannot be determined.

    When re-encoded with the encoding they were read in, the bytes are valid UTF-8, or look like another encoding with
    half as many letters in odd places.
    """
    phrases: dict[str, None] = {}
    for text in texts:
        if not text.isascii():
            phrases.update(dict.fromkeys(match[:400] for match in _WORDS.findall(text)))
            if len(phrases) >= _MOST_PHRASES:
                break
    if not phrases:
        return None
    written = {name: parts for name in _MISTAKEN if (parts := _written(list(phrases), name)) is not None}
    for name, parts in written.items():
        if sum(raw.decode("utf-8", "replace") != text and _fits(raw, "utf-8") for text, raw in parts) >= (
            _NEARLY_ALL * len(parts)
        ):
            return WronglyDecoded(name, "utf-8")
    import chardet

    for name, parts in written.items():
        if name not in _ONE_BYTE:
            continue
        raw, text = b"\n".join(raw for _, raw in parts)[:_MOST_BYTES], "\n".join(text for text, _ in parts)
        odd = _odd_letters(text[:_MOST_BYTES])
        meant = chardet.detect(raw, exclude_encodings=_RARE)["encoding"] if odd else None
        if not meant or not _fits(raw, meant):
            continue
        right = raw.decode(meant)
        if right != text and _odd_letters(right) < odd / 2:
            return WronglyDecoded(name, _wider(meant))
    return None


def _written(phrases: list[str], encoding: str) -> list[tuple[str, bytes]] | None:
    """The phrases with their bytes in an encoding. None if a tenth of them cannot be encoded."""
    parts = []
    for phrase in phrases:
        try:
            parts.append((phrase, phrase.encode(encoding)))
        except UnicodeError:
            pass
    return parts if parts and len(parts) >= _NEARLY_ALL * len(phrases) else None
