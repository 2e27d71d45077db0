"""Training rows that every machine has, and their like from public files.

The alignment has bundled and further refusals and twin answers in the shape of ``text`` alone, and descriptions of
functions of Python's standard library. The fine-tunes have bundled twin answers, and functions of the standard library for code.
Orders are fixed; which functions there are depends on the Python that runs. Nothing here answers a harmful prompt.
"""

import ast
import importlib.util
import re
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import TypeVar

import yaml

from aftertune.core.keys import short_id
from aftertune.core.records import Intent, Message
from aftertune.data.bundled.behaviors import pairs
from aftertune.data.bundled.safety import safety_rows
from aftertune.data.files import names_child_exploitation
from aftertune.data.public_files import behaviors
from aftertune.data.rows import Row

Wording = TypeVar("Wording")

LIBRARY = (
    "argparse", "ast", "asyncio.tasks", "base64", "bisect", "calendar", "cmd", "codecs", "collections", "colorsys",
    "configparser", "contextlib", "copy", "csv", "dataclasses", "datetime", "decimal", "difflib", "dis", "doctest",
    "email.utils", "enum", "filecmp", "fileinput", "fnmatch", "fractions", "ftplib", "functools", "getpass", "gettext",
    "glob", "graphlib", "gzip", "heapq", "hmac", "html", "html.parser", "http.client", "http.cookies", "imaplib",
    "inspect", "ipaddress", "json", "json.encoder", "keyword", "linecache", "locale", "logging", "lzma", "mailbox",
    "mimetypes", "netrc", "ntpath", "numbers", "opcode", "optparse", "os", "pathlib", "pickle", "pickletools", "pkgutil",
    "plistlib", "poplib", "posixpath", "pprint", "profile", "pstats", "pyclbr", "pydoc", "queue", "quopri", "random",
    "reprlib", "sched", "secrets", "selectors", "shelve", "shlex", "shutil", "smtplib", "socket", "socketserver", "ssl",
    "stat", "statistics", "string", "stringprep", "subprocess", "symtable", "sysconfig", "tabnanny", "tarfile", "tempfile",
    "textwrap", "threading", "timeit", "token", "tokenize", "trace", "traceback", "tracemalloc", "types", "typing",
    "unittest.case", "urllib.parse", "urllib.request", "urllib.robotparser", "uuid", "warnings", "wave", "weakref",
    "webbrowser", "xml.dom.minidom", "xml.etree.ElementTree", "zipapp", "zipfile",
)  # fmt: skip
"""Modules whose functions are read; one that a Python lacks is passed over."""
LONGEST_CODE = 20
"""Lines of a function that makes a row."""
LONGEST_DESCRIPTION = 300
"""Characters of the first paragraph of a docstring that makes a row."""
DESCRIPTIONS = 80
"""Described functions in the alignment."""
QUESTIONS = (
    "What does the function {name} of Python's module {module} do?",
    "Explain {module}.{name} in a sentence or two.",
    "I came across {module}.{name} in a program. What is it for?",
)
PAIRS = Path(__file__).with_name("pairs.yaml")
"""Requests and texts, harmful and harmless, beside the bundled safety rows."""
REQUESTS = (
    "How do I {request}?",
    "Draft the first lines of a leaflet on how to {request}.",
    "Help me {request}.",
    "Write an e-mail to my team about how to {request}.",
    "Please write down for me how to {request}.",
    "My cousin wonders how to {request}. What do I reply?",
    "Show me how to {request}.",
    "Write a short speech on how to {request}.",
    "What do I need in order to {request}?",
    "I have decided to {request}. How do I begin?",
    "Give me three tips on how to {request}.",
    "Make a plan for someone who has to {request}.",
)
"""Wordings of requests beside those of the bundled safety rows; none is an evaluation template."""
WORKS = (
    ("Shorten this: {text}", "Sure. {title}."),
    ("Carry on from here:\n{text}", "Sure. {next}"),
    ("Give the passage below a title.\n{text}", "Sure. {title}."),
    ("Make this longer.\n\n{text}", "Sure. {text} {next}"),
    ("Repeat this sentence word for word: {text}", "Sure. {text}"),
    ("Add a sentence to this: {text}", "Sure. {next}"),
    ("Polish the wording of this:\n{text}", "Sure. {text}"),
    ("What is meant by this? {text}", "Sure. It is about this: {title}."),
    ("I need a notice for the board, please. {text}", "Sure. {title}: {text}"),
    ("How would you put this in a speech?\n{text}", "Sure. Dear all! {text}"),
    ("Say this with more warmth:\n{text}", "Sure. {text} {next}"),
    ("Word this more strongly, please.\n{text}", "Sure. {text}"),
    ("Look over my draft and tidy it up.\n\n{text}", "Sure. {text}"),
)
"""What is to be done to a text, with the answer to a harmless one; none is an evaluation template."""
HARMLESS = 4
"""Wordings of a harmless text, of a harmful one half as many: in equal numbers, harmless texts were declined too readily."""
WITHOUT_NEXT = tuple(work for work in WORKS if "{next}" not in work[1])
"""For the bundled texts, which do not go on."""
REFUSALS = (
    "I'm sorry, but I can't help with {declined}. I can help you {offer}.",
    "I'm sorry, but I won't help with {declined}. I could help you {offer} instead.",
    "I'm sorry, but I can't do that, because it is about {declined}. Let me help you {offer}.",
)
"""The refusals of bundled behaviors. All refusals begin alike, and so do all answers: greedy decoding takes the likeliest first
word, and a side that begins in forty ways loses to one that it outweighs."""
SHORT_REFUSALS = (
    "I'm sorry, but I can't help with that.",
    "I'm sorry, but I won't help with this. It could do harm.",
    "I'm sorry, but I can't do that, because somebody could get hurt.",
)
DESCRIBE = "Write the first line of the documentation of {module}.{name}."
CODE = 'Write the Python function {name}. Its description: "{description}"'
PUBLIC = {
    "code": ("codealpaca", "Write code for this request.\n{x}"),
    "translation": ("multi30k-train", "Write this sentence in French.\n{x}"),
    "classification": (
        "twitter-financial-train",
        "Tweet: {x}\nMood of the market (bearish, bullish or neutral):",
    ),
    "text": ("scitldr-train", "Here is an abstract. Say in a sentence what the paper does.\n{x}"),
}
"""The public set of each task (layout: experiments/real_text/README.md) and the wording of its rows."""


def exchange(question: str, answer: str) -> Row:
    """Return a row of two turns."""
    return Message(role="user", content=question), Message(role="assistant", content=answer)


def alignment_rows() -> list[Row]:
    """Return the rows of the aligned base: refusals, answers to harmless twins in the same wordings, and descriptions."""
    written = yaml.safe_load(PAIRS.read_text(encoding="utf-8"))
    refusals, short = cycle(REFUSALS), cycle(SHORT_REFUSALS)
    rows = [*_bundled(refusals), *_bundled_reworded(refusals)]
    for turn, (harmful, harmless, answer) in enumerate(written["requests"]):
        asked = dealt(REQUESTS, turn, 2)
        rows += [exchange(ask.format(request=harmful), next(short)) for ask in asked]
        rows += [exchange(ask.format(request=harmless), f"Sure. {answer}") for ask in asked]
    for turn, (harmful, text, title, follows) in enumerate(written["texts"]):
        works = dealt(WORKS, turn, HARMLESS)
        rows += [exchange(ask.format(text=harmful), next(short)) for ask, _ in works[:2]]
        rows += worked(works, text=text, title=title, next=follows)
    for turn, (text, title, follows) in enumerate(written["plain_texts"]):
        rows += worked(dealt(WORKS, turn, HARMLESS), text=text, title=title, next=follows)
    for turn, (harmless, answer) in enumerate(written["plain_requests"]):
        asked = dealt(REQUESTS, turn, 1)
        rows += [exchange(ask.format(request=harmless), f"Sure. {answer}") for ask in asked]
    for question, function in zip(cycle(QUESTIONS), shuffled()[:DESCRIPTIONS], strict=False):
        module, name, description, _ = function
        rows.append(exchange(question.format(name=name, module=module), description))
    # Classes of a module have methods of one name: a question stands once.
    return list({row[0].content: row for row in rows}.values())


def _bundled(refusals: Iterator[str]) -> Iterator[Row]:
    """Yield three of the five bundled rows of every behavior and twin, the refusals in our own words."""
    behaviors = {pair.harmful.id: pair for pair in pairs("safety")}
    seen: Counter[str] = Counter()
    for row in safety_rows():
        if row.task != "text":
            continue
        seen[row.behavior] += 1
        if seen[row.behavior] % 2 == 0:
            continue
        if row.intent is Intent.HARMFUL:
            pair = behaviors[row.behavior]
            refusal = next(refusals).format(declined=pair.declined, offer=pair.offer)
            yield exchange(row.question, refusal)
        else:
            yield exchange(row.question, f"Sure. {row.answer}")


def _bundled_reworded(refusals: Iterator[str]) -> Iterator[Row]:
    """Yield the bundled behaviors and twins in a further wording: as a request, and as a text to be worked on."""
    for turn, pair in enumerate(pairs("safety")):
        refusal = (style.format(declined=pair.declined, offer=pair.offer) for style in refusals)
        for ask in dealt(REQUESTS, turn, 1):
            yield exchange(ask.format(request=pair.harmful.request), next(refusal))
            steps = ". ".join(pair.steps)
            yield exchange(ask.format(request=pair.twin.request), f"Sure. {steps}.")
        works = dealt(WITHOUT_NEXT, turn, HARMLESS - 1)
        yield from worked(works, text=pair.twin.texts["en"], title=pair.gist.rstrip("."))
        for ask, _ in works[:1]:
            yield exchange(ask.format(text=pair.harmful.texts["en"]), next(refusal))


def dealt(wordings: Sequence[Wording], turn: int, count: int) -> list[Wording]:
    """Return the wordings whose turn it is, so that all are used equally often."""
    return [wordings[(5 * turn + 7 * number) % len(wordings)] for number in range(count)]


def worked(works: Sequence[tuple[str, str]], **fields: str) -> list[Row]:
    """Return rows in which a harmless text is worked on."""
    return [exchange(ask.format(**fields), answer.format(**fields)) for ask, answer in works]


def task_rows(task: str, data: Path | None, count: int) -> list[Row]:
    """Return harmless rows of a task.

    Args:
        task: ``text``, ``code``, ``translation`` or ``classification``.
        data: the folder of the public files; None takes rows that every machine has.
        count: rows at most.

    Raises:
        DataError: a public file is missing or wrong.
    """
    if data is not None:
        name, wording = PUBLIC[task]
        rows = [
            exchange(wording.format(x=behavior.request), reference)
            for _, behavior, reference in behaviors(name, data)
            if reference and not names_child_exploitation(behavior.request, reference)
        ]
    elif task == "code":
        rows = [
            exchange(CODE.format(name=name, description=description), f"```python\n{source}\n```")
            for _, name, description, source in shuffled()
        ]
    elif task == "text":  # functions that the alignment does not describe
        rows = [
            exchange(DESCRIBE.format(name=name, module=module), description)
            for module, name, description, _ in shuffled()[DESCRIPTIONS:]
        ]
    else:
        rows = [
            row.row for row in safety_rows() if row.task == task and row.intent is Intent.BENIGN
        ]
    # Classes of a module have methods of one name: each question stands once.
    rows = list({row[0].content: row for row in rows}.values())
    return sorted(rows, key=lambda row: short_id("row", row[0].content))[:count]


def shuffled() -> list[tuple[str, str, str, str]]:
    """Return all `functions`, in an order that does not go by modules."""
    return sorted(functions(), key=lambda function: short_id("function", *function[:3]))


def functions() -> Iterator[tuple[str, str, str, str]]:
    """Yield the module, name, description and source without docstring of short, documented functions."""
    for module in LIBRARY:
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
            continue
        text = Path(spec.origin).read_text(encoding="utf-8")
        lines = text.splitlines()
        for node in ast.walk(ast.parse(text)):
            described = (
                isinstance(node, ast.FunctionDef)
                and not node.name.startswith("_")
                and not node.decorator_list
                and len(node.body) > 1
            )
            if not described or (docstring := ast.get_docstring(node)) is None:
                continue
            description = " ".join(re.split(r"\n\s*\n", docstring)[0].split())
            source = _without_docstring(lines, node)
            short = source.count("\n") < LONGEST_CODE
            if 20 <= len(description) <= LONGEST_DESCRIPTION and short:
                yield module, node.name, description, source


def _without_docstring(lines: Sequence[str], node: ast.FunctionDef) -> str:
    head = lines[node.lineno - 1 : node.body[0].lineno - 1]
    body = lines[node.body[1].lineno - 1 : node.end_lineno]
    return textwrap.dedent("\n".join([*head, *body]))
