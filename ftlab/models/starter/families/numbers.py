"""Small numbers: sums, comparisons, sequences, sorting, size of things."""

from __future__ import annotations

import random

from ftlab.models.starter.families.draft import Draft, Family, one_turn, several_turns, vary
from ftlab.models.starter.families.word_tasks import plural_of
from ftlab.models.starter.families.words import NAMES, THINGS

# From small to big. Questions use pairs at least two steps apart, so that no answer is a matter of opinion.
BY_SIZE = "ant bee mouse frog rat duck cat fox dog sheep pig lion cow horse elephant whale".split()
COUNTED = [t for t in THINGS if t not in ("money",)]


def sums(rng: random.Random) -> Draft:
    """Sums and differences up to 24, with and without a small story: a table to memorize."""
    thing, name = plural_of(rng.choice(COUNTED)), rng.choice(NAMES)
    if rng.random() < 0.6:
        a, b = rng.randint(0, 12), rng.randint(0, 12)
        asks: tuple[str, ...] = (
            "What is {a} plus {b}?",
            "What is {a} + {b}?",
            "{a} + {b} =",
            "Add {a} and {b}.",
            "How much is {a} plus {b}?",
            "{a} plus {b} is",
            "Calculate {a} + {b}.",
            "What is the sum of {a} and {b}?",
        )
        stories: tuple[str, ...] = (
            "{name} has {a} {thing} and gets {b} more. How many {thing} are there now?",
            "There are {a} {thing} in one box and {b} in another. How many {thing} are there together?",
            "{name} buys {a} {thing} on Monday and {b} on Friday. How many is that?",
        )
        topic, answer = "sum", a + b
    else:
        a = rng.randint(1, 20)
        b = rng.randint(0, min(a, 12))
        asks = (
            "What is {a} minus {b}?",
            "What is {a} - {b}?",
            "{a} - {b} =",
            "Take {b} from {a}.",
            "How much is {a} minus {b}?",
            "{a} minus {b} is",
            "Calculate {a} - {b}.",
        )
        stories = (
            "{name} has {a} {thing} and gives away {b}. How many {thing} are left?",
            "There were {a} {thing}. {name} took {b}. How many are left?",
        )
        topic, answer = "minus", a - b
    ways = stories if min(a, b) > 1 and rng.random() < 0.2 else asks
    i = rng.randrange(len(ways))
    ask = ways[i].format(a=a, b=b, thing=thing, name=name)
    return one_turn(f"{topic}|{a}|{b}|{'story' if ways is stories else 'plain'} {i}", vary(rng, ask), str(answer))


def comparisons(rng: random.Random) -> Draft:
    """Bigger or smaller: two or three numbers below 100, or two animals."""
    big = rng.random() < 0.5
    if rng.random() < 0.25:
        i, j = rng.sample(range(len(BY_SIZE)), 2)
        if abs(i - j) < 2:
            return comparisons(rng)
        words = ("bigger", "larger") if big else ("smaller",)
        a, b = BY_SIZE[i], BY_SIZE[j]
        article = [f"{'an' if w[0] in 'aeiou' else 'a'} {w}" for w in (a, b)]
        ask = rng.choice(
            ("Which animal is {w}: {a} or {b}?", "Which is {w}, {a} or {b}?", "{a} or {b}: which one is {w}?")
        )
        ask = ask.format(w=rng.choice(words), a=article[0], b=article[1])
        answer = BY_SIZE[max(i, j)] if big else BY_SIZE[min(i, j)]
        return one_turn(f"size|{min(a, b)}|{max(a, b)}", vary(rng, ask[0].upper() + ask[1:]), answer)
    numbers = rng.sample(range(100), rng.choice((2, 2, 3)))
    listed = ", ".join(map(str, numbers[:-1])) + f" or {numbers[-1]}"
    if len(numbers) == 2:
        word = rng.choice(("bigger", "larger", "greater")) if big else rng.choice(("smaller", "lower"))
    else:
        word = rng.choice(("biggest", "largest")) if big else rng.choice(("smallest", "lowest"))
    ask = rng.choice(
        ("Which number is {w}: {t}?", "Which is {w}, {t}?", "What is the {w} number: {t}?", "Find the {w} number: {t}")
    )
    winner = max(numbers) if big else min(numbers)
    return one_turn(
        f"compare|{'|'.join(map(str, sorted(numbers)))}", vary(rng, ask.format(w=word, t=listed)), str(winner)
    )


def sequences(rng: random.Random) -> Draft:
    """The next or previous number, counting up and down, and steps of two, five and ten."""
    roll = rng.random()
    if roll < 0.30:
        n = rng.randint(0, 98)
        ask = rng.choice(
            (
                "Which number comes after {n}?",
                "What is the next number after {n}?",
                "What comes right after {n}?",
                "Add one to {n}.",
                "What number follows {n}?",
            )
        )
        return one_turn(f"after|{n}", vary(rng, ask.format(n=n)), str(n + 1))
    if roll < 0.55:
        n = rng.randint(1, 99)
        ask = rng.choice(
            (
                "Which number comes before {n}?",
                "What is the number before {n}?",
                "What comes right before {n}?",
                "Take one from {n}.",
                "What number is one less than {n}?",
            )
        )
        return one_turn(f"before|{n}", vary(rng, ask.format(n=n)), str(n - 1))
    if roll < 0.80:
        start, length, step = rng.randint(0, 40), rng.randint(3, 6), rng.choice((1, 1, 1, -1))
        run = [start + step * i for i in range(length)]
        if min(run) < 0:
            run = run[::-1] if run[-1] >= 0 else [n - min(run) for n in run]
        ask = rng.choice(
            ("Count from {a} to {b}.", "Write the numbers from {a} to {b}.", "Please count from {a} to {b}.")
        )
        return one_turn(
            f"count from|{run[0]}|{run[-1]}", vary(rng, ask.format(a=run[0], b=run[-1])), ", ".join(map(str, run))
        )
    step = rng.choice((1, 2, 5, 10))
    start = rng.randint(0, 30) if step < 5 else step * rng.randint(0, 4)
    run = [start + step * i for i in range(5)]
    ask = rng.choice(
        ("What comes next: {t}?", "Which number is next? {t}", "Go on with this row: {t}", "Next number: {t}")
    )
    return one_turn(f"row|{start}|{step}", vary(rng, ask.format(t=", ".join(map(str, run[:4])))), str(run[4]))


def sorting_numbers(rng: random.Random) -> Draft:
    top = rng.choice((10, 30, 100))
    numbers = rng.sample(range(top), rng.choice((3, 3, 4, 4, 5)) if top > 10 else rng.choice((3, 4)))
    up = rng.random() < 0.65
    text = ", ".join(map(str, numbers))
    ask = rng.choice(
        (
            "Sort these numbers: {t}",
            "Put these numbers in order: {t}",
            "Sort from small to big: {t}",
            "Order these numbers, smallest first: {t}",
            "Sort up: {t}",
        )
        if up
        else (
            "Sort from big to small: {t}",
            "Order these numbers, biggest first: {t}",
            "Sort these numbers downwards: {t}",
            "Sort down: {t}",
        )
    )
    return one_turn(
        f"sort numbers|{text}|{up}", vary(rng, ask.format(t=text)), ", ".join(map(str, sorted(numbers, reverse=not up)))
    )


def remembered_numbers(rng: random.Random) -> Draft:
    """Two turns: the first states a number, the second asks for it, or changes it by one."""
    n, thing, name = rng.randint(1, 60), plural_of(rng.choice(COUNTED)), rng.choice(NAMES)
    first = rng.choice(
        (
            f"{name} has {n} {thing}. Please remember that.",
            f"Remember: {name} has {n} {thing}.",
            f"Keep this in mind: there are {n} {thing} and they belong to {name}.",
        )
    )
    reply = rng.choice(("I will remember that.", "All right, I will keep that in mind.", "Noted."))
    then, answer = rng.choice(
        (
            (f"How many {thing} does {name} have?", str(n)),
            (f"Who has the {thing}?", name),
            (f"What does {name} have?", f"{n} {thing}"),
            (f"{name} finds one more. How many {thing} now?", str(n + 1)),
        )
    )
    return several_turns(f"remember|{n}|{thing}|{name}", first, reply, then, answer)


FAMILIES = (
    Family("sums", sums, "sums up to 24 and differences up to 20", share=2.0, facts=True),
    Family("comparisons", comparisons, "bigger and smaller numbers and animals", share=1.4),
    Family("sequences", sequences, "next number, counting up and down, steps", share=1.2),
    Family("sorting numbers", sorting_numbers, "three to five numbers below 100 in order", share=2.0),
    Family("remembered numbers", remembered_numbers, "two turns: a number is given, then asked for", share=0.7),
)
