"""Closed sets of everyday facts, as pairs of what is asked about and the answer."""

from __future__ import annotations


def pairs(text: str) -> tuple[tuple[str, str], ...]:
    """Reads "x = y; x = y" into pairs."""
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
