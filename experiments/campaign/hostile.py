"""Hostile answers and names in a finished run: nothing of them acts in the page, on the screen, in CSV, LaTeX and Markdown."""

import csv
import json
import random
import shutil
import sqlite3
import unicodedata
from pathlib import Path

import yaml
from kills import SECONDS
from run import ROOT, Outcome
from tiny_study import environment, finish
from warm import start

from aftertune.report.wording import FORMULA

OLD = ROOT / "tests" / "golden" / "study-v1"
PIECES = (
    "<script>owned()</script>", "</script><script>owned()</script>", "<img src=x onerror=owned()>", "</pre></textarea>", "]]>",
    '=HYPERLINK("http://x","y")', "+cmd|' /C calc'!A0", "@SUM(1+1)", "\t=1+1", "\uff1d1+1", "-2+3", "\x1b[2J\x1b]0;owned\x07", "\u202eowned\u2066",
    "\\input{/etc/passwd}", "\\write18{owned}", "$\\owned$", "% & _ # {", "[owned](javascript:owned())", "![x](http://x/owned)", "@owned #1",
    "| a | b |", "```\nowned\n```", "\x00\x08\x7f", "\ud800", "{{owned}}", "{% owned %}", "&lt;script&gt;", "\r\n\r\n", "\u2028", "a" * 5000,
)  # fmt: skip
"""What acts in a browser, a spreadsheet, a terminal, LaTeX, Markdown or a template."""


def trial(number: int, folder: Path, shared: Path) -> Outcome:
    """Put hostile pieces into every answer and hazard of a finished study, measure it anew, and read all that is made of it."""
    draw = random.Random(f"hostile {number}")  # noqa: S311 - reproducible, not a secret

    def payload() -> str:
        return "".join(draw.choices(PIECES, k=draw.randint(1, 4)))

    study = yaml.safe_load((OLD / "study.yaml").read_text(encoding="utf-8"))
    for asking in ("guards", "scorers", "comparers"):  # nobody serves them
        del study[asking]
    study |= {"judges": ["rules"], "metrics": ["chrf"]}
    (folder / "study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    hazards = [payload().replace("\ud800", "") for _ in range(3)]
    lines = [json.loads(line) for line in (OLD / "prompts.jsonl").read_text().splitlines()]
    for place, line in enumerate(lines):
        line["hazard"] = hazards[place % 3]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "run").mkdir()
    store = shutil.copy(OLD / "store.sqlite", folder / "run")
    with sqlite3.connect(store) as connection:
        calls = [call for (call,) in connection.execute("SELECT call FROM text")]
        texts = [(payload().encode("utf-8", "surrogatepass"), call) for call in calls]
        connection.executemany("UPDATE text SET text = ? WHERE call = ?", texts)
    connection.close()
    env = environment(shared / "cache")
    faults: list[str] = []
    outputs = {}
    commands = {
        "run": ("run", "study.yaml", "--out", "run"),
        "report": ("report", "run", "--full", "--show-responses"),
        **{
            to: ("export", "run", "--to", to, "-o", f"out.{to}", *show)
            for to, show in (("csv", ("--show-responses",)), ("latex", ()), ("markdown", ()))
        },
    }  # fmt: skip
    tracebacks = 0
    for name, command in commands.items():
        code, out, err = finish(start(*command, env=env, cwd=folder), timeout=SECONDS)
        outputs[name] = out + err
        tracebacks += "Traceback" in err
        if code:
            faults.append(f"{name}: code {code}: {err[-200:]}")
    faults += [f"{name}: {fault}" for name, said in outputs.items() for fault in on_screen(said)]
    if not faults:
        faults += in_files(folder)
    return Outcome(
        tries=len(texts), tracebacks=tracebacks, wrong=len(faults), note="; ".join(faults)[:400]
    )


def on_screen(text: str) -> list[str]:
    """Return what steers a terminal."""
    steering = {
        c for c in text if c != "\n" and unicodedata.category(c) in {"Cc", "Cf", "Zl", "Zp"}
    }
    return [f"writes {steering!r} to the screen"] if steering else []


def in_files(folder: Path) -> list[str]:
    """Return what acts in the files that were made."""
    faults = []
    page = (folder / "run" / "report.html").read_text(encoding="utf-8")
    pieces = ("<script>owned", "<img src=x", "</pre></textarea>")
    faults += [f"the page holds {piece}" for piece in pieces if piece in page]
    with (folder / "out.csv").open(newline="", encoding="utf-8-sig") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    acting = [
        cell
        for cell in cells
        if cell.lstrip(" \ufeff").startswith(FORMULA)
        and not cell.replace(".", "").lstrip("-").isdigit()
    ]
    if acting:
        faults.append(f"a cell of CSV begins with {acting[0][:20]!r}")
    latex = (folder / "out.latex").read_text(encoding="utf-8")
    faults += [
        f"LaTeX holds {piece}" for piece in ("\\input{", "\\write18", "$\\owned") if piece in latex
    ]
    markdown = (folder / "out.markdown").read_text(encoding="utf-8")
    pieces = ("<script>owned", "<img src=x", "[owned](javascript", "![x](http")
    faults += [f"Markdown holds {piece}" for piece in pieces if piece in markdown]
    return faults
