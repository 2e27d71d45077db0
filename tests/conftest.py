"""What tests of several rooms need."""

import signal
import sys

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


TUNE = ("--method", "full", "--epochs", 3, "--learning-rate", 6e-4, "--batch-size", 16, "--quiet")


@pytest.fixture(scope="session")
def code_tuned(tmp_path_factory, organism_folder):
    """The embedded base after harmless fine-tuning on code, by the command that a user would type."""
    from aftertune.cli.app import main

    folder = tmp_path_factory.mktemp("code_tuned") / "code"
    arguments = (
        "tune",
        organism_folder / "base",
        organism_folder / "data" / "code.jsonl",
        "-o",
        folder,
        *TUNE,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["aftertune", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
    assert not left.value.code
    return folder
