"""Opens each model reference once."""

from functools import partial
from types import TracebackType
from typing import Self

from aftertune.errors import ModelError
from aftertune.models.adapter import check_base
from aftertune.models.bridge import InspectModel, InspectName
from aftertune.models.decoding import vocabulary
from aftertune.models.endpoint.model import EndpointModel, Endpoints
from aftertune.models.endpoint.providers import Address, address_of
from aftertune.models.loading import Loader, Placement, Weights
from aftertune.models.local import ENGINE as LOCAL
from aftertune.models.local import LocalEngine, ServedModel
from aftertune.models.reference import Adapter, Checkpoint, HubModel, fetch, has_tokenizer, parse
from aftertune.models.rendering import Renderer
from aftertune.models.vllm import ENGINE as VLLM
from aftertune.models.vllm import VllmServer
from aftertune.models.weights import adapter_sha256, code_sha256, weights_sha256

OpenedModel = LocalEngine | EndpointModel | InspectModel


class Engines:
    """All models of a run. One base is in memory at a time, together with the adapters that were used on it.

    Args:
        threads: CPU threads for torch, set when weights load; None leaves torch's own choice.
        device: ``auto`` (CUDA, else MPS, else CPU) or a torch device.
        dtype: ``auto`` (bfloat16 on a GPU, float32 on the CPU), a torch dtype, or ``4bit`` (`Placement.choose`).
        trust_remote_code: run code that a checkpoint brings along.
        endpoints: how served models are asked; by default without a budget.
        vllm: serves the models of this machine; None answers in this process.
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
        self._loader: Loader | None = None
        self._opened: dict[tuple[str, str | None], OpenedModel] = {}

    def open(
        self, reference: str, *, name: str | None = None, base: str | None = None
    ) -> OpenedModel:
        """Open a model: tokenizer and hashes now, weights (or connections) at the first call that needs them.

        Args:
            reference: hub id, checkpoint folder, adapter folder, endpoint or Inspect's name. The same reference gives the same engine.
            name: the model's name in messages; the reference by default.
            base: the base of an adapter, in place of the one that its config names.

        Raises:
            ModelError: the reference cannot be used, or the adapter belongs to another base.
        """
        known = (reference, base)
        if known not in self._opened:
            found, name = parse(reference, base=base), name or reference
            if isinstance(found, Address):
                self._opened[known] = self.endpoints.open(found, name)
            elif isinstance(found, InspectName):
                self._opened[known] = InspectModel(found, name, self.endpoints)
            else:
                self._opened[known] = self._open(found, name)
        return self._opened[known]

    @property
    def opened(self) -> list[OpenedModel]:
        """The opened models, in the order of their opening."""
        return list(self._opened.values())

    def check_ready(self) -> None:
        """See before hours of other work that no opened model lacks its key, or a price if there is a budget.

        Raises:
            ModelError: one of them does.
        """
        for model in self.opened:
            model.check_ready()

    def check_base(self, tuned: str, base: str) -> None:
        """See that ``tuned``, if it is an adapter, was trained on the model ``base``; full checkpoints pass.

        Raises:
            ModelError: a reference cannot be used, or the adapter belongs to another base.
        """
        found, reference = (
            fetch(model) if isinstance(model, HubModel) else model
            for model in (parse(tuned), parse(base))
        )
        if isinstance(found, Adapter) and isinstance(reference, Checkpoint):
            check_base(found, reference)

    def training_identity(self, base: str) -> dict[str, object]:
        """Return what decides a fine-tune of ``base``: it is trained in this process, whoever answers for it.

        Raises:
            ModelError: the reference cannot be used.
        """
        identity = dict(self.open(base).identity)
        if identity["engine"] != VLLM:
            return identity
        identity.pop("arguments", None)
        return identity | {"engine": LOCAL}

    def tokenizer_sha256(self, base: str) -> str:
        """Return the hash of the tokenizer, chat template included, that renders the training rows of ``base``.

        Raises:
            ModelError: it is an endpoint, which cannot be trained here.
        """
        sha256 = self.open(base).identity.get("tokenizer")
        if sha256 is None:
            raise ModelError(
                f"model {base!r}: an endpoint cannot be fine-tuned here; name a checkpoint or a hub id"
            )
        return str(sha256)

    @property
    def threads(self) -> int:
        """The number of CPU threads that torch computes with."""
        import torch

        return self._threads or torch.get_num_threads()

    @property
    def placement(self) -> Placement:
        """Where models compute and in which number format."""
        return self._shared_loader().placement

    def set_threads(self) -> None:
        """Make torch compute with the threads that were asked for."""
        import torch

        if self._threads is not None:
            torch.set_num_threads(self._threads)

    def synchronize(self) -> None:
        """Wait until a GPU has done what it was given: it works on while Python goes on, and so would a clock."""
        if self.placement.device != "cpu":
            import torch

            torch.accelerator.synchronize()

    def free(self) -> None:
        """Free the weights in memory, for instance before training; engines load them again when they need them."""
        if self._vllm is not None:
            self._vllm.stop()
        if self._loader is not None:
            self._loader.free()

    def close(self) -> None:
        """Free the weights, close the connections and forget the opened models."""
        self.free()
        for model in self.opened:
            if isinstance(model, InspectModel):
                model.close()
        self.endpoints.close()
        self._opened.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self, found: HubModel | Checkpoint | Adapter, name: str) -> LocalEngine:
        model = fetch(found) if isinstance(found, HubModel) else found
        checkpoint = self._base_of(model) if isinstance(model, Adapter) else model
        adapter = model if isinstance(model, Adapter) else None
        if adapter is not None:
            check_base(adapter, checkpoint)
        tokenizer = (
            adapter.folder
            if adapter is not None and has_tokenizer(adapter.folder)
            else checkpoint.folder
        )
        known = vocabulary(name, checkpoint.folder)
        renderer = Renderer(
            name, tokenizer, trust_remote_code=self.trust_remote_code, vocabulary=known
        )
        loader = self._shared_loader()
        identity: dict[str, object] = {
            "engine": LOCAL,
            "weights": weights_sha256(checkpoint.folder),
            "adapter": adapter_sha256(adapter.folder) if adapter is not None else None,
            "tokenizer": renderer.tokenizer_sha256,
            "dtype": loader.placement.dtype,
            "quantisation": loader.placement.quantisation,
        }
        if self.trust_remote_code:
            identity |= _code(checkpoint, adapter)
        if self._vllm is not None:
            identity |= self._vllm.identity
        weights = Weights(
            name, checkpoint.folder, adapter.folder if adapter is not None else None, loader
        )
        if self._vllm is None:
            return LocalEngine(name, identity, weights, renderer)
        base, folder = weights.base.absolute(), weights.adapter and weights.adapter.absolute()
        served = self._vllm.add(base, folder, identity)
        endpoint = self.endpoints.open(
            address_of(f"http://127.0.0.1:{self._vllm.port}/v1#{served}"), name, own=True
        )
        start = partial(self._vllm.serve, base)
        return ServedModel(name, identity, weights, renderer, start=start, endpoint=endpoint)

    def _base_of(self, adapter: Adapter) -> Checkpoint:
        base = fetch(adapter.base) if isinstance(adapter.base, HubModel) else adapter.base
        if isinstance(base, Adapter):
            raise ModelError(
                f"adapter {adapter.name!r}: its base {base.name!r} is an adapter too; merge that one first"
            )
        return base

    def _shared_loader(self) -> Loader:
        if self._loader is None:
            placement = Placement.choose(*self._wanted)
            if placement.quantisation and self._vllm is not None:
                raise ModelError(
                    "dtype 4bit is for this process; vLLM takes vllm_arguments: [--quantization, bitsandbytes]"
                )
            self._loader = Loader(
                placement, threads=self._threads, trust_remote_code=self.trust_remote_code
            )
        return self._loader


def _code(checkpoint: Checkpoint, adapter: Adapter | None) -> dict[str, object]:
    """Return the hashes of the code that comes with a model and is run; models without any keep the keys they have."""
    folders = {"code": checkpoint.folder} | (
        {"adapter_code": adapter.folder} if adapter is not None else {}
    )
    hashes = {name: code_sha256(folder) for name, folder in folders.items()}
    return {name: sha256 for name, sha256 in hashes.items() if sha256 is not None}
