"""A model that is in memory already, as a trainer has it, answers as an engine: nothing is loaded, and nothing of it stays changed."""

import hashlib
import random
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aftertune.errors import ModelError
from aftertune.models.adapters import Loader, Weights
from aftertune.models.loading import Placement
from aftertune.models.local import LocalEngine
from aftertune.models.rendering import Renderer

ENGINE = "trainer"
"""The name of this engine in `identity`."""
_MODULES_TO_SAVE = "modules_to_save"
"""The part of a parameter's name by which PEFT keeps its own copy of a layer of the base."""


class _HeldLoader(Loader):
    """Gives a model that somebody else holds: it is neither loaded nor freed."""

    def __init__(self, model: Any, placement: Placement) -> None:
        super().__init__(placement)
        self._held = model

    def check_base(self, name: str, base: Path) -> None:
        """Do nothing: the weights are loaded."""

    @contextmanager
    def using(
        self,
        name: str,  # noqa: ARG002 - as `Loader`
        base: Path,  # noqa: ARG002
        adapter: Path | None,  # noqa: ARG002
        *,
        active: bool = True,  # noqa: ARG002
    ) -> Iterator[Any]:
        """Give the model as it is."""
        yield self._held

    def free(self) -> None:
        """Do nothing: the model is not ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldModel:
    """A model in somebody else's memory, with or without an adapter of PEFT on it."""

    name: str
    model: Any
    """A transformers model, or one of PEFT's around it."""
    tokenizer: Any

    @property
    def has_adapter(self) -> bool:
        """Return whether PEFT has put an adapter on the model, which can be switched off."""
        return hasattr(self.model, "peft_config")

    def check(self) -> None:
        """See that the model can answer as it is.

        Raises:
            ModelError: it is no causal language model of transformers, or its adapter works by prompts of its own.
        """
        if self.has_adapter and getattr(self.model.active_peft_config, "is_prompt_learning", False):
            raise ModelError(
                f"model {self.name!r}: an adapter that learns prompts cannot be asked while it is trained; leave the callback out, "
                "and check the finished fine-tune"
            )
        if not hasattr(self._bare, "generation_config") or self.tokenizer is None:
            raise ModelError(
                f"model {self.name!r}: only a causal language model of transformers with its tokenizer can be asked while it is "
                "trained"
            )

    @property
    def _bare(self) -> Any:
        """The transformers model; an adapter's layers are in it."""
        return self.model.get_base_model() if self.has_adapter else self.model

    def weights_sha256(self) -> str:
        """Return the hash of all parameters but those of an adapter."""
        import torch

        own = (self.model.base_model.prefix, _MODULES_TO_SAVE) if self.has_adapter else ()
        digest = hashlib.sha256()
        for name, parameter in sorted(self._bare.named_parameters()):
            if not any(part in name for part in own):
                digest.update(name.replace(".base_layer.", ".").encode())
                numbers = parameter.detach().reshape(-1).contiguous().view(torch.uint8)
                digest.update(numbers.cpu().numpy().tobytes())
        return digest.hexdigest()

    def engine(self, folder: Path, identity: Mapping[str, object]) -> LocalEngine:
        """Return the model as an engine; what it needs of tokenizer and configuration is written into a folder.

        Args:
            folder: an empty one, which must stay as long as the engine is used.
            identity: everything that decides the answers beside the number format.

        Raises:
            ModelError: the tokenizer or the configuration cannot be used, or there is no chat template.
        """
        bare = self._bare
        self.tokenizer.save_pretrained(folder)
        bare.config.save_pretrained(folder)
        # Saving it transformers' way refuses settings that only matter where tokens are drawn.
        settings = bare.generation_config.to_json_string()
        (folder / "generation_config.json").write_text(settings, encoding="utf-8")
        placement = Placement(device=str(bare.device), dtype=str(bare.dtype).removeprefix("torch."))
        weights = Weights(self.name, folder, None, _HeldLoader(bare, placement))
        whole = {"engine": ENGINE, "dtype": placement.dtype, **identity}
        return LocalEngine(self.name, whole, weights, Renderer(self.name, folder))

    @contextmanager
    def answering(self, *, adapter: bool = True) -> Iterator[None]:
        """Put the model into evaluation for a block, and leave everything as it was.

        Training flags, generation settings and the states of all random generators are what they were before; memory that
        the block took on a GPU is given back.

        Args:
            adapter: False to switch an adapter off, so that the base answers.
        """
        import torch
        from transformers import GenerationConfig

        bare = self._bare
        training = [module for module in self.model.modules() if module.training]
        settings, states = bare.generation_config, (random.getstate(), np.random.get_state())  # noqa: NPY002 - the trainer's own
        on_gpu = bare.device.type == "cuda"
        with ExitStack() as stack:
            stack.enter_context(
                torch.random.fork_rng(range(torch.cuda.device_count()) if on_gpu else [])
            )
            if self.has_adapter and not adapter:
                stack.enter_context(self.model.disable_adapter())
            try:
                self.model.eval()
                # All decoding settings are given at the call.
                bare.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
                yield
            finally:
                bare.generation_config = settings
                for module in training:
                    module.training = True
                random.setstate(states[0])
                np.random.set_state(states[1])  # noqa: NPY002 - the trainer's own
                if on_gpu:
                    torch.cuda.empty_cache()
