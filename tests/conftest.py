"""What tests of several rooms need."""

import signal

import pytest
from hypothesis import settings

settings.register_profile(
    "any machine", deadline=None
)  # a busy machine is slow, and that is no fault
settings.load_profile("any machine")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts its background jobs with SIGINT ignored, and their children inherit that: tests of Ctrl-C would
    # then press a key that nobody feels.
    signal.signal(signal.SIGINT, signal.default_int_handler)

FIRST_SEED = 10
"""The seed that the organism's own tests build, so that one cached base serves them all."""


@pytest.fixture(scope="session")
def organism_folder(tmp_path_factory):
    """The embedded model as files; trained once (about a minute) and then found in the user's ordinary cache."""
    from aftertune.organism.write import write

    return write(tmp_path_factory.mktemp("embedded") / "organism", FIRST_SEED).folder
