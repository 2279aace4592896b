"""Closed sets of everyday facts. Every fact is trained; pairs of a fact and a phrasing are held out."""

from __future__ import annotations

import random

from ftlab.models.starter.families.draft import Draft, Family, an, capital, fact_draft, one_turn, vary
from ftlab.models.starter.families.words import ALL_CATEGORIES, DAYS, MONTHS, PLURAL_CATEGORY


def pairs(text: str) -> tuple[tuple[str, str], ...]:
    """The pairs in "x = y; x = y"."""
    fields = (entry.split("=") for entry in " ".join(text.split()).split(";"))
    return tuple((x.strip(), y.strip()) for x, y in fields)


# Country and capital.
CAPITALS = pairs("""
    France = Paris; Italy = Rome; England = London; Germany = Berlin; Spain = Madrid; Austria = Vienna; Norway =
    Oslo; Portugal = Lisbon; Greece = Athens; Ireland = Dublin; Poland = Warsaw; Egypt = Cairo; Japan = Tokyo;
    Peru = Lima; Finland = Helsinki; Hungary = Budapest; Belgium = Brussels; Sweden = Stockholm; Denmark =
    Copenhagen; Russia = Moscow; China = Beijing; Canada = Ottawa; Turkey = Ankara; Kenya = Nairobi; Cuba =
    Havana; Iceland = Reykjavik; Switzerland = Bern; the Netherlands = Amsterdam
""")

# Both directions are asked.
OPPOSITES = pairs("""
    hot = cold; big = small; tall = short; fast = slow; old = young; happy = sad; open = closed; full = empty;
    clean = dirty; wet = dry; hard = soft; heavy = light; day = night; up = down; left = right; early = late; rich
    = poor; strong = weak; loud = quiet; near = far; high = low; thick = thin; first = last; inside = outside;
    true = false; good = bad; easy = difficult; wide = narrow; begin = end; buy = sell; win = lose; push = pull;
    sweet = sour; brave = afraid; safe = dangerous; cheap = expensive; always = never; north = south; east = west;
    black = white
""")

# Thing and its usual colour.
COLOURS_OF = pairs("""
    grass = green; the sky on a clear day = blue; snow = white; coal = black; a ripe tomato = red; a lemon =
    yellow; a banana = yellow; a carrot = orange; milk = white; blood = red; chocolate = brown; a frog = green; an
    elephant = grey; the sun in a picture = yellow; a pea = green; a strawberry = red; salt = white; a crow =
    black; a mouse = grey; coffee = brown; the sea = blue; a pig = pink; a plum = purple; paper = white; a fire
    engine = red; the trunk of a tree = brown
""")

# Animal and sound.
SOUNDS = pairs("""
    dog = woof; cat = meow; cow = moo; sheep = baa; duck = quack; pig = oink; horse = neigh; bee = buzz; owl =
    hoot; snake = hiss; lion = roar; frog = croak; mouse = squeak; bird = tweet; hen = cluck; wolf = howl
""")

# Animal and its young.
YOUNG = pairs("""
    dog = puppy; cat = kitten; cow = calf; sheep = lamb; horse = foal; hen = chick; duck = duckling; pig = piglet;
    goat = kid; bear = cub; frog = tadpole; goose = gosling
""")

# Animal and home.
HOMES = pairs("""
    bird = nest; bee = hive; dog = kennel; horse = stable; spider = web; fish = water; bear = cave; rabbit =
    burrow; pig = sty; lion = den; hen = coop; king = castle
""")

# Who has how many legs.
LEGS = pairs("""
    dog = 4; cat = 4; bird = 2; spider = 8; ant = 6; bee = 6; horse = 4; cow = 4; duck = 2; snake = 0; fish = 0;
    hen = 2; table = 4; person = 2; mouse = 4; fly = 6; frog = 4; worm = 0; goat = 4; owl = 2
""")

# Purpose and thing.
USES = pairs("""
    cut paper = scissors; hit a nail = a hammer; cut wood = a saw; write a letter = a pen; tell the time = a
    clock; stay dry in the rain = an umbrella; open a locked door = a key; sweep the floor = a broom; eat soup = a
    spoon; cut bread = a knife; dig a hole = a shovel; reach a high shelf = a ladder; take a picture = a camera;
    brush your teeth = a toothbrush; dry your hands = a towel; find the way = a map; boil water = a kettle; keep
    food cold = a fridge; sew a button = a needle; see far away = a telescope; measure a table = a ruler; wash
    your hands = soap; sleep at night = a bed; light a dark room = a lamp; catch a fish = a net; call a friend = a
    phone; print a page = a printer; pay in a shop = money; carry books = a bag; bake a cake = an oven; measure
    the heat = a thermometer; send a letter = a stamp
""")

# Work and worker.
WORKERS = pairs("""
    teaches children = a teacher; bakes bread = a baker; flies a plane = a pilot; helps sick people = a doctor;
    puts out fires = a firefighter; grows food on a farm = a farmer; cooks in a restaurant = a cook; cuts hair = a
    barber; drives a bus = a driver; paints pictures = a painter; writes books = a writer; brings letters = a
    postman; repairs cars = a mechanic; looks after teeth = a dentist; looks after a garden = a gardener; sings
    songs = a singer; builds houses = a builder; sells meat = a butcher; makes clothes = a tailor; catches fish =
    a fisherman; serves food at a table = a waiter; takes photos = a photographer
""")

# Word and definition.
MEANINGS = pairs("""
    hammer = a tool for hitting nails; island = land with water all around it; library = a place where you can
    borrow books; bakery = a shop that sells bread and cakes; orphan = a child without parents; desert = a dry
    place with very little rain; umbrella = a thing that keeps you dry in the rain; winter = the coldest season of
    the year; museum = a place where you can see old or beautiful things; river = a long stream of water that
    flows to the sea; breakfast = the first meal of the day; triangle = a shape with three sides; square = a shape
    with four equal sides; password = a secret word that opens an account; invoice = a paper that says how much
    you have to pay; parcel = a box that is sent by post; neighbour = a person who lives next to you; village = a
    place smaller than a town; volcano = a mountain that can throw out fire; calendar = a list of the days and
    months of a year; dentist = a doctor for teeth; kitchen = a room where people cook; forest = a place with many
    trees; week = a time of seven days; dozen = a group of twelve things; century = a time of one hundred years;
    receipt = a paper that shows what you paid; passport = a small book that you need to travel; compass = a tool
    that shows where north is; orchestra = a large group of people who play music together
""")

# What completes "How many ..." and the number.
NUMBERS_KNOWN = pairs("""
    days are in a week = 7; months are in a year = 12; hours are in a day = 24; minutes are in an hour = 60;
    seconds are in a minute = 60; seasons are in a year = 4; sides are there in a triangle = 3; sides are there in
    a square = 4; wheels are on a bike = 2; wheels are on a car = 4; fingers are on one hand = 5; eyes are in a
    face = 2; letters are in the alphabet = 26; days are in a weekend = 2; things are in a dozen = 12; years are
    in a century = 100; players are in a football team = 11; weeks are in a year = 52; legs are there on two dogs
    = 8; cents are in a euro = 100; strings are on a guitar = 6; metres are in a kilometre = 1000; noses are in a
    face = 1; toes are on two feet = 10
""")

# What completes "Which season ..." and the season.
SEASON_FACTS = pairs("""
    is the coldest = winter; is the hottest = summer; comes after winter = spring; comes before winter = autumn;
    comes after summer = autumn; comes after spring = summer; comes before summer = spring; brings the snow =
    winter; brings the first flowers = spring; is when the leaves fall = autumn; has the longest days = summer;
    has the shortest days = winter
""")


CAPITAL_PHRASES = (
    "What is the capital of {x}?",
    "Name the capital of {x}.",
    "Which city is the capital of {x}?",
    "Tell me the capital city of {x}.",
    "What is the capital city of {x}?",
    "The capital of {x} is which city?",
    "Do you know the capital of {x}?",
    "Give me the name of the capital of {x}.",
    "I forgot the capital of {x}. What is it?",
    "Capital of {x}?",
    "Complete: The capital of {x} is",
    "Which capital does {x} have?",
)
CAPITAL_SENTENCES = (
    "Say in a full sentence what the capital of {x} is.",
    "Answer in a sentence: what is the capital of {x}?",
    "In a full sentence, which city is the capital of {x}?",
    "Write one sentence about the capital of {x}.",
)
CAPITAL_COUNTRY = (
    "{x} is the capital of which country?",
    "Which country has {x} as its capital?",
    "In which country is {x}?",
    "Name the country whose capital is {x}.",
    "Where is {x}? Name the country.",
)

OPPOSITE_PHRASES = (
    "What is the opposite of {x}?",
    "Give me the opposite of {x}.",
    "Opposite of {x}?",
    "Name the opposite of the word {x}.",
    "What word means the opposite of {x}?",
    "Which word is the opposite of {x}?",
    "Not {x} but the opposite: which word?",
    "Find the opposite: {x}",
    'Write the opposite of "{x}".',
    "Tell me a word that is the opposite of {x}.",
    "If something is not {x}, what is it?",
    "The opposite of {x} is",
)

COLOUR_PHRASES = (
    "What colour is {x}?",
    "Which colour does {x} have?",
    "Tell me the colour of {x}.",
    "What is the colour of {x}?",
    "Name the colour of {x}.",
    "Think of {x}. What colour do you see?",
    "I want to paint {x}. Which colour do I need?",
    "The colour of {x} is",
    "Do you know what colour {x} is?",
    "Give me one word: the colour of {x}.",
)

SOUND_PHRASES = (
    "What sound does a {x} make?",
    "What does a {x} say?",
    "Which sound does a {x} make?",
    "Name the sound of a {x}.",
    "How does a {x} sound?",
    "Make the sound of a {x}.",
    "I hear a {x}. What do I hear?",
    "Complete: The {x} says",
)
YOUNG_PHRASES = (
    "What is a young {x} called?",
    "What do we call a baby {x}?",
    "Name the young of a {x}.",
    "A young {x} is called a",
    "What is the word for a baby {x}?",
    "How do we call a very young {x}?",
)
HOME_PHRASES = (
    "Where does a {x} live?",
    "What is the home of a {x}?",
    "Name the home of a {x}.",
    "Which home does a {x} have?",
    "A {x} goes home. Where does it go?",
    "What do we call the place where a {x} lives?",
)
LEG_PHRASES = (
    "How many legs does a {x} have?",
    "Count the legs of a {x}.",
    "A {x} has how many legs?",
    "Legs of a {x}?",
    "Tell me how many legs a {x} has.",
    "What number of legs does a {x} have?",
    "The number of legs of a {x} is",
)

USE_PHRASES = (
    "What do you use to {x}?",
    "Which thing helps you to {x}?",
    "I want to {x}. What do I need?",
    "What do people use to {x}?",
    "Name a thing to {x} with.",
    "What do I need to {x}?",
    "Tell me what I need if I want to {x}.",
    "Which object do we use to {x}?",
    "To {x}, we use",
    "My friend wants to {x}. What should she take?",
)

WORKER_PHRASES = (
    "Who {x}?",
    "What do we call a person who {x}?",
    "Name the job of someone who {x}.",
    "Which person {x}?",
    "My aunt {x}. What is her job?",
    "What is the job of a person who {x}?",
    "A person who {x} is called",
    "Which job is it when someone {x}?",
)

MEANING_PHRASES = (
    "What is the meaning of {x}?",
    "What does the word {x} mean?",
    "Explain the word {x}.",
    "Define {x}.",
    'What does "{x}" mean?',
    "Can you explain what {x} means?",
    "I do not know the word {x}. What does it mean?",
    "Give me the meaning of the word {x}.",
)

NUMBER_PHRASES = (
    "How many {x}?",
    "Do you know how many {x}?",
    "Tell me how many {x}.",
    "Can you say how many {x}?",
    "I would like to know how many {x}.",
    "Give the number: how many {x}?",
    "How many {x}? Answer with a number.",
)

SEASON_PHRASES = ("Which season {x}?", "Name the season that {x}.", "What season {x}?", "Tell me the season that {x}.")


def capitals(rng: random.Random) -> Draft:
    roll = rng.random()
    if roll < 0.70:
        return fact_draft(rng, "capital", CAPITALS, CAPITAL_PHRASES)
    if roll < 0.85:
        return fact_draft(rng, "capital in a sentence", CAPITALS, CAPITAL_SENTENCES, ("The capital of {x} is {y}.",))
    return fact_draft(rng, "country of", [(y, capital(x)) for x, y in CAPITALS], CAPITAL_COUNTRY)


def opposites(rng: random.Random) -> Draft:
    both = OPPOSITES + tuple((y, x) for x, y in OPPOSITES)
    return fact_draft(rng, "opposite", both, OPPOSITE_PHRASES)


def colours(rng: random.Random) -> Draft:
    return fact_draft(rng, "colour of", COLOURS_OF, COLOUR_PHRASES)


def animals(rng: random.Random) -> Draft:
    topic, table, phrases = rng.choice(
        (
            ("sound", SOUNDS, SOUND_PHRASES),
            ("young", YOUNG, YOUNG_PHRASES),
            ("home", HOMES, HOME_PHRASES),
            ("legs", LEGS, LEG_PHRASES),
        )
    )
    return _with_article(rng, topic, table, phrases)


def _with_article(rng: random.Random, topic: str, table: tuple, phrases: tuple[str, ...]) -> Draft:
    """As fact_draft, with "an" before a vowel."""
    x, y = rng.choice(table)
    i = rng.randrange(len(phrases))
    text = phrases[i].format(x=x)
    if x[0] in "aeiou":
        text = text.replace(f" a {x}", f" an {x}").replace(f"A {x}", f"An {x}")
    return one_turn(f"{topic}|{x}|{i}", vary(rng, text), y)


def uses(rng: random.Random) -> Draft:
    return fact_draft(rng, "use", USES, USE_PHRASES)


def jobs(rng: random.Random) -> Draft:
    return fact_draft(rng, "job", WORKERS, WORKER_PHRASES)


def meanings(rng: random.Random) -> Draft:
    x, y = rng.choice(MEANINGS)
    if rng.random() < 0.7:
        i = rng.randrange(len(MEANING_PHRASES))
        return one_turn(f"meaning|{x}|{i}", vary(rng, MEANING_PHRASES[i].format(x=x)), f"{capital(y)}.")
    phrases = ('Which word means "{y}"?', "What do we call {y}?", "Name it: {y}.", "I am thinking of {y}. What is it?")
    i = rng.randrange(len(phrases))
    return one_turn(f"word for|{x}|{i}", vary(rng, phrases[i].format(y=y)), x)


def known_numbers(rng: random.Random) -> Draft:
    return fact_draft(rng, "known number", NUMBERS_KNOWN, NUMBER_PHRASES)


def calendar(rng: random.Random) -> Draft:
    """The order of days, months and seasons."""
    roll = rng.random()
    if roll < 0.15:
        return fact_draft(rng, "season", SEASON_FACTS, SEASON_PHRASES)
    kind, cycle = ("day", DAYS) if rng.random() < 0.5 else ("month", MONTHS)
    i = rng.randrange(len(cycle))
    x, after, before = cycle[i], cycle[(i + 1) % len(cycle)], cycle[i - 1]
    if roll < 0.60:
        phrases: tuple[str, ...] = (
            f"Which {kind} comes after {x}?",
            f"What {kind} follows {x}?",
            f"What is the {kind} after {x}?",
            f"It is {x} now. Which {kind} is next?",
            f"Name the {kind} that comes right after {x}.",
            f"After {x} comes",
            f"Tell me the next {kind} after {x}.",
        )
        word, y = "after", after
    elif roll < 0.90:
        phrases = (
            f"Which {kind} comes before {x}?",
            f"What is the {kind} before {x}?",
            f"Name the {kind} that comes right before {x}.",
            f"It is {x} now. Which {kind} was before?",
            f"Tell me the {kind} before {x}.",
            f"Right before {x} comes",
        )
        word, y = "before", before
    else:
        place = ("first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth").split()[i]
        whole = "week" if kind == "day" else "year"
        phrases = (
            f"What is the {place} {kind} of the {whole}?",
            f"Name the {place} {kind} of the {whole}.",
            f"Which {kind} is the {place} of the {whole}?",
            f"Tell me the {place} {kind} of the {whole}.",
        )
        word, y = "place", x
    j = rng.randrange(len(phrases))
    return one_turn(f"calendar|{word}|{x}|{j}", vary(rng, phrases[j]), y)


def categories(rng: random.Random) -> Draft:
    """The kind of thing that a word names."""
    kind = rng.choice(list(ALL_CATEGORIES))
    word = rng.choice(ALL_CATEGORIES[kind])
    others = [k for k in ALL_CATEGORIES if k != kind]
    pair = [kind, rng.choice(others)]
    rng.shuffle(pair)
    phrases = (
        f"What kind of thing is {word}?",
        f"Which group does {word} belong to?",
        f"What is {word}: {an(pair[0])} or {an(pair[1])}?",
        f"Is {word} {an(pair[0])} or {an(pair[1])}?",
        f"Name the category of {word}.",
        f"Put {word} in a category.",
        f"Category of the word {word}?",
        f"Does {word} belong to the {PLURAL_CATEGORY[pair[0]]} or the {PLURAL_CATEGORY[pair[1]]}?",
        f"To which kind of things does {word} belong?",
        f"The word {word} names which kind of thing?",
    )
    i = rng.randrange(len(phrases))
    return one_turn(f"category|{word}|{i}", vary(rng, phrases[i]), kind)


FAMILIES = (
    Family("capitals", capitals, "capitals of 28 countries", facts=True),
    Family("opposites", opposites, "80 opposites of everyday words", facts=True),
    Family("colours", colours, "the usual colour of 26 things", share=0.7, facts=True),
    Family("animals", animals, "sounds, young, homes and legs of animals", facts=True),
    Family("uses", uses, "which thing is used for what", facts=True),
    Family("jobs", jobs, "who does which work", share=0.7, facts=True),
    Family("meanings", meanings, "short definitions, both ways", facts=True),
    Family("known numbers", known_numbers, "days in a week, wheels on a car ...", share=0.6, facts=True),
    Family("calendar", calendar, "order of days, months and seasons", facts=True),
    Family("categories", categories, "which kind of thing a word is", facts=True),
)
