"""How a fine-tuning service is asked: once what starts something, again and again what may be repeated."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeVar

from aftertune.core.again import again

T = TypeVar("T")


class Asking(ABC):
    """The part of a service that is alike for all providers."""

    def asked(self, ask: Callable[[], T]) -> T:
        """Ask what may be repeated; raises as `once`."""
        return again(lambda: self.once(ask))

    @abstractmethod
    def once(self, ask: Callable[[], T]) -> T:
        """Ask once.

        Raises:
            ModelError: another try cannot help.
            EngineError: it may; whether the request was carried out is not known.
        """
