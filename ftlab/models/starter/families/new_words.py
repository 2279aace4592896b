"""Words that do not exist: copying, listing and extracting must work with unseen names and words.

They are joined from pieces of known words, so that every piece of the tokenizer's vocabulary appears in the text.
Pieces that never appear end up with the same embedding, and an adapter that does not change the embeddings cannot learn
to write them.
"""

from __future__ import annotations

import json
import random
import string

from ftlab.models.starter.families.draft import Draft, Family, one_turn, several_turns, vary
from ftlab.models.starter.families.stories import HOUSEHOLD
from ftlab.models.starter.families.word_tasks import PLURAL_WORDS
from ftlab.models.starter.families.words import ALL_CATEGORIES, CITIES, LIST_WORDS, MONTHS, NAMES, PLACES, VERBS

PARTS = sorted(
    {word.lower() for word in (*LIST_WORDS, *PLURAL_WORDS, *HOUSEHOLD, *NAMES, *CITIES, *MONTHS, *PLACES)}
    | {form for forms in VERBS for form in forms}
    | {word for words in ALL_CATEGORIES.values() for word in words}
    | set(
        "account alphabet answer assistant calculate category change classify complete continue customer decide "
        "dictionary difficult different sentence document exclamation favourite invoice letter message minus morning "
        "negative neutral number object opposite order password people person positive printer priority question "
        "quickly remember repeat return reverse review second sentiment something somewhere together vegetable "
        "information service technical possible important delivery station national nature culture system quality "
        "quarter equal request billing refund shipping product urgent normal status ticket support problem level "
        "amount example history security university community activity ability society variety safety city pretty "
        "happiness business illness darkness kindness movement payment statement government agreement development "
        "action nation relation option section position condition addition collection direction attention station "
        "private climate chocolate template estimate complicated famous nervous dangerous generous various serious "
        "careful helpful useful beautiful wonderful powerful thankful always already although almost "
        "also across".split()
    )
)
SYMBOLS = "#$%&()*+/;<=>@[]^_{|}~-.:!?'\""
ACCENTED = "äöüßéèêáàâíóúñçøåæœłżščřğı€£°§½«»–…"


def new_word(rng: random.Random) -> str:
    """A lowercase word: the start of one known word and the end of another or, less often, random letters."""
    if rng.random() < 0.85:
        first, second = rng.sample(PARTS, 2)
        return first[: rng.randint(1, len(first))][:7] + second[-rng.randint(1, len(second)) :][-7:]
    return "".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(2, 7)))


def new_name(rng: random.Random) -> str:
    return new_word(rng).capitalize()


def new_code(rng: random.Random) -> str:
    """Capitals, digits, symbols or accented letters, as in order numbers, keys and addresses."""
    alphabet = rng.choice(
        (
            string.ascii_uppercase + string.digits,
            string.ascii_letters,
            string.digits,
            SYMBOLS + string.digits,
            ACCENTED + string.ascii_lowercase,
        )
    )
    return "".join(rng.choice(alphabet) for _ in range(rng.randint(2, 7)))


def new_words(rng: random.Random) -> Draft:
    """Copy, pick, list, remember or extract words that do not exist."""
    kind = rng.randrange(8)
    if kind == 0:
        code = rng.choice((new_code, new_code, new_word, new_name))(rng)
        ask = rng.choice(("Repeat this: {t}", "Copy this: {t}", "Write this again: {t}", "Say exactly this: {t}"))
        return one_turn(f"new|{code}", ask.format(t=code), code)
    if kind in (1, 2):
        words = [rng.choice((new_word, new_word, new_name))(rng) for _ in range(rng.randint(2, 5))]
        text = rng.choice((", ", " ")).join(words)
        ask = rng.choice(
            ("Repeat these words: {t}", "Copy this: {t}", "Repeat after me: {t}", "Write the same words: {t}")
        )
        return one_turn(f"new|{text}", ask.format(t=text), text)
    if kind == 3:
        words = [new_word(rng) for _ in range(rng.randint(2, 4))]
        text, last = ", ".join(words), rng.random() < 0.5
        ask = rng.choice(
            ("What is the last word: {t}", "Last word of this: {t}")
            if last
            else ("What is the first word: {t}", "First word of this: {t}")
        )
        return one_turn(f"new|{text}", vary(rng, ask.format(t=text)), words[-1] if last else words[0])
    if kind == 4:
        name = new_name(rng)
        hello = rng.choice((f"My name is {name}.", f"Hello, I am {name}.", f"Hi, my name is {name}."))
        if rng.random() < 0.5:
            return one_turn(f"new|{name}", hello, f"Nice to meet you, {name}!")
        ask = rng.choice(("What is my name?", "Do you remember my name?"))
        return several_turns(f"new|{name}", hello, f"Nice to meet you, {name}!", ask, f"Your name is {name}.")
    if kind in (5, 6):
        keys: tuple[str, ...] = rng.choice(
            (("name", "city", "age"), ("item", "place", "count"), (new_word(rng), new_word(rng), new_word(rng)))
        )
        keys = tuple(dict.fromkeys(keys))
        values: list[str | int] = [
            rng.randint(1, 99) if k in ("age", "count") else rng.choice((new_word, new_name))(rng) for k in keys
        ]
        record = dict(zip(keys, values, strict=True))
        text = ", ".join(f"{k} {v}" for k, v in record.items()) + "."
        if keys[0] == "name":
            text = rng.choice(
                (
                    "{name} is {age} years old and lives in {city}.",
                    "My friend {name} lives in {city} and is {age} years old.",
                )
            )
            text = text.format(**record)
        ask = rng.choice(("Extract {k} as JSON: {t}", "Give {k} as JSON. {t}", "{t}\nReturn JSON with {k}."))
        return one_turn(
            f"new|{text}", ask.format(k=", ".join(keys[:-1]) + " and " + keys[-1], t=text), json.dumps(record)
        )
    name, other, thing = new_name(rng), new_name(rng), new_word(rng)
    text = rng.choice((f"{name} has the {thing}.", f"{name} has the {thing}. {other} has nothing."))
    ask, answer = rng.choice(((f"Who has the {thing}?", name), (f"What does {name} have?", f"the {thing}")))
    return one_turn(f"new|{text}", f"{text} {ask}", answer)


FAMILIES = (Family("new words", new_words, "copy, pick, remember and extract words that do not exist", share=2.0),)
