"""What trainers want beside a training file: LLaMA-Factory's entry in ``dataset_info.json``, axolotl's YAML."""

import json
import os
from pathlib import Path
from typing import Any

import yaml

from aftertune.core.files import write_whole
from aftertune.data.formats import FORMATS
from aftertune.errors import DataError

TRAINERS = {"llama-factory": "sharegpt", "axolotl": "messages"}
"""The trainers that get a file beside the data, and the format that they read it in."""
TARGETS = (*FORMATS, *TRAINERS)
"""All that a file can be written for."""


def beside(out: Path, target: str) -> Path | None:
    """Return the file that a target wants beside ``out``, or None."""
    if target == "llama-factory":
        return out.with_name("dataset_info.json")
    return out.with_suffix(".axolotl.yaml") if target == "axolotl" else None


def known_sets(path: Path) -> dict[str, Any]:
    """Return the data sets that a ``dataset_info.json`` lists; none if there is no such file.

    Raises:
        DataError: it is something else than a JSON object.
    """
    if not path.exists():
        return {}
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(
            f"{path}: broken JSON ({error}); mend it, or write the mixed file into another folder"
        ) from error
    if not isinstance(listed, dict):
        raise DataError(
            f"{path}: expected an object that lists data sets, found {type(listed).__name__}"
        )
    return listed


def write_llama_factory(out: Path) -> None:
    """Enter a ShareGPT file into the ``dataset_info.json`` of its folder, under its name; other entries stay.

    Raises:
        DataError: what stands there is no such file.
    """
    path = out.with_name("dataset_info.json")
    entry = {
        "file_name": out.name,
        "formatting": "sharegpt",
        "columns": {"messages": "conversations", "system": "system"},
        "tags": {
            "role_tag": "from",
            "content_tag": "value",
            "user_tag": "human",
            "assistant_tag": "gpt",
        },
    }
    listed = known_sets(path) | {out.stem: entry}
    write_whole(path, [json.dumps(listed, ensure_ascii=False, indent=2), "\n"])


def write_axolotl(out: Path) -> None:
    """Write the ``datasets`` section that makes axolotl read a ``messages`` file."""
    section = {
        "datasets": [
            {
                "path": os.fspath(out),
                "ds_type": "json",
                "type": "chat_template",
                "field_messages": "messages",
                "message_property_mappings": {"role": "role", "content": "content"},
            }
        ]
    }
    write_whole(
        out.with_suffix(".axolotl.yaml"),
        [yaml.safe_dump(section, sort_keys=False, allow_unicode=True)],
    )
