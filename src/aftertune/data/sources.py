"""What a user may name on the command line where data is looked at: a known set, a set's file, or any file of rows."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from aftertune.core.files import real
from aftertune.core.ids import short_id
from aftertune.core.protocols import Engine, Tools
from aftertune.core.recipe import TrainingFile
from aftertune.core.records import Intent, Message, Prompt
from aftertune.core.registry import known
from aftertune.data.bundled.safety_rows import SAFETY_SET, safety_rows
from aftertune.data.files import read_records
from aftertune.data.formats import SHAPES
from aftertune.data.load import load_prompts
from aftertune.data.public import public_sets
from aftertune.data.rows import Row, read_columns, unchecked_row
from aftertune.data.sets import PromptSet, gather, read_prompts
from aftertune.errors import DataError, PluginError


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A set or a file, as the user named it."""

    title: str
    """What it is called in print."""
    prompts: PromptSet | None = None
    """Of a prompt set, or a file of prompts."""
    file: Path | None = None
    """Of training rows that are read as they are asked for."""
    columns: Mapping[str, str] = field(default_factory=dict)

    def rows(self) -> Iterator[tuple[str, Row]]:
        """Yield every row with its place; of a prompt set the prompt, without an answer.

        Raises:
            DataError: a record of the file cannot be read.
        """
        if self.prompts is not None:
            for number, prompt in enumerate(self.prompts.prompts, start=1):
                yield f"{self.title}, prompt {number}", (Message(role="user", content=prompt.text),)
        elif self.file is None:
            yield from (
                (f"{SAFETY_SET}, row {n}", each.row)
                for n, each in enumerate(safety_rows(), start=1)
            )
        else:
            with closing(read_records(self.file)) as records:
                for where, record in records:
                    yield where, unchecked_row(record, self.columns, where)

    def asked(self) -> PromptSet:
        """Return what is asked: the prompts, or the questions of the rows, each a behavior of its own.

        Raises:
            DataError: as `rows`.
        """
        if self.prompts is not None:
            return self.prompts
        return gather(
            self._question(turn.content)
            for _, row in self.rows()
            for turn in row
            if turn.role == "user"
        )

    def _question(self, text: str) -> Prompt:
        behavior = short_id("b", text)
        return Prompt(
            behavior=behavior,
            template="plain",
            task="text",
            intent=Intent.BENIGN,
            text=text,
            set=self.title,
        )


def named(
    name: str, folder: Path, *, file: Path | None = None, columns: str | None = None
) -> Named:
    """Find what a user means by ``name``.

    Args:
        name: a prompt set of the registry, ``SET=FILE``, the bundled safety rows, a file of prompts (with ``text`` and
            ``intent``) or of training rows.
        folder: where the files of public sets are looked for.
        file: the set's file.
        columns: for files of rows in no known format (`read_columns`).

    Raises:
        DataError: nothing is called so, or it cannot be read.
    """
    called, _, given = name.partition("=")
    if called in known("prompts"):
        if given:
            file = Path(given)
        tools = Tools(open_model=_no_model, folder=real(folder))
        found = load_prompts(
            called, loader=called, file=None if file is None else str(real(file)), tools=tools
        )
        return Named(title=called, prompts=found)
    if name == SAFETY_SET:
        return Named(title=SAFETY_SET)
    path = file or Path(name)
    if not path.is_file():
        raise DataError(
            f"{name}: no set is called so (see aftertune data list), and there is no such file"
        )
    if columns is None and _holds_prompts(path):
        return Named(title=path.name, prompts=gather(read_prompts(path)))
    return Named(title=path.name, file=path, columns=read_columns(columns))


def answered_rows(name: str, folder: Path, option: str) -> TrainingFile:
    """Find the file of training rows that a user means by ``name``, with the columns in which a public one has them.

    Args:
        name: a public set whose prompts are answered (`PublicSet.answer`), ``SET=FILE``, or a file in a known format.
        folder: where the files of public sets are looked for.
        option: the option that ``name`` was given to, for messages.

    Raises:
        DataError: the set has no answers, or its file is not there; or a file without a set is in no known format.
    """
    called, _, given = name.partition("=")
    public = {each.name: each for each in public_sets()}.get(called)
    if public is None or (not given and Path(name).is_file()):
        _check_format(Path(name), option)
        return TrainingFile(path=name)
    if not public.answer:
        answered = ", ".join(each.name for each in public_sets() if each.answer)
        raise DataError(
            f"{called} has prompts without answers, so no rows to train on; sets with answers: {answered}"
        )
    path = Path(given) if given else folder / public.file
    if not path.is_file():
        raise DataError(
            f"{name}: there is no {path}; name the file ({called}=FILE) or the folder (--data)"
        )
    columns = {"prompt": public.payload, "completion": public.answer}
    return TrainingFile(
        path=str(path), columns=columns | ({"input": public.more} if public.more else {})
    )


def _check_format(path: Path, option: str) -> None:
    """See that the first row of a file is in a format that needs no names of columns."""
    if not path.is_file():
        return
    with closing(read_records(path)) as records:
        where, record = next(records, ("", {}))
    if not record or SHAPES.keys() & record.keys():
        return
    answered = [each for each in public_sets() if each.answer]
    fits = next(
        (each.name for each in answered if {each.payload, each.answer} <= record.keys()), None
    )
    named = f"its set, as in {option} {fits or answered[0].name}={path}"
    raise DataError(
        f"{where}: the columns {', '.join(map(repr, record))} are in no known format; name {named}"
        + ("" if fits else ", or rename them to prompt and completion")
    )


def licence_of(name: str) -> str:
    """Return the licence of the public set that a user means by ``name``; empty where it is none, or not known."""
    called, _, given = name.partition("=")
    found = (
        each.licence
        for each in public_sets()
        if each.name == called and (given or not Path(name).is_file())
    )
    return next((licence for licence in found if licence != "not stated"), "")


def _holds_prompts(path: Path) -> bool:
    with closing(read_records(path)) as records:
        _, first = next(records, ("", {}))
    return {"text", "intent"} <= first.keys()


def _no_model(reference: str) -> Engine:
    raise PluginError(f"looking at data opens no model, and so not {reference}")
