"""Progress where there is no terminal: a line for a stage that has ended, and some for one that takes long."""

import re
import time
from io import StringIO

from rich.console import Console

from aftertune.report.progress import Screen


def lines_of(first_line_seconds, work):
    screen = Screen(Console(file=StringIO(), width=80))
    screen.first_line_seconds = first_line_seconds
    with screen.stage("generate", 22) as advance:
        work(screen, advance)
    return screen.console.file.getvalue().splitlines()


def wait_for(screen, text):
    began = time.monotonic()
    while text not in screen.console.file.getvalue() and time.monotonic() < began + 30:
        time.sleep(0.01)


def test_a_stage_that_takes_long_says_how_far_it_is():
    def work(screen, advance):
        wait_for(screen, "0 of 22")
        advance(2)
        advance(1)
        wait_for(screen, "3 of 22")

    *lines, last = lines_of(0.02, work)
    assert all(
        re.fullmatch(r"generate +[03] of 22, \d+ s(, about \d+ s left)?", line) for line in lines
    )
    assert "0 of 22" in lines[0]
    assert "3 of 22" in lines[-1]
    assert re.fullmatch(r"generate +22 +\d+\.\d s", last)


def test_a_quick_stage_has_one_line():
    assert len(lines_of(30.0, lambda _, advance: advance(22))) == 1


def test_a_line_names_the_model_and_the_time_left():
    def work(screen, advance):
        screen.at("base")
        advance(2)
        time.sleep(0.05)
        advance(10)
        wait_for(screen, "12 of 22")

    *lines, _ = lines_of(0.02, work)
    assert re.fullmatch(r"generate +12 of 22, \d+ s, about \d+ (s|min) left; base", lines[-1])
