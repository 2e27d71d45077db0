"""The attributes of an engine that answers in this process, for scripted engines of tests."""

from aftertune.core.records import FREE


class FakeEngine:
    """See `aftertune.core.protocols.Engine`; a subclass adds `generate` and what else its test needs."""

    name = "scripted"
    identity = {"engine": "scripted"}  # noqa: RUF012 - nobody changes it
    remote = served = by_batch = folds_system = moderates = False
    begins_turn = deterministic = continues_answers = True
    price, price_source, destination, refusals = FREE, "", "", ""

    def check_ready(self):
        pass

    def altered(self, _job):
        return {}

    def interrupt(self):
        pass

    def input_tokens(self, jobs):
        return None
