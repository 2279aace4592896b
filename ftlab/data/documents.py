"""Documents (PDF, Word, HTML, Markdown, text and others) as passages, split into training, validation and test."""

from __future__ import annotations

import hashlib
import io
import random
import re
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ftlab.core.words import counted, install
from ftlab.data.limits import check_expanded, check_size
from ftlab.data.near import near_pairs
from ftlab.data.tabular import decode
from ftlab.errors import InputError, shorten

PLAIN = (".md", ".markdown", ".txt", ".rst")
CONVERTED = (".pdf", ".docx", ".html", ".htm", ".pptx", ".epub")  # by markitdown
SUFFIXES = (*PLAIN, *CONVERTED)
PASSAGE_WORDS = 220  # at most, unless one paragraph is longer; about 300 tokens of English
FEWEST_WORDS = 15  # in a passage; anything shorter is a heading, a caption or a page number
_LONGEST_PARAGRAPH = 2 * PASSAGE_WORDS
_FEWEST_UNITS = 5  # documents, or sections, to take validation and test questions from
_REPEATED = 3  # a short line that occurs this often in a document counts as a running header or footer
_HEADING = re.compile(r"(#{1,6})\s+(.*\S)\s*#*\s*$")
_RULE = re.compile(r"(=+|-+)\s*$")  # under a heading
_FENCE = re.compile(r"\s*(```|~~~)")
_WORD = re.compile(r"[^\W_]+")
_DENSE = re.compile(r"[぀-ヿ㐀-鿿가-힣ก-๿]")  # scripts in which a character is about half a word


@dataclass(frozen=True)
class Passage:
    """A piece of a document, the `number`-th from 0. `headings` are the headings above it, outermost first."""

    document: str
    number: int
    headings: tuple[str, ...]
    text: str

    @property
    def title(self) -> str:
        return " > ".join(self.headings)

    @property
    def whole(self) -> str:
        """The text a model reads: the headings, then the passage."""
        return f"{self.title}\n\n{self.text}" if self.headings else self.text


@dataclass(frozen=True)
class Document:
    """A file converted to Markdown."""

    name: str
    sha256: str
    text: str


def is_document(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def find_documents(places: Iterable[str | Path]) -> list[Path]:
    """The document files among `places`, including those in folders. Raises InputError if there are none, or one cannot
    be read as a document."""
    paths: list[Path] = []
    for place in places:
        path = Path(place).expanduser()
        if path.is_dir():
            paths += sorted(
                file
                for file in path.rglob("*")
                if file.is_file()
                and is_document(file)
                and not any(part.startswith(".") for part in file.relative_to(path).parts)
            )
        elif not path.exists():
            raise InputError(f"There is no file {path.name} in {path.parent.absolute()}", given=str(place))
        elif not is_document(path):
            raise InputError(
                f"{path.name} is not a document that ftlab reads",
                given=path.suffix or path.name,
                allowed=", ".join(SUFFIXES),
            )
        else:
            paths.append(path)
    if not paths:
        raise InputError(
            "There is no document here", given=", ".join(map(str, places)), allowed=f"files with {', '.join(SUFFIXES)}"
        )
    return list(dict.fromkeys(paths))


def read_document(path: Path, name: str | None = None) -> Document:
    """`path` as Markdown. Raises InputError if it cannot be read, is too large, or holds no text.

    Text and Markdown are read directly, other formats by markitdown without network access: it gets the file as bytes.
    """
    name = name or path.name
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror}", given=str(path)) from None
    check_size(name, len(raw))
    suffix = path.suffix.lower()
    text = decode(raw, name, []) if suffix in PLAIN else _converted(raw, suffix, name)
    if not _WORD.search(text):
        scanned = suffix == ".pdf"
        raise InputError(
            f"{name} holds no text",
            try_="it may be scanned: run it through text recognition (OCR) first" if scanned else "leave it out",
        )
    return Document(name, hashlib.sha256(raw).hexdigest(), text.replace("\r\n", "\n").replace("\r", "\n"))


def _converted(raw: bytes, suffix: str, name: str) -> str:
    try:
        from markitdown import MarkItDown, MarkItDownException
    except ImportError:
        raise InputError(
            f"Reading {suffix} files takes a library that is not installed",
            given=name,
            allowed=f"without it: {', '.join(PLAIN)}",
            try_=install("documents"),
        ) from None
    if raw[:2] == b"PK":
        try:
            with zipfile.ZipFile(io.BytesIO(raw)) as archive:
                check_expanded(name, sum(entry.file_size for entry in archive.infolist()), len(raw))
        except (zipfile.BadZipFile, OSError, NotImplementedError):
            raise InputError(f"{name} is damaged: it is not a valid {suffix} file", given=name) from None
    try:
        # A stream: given a name, the library would also open URLs.
        text = MarkItDown(enable_plugins=False).convert_stream(io.BytesIO(raw), file_extension=suffix).markdown
        # Words that a PDF hyphenates at the end of a line.
        return re.sub(r"(?<=[^\W\d_])-\n(?=[a-zß-ÿ])", "", text) if suffix == ".pdf" else text
    except MarkItDownException as error:
        raise _damaged(name, suffix, error) from None
    except Exception as error:  # its parsers raise any type on damaged files
        raise _damaged(name, suffix, error) from error


def _damaged(name: str, suffix: str, error: Exception) -> InputError:
    message = str(error).strip() or type(error).__name__
    why = f"The reader says: {shorten(message.splitlines()[-1])}"
    return InputError(f"{name} cannot be read as {suffix}. {why}", try_="open it in its program and save it again")


def passages_of(document: Document) -> list[Passage]:
    """The passages of a document: whole paragraphs of one section, up to PASSAGE_WORDS words in total."""
    passages: list[Passage] = []
    for headings, paragraphs in _sections(_without_running_lines(document.text)):
        piece: list[str] = []
        size = 0
        for paragraph in [part for whole in paragraphs for part in _shortened(whole)]:
            words = count_words(paragraph)
            if piece and size + words > PASSAGE_WORDS:
                passages.append(Passage(document.name, len(passages), headings, "\n\n".join(piece)))
                piece, size = [], 0
            piece.append(paragraph)
            size += words
        if size >= FEWEST_WORDS:
            passages.append(Passage(document.name, len(passages), headings, "\n\n".join(piece)))
        elif piece and passages and passages[-1].headings == headings:
            last = passages.pop()
            passages.append(Passage(last.document, last.number, headings, "\n\n".join([last.text, *piece])))
    return passages


def count_words(text: str) -> int:
    """Words; in scripts without spaces, about two characters each."""
    return len(_WORD.findall(_DENSE.sub(" ", text))) + len(_DENSE.findall(text)) // 2


def _without_running_lines(text: str) -> str:
    """`text` without the short lines that stand on every page: titles, footers, page numbers."""
    if "\f" not in text:
        return text
    pages = text.split("\f")
    often = Counter(
        line for page in pages for line in {_numberless(line) for line in page.splitlines() if line.strip()}
    )
    running = {
        line
        for line, count in often.items()
        if count >= max(_REPEATED, len(pages) // 2) and count_words(line) < FEWEST_WORDS
    }
    return "\n\n".join(
        "\n".join(line for line in page.splitlines() if not line.strip() or _numberless(line) not in running)
        for page in pages
    )


def _numberless(line: str) -> str:
    return re.sub(r"\d+", "#", line.strip())


def _sections(text: str) -> list[tuple[tuple[str, ...], list[str]]]:
    """The paragraphs under each heading. Code and tables stay whole."""
    sections: list[tuple[tuple[str, ...], list[str]]] = [((), [])]
    above: list[tuple[int, str]] = []
    lines: list[str] = []
    fence: str | None = None

    def end_paragraph() -> None:
        paragraph = "\n".join(lines).strip()
        if paragraph:
            sections[-1][1].append(paragraph)
        lines.clear()

    def begin(level: int, title: str) -> None:
        end_paragraph()
        while above and above[-1][0] >= level:
            above.pop()
        above.append((level, re.sub(r"[*_`]+", "", title).strip()))
        sections.append((tuple(name for _, name in above if name), []))

    for line in text.split("\n"):
        if mark := _FENCE.match(line):
            fence = None if fence == mark[1] else fence or mark[1]
            lines.append(line)
        elif fence:
            lines.append(line)
        elif heading := _HEADING.match(line):
            begin(len(heading[1]), heading[2])
        elif (rule := _RULE.match(line)) and len(lines) == 1 and lines[0].strip() and "|" not in lines[0]:
            title = lines.pop()
            begin(1 if rule[1][0] == "=" else 2, title)
        elif line.strip():
            lines.append(line)
        else:
            end_paragraph()
    end_paragraph()
    return [section for section in sections if section[1]]


def _shortened(paragraph: str) -> list[str]:
    """`paragraph`, cut between sentences or lines if it is far longer than a passage."""
    if count_words(paragraph) <= _LONGEST_PARAGRAPH:
        return [paragraph]
    parts, size = [""], 0
    for sentence in re.findall(r".+?(?:[.!?]\s+|[。！？]|\n|$)", paragraph):
        words = count_words(sentence)
        if parts[-1] and size + words > PASSAGE_WORDS:
            parts.append("")
            size = 0
        parts[-1] += sentence
        size += words
    return [part.strip() for part in parts if part.strip()]


def read_passages(paths: Sequence[Path], notes: list[str]) -> tuple[list[Passage], list[Document]]:
    """The passages of all documents, without duplicates. Raises InputError if there are none.

    A document that cannot be read is skipped with a note, as long as at least one other can be.
    """
    documents: list[Document] = []
    failures: list[InputError] = []
    names = Counter(path.name for path in paths)
    for path in paths:
        try:
            name = path.name if names[path.name] == 1 else f"{path.parent.name}/{path.name}"
            document = read_document(path, name)
        except InputError as error:
            failures.append(error)
            continue
        same = next((other.name for other in documents if other.sha256 == document.sha256), None)
        if same:
            notes.append(f"{document.name} is the same file as {same} and was left out.")
        else:
            documents.append(document)
    if failures and not documents:
        raise failures[0]
    notes += [f"Left out: {error.message()}" for error in failures]
    every = [passage for document in documents for passage in passages_of(document)]
    copies = _copies(every)
    if copies:
        notes.append(f"{counted(len(copies), 'passage')} left out as copies of others.")
    passages = [passage for index, passage in enumerate(every) if index not in copies]
    if not passages:
        raise InputError(
            "The documents hold no passage",
            given=", ".join(document.name for document in documents[:5]),
            allowed=f"at least {FEWEST_WORDS} words of running text",
        )
    return passages, documents


def _copies(passages: Sequence[Passage]) -> set[int]:
    """The passages that repeat an earlier one word for word."""
    seen: set[str] = set()
    copies = set()
    for index, passage in enumerate(passages):
        form = " ".join(_WORD.findall(passage.text.lower()))
        if form in seen:
            copies.add(index)
        seen.add(form)
    return copies


def part_documents(
    passages: Sequence[Passage], notes: list[str], *, validation: float = 0.1, test: float = 0.1, seed: int = 42
) -> list[str]:
    """The split of each passage: train, validation or test. No document is in two splits. Documents that share a
    passage almost word for word (two editions of one manual) stay in the same split.

    With fewer than five documents, sections are split instead; with fewer than five sections, passages. `notes` says
    so.
    """
    units = [passage.document for passage in passages]
    if len(_joined(passages, units)) < _FEWEST_UNITS:
        units = [f"{passage.document} {passage.headings[:2]}" for passage in passages]
        notes.append("Too few documents to hold some out: whole sections are held out instead.")
        if len(_joined(passages, units)) < _FEWEST_UNITS:
            units = [f"{passage.document} {passage.number}" for passage in passages]
            notes[-1] = (
                "Too few documents and sections to hold some out: single passages are held out. A test passage may "
                "stand beside one that training sees."
            )
    groups = _joined(passages, units)
    left = sorted(groups, key=min)
    random.Random(seed).shuffle(left)
    splits = ["train"] * len(passages)
    for split, share in (("test", test), ("validation", validation)):
        if not share:
            continue
        size, taken = max(1, round(share * len(passages))), 0
        # Documents differ in length: one that is half of all text must not become the test split.
        fitting = [group for group in left if len(group) <= 1.5 * size] or sorted(left, key=len)[:1]
        for group in fitting:
            if taken < size and len(left) > 1 and len(group) <= len(passages) / 3:
                left.remove(group)
                taken += len(group)
                for index in group:
                    splits[index] = split
        if not taken:
            notes.append(f"Nothing could be held out for {split}: one document or section holds most of the passages.")
    return splits


def _joined(passages: Sequence[Passage], units: Sequence[str]) -> list[list[int]]:
    """The passages of each unit. Units whose passages are near copies of each other are merged."""
    parent = {unit: unit for unit in units}

    def root(unit: str) -> str:
        while parent[unit] != unit:
            parent[unit] = unit = parent[parent[unit]]
        return unit

    for pair in near_pairs([passage.text for passage in passages]):
        parent[root(units[pair.second])] = root(units[pair.first])
    groups: dict[str, list[int]] = defaultdict(list)
    for index, unit in enumerate(units):
        groups[root(unit)].append(index)
    return list(groups.values())
