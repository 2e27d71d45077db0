"""Prompt sets: loaded by name, read from and written to files, cleaned, cut down to a balanced part, and gathered for a study.

The prompts of a study are checked against the models' vocabularies, and freed of the behaviors that occur in training rows.
"""

import ast
import inspect
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import chain, islice, zip_longest
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from aftertune.core.keys import short_id
from aftertune.core.protocols import Tools
from aftertune.core.records import Intent, Prompt
from aftertune.core.registry import find
from aftertune.data.attacks import Attack, AttackKind, load_attacks, under_attack
from aftertune.data.files import Record, names_child_exploitation, read_records, typed
from aftertune.data.overlap import find_overlap
from aftertune.data.rows import Row, write_lines
from aftertune.errors import AftertuneError, DataError, ModelError, PluginError, StudyError

if (
    TYPE_CHECKING
):  # the open run brings the store and all engines, and the commands on data need neither
    from aftertune.workspace import Run

OF_ATTACK = ("attack", "posed", "prefill")
"""The fields of a prompt that stands under an attack."""
FIELDS = tuple(f.name for f in fields(Prompt))
PROMPT = TypeAdapter(Prompt)
MAX_UNKNOWN = 0.05
"""Largest share of ``<unk>`` tokens in a prompt set: above it the model reads another prompt than the one that is measured."""

PROMPT_COLUMN = "the column 'prompt' of a file of prompts is called 'text'; rename it"
IN_TRAINING, BEHAVIOR_IN_TRAINING = "in training data", "of a behavior in training data"
"""The reasons for which prompts are dropped: the prompt itself occurs in a training row, or another one of its behavior does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSet:
    """The prompts that a set gave, and the numbers of those that were left out."""

    prompts: tuple[Prompt, ...]
    dropped: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """Rows left out, by reason: ``duplicate``, ``child exploitation``, ``empty``."""
    notes: tuple[str, ...] = ()
    """Remarks for the readers of the results, one line each."""


def load_prompts(
    name: str,
    *,
    file: str | None = None,
    loader: str | None = None,
    options: Mapping[str, Any] = MappingProxyType({}),
    tools: Tools,
) -> PromptSet:
    """Load the prompt set that a study calls ``name``: a file of prompts, a loader, or a loader reading a file.

    Args:
        name: becomes the ``set`` of every prompt.
        file: a file of finished prompts (`read_prompts`), or the file that the loader shall read.
        loader: a name of the registry: a public data set, ``package.module:factory`` or a plug-in's. It is called with
            ``tools``, with ``file`` if there is one, and with the options, and returns prompts or a `PromptSet`.
        options: the loader's own; those of the public data sets are the arguments of `public_prompts.load_public`.
        tools: for the loader, and for the folder that a relative ``file`` is relative to.

    Raises:
        DataError: the file or one of its rows is wrong; no prompt is left.
        PluginError: no loader has that name, it does not take the options, or it fails.
    """
    loaded: Any
    if loader is not None:
        arguments = {**options} if file is None else {"file": file, **options}
        factory = find("prompts", loader, tools.folder)
        try:
            inspect.signature(factory).bind(tools, **arguments)
        except TypeError as error:
            raise PluginError(f"prompts loader {loader!r}: {error}; check its options") from error
        try:
            loaded = factory(tools, **arguments)
        except (AftertuneError, OSError):
            raise
        except (Exception, SystemExit) as error:  # other people's code may raise anything
            raise PluginError(
                f"prompts loader {loader!r} failed: {type(error).__name__}: {error}"
            ) from error
    elif file is not None:
        loaded = read_prompts(tools.folder / file)
    else:
        raise DataError(f"prompt set {name}: give a file of prompts or a loader")
    raw = loaded if isinstance(loaded, PromptSet) else PromptSet(prompts=tuple(loaded))
    cleaned = gather(
        prompt if prompt.set == name else replace(prompt, set=name) for prompt in raw.prompts
    )
    dropped = Counter(raw.dropped) + Counter(cleaned.dropped)
    if not cleaned.prompts:
        raise DataError(
            f"prompt set {name}: no prompts in it (left out: {dict(dropped) or 'nothing'})"
        )
    return PromptSet(prompts=cleaned.prompts, dropped=dropped, notes=raw.notes)


def gather(prompts: Iterable[Prompt], notes: Iterable[str] = ()) -> PromptSet:
    """Return each prompt once, without empty ones and those about child exploitation, and count the others by reason."""
    kept: dict[str, Prompt] = {}
    dropped: Counter[str] = Counter()
    for prompt in prompts:
        if not prompt.text.strip():
            dropped["empty"] += 1
        elif prompt.hazard == "cse" or names_child_exploitation(prompt.text):
            dropped["child exploitation"] += 1
        elif (prompt_id := prompt.id) in kept:
            dropped["duplicate"] += 1
        else:
            kept[prompt_id] = prompt
    return PromptSet(prompts=tuple(kept.values()), dropped=dict(dropped), notes=tuple(notes))


def write_prompts(prompts: Iterable[Prompt], path: Path) -> None:
    """Write prompts as JSONL, one object of `Prompt` fields a line; whole or not at all."""
    write_lines((json.dumps(_plain(prompt), ensure_ascii=False) for prompt in prompts), path)


def _plain(prompt: Prompt) -> dict[str, Any]:
    """Return the fields of a prompt; those of an attack where there is one."""
    values = asdict(prompt)
    return values if prompt.attacked else {k: v for k, v in values.items() if k not in OF_ATTACK}


def read_prompts(path: Path) -> list[Prompt]:
    """Read prompts from JSONL (or CSV, JSON) with the fields of `Prompt`.

    ``text`` and ``intent`` must be given. Without more, ``behavior`` is an id made from the text, ``template`` is
    ``plain``, ``task`` is ``text`` and ``set`` is the file's name.

    Raises:
        DataError: a broken file, an unknown or missing field, a wrong value.
    """
    name = path.name.split(".")[0]
    with closing(read_records(path)) as records:
        return [_prompt(record, name, where) for where, record in records]


def _prompt(record: Record, name: str, where: str) -> Prompt:
    if "prompt" in record and "text" not in record and "completion" not in record:
        raise DataError(f"{where}: {PROMPT_COLUMN}")
    if unknown := record.keys() - set(FIELDS):
        raise DataError(f"{where}: unknown field {min(unknown)!r}; known: {', '.join(FIELDS)}")
    for key in ("text", "intent"):
        if key not in record:
            raise DataError(
                f"{where}: no {key!r}; a prompt needs 'text' and 'intent' (harmful or benign)"
            )
    given = {key: value for key, value in record.items() if value is not None and value != ""}
    if "behavior" not in given:
        given["behavior"] = short_id("b", record["text"])
    if isinstance(labels := given.get("labels"), str):
        given["labels"] = _labels(labels, where)
    default = {"template": "plain", "task": "text", "text": "", "set": name}
    return typed(PROMPT, default | given, where)


def _labels(cell: str, where: str) -> list[str]:
    """Return the labels of a cell of CSV: ``A|B``, or a list as Python, numpy or JSON writes it.

    Raises:
        DataError: the cell begins and ends like a list, and is none of quoted texts.
    """
    listed = _LIST.fullmatch(cell.strip())
    if listed is None:
        return cell.split("|")
    unquoted = _QUOTED.sub("", listed[1]).strip(", \t\r\n")
    if unquoted and ("|" in cell or not cell.lstrip().startswith("[")):
        return cell.split("|")
    try:
        labels = [str(ast.literal_eval(label)) for label in _QUOTED.findall(listed[1])]
    except (ValueError, SyntaxError):
        labels = []
    if unquoted or not labels:
        raise DataError(f"{where}, 'labels': {cell!r:.60} is no list of quoted labels; write A|B")
    return labels


_LIST = re.compile(r"[\[(](.*)[\])]", re.DOTALL)
_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)


def limit(prompts: Sequence[Prompt], n: int) -> list[Prompt]:
    """Return the prompts of ``n`` harmful behaviors with all their tasks, templates and twins, in their order.

    Hazards take turns, and within a hazard behaviors come in the order of a hash, so the first 50 are inside the first
    100. Benign behaviors that are nobody's twin are cut to ``n`` likewise.

    Raises:
        DataError: ``n`` is not positive.
    """
    if n < 1:
        raise DataError(
            f"a limit of {n} leaves no prompts; it counts harmful behaviors and must be at least 1"
        )
    harmful = _first((p for p in prompts if p.intent is Intent.HARMFUL), n)
    all_harmful = {p.behavior for p in prompts if p.intent is Intent.HARMFUL}
    no_twins = _first(
        (p for p in prompts if p.intent is Intent.BENIGN and p.pair not in all_harmful), n
    )
    return [p for p in prompts if p.behavior in harmful | no_twins or p.pair in harmful]


def _first(prompts: Iterable[Prompt], n: int) -> set[str]:
    """Return the first ``n`` behaviors, hazards in turns."""
    by_hazard: dict[str, set[str]] = {}
    for prompt in prompts:
        by_hazard.setdefault(prompt.hazard, set()).add(prompt.behavior)
    ranked = [
        sorted(by_hazard[hazard], key=lambda b: short_id("o", b)) for hazard in sorted(by_hazard)
    ]
    turns = (
        behavior for behavior in chain.from_iterable(zip_longest(*ranked)) if behavior is not None
    )
    return set(islice(turns, n))


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPrompts:
    """The prompts of a study, and the numbers of those that were left out."""

    prompts: tuple[Prompt, ...]
    dropped: Mapping[str, Mapping[str, int]]
    """Prompt set -> reason (``duplicate``, ``child exploitation``, `IN_TRAINING` …) -> prompts that were left out."""
    overlap: Mapping[str, int]
    """Training file -> evaluation prompts that occur in it; these are dropped for all models."""
    notes: tuple[str, ...] = ()
    attacks: tuple[Attack, ...] = ()
    """The attacks that the study declares."""
    supplied: tuple[Prompt, ...] = ()
    """Prompts that come from their sets with an attack around them; ``prompts`` has those without alone."""

    def attacked(self, prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
        """Return what is asked beside some of the prompts: them under every attack, and what the sets supply of their behaviors."""
        if not (self.attacks or self.supplied):
            return ()
        pairs = {prompt.pair or prompt.behavior for prompt in prompts}
        supplied = (p for p in self.supplied if (p.pair or p.behavior) in pairs)
        return (*supplied, *under_attack(prompts, self.attacks))


def load_sets(run: "Run") -> StudyPrompts:
    """Load the prompt sets and check that the models can read them; fine-tunes have the tokenizer of their base.

    Raises:
        DataError: a set cannot be loaded, is empty, or does not fit a model's vocabulary; no prompt is without attack.
        StudyError: the declared task weights are not those of the prompts' tasks, or an attack is not there.
        ModelError: an attack begins the answer, and a model cannot go on behind that.
    """
    attacks = load_attacks(run.study.attacks)
    prompts: dict[str, Prompt] = {}
    dropped: dict[str, dict[str, int]] = {}
    notes: list[str] = []
    for keys in run.study.prompts:
        loaded = load_prompts(
            keys.set, file=keys.file, loader=keys.loader, options=keys.options, tools=run.tools
        )
        chosen = loaded.prompts if keys.limit is None else limit(loaded.prompts, keys.limit)
        prompts |= {prompt.id: prompt for prompt in chosen}
        dropped[keys.set] = dict(loaded.dropped)
        notes += [f"{keys.set}: {note}" for note in loaded.notes]
    supplied = tuple(prompt for prompt in prompts.values() if prompt.attacked)
    prompts = {id_: prompt for id_, prompt in prompts.items() if not prompt.attacked}
    if not prompts:
        raise DataError(
            "every prompt stands under an attack, and none without: rates under an attack are read beside those without; add the "
            "same behaviors as they are posed (attack: none)"
        )
    if both := {prompt.attack for prompt in supplied} & {attack.id for attack in attacks}:
        raise StudyError(
            f"attacks: {min(both)!r} is declared, and prompts come with an attack of the same id; give one another id"
        )
    _check_vocabulary(run, prompts.values())
    _check_prefills(run, {*_prefilling(attacks), *(p.attack for p in supplied if p.prefill)})
    notes += _unread_notes(run, under_attack(prompts.values(), attacks)) if attacks else []
    weights, tasks = run.study.measurement.task_weights, {p.task for p in prompts.values()}
    if weights is not None and weights.keys() != tasks:
        raise StudyError(
            f"measurement.task_weights weighs {', '.join(sorted(weights))}, and the prompts have the tasks "
            f"{', '.join(sorted(tasks))}; weigh these, or none"
        )
    return StudyPrompts(
        prompts=tuple(prompts.values()),
        dropped={name: reasons for name, reasons in dropped.items() if reasons},
        overlap={},
        notes=tuple(notes),
        attacks=attacks,
        supplied=supplied,
    )


def without_overlap(loaded: StudyPrompts, rows: Mapping[str, Sequence[Row]]) -> StudyPrompts:
    """Drop, for all models, every behavior that occurs in a training row of the study.

    A behavior goes with all its prompts, in every task and template, and with its benign twin: a model that was shown one
    of them has been shown the request behind the others.

    Args:
        loaded: the prompts.
        rows: all training, safety and replay rows by file.

    Raises:
        DataError: nothing is left.
    """
    if not any(rows.values()):
        return replace(loaded, overlap=dict.fromkeys(rows, 0))
    overlap = find_overlap((*loaded.prompts, *loaded.supplied), rows)
    kept = tuple(prompt for prompt in loaded.prompts if not overlap.drops(prompt))
    if not kept:
        raise DataError(
            "every evaluation behavior occurs in the training rows; choose other prompts or other training data"
        )
    dropped = {name: Counter(reasons) for name, reasons in loaded.dropped.items()}
    for prompt in (*loaded.prompts, *loaded.supplied):
        if overlap.drops(prompt):
            reason = IN_TRAINING if prompt.id in overlap.prompts else BEHAVIOR_IN_TRAINING
            dropped.setdefault(prompt.set, Counter())[reason] += 1
    return replace(
        loaded,
        prompts=kept,
        supplied=tuple(prompt for prompt in loaded.supplied if not overlap.drops(prompt)),
        dropped=dropped,
        overlap=dict.fromkeys(rows, 0) | overlap.sources,
    )


def _prefilling(attacks: Iterable[Attack]) -> set[str]:
    return {attack.id for attack in attacks if attack.kind is AttackKind.PREFILL}


def _check_prefills(run: "Run", prefilling: set[str]) -> None:
    """See that every model can go on behind the beginning of an answer, before anything is asked.

    Raises:
        ModelError: one cannot.
    """
    if not prefilling:
        return
    unable = [model.name for model in run.study.models if not run.open(model).continues_answers]
    if unable:
        raise ModelError(
            f"attack {min(prefilling)} begins the answer, and {', '.join(unable)} cannot be made to go on behind that (OpenAI, "
            "Azure and others take a last message of the assistant for an answer that is finished); leave the attack out, or serve "
            "the model yourself"
        )


MOST_READ = 200
"""Prompts of an attack in which unknown tokens are counted."""


def _unread_notes(run: "Run", attacked: Iterable[Prompt]) -> list[str]:
    """Return notes on attacks whose words a model cannot read: it is measured under them all the same."""
    texts: dict[str, list[str]] = {}
    for prompt in attacked:
        own = texts.setdefault(prompt.attack, [])
        if len(own) < MOST_READ:
            own.append(f"{prompt.text}\n{prompt.prefill}" if prompt.prefill else prompt.text)
    notes = []
    for model in run.study.models if texts else ():
        engine = run.open(model)
        shares = {} if engine.served else {a: engine.unknown_share(t) for a, t in texts.items()}
        if unread := [f"{a} {share:.0%}" for a, share in shares.items() if share > MAX_UNKNOWN]:
            notes.append(
                f"attacks: {model.name} cannot read all of their words (tokens unknown to it: {', '.join(unread)}); its answers under "
                "them say little of the attack"
            )
    return notes


def _check_vocabulary(run: "Run", prompts: Iterable[Prompt]) -> None:
    sets: dict[str, list[str]] = {}
    for prompt in prompts:
        sets.setdefault(prompt.set, []).append(prompt.text)
    for model in run.study.models:
        engine = run.open(model)
        # The tokenizer of a served model is not here.
        for name, texts in () if engine.served else sets.items():
            share = engine.unknown_share(texts)
            if share > MAX_UNKNOWN:
                raise DataError(
                    f"prompt set {name} does not fit model {model.name}: {share:.0%} of its tokens are unknown to the "
                    f"model's tokenizer (at most {MAX_UNKNOWN:.0%}); use prompts in the model's language, or leave it out"
                )
