"""The words that `support_triage` messages are made of: problems, cues for the urgency, and what decides nothing."""

from __future__ import annotations

from dataclasses import dataclass

PRIORITIES = ("low", "normal", "high")


@dataclass(frozen=True)
class Problem:
    """What a customer writes about: it decides the queue, and the hours when one case is concerned."""

    name: str
    queue: str
    hours: int
    phrases: tuple[str, ...]
    several: tuple[str, ...]
    background: str
    items: tuple[str, ...]
    priorities: tuple[str, ...] = PRIORITIES


@dataclass(frozen=True)
class Cue:
    """A sentence that tells how urgent it is; `problems` limits it to where it sounds natural (empty: everywhere)."""

    text: str
    problems: tuple[str, ...] = ()
    may_open: bool = False
    weight: int = 1


DEVICES = ("lamp", "kettle", "clock", "radio", "toaster", "speaker", "printer", "camera", "fan", "heater", "mixer")
SMART = ("speaker", "printer", "camera", "radio", "watch", "tablet", "clock", "heater", "doorbell")
HARD = ("chair", "desk", "mirror", "shelf", "bench", *DEVICES)
THINGS = ("backpack", "tent", "blanket", "bike", "coat", "rug", "sofa", "helmet", "guitar", *HARD)
FURNITURE = ("chair", "desk", "mirror", "shelf", "bench", "rug", "sofa", "lamp", "clock")
LOOKS = ("red", "blue", "green", "white", "black", "brown", "gray", "yellow", "pink", "silver", "new")

ORDERS = (
    "The same goes for {n} more orders.",
    "This is about {n} orders in all.",
    "It is the same with {n} of my orders.",
    "{N} other orders have the same problem.",
)
ORDERS_TO_MEND = (
    "I have {n} more orders like this.",
    "This is about {n} orders in all.",
    "The same goes for {n} more orders.",
)
FAULTY = (
    "The same goes for {n} more of them.",
    "We have {n} of them, and all are like this.",
    "All {n} that we bought are like this.",
    "{N} others have the same problem.",
)
SEND_BACK = (
    "The same goes for {n} more of them.",
    "This is about {n} of them in all.",
    "We have {n} of them to give back.",
)
PEOPLE = (
    "{N} of us have the same problem.",
    "The same goes for {n} people in my office.",
    "It is the same for {n} people here.",
)
ACCOUNTS_TO_DO = (
    "Please do the same for {n} more accounts.",
    "This is about {n} accounts in all.",
    "The same goes for {n} people in my office.",
)
WANTED = (
    "We need {n} of them.",
    "I want to buy {n} of them.",
    "We plan to order {n} of them in all.",
)
WANTED_FOR_ROOMS = (*WANTED, "It is for {n} rooms in our office.")

# fmt: off
PROBLEMS = (
    Problem(
        "charged twice", "billing", 2,
        (
            "I was charged twice for the {item}.",
            "My card shows two payments for one {item}.",
            "You took the money for my {item} two times.",
            "My bank says I paid double for the {item}.",
            "The price of the {item} was taken from my card twice.",
        ),
        ORDERS, "order", THINGS,
    ),
    Problem(
        "refund missing", "billing", 4,
        (
            "The refund for my {item} has not come yet.",
            "I am still waiting to get my money back for the {item}.",
            "You promised a refund for the {item}, but my bank shows nothing.",
            "I returned the {item} a month ago and got no refund.",
            "You took the {item} back, but you have not paid me back.",
        ),
        ORDERS, "order", THINGS,
    ),
    Problem(
        "invoice needed", "billing", 1,
        (
            "I need an invoice for my {item}.",
            "Please send me the receipt for the {item}.",
            "The invoice for the {item} has my name wrong.",
            "I lost the receipt for my {item} and need a new copy.",
            "There was no invoice in the box with the {item}.",
        ),
        ORDERS_TO_MEND, "order", THINGS,
    ),
    Problem(
        "delivery late", "shipping", 2,
        (
            "My {item} has not arrived yet.",
            "The {item} should have come last week.",
            "The delivery of my {item} is late.",
            "I ordered a {item} two weeks ago and it is still not here.",
            "I am still waiting for the parcel with the {item}.",
        ),
        ORDERS, "order", THINGS,
    ),
    Problem(
        "parcel lost", "shipping", 8,
        (
            "The driver lost the parcel with my {item}.",
            "Your page says the {item} was delivered, but I never got it.",
            "Nobody at the post office can find the parcel with my {item}.",
            "The {item} was left at the wrong house and is gone.",
            "The parcel with my {item} was stolen from my door.",
        ),
        ORDERS, "order", THINGS,
    ),
    Problem(
        "address change", "shipping", 1,
        (
            "Please send my {item} to a new address.",
            "I moved, so the {item} must go to another street.",
            "I typed the wrong address when I ordered the {item}.",
            "The {item} should go to my work address and not to my home.",
            "The house number on my order for the {item} is wrong.",
        ),
        ORDERS_TO_MEND, "order", THINGS,
    ),
    Problem(
        "arrived broken", "returns", 4,
        (
            "The {item} arrived broken.",
            "There is a big crack in the {item} I got.",
            "My {item} came out of the box in pieces.",
            "The {item} was damaged when I opened the parcel.",
            "One side of the {item} was bent when I opened the box.",
        ),
        FAULTY, "order", HARD,
    ),
    Problem(
        "wrong item", "returns", 2,
        (
            "I ordered a {item} but got a {other}.",
            "You sent me a {other} instead of a {item}.",
            "The box had a {other} in it, and not the {item} I ordered.",
            "The {plain} I got has the wrong color.",
            "I got the wrong model of the {plain}.",
        ),
        ORDERS, "order", THINGS,
    ),
    Problem(
        "not wanted", "returns", 1,
        (
            "I want to send the {item} back because it is too big.",
            "I changed my mind about the {item} and want to return it.",
            "The {item} does not fit in my room, so I would like to return it.",
            "I do not like the {item} and want to send it back.",
            "The {item} is fine, but I have no use for it and want to give it back.",
        ),
        SEND_BACK, "order", FURNITURE,
    ),
    Problem(
        "no power", "technical", 4,
        (
            "The {item} does not turn on.",
            "My {item} turns off after a few minutes.",
            "The {item} worked for a week and now it is dead.",
            "When I press the button, the {item} does nothing.",
            "My {item} has no power, even when it is plugged in.",
        ),
        FAULTY, "order", DEVICES,
    ),
    Problem(
        "no connection", "technical", 8,
        (
            "My {item} does not connect to my phone.",
            "The app cannot find my {item}.",
            "The {item} loses the wireless signal every hour.",
            "I cannot connect the {item} with the app.",
            "After the update the {item} no longer talks to my phone.",
        ),
        FAULTY, "order", SMART,
    ),
    Problem(
        "web page fails", "technical", 2,
        (
            "Your web page shows an error when I want to buy the {item}.",
            "The web shop stops loading when I look for a {item}.",
            "I cannot put the {item} in the cart because the page freezes.",
            "The web page does nothing when I try to order the {item}.",
            "The web page goes blank when I pick the {item}.",
        ),
        PEOPLE, "web", THINGS,
    ),
    Problem(
        "cannot log in", "account", 1,
        (
            "I forgot my password and cannot see my order for the {item}.",
            "My password does not work any more.",
            "I cannot log in to look at my order for the {item}.",
            "The link to set a new password does not work.",
            "I am locked out of my account after too many tries.",
        ),
        PEOPLE, "account", THINGS,
    ),
    Problem(
        "close account", "account", 2,
        (
            "Please delete my account and all my data.",
            "I want to close my account with your shop.",
            "Please take my name and my data out of your system.",
            "I would like to know how to remove my account for good.",
            "I no longer shop with you, so please close my account.",
        ),
        ACCOUNTS_TO_DO, "account", THINGS,
    ),
    Problem(
        "account stolen", "account", 8,
        (
            "Someone else ordered a {item} from my account.",
            "A stranger used my account to buy a {item}.",
            "I think a thief got into my account and changed my email.",
            "There is an order for a {item} in my account that I never made.",
            "A stranger changed the email of my account and bought a {item}.",
        ),
        PEOPLE, "account", THINGS,
        # A customer who finds a thief in the account and says there is no hurry would read oddly.
        priorities=("normal", "high"),
    ),
    Problem(
        "in stock", "products", 1,
        (
            "When will the {item} be back in stock?",
            "Do you still have the {item} in your shop?",
            "The {item} is sold out, and I want to know when you get more.",
            "Is the {item} still for sale?",
            "Can I still buy the {item}, or is it sold out?",
        ),
        WANTED, "shopper", THINGS,
    ),
    Problem(
        "advice", "products", 2,
        (
            "Which {plain} is best for a small room?",
            "I would like your advice on which {plain} to buy.",
            "What is the difference between the old {plain} and the new one?",
            "Is the small {plain} or the large one the better choice?",
            "Can you help me choose a good {plain}?",
        ),
        WANTED_FOR_ROOMS, "shopper", FURNITURE,
    ),
    Problem(
        "made to order", "products", 8,
        (
            "Can you make the {item} with our name on it?",
            "I would like a {item} made to my own size.",
            "Can you make the {plain} in a color that we choose?",
            "Could you make a special {plain} from my own drawing?",
            "We would like the {item} with the sign of our team on it.",
        ),
        WANTED_FOR_ROOMS, "shopper", FURNITURE,
    ),
)
# fmt: on

STOPS_WORK = ("no power", "no connection", "web page fails", "cannot log in")
COSTLY = (*STOPS_WORK, "delivery late", "parcel lost", "arrived broken", "wrong item")
WORRYING = ("charged twice", "refund missing", "parcel lost", "account stolen")
CUES = {
    "high": (
        Cue("This is urgent.", may_open=True),
        Cue("I need an answer today.", may_open=True),
        Cue("Please help me right now.", may_open=True),
        Cue("It must be settled before tomorrow morning."),
        Cue("My boss wants this settled today."),
        Cue("Please call me at once.", may_open=True),
        Cue("I leave on a long trip tonight, so please be quick."),
        Cue("We cannot work until this is solved.", STOPS_WORK),
        Cue("Every hour of waiting costs us money.", COSTLY),
        Cue("I am very worried, so please act fast.", WORRYING, weight=2),
    ),
    "normal": (
        Cue("", weight=2),  # nothing said about the urgency
        Cue("Please look at it this week."),
        Cue("An answer in the next few days is fine."),
        Cue("I hope to hear from you in a day or two."),
        Cue("Please write to me by the end of the week."),
        Cue("It would be good to settle this in the coming days."),
        Cue("Could you let me know this week?"),
    ),
    "low": (
        Cue("There is no hurry.", may_open=True),
        Cue("Please take your time."),
        Cue("It can wait until next month."),
        Cue("No rush at all."),
        Cue("Any time you have a free moment is fine."),
        Cue("This is not important right now.", may_open=True),
        Cue("You can leave this for last."),
        Cue("I do not mind if it takes a few weeks."),
    ),
}

# Sentences that decide nothing. Some hold numbers, so that a number alone is not a sign of a larger case.
BACKGROUND = {
    "order": (
        "My order number is {number}.",
        "I have been a customer for {years} years.",
        "It was a gift for my {relative}.",
        "I wrote to you on {day} too.",
        "I paid for it by card.",
        "I live on {street} Street.",
    ),
    "web": (
        "I use a laptop at home.",
        "I tried it on my phone too.",
        "I have been a customer for {years} years.",
        "It started on {day}.",
        "I cleaned up my browser first.",
    ),
    "account": (
        "My customer number is {number}.",
        "I have been a customer for {years} years.",
        "I wrote to you on {day} too.",
        "My {relative} is helping me to write this.",
        "I live on {street} Street.",
    ),
    "shopper": (
        "I saw your shop window on {street} Street.",
        "My {relative} told me about your shop.",
        "I have been a customer for {years} years.",
        "My {relative} likes your shop.",
        "I could come by on {day}.",
    ),
}

OPENINGS = (
    "", "", "Hello,", "Hi,", "Hi there,", "Hey,", "Good morning,", "Good evening,", "Good day,", "Hello Pinebrook,",
    "Hi Pinebrook team,", "Dear Pinebrook team,", "Dear team,", "Hello, this is {name}.", "Hi, my name is {name}.",
    "Good morning, {name} here.", "Hello again,",
)  # fmt: skip
CLOSINGS = (
    "", "", "", "Thanks, {name}", "Thank you, {name}", "Best wishes, {name}", "Thank you.", "Thanks.", "Thanks a lot.",
    "Kind regards, {name}", "Many thanks.", "Yours, {name}",
)  # fmt: skip
NAMES = (
    "Anna", "Ben", "Carla", "David", "Emma", "Felix", "Grace", "Henry", "Ivy", "Jack", "Karen", "Leo", "Maria", "Nick",
    "Olga", "Paul", "Rosa", "Simon", "Tina", "Victor", "Wendy", "Amir", "Bella", "Chen", "Dina", "Eric", "Fatima",
    "Hugo", "Jane", "Kofi", "Lena", "Milo", "Petra", "Ravi", "Sara", "Tom",
)  # fmt: skip
RELATIVES = ("sister", "brother", "mother", "father", "friend", "aunt", "uncle", "daughter", "son", "neighbor")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
STREETS = ("Hill", "Oak", "River", "Park", "Church", "Lake", "Mill", "Garden")
NUMBERS = ("three", "four", "five", "six", "seven", "eight", "nine", "ten", "twelve", "twenty")

# Slips of the finger in words that decide nothing.
SLIPS = {
    "Please": "Plese", "please": "plese", "have": "hvae", "Thanks": "Thansk", "Hello": "Helo", "with": "wiht",
    "the": "teh", "Good": "Godo", "and": "adn", "Thank": "Thnak", "would": "woudl", "ordered": "orderd",
}  # fmt: skip
# Sentences that begin like this can follow another one after "and".
LINKABLE = ("I ", "It ", "There ", "My ", "This is ", "The same ", "{N} ", "We ")
