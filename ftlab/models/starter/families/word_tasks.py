"""Questions about single words: plural, past tense, letters, rhymes, uppercase, numbers as words."""

from __future__ import annotations

import random

from ftlab.models.starter.families.draft import Draft, Family, one_turn, vary
from ftlab.models.starter.families.words import ALPHABET_WORDS, LIST_WORDS, NUMBER_WORDS, THINGS, VERBS

IRREGULAR_PLURALS = {
    "mouse": "mice",
    "foot": "feet",
    "goose": "geese",
    "man": "men",
    "woman": "women",
    "child": "children",
    "knife": "knives",
    "wolf": "wolves",
    "leaf": "leaves",
    "shelf": "shelves",
    "sheep": "sheep",
    "fish": "fish",
    "scarf": "scarves",
    "person": "people",
    "life": "lives",
    "wife": "wives",
    "tooth": "teeth",
    "ox": "oxen",
}
PLURAL_WORDS = sorted(
    {
        *IRREGULAR_PLURALS,
        *THINGS,
        *"dog cat horse cow pig goat duck hen bird fox bear lion tiger monkey frog snake bee ant spider".split(),
        *"owl eagle".split(),
        *"whale apple pear plum cherry peach lemon potato tomato carrot onion table bench desk lamp".split(),
        *"bus bike car".split(),
        *"boat train truck tree rose daisy lily baby city story family dish brush class church tool friend".split(),
        *"teacher brother sister house school window".split(),
    }
)

RHYMES = (
    "cat hat bat mat rat",
    "dog frog log fog",
    "sun run fun bun",
    "car star jar bar",
    "tree bee sea key",
    "house mouse",
    "ball tall wall fall",
    "book cook look hook",
    "cake lake snake",
    "moon spoon soon noon",
    "king ring sing wing",
    "light night right",
    "boat goat coat",
    "bed red head",
    "rain train plane",
    "day play say",
    "bear chair hair pear",
    "snow go toe",
    "nose rose",
    "bell well shell",
    "fish dish wish",
    "pen ten hen men",
    "door four floor",
    "fox box socks",
    "sky fly pie",
)
GROUPS = tuple(group.split() for group in RHYMES)


def plural_of(noun: str) -> str:
    """The English plural of the nouns used here."""
    if noun in IRREGULAR_PLURALS:
        return IRREGULAR_PLURALS[noun]
    if noun.endswith(("s", "x", "ch", "sh", "ato")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def plurals(rng: random.Random) -> Draft:
    noun = rng.choice(PLURAL_WORDS)
    many = plural_of(noun)
    ways = (
        (f"What is the plural of {noun}?", many),
        (f"Give me the plural of the word {noun}.", many),
        (f"Plural of {noun}?", many),
        (f"Write the plural form of {noun}.", many),
        (f"One {noun}, two", many),
        (f"Make this word plural: {noun}", many),
        (f"I have one {noun}, she has three. Three what?", many),
        (f"How do you say more than one {noun}?", many),
        (f"What is the singular of {many}?", noun),
        (f"Give me the singular of {many}.", noun),
        (f"Write the singular form of {many}.", noun),
        (f"Many {many}, but only one", noun),
    )
    i = rng.randrange(len(ways))
    return one_turn(f"plural|{noun}|{i}", vary(rng, ways[i][0]), ways[i][1])


def past_tense(rng: random.Random) -> Draft:
    base, past, third, ing = rng.choice(VERBS)
    ways = (
        (f"What is the past tense of {base}?", past),
        (f"Give me the past tense of {base}.", past),
        (f"Past tense of {base}?", past),
        (f"Write the verb {base} in the past tense.", past),
        (f"Today I {base}, yesterday I", past),
        (f"Put this verb into the past: {base}", past),
        (f"Now they {base}. What did they do last week? They", past),
        (f"What is the -ing form of {base}?", ing),
        (f"Write {base} with -ing.", ing),
        (f"I {base} now: I am", ing),
        (f"I {base}, she", third),
        (f"Write the verb {base} for he or she.", third),
        (f"They {base}. He", third),
        (f"What is the base form of {past}?", base),
        (f"Which verb has the past tense {past}?", base),
    )
    # The past tense of some verbs does not determine the base form.
    i = rng.randrange(13 if base == past else len(ways))
    return one_turn(f"past|{base}|{i}", vary(rng, ways[i][0]), ways[i][1])


def letters(rng: random.Random) -> Draft:
    """First and last letter, number of letters and spelling of words from a closed set."""
    word = rng.choice(ALPHABET_WORDS)
    spelled = "-".join(word)
    ways = (
        (f"What is the first letter of {word}?", word[0]),
        (f"Which letter does {word} start with?", word[0]),
        (f"Give the first letter of the word {word}.", word[0]),
        (f"With which letter does the word {word} begin?", word[0]),
        (f"What is the last letter of {word}?", word[-1]),
        (f"Which letter does {word} end with?", word[-1]),
        (f"Give the last letter of the word {word}.", word[-1]),
        (f"With which letter does the word {word} end?", word[-1]),
        (f"How many letters are in {word}?", str(len(word))),
        (f"Count the letters in the word {word}.", str(len(word))),
        (f"How many letters does the word {word} have?", str(len(word))),
        (f"How long is the word {word}? Count the letters.", str(len(word))),
        (f"Spell {word}.", spelled),
        (f"How do you spell {word}?", spelled),
        (f"Spell the word {word}, please.", spelled),
        (f"Write {word} letter by letter.", spelled),
    )
    i = rng.randrange(len(ways))
    return one_turn(f"letters|{word}|{i}", vary(rng, ways[i][0]), ways[i][1])


def rhymes(rng: random.Random) -> Draft:
    """Which of several words rhymes; the key is the word with its choices."""
    group = rng.choice(GROUPS)
    word, match = rng.sample(group, 2)
    if rng.random() < 0.35:
        other = rng.choice(rng.choice([g for g in GROUPS if g is not group]))
        second, answer = (match, "yes") if rng.random() < 0.5 else (other, "no")
        text = rng.choice(
            (
                f"Does {word} rhyme with {second}?",
                f"Do the words {word} and {second} rhyme?",
                f"Is {second} a rhyme for {word}?",
                f"{word} and {second}: do they rhyme?",
            )
        )
        return one_turn(f"rhyme|{word}|{second}", vary(rng, text), answer)
    wrong = [rng.choice(g) for g in rng.sample([g for g in GROUPS if g is not group], rng.choice((1, 1, 2)))]
    choices = [match, *wrong]
    rng.shuffle(choices)
    listed = ", ".join(choices[:-1]) + " or " + choices[-1]
    text = rng.choice(
        (
            f"Which word rhymes with {word}: {listed}?",
            f"What rhymes with {word}, {listed}?",
            f"Find the rhyme for {word}: {listed}",
            f"I need a rhyme for {word}. Is it {listed}?",
            f"Choose the word that rhymes with {word}: {listed}.",
        )
    )
    return one_turn(f"rhyme|{word}|{'|'.join(sorted(choices))}", vary(rng, text), match)


def upper_case(rng: random.Random) -> Draft:
    """Single words in uppercase, in lowercase, or capitalized."""
    word = rng.choice(LIST_WORDS)
    up, cap = word.upper(), word.capitalize()
    ways = (
        (f"Write {word} in upper case.", up),
        (f"Write the word {word} in capital letters.", up),
        (f"Upper case of {word}?", up),
        (f"Shout the word {word}.", up),
        (f"Change {word} to upper case.", up),
        (f"Put this word in capitals: {word}", up),
        (f"Write {up} in lower case.", word),
        (f"Change {up} to lower case.", word),
        (f"Write the word {up} in small letters.", word),
        (f"Lower case of {up}?", word),
        (f"Write {word} with a capital first letter.", cap),
        (f"Give the word {word} a capital letter at the start.", cap),
    )
    i = rng.randrange(len(ways))
    return one_turn(f"case|{word}|{i}", vary(rng, ways[i][0]), ways[i][1])


def number_words(rng: random.Random) -> Draft:
    n = rng.randrange(len(NUMBER_WORDS))
    word = NUMBER_WORDS[n]
    ways = (
        (f"Write {n} as a word.", word),
        (f"What is the word for {n}?", word),
        (f"How do you write the number {n} in letters?", word),
        (f"Say {n} in words.", word),
        (f"Spell the number {n} as a word.", word),
        (f"The number {n} as a word?", word),
        (f"Write {word} in digits.", str(n)),
        (f"Write {word} as a number.", str(n)),
        (f"Which number is {word}?", str(n)),
        (f"What is {word} in digits?", str(n)),
        (f"Turn the word {word} into digits.", str(n)),
        (f"Digits for {word}?", str(n)),
    )
    i = rng.randrange(len(ways))
    return one_turn(f"number word|{n}|{i}", vary(rng, ways[i][0]), ways[i][1])


FAMILIES = (
    Family("plurals", plurals, "plural and singular of about 120 nouns", facts=True),
    Family("past tense", past_tense, "forms of 50 verbs", facts=True),
    Family("letters", letters, "first letter, last letter, length and spelling of 55 words", share=1.3, facts=True),
    Family("rhymes", rhymes, "which word rhymes, and whether two do", share=0.8),
    Family("upper case", upper_case, "single words in upper and lower case", facts=True),
    Family("number words", number_words, "numbers to twenty in words and digits", share=0.5, facts=True),
)
