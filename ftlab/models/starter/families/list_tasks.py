"""Short lists of words: copy, reverse, sort, count, look up, and the odd one out."""

from __future__ import annotations

import random

from ftlab.models.starter.families.draft import Draft, Family, capital, one_turn, vary
from ftlab.models.starter.families.words import (
    ADJECTIVES,
    ALL_CATEGORIES,
    ALPHABET_WORDS,
    CATEGORIES,
    DEEDS,
    LIST_WORDS,
    NAMES,
    PLURAL_CATEGORY,
    THINGS,
)

ORDINALS = "first second third fourth fifth".split()


def short_sentence(rng: random.Random) -> str:
    """A sentence of four to eight words without its period."""
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    deed = rng.choice(DEEDS)
    return rng.choice(
        (
            f"{name} {deed[1]} {deed[3]}",
            f"the {rng.choice(ADJECTIVES)} {rng.choice(LIST_WORDS)} is near the {thing}",
            f"{name} has a {rng.choice(ADJECTIVES)} {thing}",
            f"we saw a {rng.choice(LIST_WORDS)} and a {thing}",
            f"my {thing} is {rng.choice(ADJECTIVES)} and {rng.choice(ADJECTIVES)}",
            f"{name} likes the {rng.choice(ADJECTIVES)} {rng.choice(LIST_WORDS)}",
        )
    )


def made_up_word(rng: random.Random) -> str:
    """A word that does not exist, or an order number, so that copying does not depend on knowing the word."""
    if rng.random() < 0.4:
        return rng.choice("ABCDEFGHKLMNPRSTX") + "".join(rng.choice("0123456789") for _ in range(rng.randint(2, 4)))
    syllables = "".join(rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(rng.randint(2, 3)))
    return rng.choice((syllables, syllables.capitalize()))


def copying(rng: random.Random) -> Draft:
    roll = rng.random()
    if roll < 0.45:
        text = capital(short_sentence(rng)) + "."
        ask = rng.choice(
            (
                "Repeat this sentence: {t}",
                "Copy this: {t}",
                "Say exactly this: {t}",
                "Repeat after me: {t}",
                "Write this sentence again: {t}",
                "Please copy the sentence. {t}",
            )
        )
        return one_turn(f"copy|{text}", ask.format(t=text), text)
    if roll < 0.80:
        words = ", ".join(rng.sample(LIST_WORDS, rng.randint(2, 5)))
        ask = rng.choice(
            (
                "Repeat these words: {t}",
                "Copy this list: {t}",
                "Say these words again: {t}",
                "Repeat the list: {t}",
                "Write the same words: {t}",
                "Repeat after me: {t}",
            )
        )
        return one_turn(f"copy|{words}", vary(rng, ask.format(t=words)), words)
    if roll < 0.90:
        code = made_up_word(rng)
        ask = rng.choice(
            (
                "Repeat the code {t}.",
                "Copy this code: {t}",
                "Write {t} again.",
                "The code is {t}. What is the code?",
                "Say {t}.",
            )
        )
        return one_turn(f"code|{code}", ask.format(t=code), code)
    word, times = rng.choice(LIST_WORDS), rng.randint(2, 4)
    number = ("two", "three", "four")[times - 2]
    ask = rng.choice(
        (
            f"Say {word} {number} times.",
            f"Write the word {word} {number} times.",
            f"Repeat {word} {number} times.",
            f"{capital(number)} times the word {word}, please.",
        )
    )
    return one_turn(f"times|{word}|{times}", vary(rng, ask), " ".join([word] * times))


def reversing(rng: random.Random) -> Draft:
    words = rng.sample(LIST_WORDS, rng.choice((2, 3, 3, 3, 4)))
    joint = rng.choice((", ", ", ", " "))
    text = joint.join(words)
    ask = rng.choice(
        (
            "Reverse this list: {t}",
            "Write these words backwards, last one first: {t}",
            "Turn the order around: {t}",
            "Reverse the order of these words: {t}",
            "Say these words in reverse order: {t}",
            "Put the last word first: {t}",
            "List in reverse: {t}",
        )
    )
    return one_turn(f"reverse|{'|'.join(words)}", vary(rng, ask.format(t=text)), joint.join(reversed(words)))


def sorting_words(rng: random.Random) -> Draft:
    """Alphabetical order of words from a closed set, in new lists."""
    roll = rng.random()
    if roll < 0.35:
        pair = rng.sample(ALPHABET_WORDS, 2)
        first = rng.random() < 0.6
        ask = rng.choice(
            (
                "Which word comes first in the alphabet: {a} or {b}?",
                "Which comes first in a dictionary, {a} or {b}?",
                "{a} or {b}: which is first in alphabetical order?",
            )
            if first
            else (
                "Which word comes last in the alphabet: {a} or {b}?",
                "Which comes later in a dictionary, {a} or {b}?",
                "{a} or {b}: which is last in alphabetical order?",
            )
        )
        answer = min(pair) if first else max(pair)
        return one_turn(
            f"alphabet|{'|'.join(sorted(pair))}|{first}", vary(rng, ask.format(a=pair[0], b=pair[1])), answer
        )
    words = rng.sample(ALPHABET_WORDS, rng.choice((2, 3, 3, 3, 4)))
    ask = rng.choice(
        (
            "Sort these words: {t}",
            "Put these words in alphabetical order: {t}",
            "Sort from A to Z: {t}",
            "Sort the list alphabetically: {t}",
            "Order these words by the alphabet: {t}",
            "Arrange from A to Z: {t}",
        )
    )
    return one_turn(f"sort|{'|'.join(words)}", vary(rng, ask.format(t=", ".join(words))), ", ".join(sorted(words)))


def counting(rng: random.Random) -> Draft:
    """The number of words in a list, or of occurrences of a word."""
    if rng.random() < 0.65:
        words = rng.sample(LIST_WORDS, rng.randint(1, 7))
        ask = rng.choice(
            (
                "How many words are in this list: {t}?",
                "Count the words: {t}",
                "How many things are these: {t}?",
                "How many words do you see? {t}",
                "Count the items in the list: {t}",
                "Number of words: {t}",
            )
        )
        return one_turn(f"count|{'|'.join(words)}", vary(rng, ask.format(t=", ".join(words))), str(len(words)))
    word, *others = rng.sample(LIST_WORDS, rng.randint(2, 4))
    times = rng.randint(1, 4)
    words = [word] * times + others
    rng.shuffle(words)
    ask = rng.choice(
        (
            "How many times do you see {w} in this list: {t}?",
            "How often is {w} in the list: {t}?",
            "Count the word {w}: {t}",
            "How many times is {w} here? {t}",
        )
    )
    return one_turn(f"count {word}|{'|'.join(words)}", vary(rng, ask.format(w=word, t=", ".join(words))), str(times))


def first_and_last(rng: random.Random) -> Draft:
    """The word at a position in a list or sentence, and the word before or after another one."""
    words = short_sentence(rng).split() if rng.random() < 0.3 else rng.sample(LIST_WORDS, rng.randint(3, 5))
    joint = rng.choice((", ", " ")) if words[0] in LIST_WORDS else " "
    text = joint.join(words)
    roll = rng.random()
    if roll < 0.35:
        answer, ask = (
            words[0],
            rng.choice(
                (
                    "What is the first word: {t}",
                    "Give me the first word of: {t}",
                    "First word of this: {t}",
                    "Which word is first? {t}",
                )
            ),
        )
    elif roll < 0.70:
        answer, ask = (
            words[-1],
            rng.choice(
                (
                    "What is the last word: {t}",
                    "Give me the last word of: {t}",
                    "Last word of this: {t}",
                    "Which word is last? {t}",
                )
            ),
        )
    elif roll < 0.85:
        i = rng.randrange(1, 3)
        answer, ask = (
            words[i],
            rng.choice((f"What is the {ORDINALS[i]} word: {{t}}", f"Give me the {ORDINALS[i]} word of: {{t}}")),
        )
    else:
        i = rng.randrange(len(words) - 1)
        answer, ask = (
            words[i + 1],
            rng.choice((f"Which word comes after {words[i]}: {{t}}", f"In this list, what follows {words[i]}? {{t}}")),
        )
        if len(set(words)) < len(words):
            return first_and_last(rng)
    return one_turn(f"place|{text}|{answer}", vary(rng, ask.format(t=text)), answer)


def membership(rng: random.Random) -> Draft:
    """Whether a word is in a list."""
    words = rng.sample(LIST_WORDS, rng.randint(3, 6))
    inside = rng.random() < 0.5
    word = rng.choice(words[:-1]) if inside else words[-1]
    listed = words if inside else words[:-1]
    ask = rng.choice(
        (
            "Is the word {w} in this list: {t}?",
            "Does this list have the word {w}? {t}",
            "Is {w} one of these: {t}?",
            "Do you see {w} here? {t}",
            "Look for {w} in: {t}. Is it there?",
        )
    )
    return one_turn(
        f"member|{word}|{'|'.join(listed)}",
        vary(rng, ask.format(w=word, t=", ".join(listed))),
        "yes" if inside else "no",
    )


def odd_one_out(rng: random.Random) -> Draft:
    """The word of a different kind, or the only word of a kind."""
    kind, other = rng.sample(list(CATEGORIES), 2)
    odd = rng.choice(CATEGORIES[other])
    same = rng.sample(CATEGORIES[kind], rng.choice((2, 3, 3)))
    words = [odd, *same]
    rng.shuffle(words)
    text = ", ".join(words)
    if rng.random() < 0.6:
        ask = rng.choice(
            (
                "Which word does not belong: {t}?",
                "Find the odd one out: {t}",
                "Which one is different: {t}?",
                "One word does not fit. Which one? {t}",
                "Odd one out: {t}",
            )
        )
    else:
        ask = rng.choice(
            (
                "Which of these is {o}: {t}?",
                f"Find the {other}: {{t}}",
                "Only one of these is {o}. Which one? {t}",
                f"Pick the {other} from this list: {{t}}",
            )
        )
    article = f"{'an' if other[0] in 'aeiou' else 'a'} {other}"
    return one_turn(f"odd|{'|'.join(sorted(words))}", vary(rng, ask.format(t=text, o=article)), odd)


def naming(rng: random.Random) -> Draft:
    """Lists of words of a kind. Many answers are correct, so this is scored by perplexity only."""
    kind = rng.choice(list(ALL_CATEGORIES))
    count = rng.randint(2, 4)
    number, many = ("two", "three", "four")[count - 2], PLURAL_CATEGORY[kind]
    ask = rng.choice(("Name {n} {m}.", "Give me {n} {m}.", "List {n} {m}.", "Write down {n} {m}.", "Tell me {n} {m}."))
    words = rng.sample(ALL_CATEGORIES[kind], count)
    style = rng.random()
    if style < 0.25:
        return one_turn(
            f"name|{'|'.join(words)}",
            ask.format(n=number, m=many)[:-1] + " as a list with dashes.",
            "\n".join(f"- {w}" for w in words),
        )
    return one_turn(f"name|{'|'.join(words)}", vary(rng, ask.format(n=number, m=many)), ", ".join(words))


FAMILIES = (
    Family("copying", copying, "repeat a sentence, a list, or a word several times", share=1.6),
    Family("reversing", reversing, "short lists in reverse order", share=1.5),
    Family("sorting words", sorting_words, "alphabetical order over 55 words", share=2.4),
    Family("counting", counting, "how many words, how often a word", share=1.3),
    Family("first and last", first_and_last, "the word at a place of a list or sentence", share=1.3),
    Family("membership", membership, "is a word in a list", share=0.8),
    Family("odd one out", odd_one_out, "the word of another kind", share=1.2),
    Family("naming", naming, "name two to four things of a kind", share=0.5, scored="perplexity"),
)
