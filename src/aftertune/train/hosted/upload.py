"""What a provider would refuse, found before anything is sent, and what the job will cost at most."""

import math
from collections.abc import Mapping, Sequence

from aftertune.core.records import Message
from aftertune.errors import DataError, InputError
from aftertune.train.hosted.job import HostedTune, Provider

LEAST_ROWS = 10
"""OpenAI's; Vertex names no number, and fewer are no fine-tune there either."""
MOST_BYTES: Mapping[Provider, int] = {"openai": 512 * 2**20, "vertex": 2**30}
MOST_SUFFIX = 64
MOST_SEED = 2**31 - 1
_ROW_TOKENS = 16
"""What chat markup around a row can come to."""


def check_rows(rows: Sequence[Sequence[Message]], named: str) -> None:
    """See that the rows make a training file.

    Raises:
        DataError: too few rows, or a row with an empty turn.
    """
    if len(rows) < LEAST_ROWS:
        raise DataError(f"{named}: {len(rows)} rows; hosted fine-tuning takes {LEAST_ROWS} or more")
    for number, row in enumerate(rows, start=1):
        empty = next((turn.role for turn in row if not turn.content.strip()), None)
        if empty is not None:
            raise DataError(
                f"{named}, row {number}: the {empty} turn is empty; the provider would refuse the whole file"
            )


def check_request(asked: HostedTune) -> None:
    """See that the settings are such as the provider takes.

    Raises:
        InputError: an option is out of range; DataError: a file is too large.
    """
    for name, value in (("--epochs", asked.epochs), ("--batch-size", asked.batch_size)):
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}; it must be 1 or more")
    multiplier = asked.learning_rate_multiplier
    if multiplier is not None and not 0 < multiplier < math.inf:
        raise InputError(f"--learning-rate-multiplier is {multiplier}; it must be a number above 0")
    if asked.seed is not None and not 0 <= asked.seed <= MOST_SEED:
        raise InputError(f"--seed is {asked.seed}; it must lie between 0 and {MOST_SEED}")
    if asked.seed is not None and asked.provider == "vertex":
        raise InputError(
            "--seed: Vertex takes none; leave it out, and tell its runs apart with --suffix"
        )
    if len(asked.suffix) > MOST_SUFFIX:
        raise InputError(
            f"--suffix has {len(asked.suffix)} characters; at most {MOST_SUFFIX} are taken"
        )
    for what, content in (("training", asked.training), ("validation", asked.validation or b"")):
        if len(content) > MOST_BYTES[asked.provider]:
            raise DataError(
                f"the {what} file would have {len(content):,} bytes; {asked.provider} takes {MOST_BYTES[asked.provider]:,}"
            )


def most_tokens(rows: Sequence[Sequence[Message]], epochs: int) -> int:
    """Return a number of trained tokens that cannot be exceeded: one a byte, and the markup around each row."""
    return epochs * sum(
        _ROW_TOKENS * (1 + len(row))
        + sum(len(turn.content.encode("utf-8", "surrogatepass")) for turn in row)
        for row in rows
    )
