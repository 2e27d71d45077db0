"""The border to the libraries that read and compute models: they are kept silent, and their errors become one line.

Files that contradict themselves make transformers, tokenizers and PEFT raise anything, anywhere: when they are read, when the
first prompt is encoded, in the midst of an answer. `refused` stands around such a call and names the file to look at.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from aftertune.errors import AftertuneError, ModelError

_UPSTREAM = r"`(is_)?gradient_checkpointing"
"""A deprecation that PEFT and TRL run into inside transformers; nothing that a caller here could change."""

NAMES = 3
"""Names that an error gives of many."""


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' log lines and progress bars inside the block and restore them after it."""
    from transformers.utils import logging as module

    logging: Any = module  # its functions carry no types
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=_UPSTREAM, category=FutureWarning)
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, with the second where the first only announces it, cut to 300 characters.

    An error without text gives its class.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    announced = len(lines) > 1 and lines[0].endswith(":")
    return (" ".join(lines[: 1 + announced]) or type(error).__name__)[:300]


def first_names(names: Sequence[str]) -> str:
    """Return the first names of a list, with a sign that there are more: ``a, b, c, …``."""
    return ", ".join(names[:NAMES]) + ", …" * (len(names) > NAMES)


def out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out: only CUDA has a class of its own for that."""
    import torch

    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError)
        and any(text in str(error) for text in ("DefaultCPUAllocator", "MPS backend out of memory"))
    )


@contextmanager
def refused(what: str, remedy: str = "") -> Iterator[None]:
    """Turn an error of the libraries inside the block into one line; our own errors and a lack of memory pass.

    Args:
        what: the model and what cannot be done with which of its files.
        remedy: what to do, behind the reason.

    Raises:
        ModelError: the block raised.
    """
    try:
        yield
    except AftertuneError:
        raise
    except Exception as error:
        if out_of_memory(error):
            raise
        kind = type(error).__name__
        reason = first_line(error)
        named = reason if reason.startswith(kind) else f"{kind}: {reason}"
        raise ModelError(f"{what} ({named}){remedy}") from error
