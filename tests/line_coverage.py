"""Which lines of ftlab/ the tests run, measured in every process of pytest and printed by package.

    FTLAB_COVERAGE=/tmp/lines PYTEST_ADDOPTS="-p tests.line_coverage" python -m pytest -n 2
    python -m tests.line_coverage /tmp/lines

SlipCover (Altmayer Pizzorno & Berger 2023, arXiv 2305.02886) removes its probe from a line that has run, so it costs
little on Python 3.11 too, where coverage.py costs 75%. Processes that the tests start, such as runs, are not measured:
the figure is a lower bound.
"""

from __future__ import annotations

import json
import os
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

if folder := os.environ.get("FTLAB_COVERAGE"):
    from slipcover import FileMatcher, ImportManager, Slipcover

    cover = Slipcover(source=[str(ROOT / "ftlab")])
    ImportManager(cover, FileMatcher(sources=[str(ROOT / "ftlab")])).__enter__()

    def pytest_sessionfinish() -> None:  # later, a process of xdist may be ended at any moment
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / f"{os.getpid()}.json").write_text(json.dumps(cover.get_coverage()))


def summary(folder: Path) -> list[str]:
    """Lines run and lines there are, by package, of all measurements in `folder`."""
    run: dict[str, set[int]] = defaultdict(set)
    known: dict[str, set[int]] = defaultdict(set)
    for file in folder.glob("*.json"):
        for name, lines in json.loads(file.read_text())["files"].items():
            run[name] |= set(lines["executed_lines"])
            known[name] |= {*lines["executed_lines"], *lines["missing_lines"]}
    packages: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for name, lines in known.items():
        parts = Path(name).resolve().relative_to(ROOT / "ftlab").parts
        for package in (parts[0] if len(parts) > 1 else "(top)", "all"):
            packages[package][0] += len(run[name])
            packages[package][1] += len(lines)
    rows = sorted(packages.items(), key=lambda item: (item[0] == "all", item[0]))
    return [f"{name:12}{done:7,} of {lines:7,} lines{done / lines:7.1%}" for name, (done, lines) in rows]


if __name__ == "__main__":
    print("\n".join(summary(Path(sys.argv[1]))))
