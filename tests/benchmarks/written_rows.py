"""What the filters of `data make` find, without a judge: `python -m tests.benchmarks.written_rows [--seeds 20]`.

The handbook below is ours, as are 40 good rows about its passages, partly in other words than theirs. In 12 of the 40,
drawn anew by each seed, one error is planted at a time:

- number: a number of the answer is another one, which its passage does not have;
- own number: it is another number of the same passage;
- other answer: the answer is that of a row of another passage;
- same passage: the answer is that of another row of the same passage;
- other passage: the question is about another passage, and the answer is right about its own;
- copy: the question of another row, in the words of a hasty person.

Reported for each error, over all seeds: how many planted rows are left out and for which reason, and how many of the
good rows are left out with them. Judging takes a model: none is asked here. The same rows can be judged with
`data make` and an address.
"""

from __future__ import annotations

import argparse
import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from ftlab.data.documents import Passage
from ftlab.synthesis.writing import DOCUMENTS, Task, Written, why_not, without_copies

_PLANTED = 12
_HANDBOOK = {
    "Parking": (
        "The garage under the house has 40 places and costs 18 euros a night. Cars higher than 1.90 m do not fit; for "
        "them there is a yard behind the house, at 9 euros. Electric cars charge for 0.45 euros per kilowatt hour.",
        ("What does a night in the garage cost?", "A night in the garage costs 18 euros."),
        ("My van is 2.10 m high. Where can it stand?", "In the yard behind the house, since it does not fit below."),
        ("How many cars fit into your garage?", "There are forty places, so 40 cars."),
        ("Can I charge my electric car?", "Yes, for 0.45 euros per kilowatt hour."),
    ),
    "Breakfast": (
        "Breakfast is served from 6:30 to 10:00 on weekdays and until 11:30 on Sundays. It is 14 euros for adults and "
        "free for children under 7. Guests with allergies tell the kitchen the evening before.",
        ("Until when is there breakfast on Sundays?", "On Sundays you can have breakfast until 11:30."),
        ("Does my five-year-old pay for breakfast?", "No, it is free for children under 7."),
        ("I am allergic to nuts. Whom do I tell?", "Tell the kitchen on the evening before."),
        ("When can I eat in the morning during the week?", "From 6:30 to 10:00 on weekdays."),
    ),
    "Dogs": (
        "Dogs up to 25 kg are welcome in the rooms of the ground floor for 12 euros a stay. They must not enter the "
        "restaurant. A basket and a bowl can be had at the front desk without charge.",
        ("May I bring my dog?", "Yes, up to 25 kg, into the rooms of the ground floor."),
        ("What does a dog cost?", "12 euros for the whole stay."),
        ("Is my dog allowed to come to dinner?", "No, dogs must not enter the restaurant."),
        ("Do I need to bring a basket for the dog?", "No, there is one at the front desk, without charge."),
    ),
    "Cancellation": (
        "A booking can be canceled free of charge until 3 days before arrival. Later, half of the first night is due, "
        "and on the day of arrival the whole first night. Groups of more than 10 people have a contract of their own.",
        ("Until when can I cancel without paying?", "Until 3 days before your arrival."),
        ("We cancel the day before. What do we pay?", "Half of the first night is due."),
        ("What if I do not come at all and cancel that day?", "On the day of arrival, the whole first night is due."),
        ("Do these terms hold for a group of 15?", "No, groups of more than 10 people have a contract of their own."),
    ),
    "Sauna": (
        "The sauna on the fifth floor is open from 16:00 to 22:00, on request also in the morning. Children under 12 "
        "come with an adult. Towels lie at the entrance; swimwear is not worn. It closes for cleaning on Tuesdays.",
        ("Where is the sauna?", "It is on the fifth floor."),
        ("Is the sauna open every day?", "On every day but Tuesday, when it closes for cleaning."),
        ("Must I bring a towel to the sauna?", "No, towels lie at the entrance."),
        ("Can I use the sauna before noon?", "Yes, on request also in the morning; else from 16:00 to 22:00."),
    ),
    "Keys": (
        "Room cards stop working at 11:00 on the day of departure. A lost card is replaced for 5 euros. The house door "
        "is locked from 23:00 to 6:00; the room card opens it. Safes in the rooms take a code of 4 digits.",
        ("Until what time does my card work on the last day?", "Until 11:00 on the day of departure."),
        ("I have lost my room card. What now?", "It is replaced for 5 euros."),
        ("How do I get in after midnight?", "Your room card opens the house door, which is locked from 23:00 to 6:00."),
        ("How long is the code of the safe?", "It has 4 digits."),
    ),
    "Laundry": (
        "Shirts and trousers that are handed in by 9:00 come back on the same evening. A shirt is 4 euros, a suit 16. "
        "Machines for guests are in the cellar; a wash takes 50 minutes and a token of 3 euros.",
        ("When do I get my shirts back?", "On the same evening, if you hand them in by 9:00."),
        ("What does cleaning a suit cost?", "A suit is 16 euros."),
        ("Can I wash my clothes myself?", "Yes, there are machines for guests in the cellar, with a token of 3 euros."),
        ("How long does the washing machine run?", "A wash takes 50 minutes."),
    ),
    "Bicycles": (
        "We rent 15 bicycles, 6 of them with a motor. A day costs 11 euros, with a motor 24. Helmets are included. "
        "Whoever brings one back after 20:00 pays for another day. Tours start on Saturdays at the fountain.",
        ("What is the price of an e-bike for a day?", "With a motor, a day costs 24 euros."),
        ("Do I have to pay for a helmet?", "No, helmets are included."),
        ("I come back at nine in the evening. Is that all right?", "After 20:00 you pay for another day."),
        ("Where do the tours start?", "At the fountain, on Saturdays."),
    ),
    "Meeting rooms": (
        "There are three meeting rooms: Elm for 8, Oak for 20 and Birch for 60 people. Half a day in Elm is 90 euros. "
        "Projector and internet are part of the price, coffee is not: it is 6 euros a head.",
        ("Which room suits 18 people?", "Oak, which is for 20 people."),
        ("Is there a projector?", "Yes, projector and internet are part of the price."),
        ("Do we pay for coffee at our meeting?", "Yes, coffee is 6 euros a head."),
        ("What is half a day in the smallest room?", "Elm is 90 euros for half a day."),
    ),
    "Getting here": (
        "From the station, take tram 7 to Mill Square; it runs every 10 minutes and takes 12. A taxi is 15 euros. "
        "The airport bus stops at the door at 5:40, 8:10 and 17:30. Drivers leave the motorway at exit 31.",
        ("Which tram goes to you?", "Tram 7, from the station to Mill Square."),
        ("How much is a taxi from the station?", "It is 15 euros."),
        ("When does the first bus to the airport leave?", "At 5:40, at the door."),
        ("Where do I leave the motorway?", "At exit 31."),
    ),
}


def good_rows() -> list[Written]:
    rows = []
    for number, (title, (text, *pairs)) in enumerate(_HANDBOOK.items()):
        task = Task(DOCUMENTS, len(pairs), Passage("handbook.md", number, ("House Linden", title), text))
        rows += [Written(task, question, answer) for question, answer in pairs]
    return rows


def _numbers_of(text: str) -> list[str]:
    return re.findall(r"\d+(?:[.:]\d+)?", text)


def _passage(row: Written) -> Passage:
    assert row.task.passage is not None
    return row.task.passage


def _other_number(row: Written, rows: list[Written], rng: random.Random, own: bool) -> Written | None:
    numbers, there = _numbers_of(row.answer), set(_numbers_of(_passage(row).text))
    if not numbers:
        return None
    old = rng.choice(numbers)
    free = {number for other in rows for number in _numbers_of(_passage(other).text)}
    free = (there - set(numbers)) if own else (free - there - set(_numbers_of(row.prompt)))
    free = {number for number in free if (":" in number) == (":" in old)}  # a time stays a time
    return replace(row, answer=row.answer.replace(old, rng.choice(sorted(free)), 1)) if free else None


def _from(row: Written, rows: list[Written], rng: random.Random, same: bool, part: str) -> Written:
    fitting = [other for other in rows if other is not row and (other.task.passage == row.task.passage) == same]
    return replace(row, **{part: getattr(rng.choice(fitting), part)})


def _copied(row: Written, rows: list[Written], rng: random.Random) -> Written:
    other = rng.choice([other for other in rows if other is not row])
    form = rng.choice(["hello, {}", "{} Thanks!", "Please tell me: {}", "{}"])
    return replace(other, prompt=form.format(other.prompt.lower().rstrip("?") + rng.choice(["", "?", "??"])))


Plant = Callable[[Written, list[Written], random.Random], Written | None]
ERRORS: dict[str, Plant] = {
    "number": lambda row, rows, rng: _other_number(row, rows, rng, own=False),
    "own number": lambda row, rows, rng: _other_number(row, rows, rng, own=True),
    "other answer": lambda row, rows, rng: _from(row, rows, rng, same=False, part="answer"),
    "same passage": lambda row, rows, rng: _from(row, rows, rng, same=True, part="answer"),
    "other passage": lambda row, rows, rng: _from(row, rows, rng, same=False, part="prompt"),
    "copy": _copied,
}


def filtered(rows: list[Written]) -> list[Written]:
    """`rows` with the reasons that `data make` would give before it asks a judge."""
    return without_copies([replace(row, why_not=why_not(row)) for row in rows], [])


def measure(error: str, seeds: int) -> tuple[Counter[str], int, int]:
    """Planted rows by the reason for which they are left out ("" if they are not), good rows and how many of them are
    left out."""
    reasons: Counter[str] = Counter()
    good = wrongly = 0
    for seed in range(seeds):
        rng = random.Random(seed)
        rows = good_rows()
        planted = [ERRORS[error](row, rows, rng) for row in rng.sample(rows, len(rows))]
        wrong = [row for row in planted if row is not None][:_PLANTED]
        # A copy comes after the row that it copies; other rows with an error stand in place of the good ones, and a
        # question of another passage is asked by no other row.
        asked = {row.prompt for row in wrong}
        kept = [
            row
            for row in rows
            if error == "copy" or not (row.prompt in asked or any(_is_of(bad, row) for bad in wrong))
        ]
        results = filtered([*kept, *wrong])
        good += len(kept)
        wrongly += sum(bool(row.why_not) for row in results[: len(kept)])
        reasons.update(row.why_not for row in results[len(kept) :])
    return reasons, good, wrongly


def _is_of(wrong: Written, row: Written) -> bool:
    return wrong.task is row.task and (wrong.prompt == row.prompt or wrong.answer == row.answer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    args = parser.parse_args()
    left_out = [f"{row.prompt} {row.answer} ({row.why_not})" for row in filtered(good_rows()) if row.why_not]
    print(f"Of {len(good_rows())} good rows alone, {len(left_out)} are left out.", *left_out, sep="\n")
    print("\n| error | planted | left out | reasons | good rows left out |\n|---|---|---|---|---|")
    for error in ERRORS:
        reasons, good, wrongly = measure(error, args.seeds)
        found = reasons.total() - reasons[""]
        why = "; ".join(f"{count}: {reason}" for reason, count in reasons.most_common() if reason)
        print(
            f"| {error} | {reasons.total()} | {found} ({found / reasons.total():.0%}) | {why} | {wrongly} of {good} |"
        )


if __name__ == "__main__":
    main()
