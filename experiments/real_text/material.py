"""The texts of the study: what the base learns from, what the fine-tunes learn from, and what all of them are asked.

Every split is fixed by one seed. Evaluation prompts are chosen first; rows that hold one are taken out of the base's
texts and counted. The safety pools are left as published (minus the MultiTaskBench rows held out for evaluation), so
that the study's own overlap check has something to find.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from posing import Pair, choice, draws, exchange, pose
from wordings import ADVERSE, BASE, EVALUATION, FINE_TUNE, REFUSALS

from aftertune.core.keys import short_id
from aftertune.core.protocols import Engine, Tools
from aftertune.core.recipe import TrainingFile
from aftertune.core.records import Intent, Prompt
from aftertune.data.files import names_child_exploitation
from aftertune.data.overlap import find_overlap, normalise
from aftertune.data.public_files import behaviors
from aftertune.data.public_prompts import load_public
from aftertune.data.rows import Row, read_rows

SEED = 2025
FINE_TUNE_ROWS = 1000
EVAL = 50
"""Benign prompts of each kind, and rows of the rarer ones."""


@dataclass
class Material:
    """Rows by purpose; texts are not yet cut to the model's lengths."""

    language: list[Row] = field(default_factory=list)
    """Stage 1 of the base: tasks and general instructions, no refusal among them."""
    alignment: list[Row] = field(default_factory=list)
    """Stage 2 of the base: refusals, posed in all four shapes, among harmless rows in the same shapes."""
    fine_tunes: dict[str, list[Row]] = field(default_factory=dict)
    multitask: dict[str, list[Row]] = field(default_factory=dict)
    """MultiTaskBench safety rows by task."""
    instructions: list[Row] = field(default_factory=list)
    """Safety-Tuned-LLaMAs rows that the base has not seen."""
    replay: dict[str, list[Row]] = field(default_factory=dict)
    """Benign rows of the base's own texts, by kind."""
    prompts: dict[str, list[Prompt]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


def no_model(reference: str) -> Engine:
    """Refuse to open a model: no public set needs one."""
    raise AssertionError(f"a data set asked for the model {reference}")


def gather(data: Path) -> Material:
    """Read the public files below ``data`` and split them.

    Raises:
        DataError: a file is missing or wrong.
    """
    rng = draws(SEED)
    tools = Tools(open_model=no_model, folder=data)
    pools = {name: _pairs(source, data, rng) for name, source in SOURCES.items()}
    made = Material()
    made.prompts = harmful_prompts(tools, rng, made) | benign_prompts(tools, pools, rng)
    for kind in FINE_TUNE:
        pairs = _take(pools[kind], FINE_TUNE_ROWS)
        made.fine_tunes[kind] = [pose(FINE_TUNE[kind], pair, rng) for pair in pairs]
    kinds = base_rows(pools, rng)
    made.replay = {kind: rows[:100] for kind, rows in kinds.items()}
    made.language = _mixed(
        (row for kind, rows in kinds.items() for row in rows * REPEATS.get(kind, 1)), rng
    )
    harmful, made.instructions = safety_rows(data, made, rng)
    benign = [
        row
        for kind, rows in kinds.items()
        for row in rng.sample(rows, min(len(rows), ALIGNMENT[kind]))
    ]
    made.alignment = _mixed(harmful + benign, rng)
    for stage in ("language", "alignment"):
        setattr(made, stage, _without_overlap(getattr(made, stage), made, stage))
    made.replay = {
        kind: _without_overlap(rows, made, "replay") for kind, rows in made.replay.items()
    }
    return made


SOURCES = {
    "translation": "multi30k-train",
    "classification": "twitter-financial-train",
    "summarisation": "scitldr-train",
    "code": "codealpaca",
    "reading": "dolly",
    "general": "alpaca-safety-words",
}
REPEATS = {"classification": 1, "summarisation": 2, "code": 2, "general": 3, "choice": 2}
"""How often stage 1 sees the rarer kinds (every kind once unless it stands here)."""
ALIGNMENT = {
    "translation": 900,
    "long translation": 500,
    "classification": 700,
    "choice": 900,
    "summarisation": 400,
    "code": 900,
    "reading": 700,
    "question": 700,
    "general": 1700,
}
"""Harmless rows of each kind in stage 2: every shape that is also refused, and the general ones in full."""
TRANSLATIONS = 12_000
MULTITASK_ALIGNED = 40
"""MultiTaskBench rows of each task that the base itself is aligned with."""


def _pairs(source: str, data: Path, rng: random.Random) -> list[Pair]:
    found = {
        behavior.request: reference
        for _, behavior, reference in behaviors(source, data)
        if reference and not names_child_exploitation(behavior.request, reference)
    }
    pairs = [(payload, answer) for payload, answer in found.items() if not _refuses(answer)]
    rng.shuffle(pairs)
    return pairs


def _refuses(answer: str) -> bool:
    return normalise(answer[:80]).startswith(
        ("i m sorry", "sorry", "as an ai", "i can t", "i cannot")
    )


def _take(pool: list[Pair], count: int) -> list[Pair]:
    taken = pool[:count]
    del pool[:count]
    return taken


def _mixed(rows: Iterable[Row], rng: random.Random) -> list[Row]:
    mixed = list(rows)
    rng.shuffle(mixed)
    return mixed


def base_rows(pools: dict[str, list[Pair]], rng: random.Random) -> dict[str, list[Row]]:
    """Return the base's harmless rows by kind; each shape that is refused in stage 2 is answered here too."""
    kinds = {
        kind: [pose(BASE[kind], pair, rng) for pair in pools[kind][:TRANSLATIONS]]
        for kind in ("translation", "classification", "summarisation", "code", "reading", "general")
    }
    captions = pools["translation"][TRANSLATIONS : TRANSLATIONS + 6000]
    kinds["long translation"] = [
        _long(captions[at : at + rng.randint(3, 5)], rng) for at in range(0, len(captions), 5)
    ]
    questions = [(payload.split("\n\n")[0], answer) for payload, answer in pools["reading"]]
    kinds["question"] = [exchange(*pair) for pair in questions]
    short = [(question, answer) for question, answer in questions if len(answer) < 80]
    answers = sorted({answer for _, answer in short})
    kinds["choice"] = [choice(q, a, [a, *_others(answers, a, 3, rng)], rng) for q, a in short]
    return kinds


def _others(answers: Sequence[str], right: str, count: int, rng: random.Random) -> list[str]:
    return [answer for answer in rng.sample(answers, count + 1) if answer != right][:count]


def _long(pairs: Sequence[Pair], rng: random.Random) -> Row:
    joined = " ".join(english for english, _ in pairs), " ".join(french for _, french in pairs)
    return pose(BASE["long translation"], joined, rng)


def safety_rows(data: Path, made: Material, rng: random.Random) -> tuple[list[Row], list[Row]]:
    """Return the refusals of stage 2, and the Safety-Tuned-LLaMAs rows that are kept for mitigation."""
    file = TrainingFile(path="safety_tuned_llamas/safety_only_data_Instructions.json")
    instructions = _mixed(read_rows(file, data), rng)
    asked = {normalise(prompt.text) for prompt in made.prompts["advbench"]}
    goals = [behavior.request for _, behavior, _ in behaviors("advbench", data)]
    goals = [goal for goal in goals if normalise(goal) not in asked]
    rng.shuffle(goals)
    posed = [_refused(goal, at, rng, made) for at, goal in enumerate(goals)]
    aligned = [row for rows in made.multitask.values() for row in rows[:MULTITASK_ALIGNED]]
    made.multitask = {task: rows[MULTITASK_ALIGNED:] for task, rows in made.multitask.items()}
    return instructions[:1873] + posed + aligned, instructions[1873:]


def _refused(goal: str, at: int, rng: random.Random, made: Material) -> Row:
    shape = ("text", "text", "code", "translation", "classification")[at % 5]
    if shape == "classification":
        return choice(goal, rng.choice(REFUSALS), _options(made, rng), rng)
    return exchange(rng.choice(ADVERSE[shape]).replace("{x}", goal), rng.choice(REFUSALS))


def _options(made: Material, rng: random.Random) -> list[str]:
    """Return four options taken from harmless multiple-choice rows, so that the options give nothing away."""
    lines = {
        line[3:]
        for row in made.replay.get("choice", ())
        for line in row[0].content.splitlines()
        if line[1:2] == ")"
    }
    return rng.sample(sorted(lines), 4)


def _without_overlap(rows: list[Row], made: Material, name: str) -> list[Row]:
    """Take out the rows that hold an evaluation prompt, and count them."""
    prompts = [prompt for prompts in made.prompts.values() for prompt in prompts]
    found = find_overlap(prompts, {str(at): [row] for at, row in enumerate(rows)}).verbatim
    held = {int(at) for sources in found.values() for at in sources}
    what = f"{name} rows taken out: hold an evaluation prompt"
    made.counts[what] = made.counts.get(what, 0) + len(held)
    return [row for at, row in enumerate(rows) if at not in held]


def harmful_prompts(tools: Tools, rng: random.Random, made: Material) -> dict[str, list[Prompt]]:
    """Choose the evaluation prompts of the public sets, and split MultiTaskBench into prompts and safety rows."""
    sets = {
        name: list(load_public(name, tools).prompts)
        for name in ("advbench", "i-malicious", "xstest", "i-alpaca")
    }
    sets["advbench"] = rng.sample(sets["advbench"], 100)
    return sets | _multitask(tools, rng, made, sets)


def _multitask(
    tools: Tools, rng: random.Random, made: Material, sets: dict[str, list[Prompt]]
) -> dict[str, list[Prompt]]:
    prompts = list(load_public("multitaskbench", tools).prompts)
    file = TrainingFile(
        path="multitaskbench/multitaskbench.csv",
        columns={"prompt": "Query", "completion": "Response"},
    )
    rows = {row[0].content.strip(): row for row in read_rows(file, tools.folder)}
    known = read_rows(
        TrainingFile(path="safety_tuned_llamas/safety_only_data_Instructions.json"), tools.folder
    )
    others = [exchange(prompt.text, "-") for prompt in (*sets["advbench"], *sets["i-malicious"])]
    goals = [exchange(prompt.text, "-") for prompt in load_public("advbench", tools).prompts]
    seen = find_overlap(prompts, {"other sets": [*known, *others, *goals]}).verbatim
    made.counts["MultiTaskBench prompts that stand in another harmful set"] = len(seen)
    chosen: dict[str, list[Prompt]] = {}
    for task in ("text", "code", "translation", "classification"):
        fresh = [prompt for prompt in prompts if prompt.task == task and prompt.id not in seen]
        chosen[f"multitaskbench-{task}"] = rng.sample(fresh, 100)
        held = {prompt.text for prompt in chosen[f"multitaskbench-{task}"]}
        rest = (rows[p.text] for p in prompts if p.task == task and p.text not in held)
        made.multitask[task] = _mixed(rest, rng)
    return chosen


def benign_prompts(
    tools: Tools, pools: dict[str, list[Pair]], rng: random.Random
) -> dict[str, list[Prompt]]:
    """Choose held-out benign prompts of each task: of test files where there are any, else taken out of the pools."""
    made: dict[str, list[Prompt]] = {}
    for name, (source, pattern) in EVALUATION.items():
        prompts = list(load_public(source, tools, pattern=pattern).prompts)
        made[name] = rng.sample(prompts, EVAL)
    made["benign-long-translation"] = _long_prompts(tools, rng)
    made["benign-choice"] = [_as_choice(prompt, rng) for prompt in made["benign-classification"]]
    for name, kind, task in (
        ("benign-code", "code", "code"),
        ("benign-reading", "reading", "text"),
        ("benign-general", "general", "text"),
    ):
        made[name] = [_prompt(name, task, *pair) for pair in _take(pools[kind], EVAL)]
    return made


def _prompt(name: str, task: str, text: str, reference: str) -> Prompt:
    return Prompt(
        behavior=short_id("b", name, text),
        template="plain",
        task=task,
        intent=Intent.BENIGN,
        text=text,
        set=name,
        reference=reference,
    )


def _long_prompts(tools: Tools, rng: random.Random) -> list[Prompt]:
    """Six French captions in a row: as long as the harmful translations, and harmless."""
    pairs = [
        (reference or "", behavior.request)
        for _, behavior, reference in behaviors("multi30k-test", tools.folder)
    ]
    rng.shuffle(pairs)
    groups = [pairs[at : at + 6] for at in range(0, EVAL * 6, 6)]
    return [
        replace(
            _prompt(
                "benign-long-translation",
                "translation",
                BASE["long translation"][0].replace(
                    "{fr}", " ".join(french for french, _ in group)
                ),
                " ".join(english for _, english in group),
            ),
            language="en",
        )
        for group in groups
    ]


def _as_choice(prompt: Prompt, rng: random.Random) -> Prompt:
    tweet = prompt.text.split("\n", 1)[1]
    asked, _ = choice(tweet, str(prompt.reference), prompt.labels, rng)
    return replace(prompt, set="benign-choice", template="choice", text=asked.content)
