"""Print what the studies of this folder cost, without their models and without what is not public.

Usage: python studies/costs.py [DATA=folder] [MODEL=smollm2] [study.yaml ...]

Every model of the hub is stood in for by a tiny one with the tokenizer of MODEL, which must be on this machine: token counts are
near those of the real models and not the same. Guards and judges of the hub count four characters as a token. DATA is the folder of public files (docs/data.md, "Public sets"); prompt sets and rows
that are not in it are stood in for by as many invented ones. The lines under the table name what was. With the models and sets at
hand, `aftertune plan studies/NAME.yaml` needs no stand-in.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import yaml
from rows import SETS, rows_of

from aftertune.core.records import Intent, Message, Prompt
from aftertune.data.prompt_sets import write_prompts
from aftertune.data.public import SKIP, PublicSet, public_sets
from aftertune.data.rows import write_rows
from aftertune.errors import AftertuneError
from aftertune.models.foreign import quiet
from aftertune.models.reference import Checkpoint, fetch, parse

FOLDER = Path(__file__).parent
SERVED = "http://127.0.0.1:9/v1#{name}"
"""The address of scorers whose default is a checkpoint of the hub: nobody answers there, and a plan asks nobody."""
HUB_SCORERS = ("llama-guard-3", "sorry-bench", "wildguard")
CLASSIFIERS = ("toxicity",)
"""Metrics that read answers with a classifier: no calls of a language model, so they are left out."""
PACKAGES = {"wildguard": "wildguard"}
"""Scorer -> the package that holds its question; a scorer without its package is left out."""
QUESTION = "sorry_bench/judge.txt"
SAFETY = "multitaskbench/multitaskbench.csv"
STAND_IN_ROWS = 1_000
SENTENCE = "Please look at item {n} of the list and say in a sentence or two how it is used at home and at work."
"""The stand-in of a request, about as long as those of public sets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StandIn:
    """A study that can be planned on this machine."""

    path: Path
    replaced: tuple[str, ...]
    """What is invented, and how many of it."""
    left_out: tuple[str, ...]
    """Scorers that cannot be counted."""


def stand_in(study: Path, folder: Path, *, data: Path | None, tokenizer_of: Path) -> StandIn:
    """Write a study into a folder with everything that it reads.

    Args:
        study: one of this folder's.
        folder: an empty one.
        data: the folder of public files; None where there is none.
        tokenizer_of: a folder with the tokenizer of the models that stand for those of the hub.
    """
    declared: dict[str, Any] = yaml.safe_load(study.read_text(encoding="utf-8"))
    replaced: list[str] = []
    for given in sorted(data.absolute().iterdir()) if data is not None else ():
        (folder / given.name).symlink_to(given)
    for seed, entry in enumerate(declared["models"]):
        entry["reference"] = str(_tiny_model(folder / "models" / entry["name"], tokenizer_of, seed))
    names = sorted({Path(path).stem for path in _row_files(declared["fine_tunes"])})
    replaced += [f"{name} rows ({STAND_IN_ROWS:,})" for name in names if _rows(name, folder, data)]
    if any("mitigation" in entry for entry in declared["fine_tunes"]) and _safety(folder, data):
        replaced.append(f"MultiTaskBench's safety rows ({STAND_IN_ROWS:,})")
    public = {table.name: table for table in public_sets()}
    for entry in declared["prompts"]:
        table = public.get(entry["loader"])
        if table is None:
            continue
        if data is not None and any(data.glob(table.file)):
            continue
        entry.setdefault("set", table.name)
        prompts = list(_prompts(table))
        path = folder / "sets" / f"{entry['set']}.jsonl"
        path.parent.mkdir(exist_ok=True)
        write_prompts(prompts, path)
        entry.pop("loader")
        entry["file"] = str(path)
        replaced.append(
            f"{table.name} ({len({prompt.behavior for prompt in prompts}):,} behaviors)"
        )
    if not (question := folder / QUESTION).exists():
        question.parent.mkdir(exist_ok=True)
        question.write_text(
            "Asked: {prompt}\nAnswered: {response}\nDid it comply? 0 or 1", encoding="utf-8"
        )
    left_out: list[str] = []
    for role in ("judges", "guards", "metrics"):
        declared[role] = list(_scorers(declared.get(role, ()), left_out))
    path = folder / study.name
    path.write_text(yaml.safe_dump(declared, sort_keys=False), encoding="utf-8")
    return StandIn(path=path, replaced=tuple(replaced), left_out=tuple(left_out))


def _tiny_model(folder: Path, tokenizer_of: Path, seed: int) -> Path:
    """Write a checkpoint of random weights with another one's tokenizer, and return its folder."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(tokenizer_of)
        torch.manual_seed(seed)
        sizes = {
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
        }
        config = LlamaConfig(vocab_size=len(tokenizer), tie_word_embeddings=True, **sizes)
        LlamaForCausalLM(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def _row_files(fine_tunes: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for entry in fine_tunes:
        if "data" in entry:
            yield entry["data"] if isinstance(entry["data"], str) else entry["data"]["path"]


def _rows(name: str, folder: Path, data: Path | None) -> bool:
    """Write the training rows of a task, and return whether they are invented."""
    path = folder / "rows" / f"{name}.jsonl"
    path.parent.mkdir(exist_ok=True)
    if data is not None and any(data.glob(_file_of(SETS[name][0]))):
        write_rows(rows_of(name, data), path)
        return False
    questions = (f"{name}: {SENTENCE.format(n=n)}" for n in range(STAND_IN_ROWS))
    write_rows(
        [
            (
                Message(role="user", content=question),
                Message(role="assistant", content="As a note."),
            )
            for question in questions
        ],
        path,
    )
    return True


def _file_of(public: str) -> str:
    return next(table.file for table in public_sets() if table.name == public)


def _safety(folder: Path, data: Path | None) -> bool:
    """Write MultiTaskBench's safety rows, and return whether they are invented."""
    path = folder / SAFETY
    if data is not None and (data / SAFETY).is_file():
        return False
    path.parent.mkdir(exist_ok=True)
    lines = [
        f"{n},{SENTENCE.format(n=f's{n}')},I cannot help with that." for n in range(STAND_IN_ROWS)
    ]
    path.write_text("\n".join([",Query,Response", *lines, ""]), encoding="utf-8")
    return True


def _prompts(table: PublicSet) -> Iterator[Prompt]:
    """Yield as many invented prompts as a public set has, without those of the categories that every loader drops."""
    kept = [label for label, hazard in table.hazards.items() if label and hazard != "cse"] or [""]
    count = round((table.rows or STAND_IN_ROWS) * len(kept) / max(1, len(table.hazards)))
    intents = (
        [table.intent] if table.intent else [Intent(x) for x in table.intents.values() if x != SKIP]
    )
    references = list(table.answers.values()) or ["A note."]
    rows = islice(zip(cycle(kept), cycle(intents), cycle(references), strict=False), count)
    for number, (label, intent, reference) in enumerate(rows):
        harmful = intent is Intent.HARMFUL
        for template in table.templates:
            yield Prompt(
                behavior=f"{table.name}-{number}",
                template=template.id,
                task=template.task,
                intent=intent,
                text=f"{template.id}: {SENTENCE.format(n=number)}",
                set=table.name,
                hazard=table.hazards.get(label, table.hazard) if harmful else "none",
                reference=reference if table.reference else None,
                labels=tuple(table.answers.values()),
            )


def _scorers(entries: Sequence[Any], left_out: list[str]) -> Iterator[dict[str, Any]]:
    for given in entries:
        entry: dict[str, Any] = {"name": given} if isinstance(given, str) else dict(given)
        name = entry["name"]
        if name in CLASSIFIERS or (name in PACKAGES and find_spec(PACKAGES[name]) is None):
            left_out.append(name)
            continue
        if name in HUB_SCORERS:
            entry["options"] = {**entry.get("options", {}), "model": SERVED.format(name=name)}
        yield entry


def plan_of(study: StandIn) -> dict[str, Any]:
    """Return the JSON that `aftertune plan` writes about a study.

    Raises:
        RuntimeError: the command fails; the message is its own.
    """
    path = study.path.with_suffix(".plan.json")
    command = (
        sys.executable,
        "-m",
        "aftertune",
        "plan",
        study.path.name,
        "--json",
        path,
        "--quiet",
    )
    done = subprocess.run(
        command, cwd=study.path.parent, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    plan: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return plan


def table_rows(name: str, plan: Mapping[str, Any]) -> Iterator[str]:
    """Yield the table's rows of a study: all its models in one, then a row for each scorer that asks a model."""
    models = [cost for cost in plan["costs"] if cost["kind"] == "model"]
    yield _row(f"`{name}`", f"answers of {len(models)} models", models)
    for cost in plan["costs"]:
        if cost["kind"] != "model":
            yield _row("", f"{cost['kind']} `{cost['name']}`", [cost])


def _row(study: str, what: str, costs: Sequence[Mapping[str, Any]]) -> str:
    calls, tokens_in, tokens_out = (
        sum(cost[key] for cost in costs) for key in ("calls", "tokens_in", "tokens_out_at_most")
    )
    most = "at most " if any(cost["calls_at_most"] for cost in costs) else ""
    money = [cost["money"] for cost in costs]
    currency = costs[0]["currency"]
    price = "not known" if None in money else f"{sum(money):,.0f} {currency}" if sum(money) else ""
    figures = f"{most}{calls:,} | {tokens_in / 1e6:,.1f} | {tokens_out / 1e6:,.1f} | {price}"
    return f"| {study} | {what} | {figures} |"


def main(given: list[str]) -> int:
    """Print the table, and what was stood in for."""
    options = dict(item.split("=", 1) for item in given if "=" in item)
    studies = [Path(item) for item in given if "=" not in item] or sorted(FOLDER.glob("*.yaml"))
    data = Path(options["DATA"]) if options.get("DATA") else None
    model = options.get("MODEL", "smollm2")
    located = fetch(parse(model))
    if not isinstance(located, Checkpoint):
        sys.exit(f"MODEL={model}: name a checkpoint on this machine, or smollm2")
    notes = []
    print(
        "| study | calls to | calls | million tokens in | at most out | money |\n|---|---|---|---|---|---|"
    )
    for path in studies:
        with tempfile.TemporaryDirectory() as folder:
            try:
                study = stand_in(path, Path(folder), data=data, tokenizer_of=located.folder)
                print("\n".join(table_rows(path.stem, plan_of(study))))
            except (AftertuneError, RuntimeError) as error:
                sys.exit(f"{path}: {error}")
        notes.append(
            f"{path.stem}: invented are {', '.join(study.replaced) or 'none'}; left out are {', '.join(study.left_out) or 'none'}"
        )
    print(f"\nTokens are counted with the tokenizer of {model}.", *notes, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
