"""Sets and files by the names that users give on the command line: a built-in set, a set's file, or any file of rows."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from aftertune.core.files import real
from aftertune.core.keys import short_id
from aftertune.core.protocols import Tools, no_model
from aftertune.core.recipe import TrainingFile
from aftertune.core.records import Intent, Message, Prompt
from aftertune.core.registry import factories
from aftertune.data.bundled.safety import SAFETY_SETS, safety_rows
from aftertune.data.files import Placed, read_records
from aftertune.data.formats import has_shape, row_of
from aftertune.data.prompt_sets import PromptSet, gather, load_prompts, read_prompts
from aftertune.data.public import PublicSet, public_sets
from aftertune.data.rows import Row, read_columns
from aftertune.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedSource:
    """A set or a file that a user named."""

    title: str
    """The name in print."""
    prompts: PromptSet | None = None
    """The prompts of a prompt set, or of a file of prompts."""
    file: Path | None = None
    """A file of training rows, read one by one."""
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
                (f"{self.title}, row {number}", safety.row)
                for number, safety in enumerate(safety_rows(self.title), start=1)
            )
        else:
            with closing(read_records(self.file)) as records:
                for where, record in records:
                    yield where, row_of(record, self.columns, where)

    def questions(self) -> PromptSet:
        """Return the prompts, or the questions of the rows, each as a behavior of its own.

        Raises:
            DataError: as `rows`.
        """
        if self.prompts is not None:
            return self.prompts
        return gather(
            Prompt(
                behavior=short_id("b", turn.content),
                template="plain",
                task="text",
                intent=Intent.BENIGN,
                text=turn.content,
                set=self.title,
            )
            for _, row in self.rows()
            for turn in row
            if turn.role == "user"
        )


def named_source(
    name: str, folder: Path, *, file: Path | None = None, columns: str | None = None
) -> NamedSource:
    """Return the set or file that a user means by ``name``.

    Args:
        name: a prompt set of the registry, ``SET=FILE``, the bundled safety rows, a file of prompts (with ``text`` and
            ``intent``) or of training rows.
        folder: where the files of public sets are looked for.
        file: the set's file.
        columns: for files of rows in no known format (`read_columns`).

    Raises:
        DataError: no set or file has that name, or it cannot be read.
    """
    set_name, _, given = name.partition("=")
    if set_name in factories("prompts"):
        if given:
            file = Path(given)
        loaded = load_prompts(
            set_name,
            loader=set_name,
            file=None if file is None else str(real(file)),
            tools=Tools(open_model=no_model, folder=real(folder)),
        )
        return NamedSource(title=set_name, prompts=loaded)
    if name in SAFETY_SETS:
        return NamedSource(title=name)
    path = file or Path(name)
    if not path.is_file():
        raise DataError(
            f"{name}: no set is called so (see aftertune data list), and there is no such file"
        )
    if columns is None and {"text", "intent"} <= _first_record(path)[1].keys():
        return NamedSource(title=path.name, prompts=gather(read_prompts(path)))
    return NamedSource(title=path.name, file=path, columns=read_columns(columns))


def answered_rows(name: str, folder: Path, option: str) -> TrainingFile:
    """Return the file of training rows that a user means by ``name``, with the columns in which a public one has them.

    Args:
        name: a bundled set of safety rows, a public set whose prompts are answered (`PublicSet.answer`), ``SET=FILE``, or a
            file in a known format.
        folder: where the files of public sets are looked for.
        option: the option that ``name`` was given to, for messages.

    Raises:
        DataError: the set has no answers, or its file is not there; or a file without a set is in no known format.
    """
    if name in SAFETY_SETS and not Path(name).exists():
        return TrainingFile(path=name)
    public, given = _public(name)
    if public is None:
        _check_format(Path(name), option)
        return TrainingFile(path=name)
    if not public.answer:
        names = ", ".join(table.name for table in public_sets() if table.answer)
        raise DataError(
            f"{public.name} has prompts without answers, so no rows to train on; sets with answers: {names}"
        )
    path = Path(given) if given else folder / public.file
    if not path.is_file():
        raise DataError(
            f"{name}: there is no {path}; name the file ({public.name}=FILE) or the folder (--data)"
        )
    columns = {"prompt": public.payload, "completion": public.answer}
    return TrainingFile(
        path=str(path), columns=columns | ({"input": public.more} if public.more else {})
    )


def licence_of(name: str) -> str:
    """Return the licence of the public set that a user means by ``name``; empty where there is none, or none is known."""
    public, _ = _public(name)
    return public.licence if public is not None and public.licence != "not stated" else ""


def _public(name: str) -> tuple[PublicSet | None, str]:
    """Return the public set that a name (``SET`` or ``SET=FILE``) means, if any, and FILE; a file here goes first."""
    set_name, _, given = name.partition("=")
    if not given and Path(name).is_file():
        return None, ""
    return {table.name: table for table in public_sets()}.get(set_name), given


def _check_format(path: Path, option: str) -> None:
    """Raise an error if the first row of a file is in a format that needs names of columns."""
    where, record = _first_record(path) if path.is_file() else ("", {})
    if not record or has_shape(record):
        return
    answered = [table for table in public_sets() if table.answer]
    fits = next(
        (table.name for table in answered if {table.payload, table.answer} <= record.keys()), None
    )
    remedy = f"name its set, as in {option} {fits or answered[0].name}={path}"
    raise DataError(
        f"{where}: the columns {', '.join(map(repr, record))} are in no known format; {remedy}"
        + ("" if fits else ", or rename them to prompt and completion")
    )


def _first_record(path: Path) -> Placed:
    with closing(read_records(path)) as records:
        return next(records, ("", {}))
