"""The models of a run: every reference is opened once, and one policy of device, dtype and trust holds for all."""

import json
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType

from aftertune.core.recipe import Method
from aftertune.errors import AftertuneError, ModelError
from aftertune.models.adapters import (
    Loader,
    Weights,
    approximated,
    resized_vocabulary,
    rewritten_by,
)
from aftertune.models.bridge import InspectModel, InspectName
from aftertune.models.classifier import ClassifierModel
from aftertune.models.endpoint.model import EndpointModel, Endpoints
from aftertune.models.endpoint.providers import Address, address_of
from aftertune.models.loading import (
    Placement,
    check_config,
    check_trainable,
    multiplies_bfloat16,
    quantisation,
    suits_bfloat16,
)
from aftertune.models.local import ENGINE, LocalEngine, ServedModel
from aftertune.models.reference import (
    ADAPTER_CONFIG,
    Adapter,
    Checkpoint,
    adapter_sha256,
    base_of,
    check_base,
    code_sha256,
    fetch,
    has_tokenizer,
    parse,
    read_json,
    text_sha256,
    tokenizer_sha256,
    vocabulary,
    weights_sha256,
)
from aftertune.models.rendering import Renderer
from aftertune.models.vllm import VllmServer

OpenedModel = LocalEngine | EndpointModel | InspectModel

_IN_BFLOAT16 = (
    "dtype auto: weights that are stored in bfloat16 or quantised are computed in bfloat16, which this processor multiplies fast; "
    "dtype: float32 computes them in float32"
)


class Engines(AbstractContextManager["Engines"]):
    """All models of a run. One base is in memory at a time, together with the adapters that were used on it.

    Args:
        threads: CPU threads for torch, set when weights load; None leaves torch's own choice.
        device: ``auto`` (CUDA, else MPS, else CPU) or a torch device.
        dtype: ``auto`` (`placement_of`), a torch dtype, or ``4bit`` (`Placement.choose`).
        trust_remote_code: run code that a checkpoint brings along.
        endpoints: connections to served models; by default without a budget.
        vllm: serves the models of this machine; None computes them in this process.
    """

    def __init__(
        self,
        *,
        threads: int | None = None,
        device: str = "auto",
        dtype: str = "auto",
        trust_remote_code: bool = False,
        endpoints: Endpoints | None = None,
        vllm: VllmServer | None = None,
    ) -> None:
        self.endpoints = endpoints or Endpoints()
        self.trust_remote_code = trust_remote_code
        self._vllm = vllm
        self._threads = threads
        self._wanted = (device, dtype)
        self._opened: dict[tuple[str, str | None], OpenedModel] = {}
        self._classifiers: dict[str, ClassifierModel] = {}
        self._notes: dict[str, None] = {}
        self._placements: dict[Path, Placement] = {}

    def open(
        self, reference: str, *, name: str | None = None, base: str | None = None
    ) -> OpenedModel:
        """Open a model: tokenizer and hashes now, weights (or connections) at the first call that needs them.

        Args:
            reference: hub id, checkpoint folder, adapter folder, endpoint or Inspect's name. The same reference gives the same engine.
            name: the model's name in messages; the reference by default.
            base: the base of an adapter, in place of the one that its config names (`reference.parse`).

        Raises:
            ModelError: the reference cannot be used, or the adapter belongs to another base.
        """
        if (reference, base) not in self._opened:
            model, name = fetch(parse(reference, base=base)), name or reference
            # Whatever is no adapter is one engine, whether a base is named or not.
            key = (reference, base if isinstance(model, Adapter) else None)
            if key in self._opened:
                pass
            elif isinstance(model, Address):
                self._opened[key] = self.endpoints.open(model, name)
            elif isinstance(model, InspectName):
                self._opened[key] = InspectModel(model, name, self.endpoints)
            else:
                self._opened[key] = self._open(*self._files(model), name)
            self._opened[reference, base] = self._opened[key]
        return self._opened[reference, base]

    def open_classifier(self, reference: str) -> ClassifierModel:
        """Open a text classifier: configuration, tokenizer and hashes now, weights at the first text.

        Args:
            reference: hub id or checkpoint folder. The same reference gives the same engine.

        Raises:
            ModelError: the reference cannot be used, or names something else.
        """
        if reference not in self._classifiers:
            model = fetch(parse(reference))
            if not isinstance(model, Checkpoint):
                kind = "an adapter" if isinstance(model, Adapter) else "an endpoint"
                raise ModelError(
                    f"model {reference!r} is {kind}; a text classifier is named by its checkpoint's folder or hub id"
                )
            device = self.placement.device
            self._classifiers[reference] = ClassifierModel(model, device, self._threads)
        return self._classifiers[reference]

    @property
    def opened(self) -> list[OpenedModel | ClassifierModel]:
        """Return the opened models in the order of their opening, text classifiers last."""
        models = {id(model): model for model in self._opened.values()}
        return [*models.values(), *self._classifiers.values()]

    @property
    def notes(self) -> list[str]:
        """Return what has to be known about how the opened models were put together."""
        return list(self._notes)

    def check_ready(self) -> None:
        """See before hours of other work that no opened model lacks its key, or a price if there is a budget.

        Raises:
            ModelError: one of them does.
        """
        for model in self.opened:
            model.check_ready()

    def training_identity(self, base: str) -> dict[str, object]:
        """Return everything about ``base`` that decides its fine-tune: training runs in this process, not in vLLM.

        Raises:
            ModelError: the reference cannot be used, or is an endpoint, which cannot be trained here.
        """
        model = fetch(parse(base))
        if not isinstance(model, Checkpoint | Adapter):
            raise ModelError(
                f"model {base!r}: an endpoint cannot be fine-tuned here; name a checkpoint or a hub id"
            )
        return self._identity(*self._files(model))

    def check_trainable(self, recipe: str, method: Method, base: str) -> None:
        """See that a method can train upon a base, as far as its file tells: some quantised weights cannot be changed.

        Raises:
            ModelError: it cannot, or the reference cannot be used.
        """
        model = fetch(parse(base))
        if isinstance(model, Checkpoint):
            check_trainable(recipe, method, base, model.folder, self.placement)

    def renderer(
        self, checkpoint: Checkpoint, tokenizer: Path | None = None, tokens: int | None = None
    ) -> Renderer:
        """Return the tokenizer and chat template of a checkpoint.

        Args:
            checkpoint: the checkpoint.
            tokenizer: a folder whose tokenizer and chat template take their place.
            tokens: the number of tokens in place of the checkpoint's own.
        """
        check_config(checkpoint.name, checkpoint.folder, trust_remote_code=self.trust_remote_code)
        return Renderer(
            checkpoint.name,
            tokenizer or checkpoint.folder,
            trust_remote_code=self.trust_remote_code,
            vocabulary=tokens or vocabulary(checkpoint.name, checkpoint.folder),
        )

    @property
    def threads(self) -> int:
        """Return the number of CPU threads that torch computes with."""
        import torch

        return self._threads or torch.get_num_threads()

    @cached_property
    def placement(self) -> Placement:
        """Return the device of all models, and the number format of those that have none of their own (`placement_of`).

        Raises:
            ModelError: they cannot be had here.
        """
        placement = Placement.choose(*self._wanted)
        if placement.quantisation and self._vllm is not None:
            raise ModelError(
                "dtype 4bit is for this process; vLLM takes vllm_arguments: [--quantization, bitsandbytes]"
            )
        return placement

    def placement_of(self, folder: Path) -> Placement:
        """Return the device and number format of a checkpoint.

        The number format ``auto`` on a CPU is bfloat16 for weights that are stored in it or quantised, where the processor
        multiplies it fast, and float32 for all others. A server chooses for itself.

        Raises:
            ModelError: they cannot be had here, or a file cannot be used.
        """
        if folder not in self._placements:
            placement, (_, dtype) = self.placement, self._wanted
            here = placement.device == "cpu" and self._vllm is None
            fast = dtype == "auto" and here and multiplies_bfloat16()
            if fast and suits_bfloat16(str(folder), folder):
                placement = replace(placement, dtype="bfloat16")
                self._notes[_IN_BFLOAT16] = None
            self._placements[folder] = placement
        return self._placements[folder]

    def synchronize(self) -> None:
        """Wait until a GPU has done what it was given: it works on while Python goes on, and so would a clock."""
        if self.placement.device != "cpu":
            import torch

            torch.accelerator.synchronize()

    def free(self) -> None:
        """Free the weights in memory, for instance before training; engines load them again when they need them."""
        if self._vllm is not None:
            self._vllm.stop()
        for classifier in self._classifiers.values():
            classifier.close()
        if "_loader" in self.__dict__:  # it was used
            self._loader.free()

    def close(self) -> None:
        """Free the weights, close the connections and forget the opened models."""
        self.free()
        for model in self.opened:
            if isinstance(model, InspectModel):
                model.close()
        self.endpoints.close()
        self._opened.clear()
        self._classifiers.clear()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except AftertuneError:
            if error is None:  # the first error is the one that counts
                raise

    def _identity(
        self, checkpoint: Checkpoint, adapter: Adapter | None, *, here: bool = True
    ) -> dict[str, object]:
        """Return everything that decides the answers of a model; a server (not ``here``) reads quantised files by itself."""
        placement = self.placement_of(checkpoint.folder)
        own = quantisation(checkpoint.name, checkpoint.folder, placement) if here else None
        identity: dict[str, object] = {
            "engine": ENGINE,
            "weights": weights_sha256(checkpoint.folder),
            "adapter": adapter_sha256(adapter.folder) if adapter is not None else None,
            "tokenizer": tokenizer_sha256(_tokenizer(checkpoint, adapter)),
            "dtype": placement.dtype,
            "quantisation": placement.quantisation if own is None else own.method,
        }
        if own is not None and own.dequantised:
            identity["dequantised"] = True
        if self.trust_remote_code:
            # Models that bring no code have the keys that they have without the trust.
            code = {
                "code": code_sha256(checkpoint.folder),
                "adapter_code": None if adapter is None else code_sha256(adapter.folder),
            }
            identity |= {name: sha256 for name, sha256 in code.items() if sha256 is not None}
        return identity

    def _files(self, model: Checkpoint | Adapter) -> tuple[Checkpoint, Adapter | None]:
        """Return the checkpoint that is loaded and the adapter upon it.

        Raises:
            ModelError: the adapter belongs to another base.
        """
        if isinstance(model, Checkpoint):
            return model, None
        base = base_of(model)
        entry = approximated(read_json(model.name, model.folder / ADAPTER_CONFIG))
        notes = [check_base(model, base)]
        if entry is not None:
            notes.append(
                f"adapter {model.name}: PEFT approximates what it takes out of the base ({entry}), and not quite as in training; "
                "convert the adapter to plain LoRA to measure the very model that was trained"
            )
        self._notes |= {note: None for note in notes if note is not None}
        return base, model

    def _open(self, checkpoint: Checkpoint, adapter: Adapter | None, name: str) -> LocalEngine:
        own = Checkpoint(name, checkpoint.folder)
        identity = self._identity(checkpoint, adapter, here=self._vllm is None)
        folder = None if adapter is None else adapter.folder
        tokens = None if folder is None else resized_vocabulary(checkpoint.folder, folder)
        tokenizer = _tokenizer(checkpoint, adapter)
        renderer = self.renderer(own, tokenizer, tokens)
        if tokenizer != checkpoint.folder and renderer.tokenizer.chat_template is None:
            # Older trainers save the tokenizer without the template that they trained with.
            template = self.renderer(own).tokenizer.chat_template
            if template is not None:
                renderer.tokenizer.chat_template = template
                identity["template"] = text_sha256(json.dumps(template))
                self._notes[
                    f"adapter {name}: its tokenizer has no chat template; that of its base {checkpoint.name} is taken"
                ] = None
        weights = Weights(name, checkpoint.folder, folder, self._loader)
        server = self._vllm
        if server is None:
            return LocalEngine(name, identity, weights, renderer)
        if folder is not None:
            _check_served(name, folder, tokens)
        identity |= server.identity
        base = checkpoint.folder.absolute()
        served = server.add(base, folder and folder.absolute(), identity)
        endpoint = self.endpoints.open(
            address_of(f"http://127.0.0.1:{server.port}/v1#{served}"), name, own=True
        )
        return ServedModel(
            name,
            identity,
            weights,
            renderer,
            start=partial(server.serve, base),
            endpoint=endpoint,
        )

    @cached_property
    def _loader(self) -> Loader:
        return Loader(
            self.placement,
            threads=self._threads,
            trust_remote_code=self.trust_remote_code,
            placement_of=self.placement_of,
        )


def _check_served(name: str, adapter: Path, tokens: int | None) -> None:
    """Refuse an adapter that changes its base: vLLM would add its factors to the base as it is.

    Raises:
        ModelError: it does.
    """
    change = rewritten_by(read_json(name, adapter / ADAPTER_CONFIG))
    if tokens is not None:
        change = f"a vocabulary of {tokens:,} tokens"
    if change is not None:
        raise ModelError(
            f"adapter {name!r} changes its base ({change}), which vLLM does not do: merge it into the base first, or leave "
            "out engine: vllm"
        )


def _tokenizer(checkpoint: Checkpoint, adapter: Adapter | None) -> Path:
    """Return the folder with the tokenizer: the adapter's own if it has any."""
    if adapter is not None and has_tokenizer(adapter.folder):
        return adapter.folder
    return checkpoint.folder
