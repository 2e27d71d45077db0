"""Keeps the libraries below from talking: no bars, no log lines, and their errors in one line."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_UPSTREAM = (r"`(is_)?gradient_checkpointing",)
"""Deprecations that PEFT and TRL run into inside transformers; nothing that a caller here could change."""


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
            for message in _UPSTREAM:
                warnings.filterwarnings("ignore", message=message, category=FutureWarning)
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, cut to 200 characters; its class where there is no text."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
