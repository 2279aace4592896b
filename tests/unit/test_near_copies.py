"""Which questions are the same in other words, and which differ in what decides."""

from __future__ import annotations

import time

import pytest

from ftlab.data.near import near_pairs
from ftlab.data.normal import normal_form

QUESTION = "How do I activate my new card?"
VARIANTS = (
    "Please how do I activate my new card",
    "Could you please tell me: how do I activate my new card?",
    "Hello,\nhow do I activate my new card? Thank you!",
    "HOW DO I ACTIVATE MY NEW CARD",
    "how do i  activate my\u00a0new card ...",
    "How do I act\u200bivate my new card\ufeff?",
    "Ｈow do I activate my new card?",
    "How do I activate my new card today?",
    "How do I quickly activate my new card?",
    "How do I actually activate my new card?",
    "How do I acitvate my new card?",
    "How do I activate my new cards?",
    "How do I activate the new card?",
    "H\u043ew d\u043e I activate my new c\u0430rd?",
)
DIFFERENT = (
    ("What is 12 + 5", "What is 12 + 7"),
    ("What is 3 + 4?", "What is 3 - 4?"),
    ("Is -5 above zero?", "Is 5 above zero?"),
    ("What is 1.5 times 2?", "What is 15 times 2?"),
    ("cancel my card", "activate my card"),
    ("Where is order 4711?", "Where is order 4712?"),
    ("Where is order AB12?", "Where is order AB13?"),
    ("I can log in", "I can't log in"),
    ("I have received my card", "I have not received my card"),
    ("How do I turn it on?", "How do I turn it off?"),
    ("Where is my card?", "Where is my PIN?"),
    ("How do you say thanks in French?", "How do you say please in French?"),
    ("How do you say: please", "How do you say: thanks"),
    ("Do I owe you a lamp?", "Do you owe me a lamp?"),
    ("मेरा कार्ड कहाँ है", "नहीं मेरा कार्ड कहाँ है"),
    ("What is the capital of France?", "What is the capital of Spain?"),
    ("取消我的卡", "激活我的卡"),
    ("Is the shop open on Sunday?", "Was the shop open on Sunday?"),
    ("Is the parcel here", "The parcel was here"),
    ("Where did he put his card?", "Where did he put her card?"),
    ("What do I need to pay now?", "What do I need to pay then?"),
    ("Do you ship to the office or to US customers?", "Do you ship to the office or to us customers?"),
    ("Why was I charged for the card?", "Why was I changed for the card?"),
    ("Who signed the contract for the phone?", "Who signed the contact for the phone?"),
    ("How do I get a card?", "Why do I get a card?"),
    ("Hello", "Thanks"),
    ("???", "!!!"),
    (
        "Tom has 12 apples and gives 3 to each of his two sisters before lunch. How many apples does he have left?",
        "Tom has 18 apples and gives 3 to each of his two sisters before lunch. How many apples does he have left?",
    ),
)
STORY = "The parcel with the lamp came late, and the box was torn on two sides when the driver put it down."


def how(left: str, right: str, answers: tuple[str, str] | None = None) -> str | None:
    return next((pair.how for pair in near_pairs([left, right], answers)), None)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_of_a_short_question_is_a_near_copy(variant: str) -> None:
    assert how(QUESTION, variant) in ("same", "near")


@pytest.mark.parametrize(("left", "right"), DIFFERENT)
def test_another_number_negation_or_word_is_another_question(left: str, right: str) -> None:
    assert how(left, right) is None


def test_what_is_written_in_another_way_is_the_same() -> None:
    for left, right in (
        ("What is 1,000 + 5?", "what is 1000 + 5"),
        ("What's the café's \u201cWi-Fi\u201d code", "what is the cafe\u0301s wi fi code?"),
        ("I cannot login", "i can't log in!"),
        ("取消我的卡。", "取消我的卡"),
    ):
        assert normal_form(left) == normal_form(right) and how(left, right) == "same"
    assert normal_form("items 1 23") != normal_form("items 12 3")
    assert normal_form("schon") != normal_form("schön") and how("Wie komme ich zum Café?", "Wie komme ich zum Cafe?")


def test_a_word_of_the_topic_put_in_between_is_another_question() -> None:
    pair = ["How do I get my card?", "How do I get my virtual card?"]
    assert how(*pair) == "near"  # nothing says what the topics are
    verbs = "buy sell lend pack paint store break mend lose find".split()
    assert not list(near_pairs([*pair, *(f"Where do I {verb} a virtual one?" for verb in verbs)]))


def test_labels_are_no_evidence_and_other_labels_speak_against() -> None:
    for label in (("refund", "refund"), ("refund", "delivery")):
        assert how("cancel my card", "activate my card", label) is None
    assert how("Where is my card?", "Where is my card now?", ("card", "card")) == "near"
    assert how("Where is my card?", "Where is my card now?", ("card", "limit")) is None
    assert how("Where is my card?", "where is my CARD", ("card", "limit")) == "same"
    assert how("Name the town?", "Name the town now?", ("Paris", "It is Paris.")) == "near"


def test_a_long_answer_that_few_rows_share_is_evidence_and_a_stock_phrase_is_none() -> None:
    reply = "We are sorry for the delay; the parcel leaves our house today and arrives on Friday."
    orders = ("Order 123 never came, where is it?", "Order 456 never came, where is it?")
    assert how(*orders) is None
    assert how(*orders, (reply, reply)) == "near"
    nearly = (reply, reply.replace("Friday", "Friday morning then"))
    assert how(*orders, nearly) is None
    assert how(*(f"{order} I have been waiting for two weeks." for order in orders), nearly) == "near"
    assert how(orders[0], "Do you sell blue chairs?", (reply, "Yes, we do.")) is None
    many = [f"Order {n} never came, where is it?" for n in range(100, 120)]
    assert not list(near_pairs(many, [reply] * 20))
    # A long answer of a row is that of another whose question is not alike: where answers are mostly different.
    others = [f"{STORY} That was number {n} of this month." for n in range(20)]
    asked = [*(f"What about case {n}?" for n in range(20)), "Is the blue lamp gone?", "Any news on my claim?"]
    assert [tuple(pair) for pair in near_pairs(asked, [*others, reply, reply])] == [(20, 21, "answer")]


def test_long_texts_are_near_copies_by_their_trigrams() -> None:
    long = f"{STORY} Then nobody was at home to take it, so it went back to the depot on the hill for a whole week."
    assert how(long, long.replace("depot", "store") + " Sorry.") == "near"
    assert how(long, long.replace("depot", "store")) is None  # one word for another, and nothing else
    assert how(STORY, STORY.replace("down", "away")) is None  # one word for another, up to 40 words
    assert how(STORY, STORY.replace("lamp", "desk").replace("torn", "wet").replace("driver", "man")) is None
    assert how(STORY, STORY.replace("two", "three")) is None


def test_what_many_prompts_begin_with_is_no_likeness() -> None:
    asked = "Which label fits the text: refund, delivery, invoice, account or other? Answer with the label only.\n\n"
    texts = [f"Where do I {verb} it?" for verb in "buy sell lend pack paint store break mend lose find".split()]
    assert not list(near_pairs([asked + text for text in texts]))
    variants = [asked + text for text in [*texts, "Please where do I buy it"]]
    assert [tuple(pair) for pair in near_pairs(variants)] == [(0, 10, "near")]


def test_across_two_sides_each_text_that_is_like_one_of_the_other_is_named() -> None:
    train = [QUESTION, "Where is order 4711?", "Where is my PIN?"]
    held_out = [*VARIANTS, "Where is order 4712?", "Close my account"]
    sides = [0] * len(train) + [1] * len(held_out)
    pairs = list(near_pairs([*train, *held_out], sides=sides, across=True))
    assert {pair.second for pair in pairs} == set(range(3, 3 + len(VARIANTS))) and {pair.first for pair in pairs} == {0}


def test_templates_are_not_compared_each_with_each() -> None:
    words = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in ("ano", "eru", "ilo", "oma") for c in "bdfgklmnprst"]
    texts = [f"What is the capital of {left}{right}?" for left in words[:60] for right in words[-60:]]
    began = time.process_time()
    list(near_pairs(texts))
    # Six million pairs at 20 microseconds would take two minutes.
    assert time.process_time() - began < 20


@pytest.mark.parametrize(
    "variant",
    [
        "{} \U0001f600",
        "<p>{}</p>",
        "Q: {}\nA:",
        "I was wondering: {}",
        "Quick question: {}",
        "Hey guys, {}",
        "{} Please help.",
        "{} It's urgent!",
        "{}\n\nKind regards,\nAnn Smith",
    ],
)
def test_what_is_put_around_a_question_makes_no_other_question(variant):
    question = "Where is my new card?"
    assert [*near_pairs([question, variant.format(question)])]


def test_raised_digits_and_marks_that_are_asked_about_stay():
    assert not [*near_pairs(["What is 5²?", "What is 52?"])]
    assert not [*near_pairs(["What does <p> do in a page?", "What does <b> do in a page?"])]


INSIDE = (
    "{} Answer in one sentence.",
    "{} Answer in at most 50 words.",
    "{}\n\nThink step by step.",
    "Hi, this is Ann. {}",
    "You are a helpful assistant.\n{}",
    "I got it yesterday. {} I am in Spain.",
    "{} Can you help me?",
    "{} {}",
    "{}\n{}\n{}",
)
OUTSIDE = (
    "{} How do I cancel it?",
    "{} I want to cancel it.",
    "Translate into French:\n{}",
    "{} I have 2 cards.",
    "{} I have never had one.",
)


@pytest.mark.parametrize("longer", INSIDE)
def test_a_whole_question_inside_a_longer_text_is_a_near_copy_where_the_rest_asks_nothing(longer):
    labels = ("card_activation", "card_activation")
    assert (
        how(QUESTION, longer.replace("{}", QUESTION)) == how(QUESTION, longer.replace("{}", QUESTION), labels) == "near"
    )


def test_other_labels_speak_against_a_question_inside_another():
    assert how(f"Hi, this is Ann. {QUESTION}", QUESTION, ("activation", "card_loss")) is None


@pytest.mark.parametrize("longer", OUTSIDE)
def test_a_question_a_task_or_a_number_beside_it_makes_another_question(longer):
    assert how(QUESTION, longer.replace("{}", QUESTION)) is None


def test_a_question_about_what_stands_before_it_is_none_by_itself():
    assert how("What should I do?", "I lost my card. What should I do?") is None
    assert how("How can I fix this?", "My card is broken. How can I fix this?") is None
    things = "card phone lamp chair boat coat drum flute kite rope".split()
    asked = "Where do I get a new one from?"
    assert how(asked, f"I lost my {things[0]}. {asked}") == "near"
    assert not list(near_pairs([asked, *(f"I lost my {thing}. {asked}" for thing in things)]))
    # The same sentence around several questions is a wrapper.
    wrapped = [f"I am on the phone app. Where is my {thing}?" for thing in things]
    pairs = list(near_pairs([*(f"Where is my {thing}?" for thing in things), *wrapped]))
    assert {(pair.first, pair.second) for pair in pairs} == {(n, n + 10) for n in range(10)}


def test_every_copy_of_a_question_is_paired_with_the_longer_text_of_the_other_side():
    held_out = [QUESTION] * 12
    pairs = near_pairs([f"Hi, this is Ann. {QUESTION}", *held_out], sides=[0] + [1] * 12, across=True)
    assert {(pair.first, pair.second) for pair in pairs} == {(0, n) for n in range(1, 13)}


def test_an_instruction_that_most_rows_hold_joins_nothing():
    things = "card phone lamp chair boat coat drum flute kite rope".split()
    rows = [f"Name the material. Is the {thing} soft?\nAnswer with one word." for thing in things]
    assert not list(near_pairs([*rows, "Answer with one word.", "Name the material.\nAnswer with one word."]))
    assert [(pair.first, pair.second) for pair in near_pairs([*rows, f"{rows[3]} I am Ann."])] == [(3, 10)]


def test_letters_that_look_alike_are_one_within_a_word_and_a_script_stays_what_it_is():
    assert normal_form("c\u0430rd") == normal_form("\u0421ard") == normal_form("card")
    assert normal_form("м\u006fл\u006fко") == normal_form("молоко")
    assert normal_form("\u0440\u0430\u0440\u0430 скажи") != normal_form("papa скажи")
    assert normal_form("ρgh") != normal_form("pgh")


def test_words_that_several_texts_hold_are_no_typing_errors_of_each_other():
    verbs = "buy sell lend pack paint".split()
    both = [f"Where do I {verb} a {thing}?" for verb in verbs for thing in ("planet", "plant")]
    assert how("Where is the planet now?", "Where is the plant now?") == "near"
    pairs = near_pairs([*both, "Where is the planet now?", "Where is the plant now?"])
    assert (10, 11) not in {(pair.first, pair.second) for pair in pairs}
