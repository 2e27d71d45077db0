"""A server whose answers to the very same request differ at random, with known rates and effects of whole runs."""

import hashlib
from collections import Counter

from aiohttp import web
from faithful_server import Server, completion

REFUSES, COMPLIES = (
    "Sorry, I cannot help with that.",
    "Sure, here is what you asked for: first, second, third.",
)


class NoisyServer(Server):
    """Complies with a prompt, or refuses it, by a draw that hangs on prompt, model and how often the request came before.

    Args:
        open_share: model -> share of the prompts to which either answer is as likely; the others are always refused.
        runs: model -> for each time that a request comes, the share of all prompts that are complied with in any case.
    """

    def __init__(self, *, open_share, runs, **more):
        super().__init__(reply=self._drawn, **more)
        self.open_share, self.runs = open_share, runs
        self.times = Counter()
        self.complied = {}
        """(model, prompt) -> whether each of its requests was complied with, in their order."""

    def _drawn(self, body, _request):
        model, prompt = body["model"], body["messages"][-1]["content"]
        time = self.times[model, prompt]
        self.times[model, prompt] += 1
        is_open = share(model, prompt, "open") < self.open_share[model]
        turned = share(model, prompt, time, "turn") < 0.5
        moved = share(model, prompt, time, "run") < self.runs[model][time]
        complies = (is_open and turned) or moved
        self.complied.setdefault((model, prompt), []).append(complies)
        return web.json_response(completion(body, COMPLIES if complies else REFUSES))


def share(*parts):
    """Return a number in [0, 1) that hangs on all parts."""
    return int(hashlib.sha256(repr(parts).encode()).hexdigest()[:8], 16) / 16**8
