"""Rows that somebody pastes into a box: JSONL, JSON, or the cells of a sheet."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ftlab.data.limits import check_size
from ftlab.data.readers import Table, read_bytes
from ftlab.errors import InputError
from ftlab.files import write_text
from ftlab.workspace import Workspace


def read_pasted(text: str) -> Table:
    """The rows of pasted text; what it is is found out. Raises InputError naming the line that is wrong."""
    raw = text.strip("\ufeff\r\n").encode("utf-8", "replace")
    check_size("The pasted text", len(raw))
    if not raw.strip():
        raise InputError("Nothing was pasted", allowed="JSON lines, or the cells of a sheet with its header")
    first = raw.lstrip()[:1]
    if first == b"{":
        return read_bytes(raw, "pasted rows.jsonl")
    if first == b"[":
        return read_bytes(raw, "pasted rows.json")
    header = raw.split(b"\n", 1)[0]
    return read_bytes(raw, "pasted rows.tsv" if b"\t" in header else "pasted rows.csv")


def keep_pasted(text: str, workspace: Workspace) -> Path:
    """Check pasted text and keep its rows as a JSONL file among the uploads; the same rows are kept once."""
    rows = list(read_pasted(text).splits["train"])
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    lines = lines.encode("utf-8", "replace").decode()
    path = workspace.uploads / f"pasted-{hashlib.sha256(lines.encode()).hexdigest()[:8]}.jsonl"
    if not path.exists():
        write_text(path, lines)
    return path
