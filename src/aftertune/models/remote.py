"""The part of an engine that is the same for every model behind a server; see `aftertune.core.protocols.Engine`."""

from collections.abc import Sequence
from typing import ClassVar, NoReturn

from aftertune.core.records import GenerateJob, Message
from aftertune.errors import EngineError


class Remote:
    """A model that only gives answers: its tokens and likelihoods stay with the server.

    Attributes:
        name: for messages and tables.
        served_by: for messages.
    """

    name: str
    served_by: ClassVar[str]
    remote = served = True
    folds_system = False

    def input_tokens(self, jobs: Sequence[GenerateJob]) -> None:
        """Return None: the tokenizer is the server's."""

    def unknown_share(self, texts: Sequence[str]) -> float:  # noqa: ARG002 - the Protocol's names
        """Return 0.0: a server does not tell its tokens."""
        return 0.0

    def choice_logprobs(
        self,
        prompts: Sequence[Sequence[Message]],  # noqa: ARG002 - the Protocol's names
        choices: Sequence[str],  # noqa: ARG002
    ) -> list[list[float]]:
        """Raise: servers do not agree on log-probabilities of given answers."""
        self._cannot("score choices")

    def nll(self, pairs: Sequence[tuple[Sequence[Message], str]]) -> list[float]:  # noqa: ARG002 - the Protocol's names
        """Raise: chat completions give no likelihood of a given answer."""
        self._cannot("give likelihoods")

    def _cannot(self, what: str) -> NoReturn:
        raise EngineError(
            f"model {self.name!r}: {self.served_by} cannot {what}; use a local model for this"
        )
