"""The memory of what servers refuse, by address, in the run's folder: a rerun makes the same requests under the same keys."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aftertune.core.files import write_whole
from aftertune.errors import InputError
from aftertune.models.endpoint.chat import USUAL, RequestForm
from aftertune.models.endpoint.providers import Address


class RequestForms:
    """The forms of requests of a run's served models.

    A form is kept before anything is answered under keys that follow from it. So a run that is killed anywhere makes the
    keys of its answers again, and asks for none of them twice.

    Args:
        file: where the forms are kept between runs; None forgets them.
        note: takes a line about a form that is new.

    Raises:
        InputError: the file is not what this class wrote.
    """

    def __init__(self, file: Path | None = None, note: Callable[[str], object] = str) -> None:
        self._file, self._note = file, note
        self._forms = {} if file is None or not file.is_file() else _read(file)

    def of(self, address: Address) -> RequestForm:
        """Return the form of requests to a served model."""
        return self._forms.get(_name(address), USUAL)

    def keep(self, address: Address, form: RequestForm) -> None:
        """Keep the form of requests to a served model, and say so.

        Raises:
            AftertuneError: the file cannot be written.
        """
        if form == self.of(address):
            return
        self._forms[_name(address)] = form
        if self._file is not None:
            models = {name: asdict(kept) for name, kept in self._forms.items()}
            document = {"format": 1, "models": models}
            write_whole(self._file, [json.dumps(document, indent=2) + "\n"])
        self._note(f"note: {address.name}: {form.in_words}")


def _name(address: Address) -> str:
    return f"{address.url}#{address.model}"


def _read(file: Path) -> dict[str, RequestForm]:
    try:
        models: Mapping[str, Mapping[str, Any]] = json.loads(file.read_text(encoding="utf-8"))[
            "models"
        ]
        return {
            name: RequestForm(
                left_out=tuple(map(str, kept["left_out"])),
                temperatures=tuple(map(float, kept["temperatures"])),
                limit_field=str(kept["limit_field"]),
                folds_system=bool(kept["folds_system"]),
            )
            for name, kept in models.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{file}: cannot be read ({error}); it says what servers refuse, which is in the keys of their answers: mend it, "
            "or move it away to have that found out again"
        ) from error
