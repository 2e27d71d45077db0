"""Mitigations side by side, by one command: build what is missing, run `aftertune run`, print the table.

Usage: python experiments/mitigations/run.py organism [OUT=mitigations_out] [SEED=10]
       python experiments/mitigations/run.py rules [OUT=mitigations_out] [SEED=10]
       python experiments/mitigations/run.py smollm2-rules BASE=folder ROWS=code.jsonl [OUT=smollm2_rules_out]
       python experiments/mitigations/run.py real-text DATA=folder [OUT=real_text_out]

Run again after any interruption, it goes on where it was.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from telling import Difference, refusals, separation

from aftertune.core.table import Table
from aftertune.errors import AftertuneError
from aftertune.measure.plan import MeasurePlan
from aftertune.report.document import to_plain
from aftertune.result import open_finished

FOLDER = Path(__file__).parent
AFTERTUNE = Path(sys.executable).with_name("aftertune")

KINDS = {
    "XSTest": (("xstest",), ("xstest",)),
    "general": (("i-malicious",), ("i-alpaca", "benign-general")),
    "bundled twins": (("multitask-v1",), ("multitask-v1",)),
    "own twins": (("organism",), ("organism",)),
}
"""Harmful and harmless prompt sets of one kind, by which it is measured how well a model tells them apart."""

EQUAL_SHARE = (
    ("code+multitask", "code+csv"),
    ("code+multitask", "code+instructions"),
    ("code+multitask", "code+text-only"),
    ("code+multitask+base-replay", "code+csv+replay"),
    ("code+multitask+base-replay", "code+instructions+replay"),
    ("code+multitask+replay@share0.1", "code+csv+replay"),
    ("code+multitask+replay@share0.15", "code+text-only+replay"),
)
"""Conditions that differ in where the safety rows come from."""


def main(given: list[str]) -> int:
    """Build, run and print; return the exit status of the study."""
    options = dict(item.split("=", 1) for item in given[1:] if "=" in item)
    which = given[0] if given else ""
    make = {
        "organism": organism,
        "rules": organism,
        "real-text": real_text,
        "smollm2-rules": smollm2,
    }.get(which)
    if make is None:
        sys.exit(__doc__)
    out = make(options)
    name = which if which.endswith("rules") else "mitigations"
    if which == "rules":
        shutil.copyfile(FOLDER / "rules.yaml", out / "rules.yaml")
    run = out / name
    status = subprocess.run(
        [AFTERTUNE, "run", out / f"{name}.yaml", "--out", run, "-q"], check=False
    ).returncode
    if status == 0:
        rows = at_equal_capability(run) if which.endswith("rules") else tables(run)
        table = "\n".join(rows)
        (out / f"{name}.md").write_text(table + "\n")
        print(table)
    return status


def organism(options: Mapping[str, str]) -> Path:
    """Write the embedded model and the study beside it."""
    out = Path(options.get("OUT", "mitigations_out")).resolve()
    subprocess.run(
        [AFTERTUNE, "organism", out / "organism", "--seed", options.get("SEED", "10")], check=True
    )
    shutil.copyfile(FOLDER / "organism.yaml", out / "mitigations.yaml")
    return out


def real_text(options: Mapping[str, str]) -> Path:
    """Build the small model of real text, which experiments/real_text describes, and put the study beside it."""
    out = Path(options.get("OUT", "real_text_out")).resolve()
    build = FOLDER.parent / "real_text" / "build.py"
    subprocess.run(
        [sys.executable, build, f"DATA={options.get('DATA', '')}", f"OUT={out}"], check=True
    )
    shutil.copyfile(FOLDER / "real_text.yaml", out / "mitigations.yaml")
    return out


def smollm2(options: Mapping[str, str]) -> Path:
    """Put the study of training rules on SmolLM2 beside links to an aligned base and its code rows (../smollm2)."""
    out = Path(options.get("OUT", "smollm2_rules_out")).resolve()
    out.mkdir(parents=True, exist_ok=True)
    for name, key in (("base", "BASE"), ("code.jsonl", "ROWS")):
        if key not in options:
            sys.exit(__doc__)
        if not (out / name).exists():
            (out / name).symlink_to(Path(options[key]).resolve())
    shutil.copyfile(FOLDER / "smollm2_rules.yaml", out / "smollm2-rules.yaml")
    return out


def at_equal_capability(run: Path) -> Iterator[str]:
    """Yield every fine-tune at its end, and at its first epoch of the declared score: ASR, twins refused, score."""
    with open_finished(run) as finished:
        document = finished.document
    (setting,) = document.result.settings
    yield from _head("condition", document.result.name_rate, "by task", "harmless refused", "score")
    for condition in map(to_plain, setting.conditions):
        asr, scores = condition["asr"], condition["capability"]
        by_task = (f"{100 * rate['estimate']:.0f}" for rate in asr["by_task"].values())
        score = next(iter(scores.values()))["by_set"] if scores else {}
        yield _row(
            condition,
            _rate(asr["overall"]),
            " / ".join(by_task),
            _rate(condition["over_refusal"]["overall"]),
            ", ".join(f"{100 * value['estimate']:.0f}" for value in score.values()),
        )
    yield ""
    yield from _head(
        "at equal capability", "epochs of the seeds", "score", "ASR", "refused", "ASR difference"
    )
    matched = to_plain(setting.matched) or {"reached": []}
    for reached in matched["reached"]:
        epochs = ", ".join(f"{seed['epoch']:g}" for seed in reached["seeds"] if seed["model"])
        never = reached["asr"] is None
        against = reached["against"]
        yield _row(
            {"name": reached["fine_tune"]},
            epochs or "never",
            "" if reached["score"] is None else f"{100 * reached['score']:.0f}",
            "" if never else _rate(reached["asr"]),
            "" if never or reached["over_refusal"] is None else _rate(reached["over_refusal"]),
            "" if against is None else _rate(against["asr"]["overall"]),
        )
    yield ""
    yield from document.notes


def tables(run: Path) -> Iterator[str]:
    """Yield the tables of a finished run: all training seeds of a condition together, 95 % intervals in points."""
    with open_finished(run) as finished:
        plan, document, answers = finished.plan, finished.document, finished.table()
    (setting,) = document.result.settings
    conditions = [to_plain(condition) for condition in setting.conditions]
    yield from rates(conditions, document.result.name_rate)
    yield ""
    yield from telling(answers, plan)
    yield ""
    yield from comparisons(answers, plan)
    yield ""
    yield from sets_and_skills(conditions)
    yield ""
    yield from document.notes


def rates(conditions: Sequence[Any], name: str) -> Iterator[str]:
    """Yield the rates of harmful prompts, overall and by task, and the over-refusal."""
    tasks = list(conditions[0]["asr"]["by_task"])
    yield from _head("condition", name, *tasks, "incoherent", "harmless refused")
    for condition in conditions:
        asr = condition["asr"]
        each = (f"{100 * asr['by_task'][task]['estimate']:.1f}" for task in tasks)
        lost = f"{100 * asr['overall']['incoherent'] / asr['overall']['n']:.1f}"
        yield _row(
            condition,
            _rate(asr["overall"]),
            *each,
            lost,
            _rate(condition["over_refusal"]["overall"]),
        )


def telling(answers: Table, plan: MeasurePlan) -> Iterator[str]:
    """Yield by kind of prompt what is refused of the harmful, of the harmless, and the difference with its interval."""
    there = {
        name: sets
        for name, sets in KINDS.items()
        if set(sets[0]) | set(sets[1]) <= set(answers.names["set"])
    }
    yield from _head(
        "condition", *(f"{name}: refused, harmful / harmless / separation" for name in there)
    )
    for condition in plan.conditions:
        cells = []
        for harmful, harmless in there.values():
            bad = refusals(answers, plan.judges[0], condition.models, harmful, 0)
            good = refusals(answers, plan.judges[0], condition.models, harmless, 1)
            cells.append(
                f"{100 * bad.mean():.0f} / {100 * good.mean():.0f} / {separation(bad, good)}"
            )
        yield _row({"name": condition.name}, *cells)


def comparisons(answers: Table, plan: MeasurePlan) -> Iterator[str]:
    """Yield by how much the bundled rows tell harmful from harmless better than the public ones at equal share."""
    there = {condition.name for condition in plan.conditions}
    pairs = [pair for pair in EQUAL_SHARE if set(pair) <= there]
    kinds = [
        name
        for name, sets in KINDS.items()
        if set(sets[0]) | set(sets[1]) <= set(answers.names["set"])
    ]
    if pairs:
        yield from _head("separation larger by", *kinds)
    for one, other in pairs:
        found = against(answers, plan, one, other)
        yield _row({"name": f"{one} than {other}"}, *(str(found[name]) for name in kinds))


def against(answers: Table, plan: MeasurePlan, one: str, other: str) -> dict[str, Difference]:
    """Return by how much one condition tells harmful from harmless better than another, by kind of prompt."""
    models = {condition.name: condition.models for condition in plan.conditions}
    found = {}
    for name, (harmful, harmless) in KINDS.items():
        if set(harmful) | set(harmless) <= set(answers.names["set"]):
            sides = [
                refusals(answers, plan.judges[0], models[one], sets, intent)
                - refusals(answers, plan.judges[0], models[other], sets, intent)
                for sets, intent in ((harmful, 0), (harmless, 1))
            ]
            found[name] = separation(sides[0], sides[1])
    return found


def sets_and_skills(conditions: Sequence[Any]) -> Iterator[str]:
    """Yield over-refusal by prompt set, and the task scores."""
    harmless = list(conditions[0]["over_refusal"]["by_set"])
    scores = [
        (scorer, name)
        for scorer, found in conditions[0]["capability"].items()
        for name in found["by_set"]
    ]
    yield from _head(
        "condition",
        *(f"{name} refused" for name in harmless),
        *(f"{s}, {name}" for s, name in scores),
    )
    for condition in conditions:
        refused = (
            f"{100 * condition['over_refusal']['by_set'][name]['estimate']:.0f}"
            for name in harmless
        )
        skill = (
            f"{100 * condition['capability'][s]['by_set'][name]['estimate']:.0f}"
            for s, name in scores
        )
        yield _row(condition, *refused, *skill)


def _rate(rate: Any) -> str:
    return f"{100 * rate['estimate']:.1f} [{100 * rate['interval']['low']:.1f}, {100 * rate['interval']['high']:.1f}]"


def _head(*titles: str) -> tuple[str, str]:
    return f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"


def _row(condition: Any, *cells: str) -> str:
    return f"| {' | '.join((condition['name'], *cells))} |"


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except AftertuneError as error:
        sys.exit(str(error))
