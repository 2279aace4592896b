"""Documents become passages, and whole documents are held out."""

from __future__ import annotations

import io
import zipfile

import pytest

from ftlab.data.documents import (
    FEWEST_WORDS,
    PASSAGE_WORDS,
    Document,
    count_words,
    find_documents,
    part_documents,
    passages_of,
    read_document,
    read_passages,
)
from ftlab.errors import InputError

WORDS = "the guests of this house leave their bicycles in the cellar beside the kitchen every single evening"


XML = "http://schemas.openxmlformats.org"


def pdf(lines: list[str]) -> bytes:
    """A PDF of one page with these lines, written by hand (PDF 1.4, 7.5)."""
    text = "BT /F1 12 Tf 72 720 Td 14 TL " + " ".join(f"({line}) Tj T*" for line in lines) + " ET"
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R "
        "/Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>",
        f"<< /Length {len(text)} >>\nstream\n{text}\nendstream",
    ]
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode()
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    trailer = f"trailer << /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(out)}\n%%EOF"
    return out + f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}{trailer}".encode()


def docx(paragraphs: list[tuple[str, str]]) -> bytes:
    """A Word file with paragraphs of a style (ECMA-376, part 1)."""
    body = "".join(
        f'<w:p><w:pPr><w:pStyle w:val="{style}"/></w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>'
        for style, text in paragraphs
    )
    heading = '<w:style w:type="paragraph" w:styleId="Heading1"><w:name w:val="heading 1"/></w:style>'
    kinds = "application/vnd.openxmlformats-"
    relation = f'Type="{XML}/officeDocument/2006/relationships'
    files = {
        "[Content_Types].xml": f'<Types xmlns="{XML}/package/2006/content-types"><Default Extension="rels" '
        f'ContentType="{kinds}package.relationships+xml"/><Override PartName="/word/document.xml" '
        f'ContentType="{kinds}officedocument.wordprocessingml.document.main+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{XML}/package/2006/relationships"><Relationship Id="r1" '
        f'{relation}/officeDocument" Target="word/document.xml"/></Relationships>',
        "word/_rels/document.xml.rels": f'<Relationships xmlns="{XML}/package/2006/relationships">'
        f'<Relationship Id="r1" {relation}/styles" Target="styles.xml"/></Relationships>',
        "word/styles.xml": f'<w:styles xmlns:w="{XML}/wordprocessingml/2006/main">{heading}</w:styles>',
        "word/document.xml": f'<w:document xmlns:w="{XML}/wordprocessingml/2006/main"><w:body>{body}</w:body>'
        "</w:document>",
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return out.getvalue()


def test_each_kind_of_document_is_read_with_its_headings(tmp_path):
    text = f"Check-in is from 3 pm, and {WORDS}."
    files = {
        "plain.txt": text.encode(),
        "latin.txt": f"Größe: {text}".encode("latin-1"),
        "marked.md": f"# Rooms\n\n{text}".encode(),
        "underlined.md": f"Rooms\n=====\n\n{text}".encode(),
        "page.html": f"<html><head><style>p {{}}</style><script>x</script></head><h1>Rooms</h1><p>{text}</p>".encode(),
        "sheet.pdf": pdf(["Rooms", text.replace("bicycles in", "bicy-"), "cles in", WORDS]),
        "letter.docx": docx([("Heading1", "Rooms"), ("Normal", text)]),
    }
    for name, raw in files.items():
        (tmp_path / name).write_bytes(raw)
        (passage,) = passages_of(read_document(tmp_path / name))
        assert "Check-in is from 3 pm" in passage.text and "bicycles" in passage.text, name
        assert "script" not in passage.whole and "{}" not in passage.whole
        if name not in ("plain.txt", "latin.txt", "sheet.pdf"):
            assert passage.headings == ("Rooms",), name
    assert "Größe" in read_document(tmp_path / "latin.txt").text


def test_what_is_no_document_is_said_in_one_sentence(tmp_path):
    damaged = {
        "cut.pdf": pdf(["x"])[:60],
        "fake.docx": b"PK\x03\x04 nothing",
        "none.pdf": pdf([""]),
        "dots.md": b"...\n\n--",
    }
    for name, raw in damaged.items():
        (tmp_path / name).write_bytes(raw)
        with pytest.raises(InputError, match=name) as error:
            read_document(tmp_path / name)
        assert "Traceback" not in str(error.value)
    with pytest.raises(InputError, match=r"is not a document that ftlab reads.*\.xyz"):
        (tmp_path / "a.xyz").write_text("x")
        find_documents([tmp_path / "a.xyz"])
    with pytest.raises(InputError, match="There is no document here"):
        find_documents([tmp_path / "empty"] if (tmp_path / "empty").mkdir() is None else [])


def test_a_document_that_expands_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("FTLAB_MAX_UPLOAD", "1M")
    (tmp_path / "bomb.docx").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "bomb.docx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", "0" * (3 << 20))
    with pytest.raises(InputError, match=r"bomb\.docx"):
        read_document(tmp_path / "bomb.docx")


def test_passages_are_whole_paragraphs_of_one_section():
    long = " ".join([WORDS] * 8) + "."
    text = f"# House\n\n{long}\n\n{long}\n\n## Pets\n\nNo.\n\n```\n# not a heading\n```\n\n{WORDS}.\n\n## Empty\n"
    passages = passages_of(Document("a.md", "0", text))
    assert [passage.headings for passage in passages] == [("House",), ("House",), ("House", "Pets")]
    assert passages[0].text == long and "# not a heading" in passages[2].text
    assert passages[2].whole.startswith("House > Pets\n\n")
    assert all(count_words(passage.text) <= PASSAGE_WORDS or "\n\n" not in passage.text for passage in passages)


def test_one_endless_paragraph_is_cut_between_sentences():
    passages = passages_of(Document("a.txt", "0", f"{WORDS.capitalize()}. " * 60))
    assert len(passages) > 3
    assert all(passage.text.endswith(".") for passage in passages)
    assert all(FEWEST_WORDS <= count_words(passage.text) <= PASSAGE_WORDS for passage in passages)


def test_chinese_text_has_passages_of_the_same_size():
    sentence = "客人可以把自行车放在厨房旁边的地下室里。"
    passages = passages_of(Document("a.txt", "0", sentence * 80))
    assert len(passages) > 2 and all(passage.text.endswith("。") for passage in passages)


def test_running_heads_and_page_numbers_are_no_text():
    pages = "\f".join(f"ACME manual\n\n{WORDS} in part {name}.\n\nPage {n}" for n, name in enumerate("abcd", 1))
    (passage,) = passages_of(Document("a.pdf", "0", pages))
    assert "ACME" not in passage.text and "Page" not in passage.text and "part c" in passage.text


def documents(count: int) -> list[str]:
    topics = (
        "pets parking breakfast towels keys noise heating garden sauna bikes laundry wifi luggage taxi smoking".split()
    )
    return [
        f"# {topic}\n\nAbout {topic} number {number}: whoever wants {topic} asks at desk {number * 7} and pays "
        f"{number + 3} euros for {topic} on every day of a stay, children included, until they leave the house again.\n"
        for number, topic in enumerate(topics[:count])
    ]


def test_a_document_is_in_one_split_only_and_so_is_its_second_edition(tmp_path):
    for number, text in enumerate(documents(12)):
        (tmp_path / f"{number}.md").write_text(text)
        (tmp_path / f"{number}-second.md").write_text(text.replace("again", "again at last"))
    notes: list[str] = []
    passages, read = read_passages(find_documents([tmp_path]), notes)
    assert len(read) == 24 and not notes
    for seed in range(5):
        splits = part_documents(passages, notes, seed=seed)
        assert set(splits) == {"train", "validation", "test"}
        of = {passage.document.split(".")[0].split("-")[0]: set() for passage in passages}
        for passage, split in zip(passages, splits, strict=True):
            of[passage.document.split(".")[0].split("-")[0]].add(split)
        assert all(len(places) == 1 for places in of.values())
    assert part_documents(passages, notes, seed=1) == part_documents(passages, notes, seed=1)


def test_of_a_single_document_sections_are_held_out_and_it_is_said(tmp_path):
    (tmp_path / "one.md").write_text("\n".join(documents(8)))
    (tmp_path / "copy.md").write_text("\n".join(documents(8)))
    notes: list[str] = []
    passages, read = read_passages(find_documents([tmp_path]), notes)
    assert len(read) == 1 and "is the same file as" in notes[0]
    splits = part_documents(passages, notes)
    assert set(splits) == {"train", "validation", "test"} and splits.count("train") >= 5
    assert "whole sections are held out" in notes[-1]


def test_a_document_that_cannot_be_read_is_named_and_the_others_are_used(tmp_path):
    (tmp_path / "good.md").write_text(documents(1)[0])
    (tmp_path / "bad.docx").write_bytes(b"PK broken")
    notes: list[str] = []
    passages, _ = read_passages(find_documents([tmp_path]), notes)
    assert len(passages) == 1 and notes[0].startswith("Left out: bad.docx")
