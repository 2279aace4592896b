"""Writes `shop_tools`: customers of the invented shop ask, and two tools answer: `track_order` and `check_stock`.

A row is a conversation with its tools, as the OpenAI format has them. Two in five ask for an order, two in five whether
something is in stock, and one in five asks what needs no tool. Order numbers, items and replies are drawn; the card
states the rules.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

Row = dict[str, Any]

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "track_order",
            "description": "Where an order is.",
            "parameters": {
                "type": "object",
                "properties": {"order": {"type": "integer"}},
                "required": ["order"],
            },
        },
    },
    {
        "type": "function",
        "function": {
            "name": "check_stock",
            "description": "How many we have.",
            "parameters": {
                "type": "object",
                "properties": {"item": {"type": "string"}, "color": {"type": "string"}},
                "required": ["item"],
            },
        },
    },
]
SIZES = {"train": 360, "validation": 40, "test": 80}

ITEMS = ("lamp", "kettle", "clock", "radio", "chair", "desk", "mirror", "tent", "blanket", "bike", "coat", "rug")
COLORS = ("red", "blue", "green", "white", "black", "brown", "yellow", "pink")
STATES = {
    "packed": "is packed and arrives on {day}",
    "sent": "is on its way and arrives on {day}",
    "late": "is late and arrives on {day}",
}
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
ORDER_ASKED = (
    "Where is my order {n}?",
    "When does order {n} arrive?",
    "I am waiting for order {n}. Where is it?",
    "Can you tell me where order {n} is?",
    "My order has the number {n}. When will it come?",
    "Please look up order {n} for me.",
)
STOCK_ASKED = (
    "Do you have a {thing}?",
    "I want to buy a {thing}. Do you have one?",
    "Is the {thing} in stock?",
    "How many of the {thing} do you have?",
    "Can I get a {thing} from you?",
    "I need a {thing}. Is there one left?",
)
OPENINGS = ("", "", "", "Hello. ", "Hi, this is {name}. ", "Good morning. ")
BOUGHT = ("I bought a {thing} from you. ", "Last week you sold me a {thing}. ", "I have a {thing} from your shop. ")
NAMES = ("Anna", "Ben", "Clara", "David", "Emma", "Tom", "Mia", "Paul")
# Answers that need no tool: questions of the training split, and those of the held-out splits.
NO_TOOL = {
    "We are open from nine to six.": (
        ("When are you open?", "At what time do you close?", "Are you open today?"),
        ("What are your opening hours?", "How late can I come to the shop?"),
    ),
    "You can send it back within 30 days.": (
        ("Can I send something back?", "How long can I keep something before I send it back?"),
        ("I do not like what I bought. What now?", "Do you take things back?"),
    ),
    "You can pay by card or by bank transfer.": (
        ("How can I pay?", "Do you take cards?", "Can I pay by bank transfer?"),
        ("Which ways to pay are there?", "Is it possible to pay with a card?"),
    ),
    "You are welcome.": (
        ("Thank you for your help.", "Thanks, that is all.", "That was very kind."),
        ("Great, many thanks!", "You helped me a lot, thank you."),
    ),
    "I can look up orders and tell you what we have in stock.": (
        ("What can you do for me?", "Who are you?", "Which questions can you answer?"),
        ("How can you help me?", "Tell me what you can do."),
    ),
}


def build() -> dict[str, list[Row]]:
    """The rows of each split. No question, order number or (item, color) of one split is in another."""
    rng = random.Random(2026)
    numbers = rng.sample(range(1000, 10000), 1000)
    things = [(item, color) for item in ITEMS for color in (None, *COLORS)]
    rng.shuffle(things)
    held = {"test": things[:16], "validation": things[16:24], "train": things[24:]}
    splits: dict[str, list[Row]] = {}
    seen: set[str] = set()
    for split, size in SIZES.items():
        place = 0 if split == "train" else 1
        plain = [(asked, answer) for answer, ways in NO_TOOL.items() for asked in ways[place]]
        questions = _questions(rng, numbers, held[split], plain)
        rows: list[Row] = []
        while len(rows) < size:
            opening, row = next(questions)
            # The same question after another greeting would be a near copy.
            asked = row["messages"][0]["content"].removeprefix(opening)
            if asked not in seen:
                seen.add(asked)
                rows.append(row)
        splits[split] = rows
    return splits


def _questions(
    rng: random.Random, numbers: list[int], things: list[tuple[str, str | None]], plain: list[tuple[str, str]]
) -> Iterator[tuple[str, Row]]:
    while True:
        for kind in rng.sample(("order", "order", "stock", "stock", "none"), 5):
            opening = rng.choice(OPENINGS).format(name=rng.choice(NAMES))
            if kind == "order":
                yield opening, _order(rng, opening, numbers)
            elif kind == "stock":
                yield opening, _stock(rng, opening, *rng.choice(things))
            else:
                # An item alone is no reason to look it up.
                item, color = rng.choice(things)
                bought = rng.choice(BOUGHT).format(thing=f"{color} {item}" if color else item)
                asked, answer = rng.choice(plain)
                yield opening, _row(opening + bought + asked, answer)


def _order(rng: random.Random, opening: str, numbers: list[int]) -> Row:
    number, state, day = numbers.pop(), rng.choice(list(STATES)), rng.choice(DAYS)
    return _row(
        opening + rng.choice(ORDER_ASKED).format(n=number),
        f"Order {number} {STATES[state].format(day=day)}.",
        ("track_order", {"order": number}, {"state": state, "day": day}),
    )


def _stock(rng: random.Random, opening: str, item: str, color: str | None) -> Row:
    thing, count = f"{color} {item}" if color else item, rng.choice((0, 0, 1, 2, 3, 5, 8))
    answer = f"Yes, we have {count} of the {thing}." if count else f"I am sorry, the {thing} is sold out."
    arguments = {"item": item} | ({"color": color} if color else {})
    return _row(
        opening + rng.choice(STOCK_ASKED).format(thing=thing), answer, ("check_stock", arguments, {"count": count})
    )


def _row(asked: str, answer: str, call: tuple[str, dict[str, Any], dict[str, Any]] | None = None) -> Row:
    messages: list[dict[str, Any]] = [{"role": "user", "content": asked}]
    if call is not None:
        name, arguments, reply = call
        made = {"name": name, "arguments": json.dumps(arguments)}
        messages += [
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": made}]},
            {"role": "tool", "tool_call_id": "1", "content": json.dumps(reply)},
        ]
    return {"messages": [*messages, {"role": "assistant", "content": answer}], "tools": TOOLS}
