"""Rows per second of every check, on generated rows: `python -m tests.benchmarks.data_checks [--rows 100000]`.

Prints one line per check and a JSON object as the last line; `--base none` leaves the tokens out.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

WORDS = 8000
SYLLABLES = "be bi bo da de di do fa fe ga go ha he ka ko la le li lo ma me mi mo na ne no pa po ra re ri ro sa se so"


def rows(count: int, seed: int = 0) -> Iterator[dict[str, str]]:
    """Prompts of 15 to 90 words and answers of 5 to 60, of Zipf-like frequency, among English function words; one row
    in 50 repeats an earlier one, as it is or with a few words more, and one in 200 holds an address."""
    rng = random.Random(seed)
    syllables = SYLLABLES.split()
    made = ["".join(rng.choices(syllables, k=rng.randint(2, 4))) for _ in range(WORDS)]
    common = "the a of to and in is it you that he was for on are with as i his they be at one have this".split()
    pool = common + made
    cumulated = list(accumulate([8 / (rank + 5) for rank in range(len(common))] + [1 / (n + 10) for n in range(WORDS)]))
    earlier: list[dict[str, str]] = []
    for number in range(count):
        size, answer = rng.randint(15, 90), rng.randint(5, 60)
        words = rng.choices(pool, cum_weights=cumulated, k=size + answer)
        row = {"prompt": " ".join(words[:size]) + "?", "completion": " ".join(words[size:]) + "."}
        if earlier and number % 50 == 0:
            row = dict(rng.choice(earlier))
            if number % 100 == 0:
                row["prompt"] += " Thank you!"
        elif number % 200 == 1:
            address = f"{made[number % WORDS]}@{made[(number * 7) % WORDS]}.net"
            row["prompt"] += f" Write to {address}, or call +49 30 901820."
        if number % 20 == 7:
            earlier.append(row)
        yield row


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--base", default="starter", help="none: no tokens")
    given = parser.parse_args(arguments)

    from ftlab.data.checks import check

    with tempfile.TemporaryDirectory() as folder:
        train, test = Path(folder, "train.jsonl"), Path(folder, "test.jsonl")
        lines = [json.dumps(row) + "\n" for row in rows(given.rows)]
        held_out = max(10, given.rows // 20)
        test.write_text("".join(lines[:held_out]), encoding="utf-8")
        train.write_text("".join(lines[held_out:]), encoding="utf-8")
        del lines
        tokenizer = None
        if given.base != "none":
            from ftlab.models.load import load_tokenizer

            tokenizer = load_tokenizer(given.base)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began, busy = time.perf_counter(), time.process_time()
        report = check(folder, tokenizer=tokenizer, base=given.base)
        seconds, busy = time.perf_counter() - began, time.process_time() - busy
    for name, taken in report.seconds.items():
        print(f"{name:<22} {taken:8.2f} s {report.rows / max(taken, 1e-3):12,.0f} rows/s")
    print(f"{'all':<22} {seconds:8.2f} s {report.rows / seconds:12,.0f} rows/s ({busy:.1f} s of processor time)")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"memory: {peak / 1024:,.0f} MB at most, {(peak - before) / 1024:,.0f} MB of it for the checks")
    found = {f"{finding.kind} {finding.split}": len(finding.rows) for finding in report.findings}
    print(json.dumps({"rows": report.rows, "seconds": round(seconds, 2), "by_check": report.seconds, "found": found}))


if __name__ == "__main__":
    main()
