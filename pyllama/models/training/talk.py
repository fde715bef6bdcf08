"""Small talk, and polite refusals of what the demo model cannot do."""

from __future__ import annotations

import random

from .problem import Problem
from .words import CITIES, NAMES, WORDS, filler

_SMALL_TALK: tuple[tuple[str, str, str], ...] = (
    # what the user does, the answer, ways of doing it
    (
        "says hello",
        "Hello! How can I help you?",
        """Hello|Hello!|Hi|Hi!|Hi there|Hey|hello|hi|Hello there!|Good morning|Good evening|Good day|
        Hey there!|Say hello.|Say hi""",
    ),
    (
        "asks how I am",
        "I am fine, thank you.",
        "How are you?|How are you today?|How is it going?|Are you well?|How do you do?|What's up?",
    ),
    (
        "asks who I am",
        "I am pyllama-demo, a tiny model that can think.",
        """Who are you?|What are you?|What is your name?|What's your name?|Tell me who you are.|
        Introduce yourself.|Tell me about yourself.|Are you a robot?|What model are you?|
        Which model is this?""",
    ),
    (
        "asks what I can do",
        "I can add, subtract, compare, sort digits, count letters and reverse words.",
        """What can you do?|Help|Help me|help|Can you help me?|How can you help me?|What do you know?|
        What should I ask you?|What are you able to do?""",
    ),
    (
        "says thank you",
        "You are welcome.",
        "Thank you|Thanks|Thank you!|Thanks!|Thanks a lot|Thank you very much.|Great, thanks.",
    ),
    (
        "says goodbye",
        "Goodbye!",
        "Bye|Goodbye|Good night|See you|Bye!|Goodbye!|See you later.|Good bye",
    ),
    (
        "is pleased",
        "Thank you, I am glad.",
        "Well done|Good job|Very good|Great!|Nice|That is right.|Good work!|Correct!|Cool|Perfect",
    ),
    (
        "is not pleased",
        "I am sorry. I am only a tiny model.",
        """That is wrong.|Wrong|No, that is not right.|You are wrong.|This is not correct.|
        Are you sure?""",
    ),
    (
        "asks for a joke",
        "Why do llamas run so fast? They have small models.",
        """Tell me a joke.|Tell me a joke|Do you know a joke?|Make me laugh.|Say something funny.|
        Joke please""",
    ),
    (
        "asks if I am human",
        "No, I am a tiny language model.",
        "Are you human?|Are you alive?|Are you a person?|Are you real?|Do you have feelings?",
    ),
    (
        "asks who made me",
        "I was trained by a script of the pyllama project.",
        "Who made you?|How were you made?|Where do you come from?|Who trained you?|Who built you?",
    ),
    (
        "says something short",
        "OK. What shall I work out?",
        "Yes|No|OK|Ok|Okay|Yes.|No.|ok|Sure|Maybe|Test|test|ping|This is a test.",
    ),
)

_OFF_TOPIC: tuple[str, ...] = (
    "Explain {w} to me.",
    "Explain {w} in one sentence.",
    "What is a {w}?",
    "What is {w}?",
    "What is the capital of {c}?",
    "Write a poem about a {w}.",
    "Write a short story about {n} and a {w}.",
    "Write a letter to {n}.",
    "Write a function that prints {w}.",
    "Who is {n}?",
    "Who invented the {w}?",
    "Where is {c}?",
    "Where can I buy a {w}?",
    "Why is the {w} so {w}?",
    "Why is the sky blue?",
    "How do I cook {w}?",
    "How does a {w} work?",
    "Tell me about {c}.",
    "Tell me a long story.",
    "Tell me a story about {n}.",
    "Translate {w} into French.",
    "Is a {w} better than a {w}?",
    "Give me a recipe with {w}.",
    "What do you think about {c}?",
    "When was {n} born?",
    "Describe a {w} in detail.",
    "Can you draw a {w}?",
    "Please summarize this text: {f}",
    "What is the meaning of life?",
    "What is the weather in {c}?",
    "What time is it?",
    "{f}",
    "{w}",
)


def small_talk(rng: random.Random) -> Problem:
    """Draw a greeting or another exchange that needs no work."""
    act, answer, prompts = rng.choices(_SMALL_TALK, [3, 1, 2, 2, *[1] * (len(_SMALL_TALK) - 4)])[0]
    thinking = (
        f"The user {act}. This is small talk, so there is no number to add, no word to reverse "
        "and no tool to call. I am a tiny model, so I keep it short. A friendly answer in one line is best. "
        f"The user {act}, so I know what to say now. I write this answer:\n{answer}"
    )
    return Problem("small_talk", rng.choice(prompts.split("|")).strip(), thinking, answer)


def off_topic(rng: random.Random) -> Problem:
    """Draw a request beyond the model, answered by saying so."""
    form = rng.choice(_OFF_TOPIC)
    while "{w}" in form:
        form = form.replace("{w}", rng.choice(WORDS), 1)
    prompt = form.format(c=rng.choice(CITIES), n=rng.choice(NAMES), f=filler(rng, rng.randint(3, 30)))
    answer = "I am only a tiny model and do not know that. I can add numbers, sort digits and reverse words."
    thinking = (
        "The user asks for something. Is it a sum? No. Is it a word to reverse, or letters to count? No. "
        "Are there digits to sort or to compare? No. Is there a tool for it? No. "
        "So this is not a task that I know. I do not want to make something up, so I say what I can do."
    )
    return Problem("off_topic", prompt, thinking, answer)
