"""The mix from file to file, row by row: the scan of the training file, the pools, the mixed file, and the files beside it."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from aftertune.core.files import real
from aftertune.core.keys import file_sha256
from aftertune.core.recipe import TrainingFile
from aftertune.core.records import HarmBasis, Intent
from aftertune.data.bundled.multitask import evaluation_rows, evaluation_templates
from aftertune.data.bundled.safety import SAFETY_SET, SAFETY_SETS, safety_pools, safety_sha256
from aftertune.data.files import Record, names_child_exploitation, record_of
from aftertune.data.formats import (
    FORMATS,
    TRAINERS,
    converted,
    format_of,
    is_marked,
    marked_for_axolotl,
    uses_tools,
    write_axolotl,
    write_llama_factory,
    writer_like,
)
from aftertune.data.mix import PARTS, Candidates, Draw, Part, draw, question_hash
from aftertune.data.overlap import normalise, text_hash
from aftertune.data.repose import INPUT, PromptFormat, find_format, repose
from aftertune.data.rows import (
    Row,
    RowFile,
    answered,
    as_line,
    read_columns,
    scan_pools,
    write_lines,
)
from aftertune.data.rules import SHIPPED_RULES, Rule, rule_pools
from aftertune.errors import DataError

SHOWN = 5
"""Rows that a message names before it counts the rest."""
FEWEST_LABELLED, MOST_LABELS, LABEL_WORDS = 20, 20, 4
"""A file of so many rows or more looks like a classifier's if its answers are at most so many different ones, of so few words."""
CLASSIFICATION = "classification"
"""The task whose safety rows decline to label harmful texts."""
MODERATION = frozenset(
    [
        "safe",
        "unsafe",
        "toxic",
        "non-toxic",
        "nontoxic",
        "hate",
        "hateful",
        "offensive",
        "abusive",
        "spam",
        "ham",
        "harmful",
        "harmless",
        "flagged",
        "allow",
        "allowed",
        "block",
        "blocked",
    ]
)
"""Labels by which a moderation model is recognised."""

Pools = Mapping[Part, Mapping[str, Candidates]]
"""Candidates by part (``safety``, ``replay``) and task."""
Opener = Callable[[TrainingFile], RowFile]
Writer = Callable[[Row], Mapping[str, object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """Rows to draw from and their share of the final file."""

    files: Sequence[TrainingFile] = field(default=())
    """Without files and rules the bundled rows are drawn from; a file may be a bundled set by its name."""
    rules: Sequence[Rule] = field(default=())
    """Rules whose violations are posed and refused, in place of files."""
    rules_file: Path | None = None
    """The list that the rules were read from."""
    basis: HarmBasis | None = None
    """Only bundled rows, and rows of rules, whose template has this harm basis."""
    share: float = 0.0
    licences: Sequence[str] = field(default=())
    """The licence of each file, empty where it is not known; no entries where none is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MixRequest:
    """The options of a mix from file to file."""

    train: Path
    out: Path
    columns: str | None = None
    """``prompt=question,completion=answer``, for a training file in no known format."""
    safety: Addition
    replay: Addition
    seed: int = 0
    weights: Mapping[str, float] = field(default_factory=dict)
    """Weights of tasks; the others have 1."""
    like: Path | None = None
    """A training file whose prompt format the added rows take."""
    to: str | None = None
    """One of `formats.TARGETS`; the training file's own format without it."""

    def addition(self, part: Part) -> Addition:
        """Return the rows to draw from for ``safety`` or ``replay``."""
        return self.safety if part == "safety" else self.replay


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A source of the rows of a mixed file."""

    name: str
    role: str
    """``yours``, ``safety`` or ``replay``."""
    rows: int
    """Rows of the source, whether they were drawn or not."""
    sha256: str
    """The digest of a file; of the bundled rows, their content key."""
    licence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedFile:
    """The result of a mix from file to file."""

    draw: Draw
    format: str
    """The format of the mixed file: one of `formats.TARGETS`, or as `formats.format_of` names the training file's."""
    like: PromptFormat | None
    """The prompt format that the added rows were posed in."""
    sources: Sequence[Source]
    notes: Sequence[str]
    """Remarks for the user, one line each."""

    @property
    def read_by_trl(self) -> bool:
        """Return whether TRL reads the format."""
        written = FORMATS.get(TRAINERS.get(self.format, self.format))
        return written is not None and written.trl


def mix_file(request: MixRequest) -> MixedFile:
    """Write the mixed file, and the trainer's file beside it where it is wanted.

    Without safety files the bundled set is drawn from, `multitask-safety-v2`: its refusals, and as replay its answers to
    the benign twins in the same templates.

    Raises:
        DataError: a file cannot be read, the training file holds evaluation behaviors, or a row does not fit into the
            format.
    """
    with ExitStack() as stack:

        def opened(file: TrainingFile) -> RowFile:
            return stack.enter_context(RowFile(file, Path()))

        rows = opened(TrainingFile(path=str(request.train), columns=read_columns(request.columns)))
        scanned = scan(rows)
        if scanned.evaluation.count:
            raise DataError(
                f"{request.train}: holds evaluation behaviors of multitask-v1: {scanned.evaluation}; take these rows out"
            )
        like = None if request.like is None else _format_like(request.like, rows, scanned, opened)
        pools: Pools = {
            "safety": _pool(request.safety, Intent.HARMFUL, like, opened),
            "replay": _pool(request.replay, Intent.BENIGN, like, opened),
        }
        made = draw(
            scanned.questions,
            (pools["safety"], pools["replay"]),
            shares=(request.safety.share, request.replay.share),
            seed=request.seed,
            weights=request.weights,
        )
        target = request.to or scanned.format
        to = None if request.to is None else TRAINERS.get(request.to, request.to)
        write = scanned.writer(rows) if to is None else FORMATS[to].write
        has_input = like is not None and any(frame.middle == INPUT for frame in like.frames)
        if has_input and target == "alpaca":
            write = _with_input(write)
        marks = request.to == "axolotl" and scanned.marked.count > 0
        lines = _lines(made, rows, pools, to, write)
        if marks:
            lines = (as_line(marked_for_axolotl(record_of(line, "a row"))) for line in lines)
        write_lines(lines, request.out)
        notes = [*scanned.notes(request.to, to), *made.notes]
        notes += _classifier_notes(request.safety, scanned, made)
        sources = [_source(request.train, "yours", len(rows))]
        for part in PARTS:
            sources += _sources(part, request.addition(part), pools[part])
    if request.to == "llama-factory":
        write_llama_factory(request.out)
    elif request.to == "axolotl":
        write_axolotl(request.out, marks=marks)
    return MixedFile(draw=made, format=target, like=like, sources=sources, notes=notes)


@dataclass(slots=True)
class Flagged:
    """Rows that a message is about: their number, and the names of the first ones."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, name: str) -> None:
        """Count a row, and keep its name if it is among the first."""
        self.count += 1
        if self.count <= SHOWN:
            self.first.append(name)

    def __str__(self) -> str:
        more = self.count - len(self.first)
        return ", ".join(self.first) + (f" and {more:,} more" if more else "")

    def sentence(self, singular: str, plural: str) -> str:
        """Return the beginning of a sentence about the rows, with its verb."""
        return f"{self.count:,} of your rows ({self}) {singular if self.count == 1 else plural}"


@dataclass(slots=True)
class Scan:
    """The facts about a training file that a mix needs."""

    questions: "array[int]" = field(default_factory=lambda: array("Q"))
    """The hash of each row's question (`mix.question_hash`)."""
    formats: Counter[str] = field(default_factory=Counter)
    """Rows by format, that of the first row first."""
    inputs: int = 0
    """Rows with something in a column ``input``."""
    evaluation: Flagged = field(default_factory=Flagged)
    """Rows that hold evaluation behaviors, a behavior each."""
    unanswered: Flagged = field(default_factory=Flagged)
    child_exploitation: Flagged = field(default_factory=Flagged)
    worded: Counter[str] = field(default_factory=Counter)
    """Rows in the words of an evaluation template, by template."""
    tools: Flagged = field(default_factory=Flagged)
    marked: Flagged = field(default_factory=Flagged)
    """Rows of which an answer is marked as to be learnt, or as not."""
    reasoning: Flagged = field(default_factory=Flagged)
    """Rows that keep the thinking before an answer apart."""
    answers: set[int] = field(default_factory=set)
    """The hashes of the last answers, as long as they are few and short enough for labels."""
    moderation: bool = False
    """A last answer is a label of moderation."""
    labelled: bool = True
    """All last answers so far are short, and few are different."""

    @property
    def format(self) -> str:
        """The format of the first row, which added rows take."""
        return next(iter(self.formats))

    @property
    def labels(self) -> int:
        """The number of different answers where the file looks like a classifier's; 0 where it does not."""
        rows = len(self.questions)
        few = self.labelled and rows >= FEWEST_LABELLED and len(self.answers) <= rows / 4
        return len(self.answers) if few else 0

    def writer(self, rows: RowFile) -> Writer:
        """Return the writer of added rows in the very format of the first row."""
        return writer_like(rows.record(0), rows.file.columns)

    def add_answer(self, answer: str) -> None:
        """Take a row's last answer into account for `labels`."""
        if self.labelled:
            words = normalise(answer)
            self.answers.add(text_hash(words))
            self.moderation |= words in MODERATION
            self.labelled = words.count(" ") < LABEL_WORDS and len(self.answers) <= MOST_LABELS

    def notes(self, target: str | None, to: str | None) -> Iterator[str]:
        """Yield remarks about the file, a line each; ``target`` is what the user wants, if anything, and ``to`` its format."""
        if self.tools.count:
            yield (
                f"{self.tools.sentence('calls', 'call')} tools; kept as is, and left out where aftertune trains"
            )
        if to is not None and self.marked.count and not FORMATS[to].marks:
            yield (
                f"{self.marked.sentence('marks', 'mark')} answers as to be learnt or not (weight, train), and {target} has no such "
                "mark: trainers learn all of them; --to messages, openai or axolotl keeps the marks"
            )
        if to is not None and self.reasoning.count and not FORMATS[to].reasoning:
            yield (
                f"{self.reasoning.sentence('keeps its', 'keep their')} thinking apart (reasoning_content), and {target} has no "
                "place for it: it is left out; --to messages keeps it"
            )
        if to is None and len(self.formats) > 1:
            counts = ", ".join(f"{name} {count:,}" for name, count in self.formats.items())
            yield f"your rows are in several formats ({counts}), and trainers read one; --to writes all rows in one"
        if self.child_exploitation.count:
            yield (
                f"{self.child_exploitation.sentence('speaks', 'speak')} of children and sex in one breath; kept as is: "
                "look at them, and take out what must not be trained on"
            )
        if self.unanswered.count:
            yield (
                f"{self.unanswered.sentence('has', 'have')} no answer; kept as is, but trainers may refuse or "
                "skip such rows"
            )
        if self.worded:
            counts = ", ".join(
                f"{template} {count:,}" for template, count in self.worded.most_common(SHOWN)
            )
            yield (
                f"your rows share the wording of evaluation templates ({counts}); they hold none of its behaviors, but the model "
                "will know these wordings"
            )


def scan(rows: RowFile) -> Scan:
    """Read a training file once, and return the facts that the mix needs."""
    scanned = Scan()
    for number, _, record, row in rows.scan():
        scanned.formats[format_of(record, rows.file.columns)] += 1
        scanned.questions.append(question_hash(row))
        scanned.inputs += _has_input(record)
        if not answered(row):
            scanned.unanswered.add(f"{number + 1}")
        if uses_tools(row):
            scanned.tools.add(f"{number + 1}")
        if is_marked(row):
            scanned.marked.add(f"{number + 1}")
        if any(turn.reasoning for turn in row):
            scanned.reasoning.add(f"{number + 1}")
        scanned.add_answer(row[-1].content)
        if names_child_exploitation(*(turn.content for turn in row)):
            scanned.child_exploitation.add(f"{number + 1}")
        for _, behavior in evaluation_rows([row]):
            scanned.evaluation.add(f"row {number + 1} ({behavior})")
        scanned.worded.update(evaluation_templates(row))
    return scanned


def _has_input(record: Record) -> bool:
    return "instruction" in record and bool(str(record.get("input") or "").strip())


def _format_like(path: Path, rows: RowFile, scanned: Scan, opened: Opener) -> PromptFormat:
    """Return the prompt format of a file, which may be the training file itself."""
    if real(path) == real(Path(rows.file.path)):
        return find_format(rows, inputs=scanned.inputs / len(rows))
    other = opened(TrainingFile(path=str(path)))
    inputs = sum(_has_input(row.record) for row in other.scan())
    return find_format(other, inputs=inputs / len(other))


def _pool(
    addition: Addition, intent: Intent, like: PromptFormat | None, opened: Opener
) -> Mapping[str, Candidates]:
    """Return the rows to draw from by task: the files', or the bundled ones of an intent."""
    if addition.share == 0:
        return {}
    bundled = [file.path for file in addition.files if file.path in SAFETY_SETS]
    files = [file for file in addition.files if file.path not in SAFETY_SETS]
    pools: dict[str, Sequence[Row]] = {}
    if files:
        pools.update(scan_pools([opened(file) for file in files]))
    elif addition.rules:
        pools.update(rule_pools(addition.rules, addition.basis))
    elif not bundled:
        bundled = [SAFETY_SET]
    for name in bundled:
        for task, rows in safety_pools(intent, name, addition.basis).items():
            pools[task] = [*pools.get(task, ()), *rows]
    posed = None if like is None or like.is_empty else lambda row: repose(row, like)
    own = files or addition.rules
    barred = (lambda row: any(evaluation_rows([row]))) if own else None
    return {task: Candidates(rows, posed, barred) for task, rows in pools.items()}


def _lines(made: Draw, rows: RowFile, pools: Pools, to: str | None, write: Writer) -> Iterator[str]:
    """Yield the lines of the mixed file; the user's are copied from the training file unless ``to`` is a format."""
    for part, task, number in made:
        try:
            if part == "user" and to is None:
                yield rows.line(number)
                continue
            record = (
                converted(rows.record(number), rows[number], to, rows.file.columns)
                if part == "user" and to is not None
                else write(pools[part][task].row(number))
            )
        except DataError as error:
            where = (
                f"{rows.file.path}, row {number + 1}"
                if part == "user"
                else f"a {part} row ({task})"
            )
            raise DataError(f"{where}: {error}") from error
        yield as_line(record)


def _with_input(write: Writer) -> Writer:
    """Return a writer of Alpaca that fills the field ``input``, as the file that added rows are like does."""

    def filled(row: Row) -> Mapping[str, object]:
        record = write(row)
        instruction, _, payload = str(record["instruction"]).partition(INPUT)
        return {**record, "instruction": instruction, "input": payload}

    return filled


def _source(path: Path, role: str, rows: int, licence: str = "") -> Source:
    return Source(
        name=path.name,
        role=role,
        rows=rows,
        sha256=file_sha256(path) if path.is_file() else "not a file",
        licence=licence or "its owner's to state",
    )


def _sources(role: str, addition: Addition, pool: Mapping[str, Candidates]) -> list[Source]:
    """Return the sources of a part; each file of a part has the number of rows of all of its files together."""
    if not addition.share:
        return []
    rows = sum(len(candidates.usable) for candidates in pool.values())
    if addition.rules_file is not None:
        ours = addition.rules_file in SHIPPED_RULES.values()
        return [_source(addition.rules_file, role, rows, "Apache-2.0" if ours else "")]
    files = addition.files or (TrainingFile(path=SAFETY_SET),)
    licences = addition.licences or ("",) * len(files)
    return [
        Source(name=file.path, role=role, rows=rows, sha256=sha256, licence="Apache-2.0")
        if (sha256 := safety_sha256(file.path))
        else _source(Path(file.path), role, rows, licence)
        for file, licence in zip(files, licences, strict=True)
    ]


def _classifier_notes(safety: Addition, scanned: Scan, made: Draw) -> Iterator[str]:
    """Yield a warning where the training rows are a classifier's, and safety rows decline what it must do."""
    declined = made.parts[0].by_task.get(CLASSIFICATION)
    if not scanned.labels or not declined or safety.basis == "assistance":
        return
    what = "a moderation model" if scanned.moderation else "a classifier"
    remedy = (
        f"--weights {CLASSIFICATION}=0 leaves them out"
        if any(file.path not in SAFETY_SETS for file in safety.files)
        else f"--basis assistance leaves all texts to be processed out, --weights {CLASSIFICATION}=0 this task"
    )
    yield (
        f"your rows have {scanned.labels} different answers, as those of {what} have: {declined:,} of the safety rows are of the task "
        f"{CLASSIFICATION}, where harmful texts are declined, which {what} must label; {remedy}"
    )
