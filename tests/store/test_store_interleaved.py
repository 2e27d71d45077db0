"""The store under any order of planning, answering, scoring, merging, closing and killing ends as after the straight run."""

import shutil
import tempfile
from functools import cache
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from synthetic_study import job, prompt, response

from aftertune.core.records import Attempt, FinishReason, Score, VerdictValue
from aftertune.store import Scored, Store

PROMPTS = [prompt(number) for number in range(6)]
JOBS = [job(model, asked) for model in ("base", "code/seed1") for asked in PROMPTS]
SCORERS = (("judge", "rules", "1"), ("scorer", "length", "1"))
FINISH = (FinishReason.STOP, FinishReason.LENGTH, FinishReason.THINKING)
some_jobs = st.lists(st.sampled_from(range(len(JOBS))), max_size=8)


def answer_of(key):
    """The answer that a call has, whoever makes it and when: what a deterministic model gives."""
    return response(f"answer to {key.hex()}", FINISH[key[0] % 3])


def score_of(scorer, unscored):
    number = len(unscored.response.text) + unscored.key[1]
    value = list(VerdictValue)[unscored.key[2] % 3] if scorer == 0 else None
    return Scored(
        prompt=unscored.prompt, key=unscored.key, score=Score(value=value, number=float(number))
    )


def plan(store):
    store.plan("s", JOBS)


def answer(store, chosen):
    """Do what `generate` does: the chosen jobs whose key is not in the store, each asked once."""
    jobs = [JOBS[number] for number in chosen]
    store.complete(
        "generate", jobs, lambda todo: ((each.key, answer_of(each.key)) for each in todo)
    )


def score(store, place, most):
    """Score up to ``most`` answers that the scorer has not scored."""
    if store.studies():
        scorer = store.add_scorer(*SCORERS[place])
        backlog = [score_of(place, each) for each in store.unscored("s", scorer)]
        store.add_scores(scorer, backlog[:most])


def finish(store):
    plan(store)
    answer(store, range(len(JOBS)))
    for place in range(len(SCORERS)):
        score(store, place, len(JOBS))


def result(store):
    """Return everything that a measurement reads."""
    scorers = [store.add_scorer(*scorer) for scorer in SCORERS]
    table = store.table("s", scorers)
    return (
        {name: column.tolist() for name, column in table.columns.items()},
        {name: [repr(x) for x in column.tolist()] for name, column in table.scores.items()},
        table.names,
        list(store.responses("s", scorers)),
        store.attempts("s"),
    )


@cache
def straight():
    """Return the result of a run that nothing disturbs."""
    with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder) / "a.db") as store:
        finish(store)
        return result(store)


class Interleaving(RuleBasedStateMachine):
    """Two stores, as of two parts of a study, worked on in any order."""

    @initialize()
    def begin(self):
        self.folder = Path(tempfile.mkdtemp())
        self.paths = [self.folder / "a.db", self.folder / "b.db"]
        self.stores = [Store.open(path) for path in self.paths]
        self.kept = [set(), set()]
        """The keys of which a store has said that they are answered."""

    @rule(which=st.integers(0, 1))
    def plan(self, which):
        plan(self.stores[which])

    @rule(which=st.integers(0, 1), chosen=some_jobs)
    def answer(self, which, chosen):
        answer(self.stores[which], chosen)
        self.kept[which] |= {JOBS[number].key for number in chosen}

    @rule(which=st.integers(0, 1), chosen=st.sampled_from(range(len(JOBS))))
    def fail(self, which, chosen):
        key = JOBS[chosen].key
        if key not in self.kept[which]:
            self.stores[which].append("generate", [(key, Attempt(reason="timeout"))])

    @rule(which=st.integers(0, 1), place=st.integers(0, 1), most=st.integers(0, 12))
    def score(self, which, place, most):
        score(self.stores[which], place, most)

    @rule(which=st.integers(0, 1))
    def merge(self, which):
        self.stores[which].merge(self.paths[1 - which])
        self.kept[which] |= self.kept[1 - which]

    @rule(which=st.integers(0, 1))
    def close(self, which):
        self.stores[which].close()
        self.stores[which] = Store.open(self.paths[which])

    @rule(which=st.integers(0, 1), chosen=some_jobs, written=st.floats(0, 1))
    def kill(self, which, chosen, written):
        """Kill the process while it commits answers: a share of the commit's bytes is on disk, and nobody was told of it."""
        store, path = self.stores[which], self.paths[which]
        log = path.with_name(f"{path.name}-wal")
        before = log.stat().st_size
        answer(store, chosen)
        files = {file: file.read_bytes() for file in self.folder.glob(f"{path.name}*")}
        store.close()
        after = len(files[log])
        files[log] = files[log][: before + int((after - before) * written)]
        for file, data in files.items():
            file.write_bytes(data)
        self.stores[which] = Store.open(path)

    @rule(which=st.integers(0, 1))
    def nothing_is_lost(self, which):
        assert self.stores[which].missing(sorted(self.kept[which])) == []

    def teardown(self):
        if not hasattr(self, "folder"):
            return
        try:
            for store in self.stores:
                finish(store)
                assert result(store) == straight()
            self.stores[0].merge(self.paths[1])
            assert result(self.stores[0]) == straight()
        finally:
            for store in self.stores:
                store.close()
            shutil.rmtree(self.folder)


TestInterleaving = Interleaving.TestCase
TestInterleaving.settings = settings(max_examples=10, stateful_step_count=12, deadline=None)
