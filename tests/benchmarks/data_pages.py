"""How long the first page of a large JSONL takes, every page after it, and a search; and how much memory.

    python tests/benchmarks/data_pages.py [--rows 1000000] [--folder /tmp/ftlab-pages]

Prints one JSON object. Each look is a process of its own, as memory that was used once is not given back.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def write_rows(path: Path, rows: int) -> None:
    """About 300 bytes a row, the words drawn with a seed."""
    generator = random.Random(0)
    words = ["".join(generator.choices("abcdefghijklmnopqrstuvwxyz", k=generator.randint(3, 9))) for _ in range(4000)]
    texts = [" ".join(generator.choices(words, k=34)) for _ in range(5000)]
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            text = texts[generator.randrange(5000)]
            row = {"prompt": f"{number} {text}", "completion": text[:40], "id": number}
            file.write(json.dumps(row) + "\n")


def look(path: Path, workspace: Path) -> dict[str, float]:
    """What the Data tab does with a file; seconds and MB."""
    from ftlab.core.workspace import Workspace
    from ftlab.data.inspection import look

    began, processor = time.perf_counter(), time.process_time()
    found = look(str(path), Workspace.open(workspace))
    first = found.page(0, 20)
    seconds = {"first_page_s": time.perf_counter() - began, "first_page_cpu_s": time.process_time() - processor}
    assert len(first) == 20 and first[3]["id"] == "3" and found.problem is None
    began = time.perf_counter()
    places = [random.Random(n).randrange(found.rows - 20) for n in range(200)]
    for place in places:
        assert found.page(place, 20)[0]["id"] == str(place)
    seconds["other_page_ms"] = (time.perf_counter() - began) / len(places) * 1000
    began = time.perf_counter()
    assert found.search(f"{found.rows - 5} ").indices[-1] == found.rows - 5
    seconds["search_whole_s"] = time.perf_counter() - began
    seconds["rows"] = found.rows
    seconds["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {name: round(value, 3) for name, value in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/ftlab-pages"))
    parser.add_argument("--look", action="store_true")
    given = parser.parse_args()
    path, workspace = given.folder / f"{given.rows}.jsonl", given.folder / f"workspace-{given.rows}"
    if given.look:
        print(json.dumps(look(path, workspace)))
        return
    given.folder.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        write_rows(path, given.rows)
    subprocess.run(["rm", "-rf", str(workspace)], check=True)
    result: dict[str, object] = {"megabytes": round(path.stat().st_size / 1e6), "cores": os.cpu_count()}
    for name in ("first_time", "second_time"):
        done = subprocess.run(
            [sys.executable, __file__, "--rows", str(given.rows), "--folder", str(given.folder), "--look"],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        )
        result[name] = json.loads(done.stdout)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
