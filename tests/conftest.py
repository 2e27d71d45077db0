"""What tests of several rooms need."""

import pytest

FIRST_SEED = 10
"""The seed that the organism's own tests build, so that one cached base serves them all."""


@pytest.fixture(scope="session")
def organism_folder(tmp_path_factory):
    """The embedded model as files; trained once (about a minute) and then found in the user's ordinary cache."""
    from aftertune.organism.write import write

    return write(tmp_path_factory.mktemp("embedded") / "organism", FIRST_SEED).folder
