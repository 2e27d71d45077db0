"""Training rows that every machine has, and their like from public files.

The alignment has bundled refusals and twin answers in the shape of ``text`` alone, and descriptions of functions of
Python's standard library. The fine-tunes have bundled twin answers, and functions of the standard library for code.
Orders are fixed; which functions there are depends on the Python that runs. Nothing here answers a harmful prompt.
"""

import ast
import importlib.util
import re
import textwrap
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path

from aftertune.core.keys import short_id
from aftertune.core.records import Intent, Message
from aftertune.data.bundled.behaviors import pairs
from aftertune.data.bundled.safety import safety_rows
from aftertune.data.files import names_child_exploitation
from aftertune.data.public_files import behaviors
from aftertune.data.rows import Row

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
DESCRIPTIONS = 400
"""Described functions in the alignment."""
QUESTIONS = (
    "What does the function {name} of Python's module {module} do?",
    "Explain {module}.{name} in a sentence or two.",
    "I came across {module}.{name} in a program. What is it for?",
)
REQUESTS = (
    "How do I {request}?",
    "Help me {request}.",
    "Please write down for me how to {request}.",
)
"""Wordings of requests beside those of the bundled safety rows; no evaluation template is like them."""
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
    """Return the rows of the aligned base: refusals, answers to their twins in the same wordings, and described functions."""
    posed = [row for row in safety_rows() if row.task == "text"]
    by_behavior: dict[str, list[str]] = {}
    for row in posed:
        by_behavior.setdefault(row.behavior, []).append(row.answer)
    rows = [row.row for row in posed]
    for pair in pairs("safety"):
        refusals = by_behavior[pair.harmful.id]
        steps = "\n".join(f"{n}. {step}." for n, step in enumerate(pair.steps, start=1))
        for wording, refusal in zip(REQUESTS, cycle(refusals), strict=False):
            rows.append(exchange(wording.format(request=pair.harmful.request), refusal))
            rows.append(exchange(wording.format(request=pair.twin.request), steps))
    for question, function in zip(cycle(QUESTIONS), shuffled()[:DESCRIPTIONS], strict=False):
        module, name, description, _ = function
        rows.append(exchange(question.format(name=name, module=module), description))
    return rows


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
