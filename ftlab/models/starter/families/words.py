"""The vocabulary of the starter: everyday words by kind, shared by all families."""

from __future__ import annotations

NAMES = (
    "Tom Anna Ben Mia Sam Lily Max Nora Leo Eva Jack Emma Paul Lucy Mark Sara Adam Clara Oscar Ruth Hugo "
    "Ella Peter Rosa David Ida Felix Maya Omar Zoe Ivan Lena Noah Amy Carl Tina Erik Julia Ali Kim Henry "
    "Simon Carla Maria Grace Jane Karen Victor Dina Petra Olga Nick Bella Frank Gina Helen Iris Joan Kate "
    "Liam Martin Nina Otto Pia Robin Susan Theo Vera Walter Yara"
).split()

CITIES = (
    "Paris Rome London Berlin Madrid Vienna Oslo Lisbon Athens Dublin Prague Warsaw Cairo Tokyo Delhi "
    "Boston Chicago Toronto Sydney Lima Bern Helsinki Budapest Brussels"
).split()

ANIMALS = (
    "dog cat horse cow pig sheep goat duck hen bird fish mouse rabbit fox wolf bear lion tiger elephant "
    "monkey frog snake bee ant spider owl eagle whale shark turtle"
).split()
FRUITS = "apple pear plum cherry banana orange lemon grape peach melon mango fig".split()
VEGETABLES = "carrot potato onion tomato bean pea cabbage pepper leek radish".split()
TOOLS = "hammer saw drill shovel rake ladder brush needle knife spoon fork pen".split()
FURNITURE = "table chair bed desk sofa shelf lamp bench stool cupboard".split()
VEHICLES = "car bus train bike boat ship plane truck tram taxi".split()
COLOURS = "red blue green yellow white black brown pink grey purple orange".split()
PLANTS = "tree rose grass tulip oak fern moss daisy pine lily".split()
SPORTS = "football tennis golf hockey rugby chess swimming boxing".split()
INSTRUMENTS = "piano guitar drum flute violin trumpet harp cello".split()
DRINKS = "water milk tea coffee juice lemonade cocoa soda".split()
JOBS = "teacher doctor baker farmer nurse driver cook painter singer writer pilot gardener".split()

CATEGORIES: dict[str, list[str]] = {
    "animal": ANIMALS,
    "fruit": [w for w in FRUITS if w != "orange"],
    "vegetable": VEGETABLES,
    "tool": TOOLS,
    "vehicle": VEHICLES,
    "colour": [w for w in COLOURS if w != "orange"],
    "sport": SPORTS,
    "drink": DRINKS,
    "job": JOBS,
}
CATEGORIES_MORE: dict[str, list[str]] = {
    "plant": [w for w in PLANTS if w != "lily"],
    "instrument": INSTRUMENTS,
}
ALL_CATEGORIES = CATEGORIES | CATEGORIES_MORE
PLURAL_CATEGORY = {
    "animal": "animals",
    "fruit": "fruits",
    "vegetable": "vegetables",
    "tool": "tools",
    "vehicle": "vehicles",
    "colour": "colours",
    "sport": "sports",
    "drink": "drinks",
    "job": "jobs",
    "plant": "plants",
    "instrument": "instruments",
}

# Things that people hold, own, buy, lose or send, for stories, orders and small scenes.
THINGS = (
    "ball book key bag box cup lamp map coin ring kite doll letter phone clock hat coat pen bike watch "
    "ticket basket camera bottle umbrella parcel printer blanket mirror candle pillow notebook wallet "
    "radio bell toy chair jacket knife cake"
).split()

# The words of lists, for copying, sorting, counting and reversing.
LIST_WORDS = sorted(
    {
        *ANIMALS[:24],
        *FRUITS,
        *VEGETABLES[:7],
        *THINGS[:24],
        *VEHICLES,
        *COLOURS[:9],
        *FURNITURE[:6],
        *PLANTS[:4],
        *"sun moon star rain snow wind river lake hill road house garden bread milk tea salt sugar egg".split(),
        *"door window".split(),
    }
)

# A closed set for alphabetical order: short and common words across all letters.
ALPHABET_WORDS = (
    "ant apple ball bear bird boat book cake cat coin cow cup dog door duck egg fish fox frog goat hat "
    "hen horse house key kite lake lamp lion map milk moon mouse owl pear pen pig plum rain ring road "
    "rose salt ship snow star sun tea tiger train tree water whale wind wolf zebra"
).split()

PLACES = (
    "park garden beach market school library station kitchen forest river bridge shop museum farm village "
    "harbour office hotel bakery playground"
).split()

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = ("January February March April May June July August September October November December").split()

NUMBER_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
).split()

# (base form, simple past, third person, -ing form)
VERBS = (
    ("walk", "walked", "walks", "walking"),
    ("talk", "talked", "talks", "talking"),
    ("play", "played", "plays", "playing"),
    ("jump", "jumped", "jumps", "jumping"),
    ("cook", "cooked", "cooks", "cooking"),
    ("help", "helped", "helps", "helping"),
    ("open", "opened", "opens", "opening"),
    ("close", "closed", "closes", "closing"),
    ("clean", "cleaned", "cleans", "cleaning"),
    ("wash", "washed", "washes", "washing"),
    ("paint", "painted", "paints", "painting"),
    ("call", "called", "calls", "calling"),
    ("carry", "carried", "carries", "carrying"),
    ("visit", "visited", "visits", "visiting"),
    ("wait", "waited", "waits", "waiting"),
    ("laugh", "laughed", "laughs", "laughing"),
    ("dance", "danced", "dances", "dancing"),
    ("look", "looked", "looks", "looking"),
    ("start", "started", "starts", "starting"),
    ("work", "worked", "works", "working"),
    ("go", "went", "goes", "going"),
    ("eat", "ate", "eats", "eating"),
    ("drink", "drank", "drinks", "drinking"),
    ("see", "saw", "sees", "seeing"),
    ("run", "ran", "runs", "running"),
    ("swim", "swam", "swims", "swimming"),
    ("sing", "sang", "sings", "singing"),
    ("sleep", "slept", "sleeps", "sleeping"),
    ("buy", "bought", "buys", "buying"),
    ("bring", "brought", "brings", "bringing"),
    ("find", "found", "finds", "finding"),
    ("make", "made", "makes", "making"),
    ("take", "took", "takes", "taking"),
    ("give", "gave", "gives", "giving"),
    ("write", "wrote", "writes", "writing"),
    ("read", "read", "reads", "reading"),
    ("sit", "sat", "sits", "sitting"),
    ("stand", "stood", "stands", "standing"),
    ("come", "came", "comes", "coming"),
    ("fly", "flew", "flies", "flying"),
    ("draw", "drew", "draws", "drawing"),
    ("lose", "lost", "loses", "losing"),
    ("sell", "sold", "sells", "selling"),
    ("send", "sent", "sends", "sending"),
    ("hear", "heard", "hears", "hearing"),
    ("know", "knew", "knows", "knowing"),
    ("win", "won", "wins", "winning"),
    ("fall", "fell", "falls", "falling"),
    ("break", "broke", "breaks", "breaking"),
    ("build", "built", "builds", "building"),
)

# (base form, simple past, third person, object that goes with it) for small sentences
DEEDS = (
    ("clean", "cleaned", "cleans", "the kitchen"),
    ("paint", "painted", "paints", "the door"),
    ("wash", "washed", "washes", "the car"),
    ("read", "read", "reads", "a book"),
    ("write", "wrote", "writes", "a letter"),
    ("bake", "baked", "bakes", "a cake"),
    ("feed", "fed", "feeds", "the cat"),
    ("open", "opened", "opens", "the window"),
    ("close", "closed", "closes", "the door"),
    ("buy", "bought", "buys", "some bread"),
    ("find", "found", "finds", "the key"),
    ("lose", "lost", "loses", "the ticket"),
    ("send", "sent", "sends", "the parcel"),
    ("draw", "drew", "draws", "a map"),
    ("fix", "fixed", "fixes", "the bike"),
    ("call", "called", "calls", "a friend"),
    ("carry", "carried", "carries", "the box"),
    ("make", "made", "makes", "some tea"),
    ("water", "watered", "waters", "the plants"),
    ("visit", "visited", "visits", "the museum"),
    ("sing", "sang", "sings", "a song"),
    ("cook", "cooked", "cooks", "the soup"),
    ("pack", "packed", "packs", "the bag"),
    ("print", "printed", "prints", "the invoice"),
    ("book", "booked", "books", "the flight"),
    ("change", "changed", "changes", "the password"),
    ("pay", "paid", "pays", "the bill"),
    ("order", "ordered", "orders", "a lamp"),
    ("return", "returned", "returns", "the shoes"),
    ("check", "checked", "checks", "the account"),
)

ADJECTIVES = (
    "big small old new happy sad tall short fast slow warm cold kind quiet clean funny brave tired hungry "
    "friendly little clever strong soft"
).split()
