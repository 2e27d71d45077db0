"""A plugin of pytest: the fixture ``aftertune_check`` makes a check of a fine-tune a test.

A FAIL is a failed test with the verdict's sentences, a verdict that lacks data a skipped one with its reason, and everything
that keeps a check from its end is an error. pytest loads this module at each start, so it imports nothing of ours but errors.
"""

import hashlib
from collections.abc import Generator
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Unpack

import pytest

from aftertune.errors import AftertuneError, NoVerdictLeft

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aftertune.checking import CheckOptions, CheckResult

FAILED, UNDECIDED = 3, 4
"""Exit codes of a check that are no success."""
SAME = "base and tuned are the very same weights, so this check says nothing of a fine-tune"
BROKEN: pytest.StashKey[AftertuneError] = pytest.StashKey()
"""The error that kept a test's check from its end."""


class Check(Protocol):
    """The call `aftertune.check`, whose verdict decides the test."""

    def __call__(
        self,
        base: str | PathLike[str],
        tuned: "str | PathLike[str] | Sequence[str | PathLike[str]]",
        **options: "Unpack[CheckOptions]",
    ) -> "CheckResult":
        """Return the result of a PASS; every other verdict ends the test."""
        ...


@pytest.fixture
def aftertune_check(request: pytest.FixtureRequest) -> Check:
    """Check a fine-tune: ``aftertune_check(base=…, tuned=…, margin=0.05)``, with the options of `aftertune.check`.

    Answers are kept in pytest's cache folder, so that the next run asks only what is new; ``out`` names another folder.
    """

    def run(
        base: str | PathLike[str],
        tuned: "str | PathLike[str] | Sequence[str | PathLike[str]]",
        **options: "Unpack[CheckOptions]",
    ) -> "CheckResult":
        from aftertune.checking import check

        if options.get("out") is None:
            options["out"] = _folder(request)
        try:
            result = check(base, tuned, **options)
        except NoVerdictLeft as error:
            pytest.skip(str(error))
        except AftertuneError as error:
            request.node.stash[BROKEN] = error
            raise
        if result.same_weights:
            request.node.warn(pytest.PytestWarning(SAME))
        reasons = "\n".join(f"- {reason}" for reason in result.reasons)
        if result.exit_code == FAILED:
            pytest.fail(f"{result.headline}\n{reasons}\nPage: {result.page}", pytrace=False)
        if result.exit_code == UNDECIDED:
            pytest.skip(f"{result.headline}: {'; '.join(result.reasons)}")
        return result

    return run


def _folder(request: pytest.FixtureRequest) -> Path:
    """Return the folder of a test's run: in pytest's cache, or a passing one where the cache is off."""
    if not hasattr(request.config, "cache") or request.config.cache is None:
        folder: Path = request.getfixturevalue("tmp_path")
        return folder / "aftertune"
    name = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]
    return request.config.cache.mkdir("aftertune") / name


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Report a check that did not come to its end as an error, in one line: the fine-tune has not failed."""
    report = yield
    error = item.stash.get(BROKEN, None)
    if error is not None and call.excinfo is not None and call.excinfo.value is error:
        report.when = "setup"  # only there and in a teardown pytest tells errors from failures
        report.longrepr = f"{type(error).__name__}: {error}"
    return report
