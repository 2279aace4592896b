"""Rows per second of every check, on generated rows: `python -m tests.benchmarks.data_checks [--rows 100000]`.

Prints one line per check and a JSON object as the last line; `--base none` leaves the tokens out.

`--near FOLDER` reports instead how well near copies are found in real data: banking77_train.csv, banking77_test.csv,
alpaca_en_demo.json and gsm8k_test.jsonl in FOLDER. Recall: variants of prompts, which a split and the leak check have
to see. Precision: pairs that are found among prompts of different intents, the same questions with another number, a
negation, or another word.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import re
import resource
import tempfile
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

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


def _somewhere(text: str, rng: random.Random, word: str) -> str:
    words = text.split(" ")
    place = rng.randint(1, len(words))
    return " ".join([*words[:place], word, *words[place:]])


def _slip(text: str, rng: random.Random) -> str:
    """A typing error in a word of six letters or more: a letter left out, doubled, or two in the wrong order."""
    words = [found.span() for found in re.finditer(r"[A-Za-z]{6,}", text)]
    if not words:
        return text
    begin, end = rng.choice(words)
    place = rng.randrange(begin + 1, end - 1)
    kinds = (text[place], text[place] * 3, text[place + 1] + text[place])
    kind = rng.randrange(3)
    if kind == 0:
        return text[:place] + text[place + 1 :]
    return text[:place] + (kinds[1][:2] + text[place + 1 :] if kind == 1 else kinds[2] + text[place + 2 :])


# Each makes of a prompt the same question in another form.
VARIANTS: dict[str, Callable[[str, random.Random], str]] = {
    "Please": lambda text, rng: f"Please {text[:1].lower()}{text[1:]}",
    "could you": lambda text, rng: f"Could you please tell me: {text}",
    "a greeting": lambda text, rng: f"Hello,\n{text} Thank you!",
    "a word more": lambda text, rng: _somewhere(text, rng, rng.choice("really kindly today exactly quickly".split())),
    "a rare word more": lambda text, rng: _somewhere(text, rng, rng.choice("honestly usually lately perhaps".split())),
    "punctuation": lambda text, rng: re.sub(r"[?!.,]+(?=\s|$)", "", text) + rng.choice(["", "??", " !", " ..."]),
    "zero width": lambda text, rng: "\u200b".join([text[: len(text) // 2], text[len(text) // 2 :]]) + "\ufeff",
    "case": lambda text, rng: rng.choice([text.upper(), text.lower(), text.title()]),
    "spaces": lambda text, rng: "  " + text.replace(" ", rng.choice(["  ", "\u00a0", "\n"])) + " ",
    "Unicode form": lambda text, rng: "".join(chr(ord(c) + 0xFEE0) if "a" <= c <= "f" else c for c in text),
    "accents": lambda text, rng: unicodedata.normalize("NFD", text.replace("e", "é", 1)),
    "a typing error": _slip,
    "an error and Please": lambda text, rng: f"Please, {_slip(text, rng)}",
    "a sentence more": lambda text, rng: _ended(text) + rng.choice(_SENTENCES),
    "a sentence before": lambda text, rng: f"{rng.choice(_GREETINGS)} {text}",
    "twice": lambda text, rng: f"{_ended(text)} {text}",
    "look-alikes": lambda text, rng: text.translate(str.maketrans("oae", "\u043e\u0430\u0435")),
}
_SENTENCES = (
    " Answer in one sentence.",
    " Think step by step.",
    "\nKeep it short.",
    " I am in a hurry.",
    "\n\nAnswer in at most 50 words.",
)
_GREETINGS = ("Hi, this is Ann.", "My name is Ann Smith.", "You are a helpful assistant.\n\n", "Think step by step.\n")
_OTHER_LIGHT = {"is": "was", "my": "your", "I": "he", "now": "then", "his": "her", "are": "were", "has": "had"}
_SWAPS = {"card": "account", "how": "why", "is": "is not", "can": "can't", "a": "every", "the": "no", "and": "or"}


def near_copies(folder: Path, seed: int = 0) -> dict[str, Any]:
    """Recall by kind of variant and false alarms by kind of difference, as shares."""
    from ftlab.data.near import near_pairs

    rng = random.Random(seed)
    bank = [row for name in ("train", "test") for row in _csv(folder / f"banking77_{name}.csv")]
    gsm = [json.loads(line) for line in (folder / "gsm8k_test.jsonl").read_text(encoding="utf-8").splitlines()]
    alpaca = json.loads((folder / "alpaca_en_demo.json").read_text(encoding="utf-8"))
    texts = {
        "banking77": [row["text"] for row in bank],
        "alpaca": [f"{row['instruction']}\n{row['input']}".strip() for row in alpaca],
        "gsm8k": [row["question"] for row in gsm],
    }
    asked = [text for text in texts["banking77"] if text.endswith("?")]
    intents = [row["category"] for row in bank]
    found: dict[str, Any] = {}
    for name, prompts in texts.items():
        chosen = rng.sample(prompts, 400)
        for kind, make in VARIANTS.items():
            made = [make(text, rng) for text in chosen]
            before = [text.replace("e", "é", 1) for text in chosen] if kind == "accents" else chosen
            pairs = [pair for pair in zip(before, made, strict=True) if pair[0] != pair[1]]
            found[f"recall, {kind}, {name}"] = round(_met(*map(list, zip(*pairs, strict=True))), 3)
    for kind, other in {
        "another number": lambda text: re.sub(r"\d+", lambda n: str(int(n[0]) + rng.randint(1, 9)), text),
        "another word": lambda text: _swapped(text, _SWAPS),
        "another light word": lambda text: _swapped(text, _OTHER_LIGHT),
        "one word of the data for another": lambda text: _any_word(text, rng),
        "another question behind it": lambda text: f"{_ended(text)} {rng.choice(asked)}",
        "another task": lambda text: f"{rng.choice(['Translate into French', 'Correct the text'])}:\n{text}",
    }.items():
        for name, prompts in texts.items():
            pairs = [(text, other(text)) for text in prompts]
            pairs = [pair for pair in pairs if pair[0] != pair[1]]
            pairs = rng.sample(pairs, min(300, len(pairs)))
            found[f"false alarms, {kind}, {name} ({len(pairs)})"] = round(_met(*map(list, zip(*pairs, strict=True))), 3)
    for kind, answers in (("alone", None), ("with their labels", intents)):
        began = time.process_time()
        pairs = list(near_pairs(texts["banking77"], answers))
        seconds = time.process_time() - began
        counts = Counter((pair.how, intents[pair.one] == intents[pair.other]) for pair in pairs)
        for how in ("same", "near"):
            of = counts[how, True] + counts[how, False]
            found[f"banking77 {kind}, {how}: pairs of one intent"] = f"{counts[how, True]} of {of}"
        found[f"banking77 {kind}: seconds"] = round(seconds, 2)
    for name in ("alpaca", "gsm8k"):
        found[f"{name}: near pairs that are not equal"] = sum(pair.how == "near" for pair in near_pairs(texts[name]))
    return found


def _met(texts: list[str], made: list[str]) -> float:
    """The share of `made` that is found to be like the text of the same place, among them all."""
    from ftlab.data.near import is_near, near_pairs, read_texts

    read = read_texts([*texts, *made])
    sides = [0] * len(texts) + [1] * len(made)
    caught = {pair.other for pair in near_pairs(read, sides=sides, across=True)}
    own = [is_near(read, place, place + len(texts)) for place in range(len(texts))]
    return sum(like and place + len(texts) in caught for place, like in enumerate(own)) / len(made)


def _ended(text: str) -> str:
    return text if text.rstrip().endswith((".", "!", "?")) else f"{text.rstrip()}."


def _any_word(text: str, rng: random.Random) -> str:
    """Another content word for one of six letters or more."""
    words = [found.span() for found in re.finditer(r"\b[a-z]{6,}\b", text)]
    if not words:
        return text
    begin, end = rng.choice(words)
    return text[:begin] + rng.choice("umbrella garden picture morning kitchen".split()) + text[end:]


def _swapped(text: str, swaps: dict[str, str]) -> str:
    for word, instead in swaps.items():
        changed = re.sub(rf"\b{word}\b", instead, text, count=1)
        if changed != text:
            return changed
    return text


def _csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--base", default="starter", help="none: no tokens")
    parser.add_argument("--near", type=Path, help="a folder of real data: how well near copies are found")
    given = parser.parse_args(arguments)
    if given.near:
        found = near_copies(given.near)
        for name, value in found.items():
            print(f"{name:<60} {value}")
        print(json.dumps(found))
        return

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
