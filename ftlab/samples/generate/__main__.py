"""`python -m ftlab.samples.generate [name ...]` writes the named samples again (default: all it knows)."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ftlab.samples import SAMPLES_DIR
from ftlab.samples.generate import messy, tools, triage, voice

Rows = dict[str, list[dict[str, Any]]]

# general_probes and general_replay come from the text of the starter model, and are written by its own script.
GENERATORS: dict[str, Callable[[], Rows]] = {
    "support_triage": triage.build,
    "brand_voice": voice.build_replies,
    "brand_voice_preferences": voice.build_preferences,
    "shop_tools": tools.build,
}

# Files with planted defects, by name: CSV, as people have them, and a list of what was planted.
PRACTICE: dict[str, Callable[[], dict[str, str]]] = {"messy_tickets": messy.files}


def to_jsonl(rows: list[dict[str, Any]]) -> str:
    """Return `rows` as JSON lines, in the byte-for-byte form that ships."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def write_sample(name: str, folder: Path) -> dict[str, int]:
    """Write the splits of sample `name` to `folder` and return the number of rows of each."""
    folder.mkdir(parents=True, exist_ok=True)
    if name in PRACTICE:
        texts = PRACTICE[name]()
        for file, text in texts.items():
            (folder / file).write_bytes(text.encode("utf-8"))
        return {file: text.count("\n") - 1 for file, text in texts.items() if file.endswith(".csv")}
    splits = GENERATORS[name]()
    for split, rows in splits.items():
        (folder / f"{split}.jsonl").write_bytes(to_jsonl(rows).encode("ascii"))
    return {split: len(rows) for split, rows in splits.items()}


def main(arguments: list[str] | None = None) -> None:
    """Write the samples named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m ftlab.samples.generate", description=__doc__)
    # Checked by hand: argparse takes an empty list for a wrong choice when `nargs="*"` meets `choices`.
    known = [*GENERATORS, *PRACTICE]
    parser.add_argument("names", nargs="*", metavar="name", help=f"one or more of {', '.join(known)}")
    parser.add_argument("--into", type=Path, default=SAMPLES_DIR, help="parent folder (default: where they ship)")
    chosen = parser.parse_args(arguments)
    unknown = [name for name in chosen.names if name not in known]
    if unknown:
        parser.error(f"no generator for {', '.join(unknown)}; known: {', '.join(known)}")
    for name in chosen.names or known:
        counts = write_sample(name, chosen.into / name)
        print(f"{name}: " + ", ".join(f"{split} {count}" for split, count in counts.items()))


if __name__ == "__main__":
    main()
