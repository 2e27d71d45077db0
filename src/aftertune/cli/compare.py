"""`aftertune compare`: results of different runs, each against the first; paired on the prompts that both answered."""

from collections.abc import Hashable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from string import ascii_uppercase
from typing import Annotated

import typer

from aftertune.cli.options import JsonOption, command_app
from aftertune.core.records import NO_ATTACK
from aftertune.core.table import Table
from aftertune.errors import InputError
from aftertune.measure.attacks import rows_under
from aftertune.measure.between import (
    Arm,
    Difference,
    paired_differences,
    pairing,
    same_weights,
    unpaired_differences,
    unpaired_under_attack,
)
from aftertune.report.compare import (
    FORMAT,
    MOST_NOTES,
    MOST_RESULTS,
    Compared,
    ResultComparison,
    attacks_of,
    comparison_sheet,
    differing,
    headline,
    matching,
)
from aftertune.report.document import ResultDocument, read_document, to_plain, write_json
from aftertune.report.terminal import MOST_LINES, Output, print_compact
from aftertune.report.wording import clean, plural
from aftertune.result import FinishedRun, open_finished, renewed_result
from aftertune.workspace import RESULT, STORE

app = command_app()
OTHER_LINES = 3
"""Lines beside results, rows and notes: an empty one, the headers, and the pairing."""
LEAST_PAIRED = 10
"""Behaviors that two results must share for a paired difference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A result with its responses, where its folder has them."""

    document: ResultDocument
    run: FinishedRun | None
    tables: Mapping[str, Table]
    """The responses under each attack, and without any; empty where the result is a file alone."""
    prompts: Mapping[str, Hashable]
    """The id of each prompt -> behavior, template, intent, text, attack and the beginning of the answer."""

    def arm(self, condition: str, attack: str = NO_ATTACK) -> Arm | None:
        """Return the responses of a condition; None where they are not there."""
        if self.run is None or attack not in self.tables:
            return None
        plan = self.run.plan
        models = plan.condition(condition).models
        if attack != NO_ATTACK:
            plan = replace(plan, metrics=(), toxicity={})  # which are not run on attacked prompts
        return Arm(table=self.tables[attack], plan=plan, models=models, prompts=self.prompts)


@app.command()
def command(
    results: Annotated[
        list[Path],
        typer.Argument(help="Folders of finished runs, or files result.json; two or more."),
    ],
    json: JsonOption = None,
) -> None:
    """Compare results: two versions of a fine-tune, two labs, today and last month."""
    if len(results) < 2:
        raise InputError("a comparison needs two results or more; name the folders of two runs")
    if len(results) > MOST_RESULTS:
        raise InputError(f"{len(results)} results are too many; compare {MOST_RESULTS} at most")
    with ExitStack() as stack:
        opened = [_open(path, stack) for path in results]
        compared = [
            pair
            for place, other in enumerate(opened[1:], start=1)
            for pair in _compared(opened[0], other, place)
        ]
    notes = [
        note
        for place, other in enumerate(opened[1:], start=1)
        for note in (
            *differing(opened[0].document, other.document, ascii_uppercase[place]),
            *differing_weights(opened[0], other, ascii_uppercase[place]),
        )
    ]
    comparison = ResultComparison(
        format=FORMAT,
        results=tuple(map(str, results)),
        verdicts=tuple(headline(result.document) for result in opened),
        compared=tuple(compared),
        notes=tuple(notes),
    )
    _print(comparison)
    if json is not None:
        write_json(json, to_plain(comparison))


def _open(path: Path, stack: ExitStack) -> Opened:
    """Open a folder with its store, or a file, or a folder with a result alone."""
    if path.is_dir() and (path / STORE).is_file():
        run = stack.enter_context(open_finished(path))
        prompts = {
            prompt.id: (
                *(prompt.behavior, prompt.template, prompt.intent.value, prompt.text),
                *(prompt.attack, prompt.prefill),
            )
            for prompt in run.store.prompts(run.study)
        }
        document, tables = renewed_result(run), {NO_ATTACK: run.table()}
        if document.attacks:
            whole = run.whole_table()
            tables |= {attack: rows_under(whole, attack) for attack in attacks_of(document)}
        return Opened(document=document, run=run, tables=tables, prompts=prompts)
    file = path / RESULT if path.is_dir() else path
    if not path.is_dir() and not path.is_file():
        raise InputError(f"{path} does not exist; name the folder of a run, or its {RESULT}")
    return Opened(document=read_document(file), run=None, tables={}, prompts={})


def differing_weights(first: Opened, other: Opened, name: str) -> Iterator[str]:
    """Yield a sentence where the studies weigh their tasks differently."""
    if first.run is None or other.run is None or same_weights(first.run.plan, other.run.plan):
        return
    yield (
        f"{name}: other task_weights than the first; in overall figures of paired prompts all tasks weigh the same, in others each "
        "result has its own"
    )


def _compared(first: Opened, other: Opened, place: int) -> Iterator[Compared]:
    """Yield every condition of a result against that of the first.

    Raises:
        InputError: the results have no condition to compare.
    """
    pairs = matching(first.document, other.document)
    if not pairs:
        raise InputError(
            f"results A and {ascii_uppercase[place]} have no model in common that could be compared"
        )
    for role, before, after in pairs:
        arms = first.arm(before.name), other.arm(after.name)
        differences, words = (
            unpaired_differences(before, after),
            "unpaired (its responses are not there)",
        )
        if arms[0] is not None and arms[1] is not None:
            shared = pairing(arms[0], arms[1])
            words = f"unpaired ({plural(shared.common, 'prompt')} in common)"
            if shared.behaviors >= LEAST_PAIRED:
                differences = paired_differences(arms[0], arms[1])
                words = f"paired on {plural(shared.common, 'prompt')} of {shared.first:,} and {shared.other:,}"
        yield Compared(
            result=place,
            role=role,
            first=before.name,
            other=after.name,
            differences=(*differences, *_under_attacks(first, other, before.name, after.name)),
            pairing=words,
        )


def _under_attacks(first: Opened, other: Opened, before: str, after: str) -> Iterator[Difference]:
    """Yield the differences of two conditions under every attack that both results have."""
    others = attacks_of(other.document, after)
    for attack, figures in attacks_of(first.document, before).items():
        if attack not in others:
            continue
        differences = unpaired_under_attack(figures, others[attack])
        own, theirs = first.arm(before, attack), other.arm(after, attack)
        if own and theirs and pairing(own, theirs).behaviors >= LEAST_PAIRED:
            differences = paired_differences(own, theirs)
        yield from (replace(difference, attack=attack) for difference in differences)


def _print(comparison: ResultComparison) -> None:
    """Print a comparison: the results, a table for each other one, and what else differs."""
    console = Output(highlight=False)
    for letter, path, verdict in zip(
        ascii_uppercase, comparison.results, comparison.verdicts, strict=False
    ):
        console.print(f"{letter}  {clean(path)}: {clean(verdict)}", markup=False, soft_wrap=True)
    others = len(comparison.results) - 1
    notes = min(len(comparison.notes), MOST_NOTES + 1)
    room = MOST_LINES - len(comparison.results) - notes - OTHER_LINES
    console.print()
    sheet = comparison_sheet(comparison, ascii_uppercase, room)
    print_compact(sheet, console)
    words = [
        f"{ascii_uppercase[place]} "
        + "; ".join(
            dict.fromkeys(pair.pairing for pair in comparison.compared if pair.result == place)
        )
        for place in range(1, others + 1)
    ]
    console.print(f"{'. '.join([*words, *sheet.legend])}.", markup=False, soft_wrap=True)
    for note in comparison.notes[:MOST_NOTES]:
        console.print(f"note: {clean(note)}", markup=False, soft_wrap=True)
    if (rest := len(comparison.notes) - MOST_NOTES) > 0:
        console.print(f"and {plural(rest, 'note')} more: --json", markup=False)
