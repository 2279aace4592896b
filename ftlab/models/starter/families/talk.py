"""Talk: short polite conversations, following system prompts, everyday advice."""

from __future__ import annotations

import json
import random

from ftlab.models.starter.families import facts
from ftlab.models.starter.families.draft import Draft, Family, capital, message, one_turn, several_turns, split_of
from ftlab.models.starter.families.words import ANIMALS, CITIES, COLOURS, DRINKS, FRUITS, NAMES, SPORTS

ADVICE = (
    ("make tea", "Boil some water, put the tea into a cup, add the water and wait for four minutes."),
    ("clean a window", "Take warm water with a little soap, wipe the window and dry it with a soft cloth."),
    ("plant a seed", "Make a small hole in the soil, put the seed in, cover it and give it water."),
    ("pack a suitcase", "Write a list first, put heavy things at the bottom and roll your clothes."),
    ("sleep better", "Go to bed at the same time each day and leave your phone in another room."),
    ("learn new words", "Read a little every day and use each new word in a sentence of your own."),
    ("choose a good password", "Use a long line of words that nobody can guess, and a new one for each account."),
    ("fix a printer that does not print", "Check the cable and the paper, then turn the printer off and on again."),
    ("find a lost key", "Think of the last place where you used it and look there first."),
    ("save water", "Turn off the tap while you brush your teeth and take short showers."),
    ("wash a wool jacket", "Wash it by hand in cold water and let it dry flat."),
    ("send a parcel", "Pack it well, write the address on the box and take it to the post office."),
    ("return a pair of shoes", "Put the shoes back into the box, add the receipt and send the box back to the shop."),
    ("pay an invoice", "Check the amount, then send the money with the number of the invoice."),
    ("book a flight", "Compare the prices, choose a day and time, and pay before the seats are gone."),
    ("cook an egg", "Put the egg into boiling water and take it out after six minutes."),
    ("keep bread fresh", "Keep the bread in a dry box and cut only as much as you need."),
    ("make a friend", "Be kind, ask questions and listen well."),
    ("say sorry", "Say what you did wrong, say that you are sorry and ask how you can help."),
    ("write a letter", "Start with a greeting, say why you write, and end with your name."),
    ("look after a plant", "Give it light and a little water, and turn it now and then."),
    ("prepare for a test", "Start early, make a plan and repeat a small part every day."),
    ("stay warm in winter", "Wear several layers, a hat and gloves, and drink something hot."),
    ("calm down", "Breathe in slowly, count to four and breathe out slowly."),
    ("connect to the internet", "Open the settings, choose your network and type the password."),
    ("change a light bulb", "Turn off the light, let the old bulb cool down and turn in the new one."),
    ("make a salad", "Wash and cut the vegetables, then add oil, salt and lemon."),
    ("clean a keyboard", "Turn it off, shake out the dust and wipe the keys with a dry cloth."),
    ("find a book in a library", "Look for the author in the catalogue and follow the number to the shelf."),
    ("start a fire safely", "Use dry wood, keep water near and never leave the fire alone."),
)
ADVICE_PHRASES = (
    "How do I {x}?",
    "How can I {x}?",
    "Tell me how to {x}.",
    "What is the best way to {x}?",
    "I want to {x}. What should I do?",
    "Please explain how to {x}.",
    "Can you tell me how to {x}?",
    "Do you have any advice on how to {x}?",
    "I need to {x}. How does that work?",
)

ABOUT = (
    (
        ("Who are you?", "What are you?", "Tell me about yourself.", "Are you a person?"),
        "I am a small language model made for learning. I am not a person.",
    ),
    (
        ("What can you do?", "How can you help me?", "What do you know?"),
        "I can answer simple questions, sort short lists and write small stories.",
    ),
    (
        ("How are you?", "How are you today?", "How do you do?", "How is it going?"),
        "I am fine, thank you. How can I help you?",
    ),
    (("Thank you!", "Thanks a lot.", "Many thanks.", "Thank you very much for your help."), "You are welcome!"),
    (("Goodbye!", "Bye!", "See you tomorrow.", "I have to go now.", "Good night."), "Goodbye! Have a nice day."),
    (("Hello!", "Hi!", "Hello there.", "Good morning!", "Good evening."), "Hello! How can I help you?"),
    (("I am sorry.", "Sorry!", "I made a mistake, sorry."), "No problem at all."),
    (("I am sad today.", "I feel sad.", "I am not happy."), "I am sorry to hear that. Do you want to talk about it?"),
    (("I am so happy today!", "I feel great!", "This is a wonderful day."), "That is good to hear!"),
    (("I am tired.", "I am so tired today.", "I did not sleep well."), "Then take a short rest. You will feel better."),
    (("I am bored.", "I have nothing to do.", "It is so boring today."), "You could read a book or go for a walk."),
    (("I am hungry.", "I did not eat today."), "Then you should eat something good."),
    (("It is raining.", "It rains so much today."), "Then do not forget your umbrella."),
    (("Can you help me?", "I need help.", "Please help me."), "Of course. What do you need?"),
    (("You are great!", "Well done!", "That was a good answer."), "Thank you, that is very kind."),
    (("Do you understand me?", "Is that clear?", "Do you know what I mean?"), "Yes, I understand."),
    (("What is your name?", "Do you have a name?", "How should I call you?"), "You can call me Starter."),
)
TALK_OPENINGS = ("", "", "Hi Starter. ", "Hello! ", "Dear assistant, ", "Hey. ", "Oh. ", "Well, ", "So, ")


def advice(rng: random.Random) -> Draft:
    return facts.fact_draft(rng, "advice", ADVICE, ADVICE_PHRASES)


def conversation(rng: random.Random) -> Draft:
    """Greetings and small talk, alone or in the first turns; later turns ask for a name or a favorite thing."""
    roll = rng.random()
    i = rng.randrange(len(ABOUT))
    questions, reply = ABOUT[i]
    question = rng.choice(questions)
    if roll < 0.35:
        opening = rng.choice(TALK_OPENINGS)
        return one_turn(f"talk|{question}|{opening}", opening + question, reply)
    name = rng.choice(NAMES)
    hello = rng.choice(
        (f"My name is {name}.", f"Hello, I am {name}.", f"Hi, my name is {name}.", f"You can call me {name}.")
    )
    nice = f"Nice to meet you, {name}!"
    if roll < 0.60:
        small_talk = [question, reply] if rng.random() < 0.4 else []
        turns = [hello, nice, *small_talk]
        return several_turns(
            f"my name|{name}|{i if small_talk else ''}",
            *turns,
            rng.choice(("What is my name?", "Do you remember my name?", "Who am I?")),
            f"Your name is {name}.",
        )
    kind, values = rng.choice(
        (
            ("colour", COLOURS),
            ("animal", ANIMALS),
            ("city", CITIES),
            ("drink", DRINKS),
            ("fruit", FRUITS),
            ("sport", SPORTS),
        )
    )
    value = rng.choice(values)
    like = rng.choice(
        (
            f"My favourite {kind} is {value}.",
            f"The {kind} I like best is {value}.",
            f"I like {value} more than any other {kind}.",
        )
    )
    good = f"{capital(value)} is a good choice."
    turns = [hello, nice] if rng.random() < 0.4 else []
    if roll < 0.85:
        turns += [
            like,
            good,
            rng.choice(
                (
                    f"What is my favourite {kind}?",
                    f"Which {kind} do I like best?",
                    f"Do you remember my favourite {kind}?",
                )
            ),
            f"Your favourite {kind} is {value}.",
        ]
    elif roll < 0.93:
        turns += [like, good]
    else:
        turns += [hello, nice, question, reply] if not turns else [question, reply]
    return several_turns(f"favourite|{kind}|{value}|{name if len(turns) > 4 else ''}|{roll < 0.93}", *turns)


SHORT_FACTS = ("capitals", "opposites", "colours", "calendar", "animals")


def _short_fact(rng: random.Random) -> Draft:
    """A fact with a one-word answer, asked without small talk that would compete with the system turn."""
    family = rng.choice([f for f in facts.FAMILIES if f.name in SHORT_FACTS])
    while True:
        draft = family.draw(rng)
        # This family must not train a held-out pair of fact and phrasing.
        if " " not in draft.answer and "sentence" not in draft.prompt and split_of(family.name, draft.key) == "train":
            return draft


RULES = (
    (
        "upper",
        (
            "Answer in upper case.",
            "Write all answers in capital letters.",
            "You always shout: use capital letters only.",
        ),
    ),
    ("lower", ("Answer in lower case.", "Use small letters only.", "Never use capital letters.")),
    ("exclaim", ("End every answer with an exclamation mark.", "Put an exclamation mark after each answer.")),
    ("sure", ("Start every answer with Sure:", "Begin each answer with the word Sure and a colon.")),
    (
        "sign",
        (
            "Sign every answer with the name {n}.",
            "Your name is {n}. Put your name after each answer.",
            "Write your name, {n}, at the end of the answer.",
        ),
    ),
    ("sir", ("Call the user Sir.", "Be very polite and say Sir after each answer.")),
    ("json", ("Answer as JSON with the key answer.", "Return a JSON object with one key: answer.")),
    ("twice", ("Say every answer twice.", "Repeat each answer once.")),
    ("quotes", ("Put the answer in quotes.", "Write your answer between quotation marks.")),
    ("answer", ("Write the word Answer before each answer.", "Start with Answer and a colon.")),
    ("call", ("The user is called {n}. Use the name in the answer.", "Talk to {n}: put the name first.")),
    (
        "plain",
        (
            "You are a helpful assistant.",
            "Answer the question.",
            "Answer in one word.",
            "Be short.",
            "You know many facts.",
        ),
    ),
)


def obey(rule: str, answer: str, name: str) -> str:
    """The answer in the form that the rule requires."""
    return {
        "upper": answer.upper(),
        "lower": answer.lower(),
        "exclaim": f"{answer}!",
        "sure": f"Sure: {answer}",
        "sign": f"{answer} - {name}",
        "sir": f"{answer}, Sir",
        "json": json.dumps({"answer": answer}),
        "twice": f"{answer} {answer}",
        "quotes": f'"{answer}"',
        "answer": f"Answer: {answer}",
        "call": f"{name}, {answer}",
        "plain": answer,
    }[rule]


def system_prompts(rng: random.Random) -> Draft:
    """A fact after a system turn that requires a form; sometimes two questions."""
    rule, texts = rng.choice(RULES)
    name = rng.choice(NAMES)
    system = rng.choice(texts).format(n=name)
    asked = [_short_fact(rng) for _ in range(1 if rng.random() < 0.8 else 2)]
    turns = [message("system", system)]
    for draft in asked:
        turns += [message("user", draft.prompt), message("assistant", obey(rule, draft.answer, name))]
    return Draft(f"system|{rule}|{asked[-1].key.rsplit('|', 1)[0]}", tuple(turns))


def requests(rng: random.Random) -> Draft:
    """The same forms, requested by the user in the question itself."""
    draft = _short_fact(rng)
    form, answer = rng.choice(
        (
            ("Answer in upper case: {q}", draft.answer.upper()),
            ("{q} Write the answer in capital letters.", draft.answer.upper()),
            ("Answer with an exclamation mark: {q}", f"{draft.answer}!"),
            ("{q} Put the answer in quotes.", f'"{draft.answer}"'),
            ("Say the answer twice: {q}", f"{draft.answer} {draft.answer}"),
            ("{q} Answer as JSON with the key answer.", json.dumps({"answer": draft.answer})),
            ("{q} Begin with the word Answer and a colon.", f"Answer: {draft.answer}"),
        )
    )
    return one_turn(f"request|{form}|{draft.key.rsplit('|', 1)[0]}", form.format(q=draft.prompt), answer)


FAMILIES = (
    Family("conversation", conversation, "greetings, feelings, remembering a name or a favourite", share=1.0),
    Family("advice", advice, "thirty everyday how-to answers", share=0.9, facts=True),
    Family(
        "system prompts",
        system_prompts,
        "upper case, signature, JSON and other forms asked for by a system turn",
        share=1.7,
    ),
    Family("requests", requests, "the same forms asked for in the question", share=1.0),
)
