"""One base in memory and the adapters upon it: a model answers as it would alone, whatever was in memory before.

PEFT builds an adapter into the modules of its base. Most kinds leave the base as it was once they are switched off, and
several LoRA adapters can stand beside each other. Some rewrite the base: PiSSA and its kin take out of the weights what the
adapter starts with, ``bias`` trains the base's own biases, a larger vocabulary brings an embedding of its own. So a forward
pass after every adapter shows whether the base, with the adapter off, still gives the logits that it gave before. An
adapter that changes them has a base to itself, which is loaded again for the next model.
"""

import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aftertune.errors import ModelError
from aftertune.models.foreign import first_names, quiet, refused
from aftertune.models.loading import Placement, check_weights, four_bits, load_model
from aftertune.models.packing import pack, unpack
from aftertune.models.reference import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    read_json,
    tensor_shapes,
    vocabulary,
    weight_files,
)

MAX_ADAPTERS = 8
"""Adapters kept in memory with their base; the one used longest ago leaves first."""
_COMPARED = 16
"""Tokens, spread over the vocabulary, whose logits show that a base has not changed."""
_STARTS = {"true", "false", "gaussian", "eva", "orthogonal", "mica"}
"""Values of ``init_lora_weights`` that set the adapter's own weights alone; PiSSA, OLoRA, CorDA, LoftQ and LoRA-GA
subtract from the base what the adapter starts with."""
_TRIAL = "aftertune_trial"
"""The name of an adapter that is put on without weights; it must not occur in the names of PEFT's tensors."""


# What the files of an adapter say


def rewritten_by(config: Mapping[str, Any]) -> str | None:
    """Return the entry of ``adapter_config.json`` by which PEFT rewrites the base's own weights; None where none does."""
    start = config.get("init_lora_weights")
    entries = {
        "init_lora_weights": start is not None and str(start).lower() not in _STARTS,
        "bias": config.get("bias", "none") not in (None, "none"),
        "layer_replication": bool(config.get("layer_replication")),
        "kasa_config": bool(config.get("kasa_config")),
    }
    return next((f"{key}: {config[key]}" for key, rewrites in entries.items() if rewrites), None)


def approximated(config: Mapping[str, Any]) -> str | None:
    """Return the entry of ``adapter_config.json`` by which PEFT takes an approximation out of the base; None without one.

    PiSSA's quick start (``pissa_niter_N``) is a randomised decomposition: the base at a loading is not quite that of the
    training.
    """
    start = str(config.get("init_lora_weights"))
    return f"init_lora_weights: {start}" if start.startswith("pissa_niter_") else None


def resized_vocabulary(base: Path, adapter: Path) -> int | None:
    """Return the number of tokens in an adapter's own embedding; None where it has none, or one as large as the base's."""
    own = _own_shapes(adapter)
    size = vocabulary(str(base), base)
    theirs = tensor_shapes(weight_files(base)) if size is not None else {}
    sizes = {
        shape[0]
        for name, shape in own.items()
        if len(shape) == 2
        and len(theirs.get(name, ())) == 2
        and theirs[name][0] == size != shape[0]
        and theirs[name][1] == shape[1]
    }
    return sizes.pop() if len(sizes) == 1 else None


def _own_shapes(adapter: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of an adapter's tensors, by the names of the base's tensors that they would stand for."""
    shapes = tensor_shapes([adapter / ADAPTER_WEIGHTS])
    return {_name_in_base(name): shape for name, shape in shapes.items()}


def _name_in_base(name: str) -> str:
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".")


# Whether an adapter fits its base


def check_fit(name: str, base: Path, adapter: Path, *, trust_remote_code: bool = False) -> None:
    """See that an adapter holds the tensors that its configuration asks for on this base, and that they do something.

    The base is built without weights (torch's device ``meta``), which takes a moment for a model of any size. The few kinds
    that compute with the base's weights while they are put on can only be judged when they are loaded.

    Raises:
        ModelError: tensors are missing, go unused or have other shapes, or all of them together change nothing.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = _peft_config(name, adapter)
    if hasattr(config, "init_lora_weights"):
        _check_start(name, config)
        config.init_lora_weights = False  # the weights are none, so nothing can be computed of them
    shapes = tensor_shapes([adapter / ADAPTER_WEIGHTS])
    with _silent(), torch.device("meta"):
        try:
            build: Any = AutoModelForCausalLM.from_config  # it carries no types
            model = build(
                AutoConfig.from_pretrained(
                    base, local_files_only=True, trust_remote_code=trust_remote_code
                ),
                trust_remote_code=trust_remote_code,
            )
        except Exception:  # noqa: BLE001  # what is wrong with a base is told where it is loaded
            return
        if (size := resized_vocabulary(base, adapter)) is not None:
            _resize(name, model, size, map(_name_in_base, shapes))
        with refused(_unfit(name)):
            _try_on(name, model, config, shapes)
    _check_effect(name, adapter)


def _check_start(name: str, config: Any) -> None:
    """See, on one small layer, that PEFT can make the adapter's start again.

    For a start that rewrites the base it does so at every loading: LoftQ needs bitsandbytes for that, CorDA the data of the
    training.
    """
    import torch
    from peft import get_peft_model

    if rewritten_by({"init_lora_weights": config.init_lora_weights}) is None:
        return
    settings = {key: getattr(config, key) for key in ("init_lora_weights", "loftq_config")}
    layer: Any = torch.nn.Sequential(torch.nn.Linear(8, 8))
    with refused(_unfit(name)), _silent(), torch.random.fork_rng(devices=[]):
        get_peft_model(layer, type(config)(r=2, target_modules=["0"], **settings))


def _try_on(name: str, model: Any, config: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Put an adapter without weights on a base without weights, and compare the tensors with those of the file."""
    import torch
    from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    asked_for: dict[str, Any] = {}
    try:
        peft = get_peft_model(model, config, adapter_name=_TRIAL, low_cpu_mem_usage=True)
        asked_for = get_peft_model_state_dict(
            peft, adapter_name=_TRIAL, save_embedding_layers=False
        )
        _check_shapes(name, shapes, {**peft.state_dict(), **asked_for})
        tensors = {key: torch.empty(shape) for key, shape in shapes.items()}
        report: Any = set_peft_model_state_dict(peft, tensors, adapter_name=_TRIAL)
    except KeyError as error:  # PEFT's way to miss a whole module
        _check_names(name, [key for key in asked_for if key not in shapes], (), shapes)
        raise ModelError(f"{_unfit(name)} (no tensor {error})") from error
    except (RuntimeError, NotImplementedError):
        return  # it computes with weights, and here are none
    # The report counts what PEFT makes anew at every loading, the names of old files are not those of today:
    # a tensor is missing where both say so.
    lost = any(_TRIAL in key for key in report.missing_keys)
    missing = [key for key in asked_for if lost and key not in shapes]
    _check_names(name, missing, report.unexpected_keys, shapes)


def _check_shapes(
    name: str, shapes: Mapping[str, tuple[int, ...]], tensors: Mapping[str, Any]
) -> None:
    other = [
        f"{key} is {list(shape)} in {ADAPTER_WEIGHTS} and {list(tensors[key].shape)} on its base"
        for key, shape in shapes.items()
        if key in tensors and tuple(tensors[key].shape) != shape
    ]
    if other:
        raise ModelError(
            f"adapter {name!r} does not fit its base: {len(other)} of its tensors have another shape, {other[0]}; "
            "name the base that it was trained on"
        )


def _check_names(
    name: str,
    missing: Iterable[str],
    unexpected: Iterable[str],
    tensors: Collection[str],
    label: str = _TRIAL,
) -> None:
    """Refuse tensors that are lacking or go unused; ``label`` is what PEFT calls the adapter in their names.

    Beside a resized vocabulary PEFT saves a trained embedding twice, under its own name and under that of its wrapper.
    """
    lacking = list(missing)
    plain = {key: key.replace(".modules_to_save.", ".") for key in unexpected}
    unused = [key for key, own in plain.items() if own == key or own not in tensors]
    if unused:
        raise ModelError(
            f"adapter {name!r}: {len(unused)} of its {len(tensors)} tensors would go unused, since {ADAPTER_CONFIG} and its base "
            f"have no place for them: {first_names(_plain_names(unused, label))}; put the files of one training together"
        )
    if lacking:
        raise ModelError(
            f"adapter {name!r}: {ADAPTER_WEIGHTS} lacks {len(lacking)} of the tensors that {ADAPTER_CONFIG} asks for: "
            f"{first_names(_plain_names(lacking, label))}; put the files of one training together"
        )


def _plain_names(keys: Sequence[str], label: str) -> list[str]:
    """Return the names that tensors have in the adapter's file, where PEFT's own have the adapter's label in them."""
    return [key.replace(f".{label}", "") for key in keys]


def _check_effect(name: str, adapter: Path) -> None:
    """See that a LoRA adapter adds something: each of its updates is a product, and nothing where a factor is 0."""
    from safetensors.torch import load_file

    config = read_json(name, adapter / ADAPTER_CONFIG)
    if config.get("peft_type") != "LORA" or rewritten_by(config):
        return
    factors: dict[str, list[bool]] = {"A": [], "B": []}
    for key, tensor in load_file(adapter / ADAPTER_WEIGHTS).items():
        side = next(
            (side for side in factors if f".lora_{side}." in key or f"_embedding_{side}" in key),
            None,
        )
        if side is None:
            return  # trained otherwise as well: the probe compares likelihoods
        factors[side].append(bool(tensor.any()))
    if not (any(factors["A"]) and any(factors["B"])):
        raise ModelError(
            f"adapter {name!r} changes nothing: all its lora_B (or lora_A) tensors are zero, as before the first step of a "
            "training; give the trained adapter"
        )


def _peft_config(name: str, adapter: Path) -> Any:
    from peft import PeftConfig

    with refused(f"adapter {name!r}: PEFT cannot read its {ADAPTER_CONFIG}"), _silent():
        config = PeftConfig.from_pretrained(str(adapter))
    if config.is_prompt_learning:
        raise ModelError(
            f"adapter {name!r}: prompt-learning adapters cannot share a base; use LoRA"
        )
    if getattr(config, "alora_invocation_tokens", None):
        raise ModelError(
            f"adapter {name!r}: an activated LoRA acts only behind its alora_invocation_tokens, which no prompt here is sure to "
            "hold; use a LoRA without them"
        )
    return config


def _resize(name: str, model: Any, size: int, own: Iterable[str]) -> None:
    """Give a base the number of tokens of an adapter, which must bring every row that is new.

    Raises:
        ModelError: it does not.
    """
    before = model.get_input_embeddings().weight.shape[0]
    model.resize_token_embeddings(size, mean_resizing=False)
    ends = [model.get_input_embeddings(), model.get_output_embeddings()]
    resized = {id(end.weight) for end in ends if end is not None}
    brought = set(own)
    for key, parameter in model.named_parameters():
        if id(parameter) in resized and key not in brought:
            raise ModelError(
                f"adapter {name!r}: its vocabulary has {size:,} tokens and its base's {before:,}, but it holds no {key}, so the "
                "rows of the new tokens are unknown; save the adapter again with save_embedding_layers=True"
            )


@contextmanager
def _silent() -> Iterator[None]:
    """Silence PEFT as well: what its warnings speak of is checked here, or is about training and merging."""
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _unfit(name: str) -> str:
    return f"adapter {name!r} cannot be put on its base"


# In memory


class Loader:
    """Holds the loaded base and the adapters upon it. Asking for another base frees it first."""

    def __init__(
        self,
        placement: Placement,
        *,
        threads: int | None = None,
        trust_remote_code: bool = False,
        placement_of: Callable[[Path], Placement] | None = None,
    ) -> None:
        self.placement = placement
        self.placement_of = placement_of or (lambda _: placement)
        self.trust_remote_code = trust_remote_code
        self._quantised = (
            None if placement.quantisation is None else four_bits("dtype 4bit", "bfloat16 or auto")
        )
        self._threads = threads
        self._base: Path | None = None
        self._model: Any = None
        self._peft: Any = None
        self._adapters: dict[Path, str] = {}
        self._loaded = 0
        self._shared = False
        """True where the adapters in memory take others beside them."""
        self._changed = False
        """True where the base in memory is changed, so that it serves its one adapter alone."""
        self._fitting: set[Path] = set()
        """The bases whose weights fit their configuration."""
        self._logits: tuple[Any, float] | None = None
        """The untouched base's logits, and how far they are from those of a second pass."""

    @property
    def changed(self) -> bool:
        """Return whether the base in memory was changed by the adapter upon it."""
        return self._changed

    def check_base(self, name: str, base: Path) -> None:
        """See once that a base's weights fit its configuration; reads no weights.

        Raises:
            ModelError: they do not.
        """
        if base not in self._fitting:
            check_weights(name, base, trust_remote_code=self.trust_remote_code)
            self._fitting.add(base)

    @contextmanager
    def using(
        self, name: str, base: Path, adapter: Path | None, *, active: bool = True
    ) -> Iterator[Any]:
        """Give the transformers model of a base with one adapter, or with none, switched on.

        An adapter that is not ``active`` is in memory but off.

        Raises:
            ModelError: the weights cannot be loaded, or the adapter does not fit.
        """
        import torch

        if self._threads is not None:
            torch.set_num_threads(self._threads)
        if self._base != base or (self._changed and adapter not in self._adapters):
            self._load_base(name, base)
        if adapter is not None:
            label = self._adapters.pop(adapter, None) or self._put_on(name, base, adapter)
            self._adapters[adapter] = label
            self._peft.set_adapter(label)
            self._peft.eval()
            while len(self._adapters) > MAX_ADAPTERS:
                self._peft.delete_adapter(self._adapters.pop(next(iter(self._adapters))))
        off = self._peft is not None and (adapter is None or not active)
        with self._peft.disable_adapter() if off else nullcontext():
            yield self._model

    def free(self) -> None:
        """Drop base and adapters from memory."""
        import torch

        self._base = self._model = self._peft = self._logits = None
        self._adapters = {}
        self._shared = self._changed = False
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _load_base(self, name: str, base: Path) -> None:
        from transformers import GenerationConfig

        self.free()
        self._model = load_model(
            name,
            base,
            self.placement_of(base),
            trust_remote_code=self.trust_remote_code,
            quantization_config=self._quantised,
        ).eval()
        # All decoding settings are given at the call, where they are part of the key.
        self._model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
        self._base = base
        self._pack(base)

    def _pack(self, base: Path) -> None:
        placement = self.placement_of(base)
        if placement.device == "cpu":
            pack(self._model, placement.dtype)

    def _put_on(self, name: str, base: Path, adapter: Path) -> str:
        """Put an adapter beside those in memory, or on a fresh base where it does not stand beside them; return its label."""
        config = read_json(name, adapter / ADAPTER_CONFIG)
        shares = config.get("peft_type") == "LORA" and rewritten_by(config) is None
        if self._adapters and shares and self._shared:
            try:
                label = self._add(name, base, adapter)
            except ModelError:
                pass  # PEFT combines few kinds: this one may do without company
            else:
                if not self._changed:
                    return label
        if self._peft is not None or self._base is None:
            self._load_base(name, base)
        label = self._add(name, base, adapter)
        self._shared = shares and not self._changed
        self._changed = self._changed or rewritten_by(config) is not None
        return label

    def _add(self, name: str, base: Path, adapter: Path) -> str:
        """Build an adapter into the model in memory, and see whether the base is the same without it."""
        import torch
        from peft import PeftModel

        _peft_config(name, adapter)
        unpack(self._model)  # PEFT may copy layers or change their weights
        label = f"adapter_{self._loaded}"
        self._loaded += 1
        if self._logits is None:
            first, second = self._compared(), self._compared()
            self._logits = first, float((first - second).abs().max())
        size = resized_vocabulary(base, adapter)
        try:
            with (
                refused(_unfit(name)),
                _silent(),
                # Random numbers (`approximated`) are the same at each loading.
                torch.random.fork_rng(devices=range(torch.cuda.device_count())),
            ):
                torch.manual_seed(0)
                if size is not None:
                    _resize(name, self._model, size, _own_shapes(adapter))
                before = self._written_over(adapter)
                if self._peft is None:
                    self._peft = PeftModel.from_pretrained(
                        self._model, str(adapter), adapter_name=label
                    )
                # Loads the tensors again where the model is new: `from_pretrained` keeps its report to itself.
                report = self._peft.load_adapter(str(adapter), adapter_name=label)
                tensors = tensor_shapes([adapter / ADAPTER_WEIGHTS])
                _check_names(name, report.missing_keys, report.unexpected_keys, tensors, label)
                self._changed = size is not None or any(
                    not torch.equal(parameter, copy) for parameter, copy in before
                )
                if not self._changed:
                    with self._peft.disable_adapter():
                        logits, allowed = self._logits
                        change = float((self._compared() - logits).abs().max())
                        self._changed = not change <= allowed
        except BaseException:
            self.free()  # PEFT leaves the base half changed
            raise
        self._pack(base)
        return label

    def _written_over(self, adapter: Path) -> list[tuple[Any, Any]]:
        """Return the base's own weights that an adapter's file has tensors for, each with a copy."""
        own = _own_shapes(adapter)
        return [
            (parameter.data, parameter.data.clone())
            for key, parameter in self._model.named_parameters()
            if _name_in_base(key) in own
        ]

    def _compared(self) -> Any:
        """Return the logits of a few tokens, ``[1, tokens, vocabulary]`` in float32."""
        import torch

        embedding = self._model.get_input_embeddings().weight
        tokens = torch.linspace(0, embedding.shape[0] - 1, _COMPARED, device=embedding.device)
        with torch.inference_mode():
            return self._model(input_ids=tokens.long()[None], use_cache=False).logits.float()


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights of one model: a base and perhaps an adapter, in the memory that `loader` keeps."""

    name: str
    base: Path
    adapter: Path | None
    loader: Loader
    active: bool = True
    """False where the adapter is in memory but off."""

    @property
    def dtype(self) -> str:
        """The number format that they are computed in, in torch's names."""
        return self.loader.placement_of(self.base).dtype

    @contextmanager
    def using(self) -> Iterator[Any]:
        """Give the transformers model with these weights, loading what is not in memory.

        Raises:
            ModelError: they cannot be loaded, or transformers cannot compute with them in the block.
        """
        what = f"model {self.name!r}: transformers cannot compute with it"
        remedy = "; look at its config.json and generation_config.json"
        loaded = self.loader.using(self.name, self.base, self.adapter, active=self.active)
        with refused(what, remedy), loaded as model:
            yield model

    def check(self) -> None:
        """See that the base's weights fit its configuration, and an adapter its base, without loading weights.

        Raises:
            ModelError: they do not, or the adapter changes nothing.
        """
        self.loader.check_base(self.name, self.base)
        if self.adapter is not None:
            check_fit(
                self.name,
                self.base,
                self.adapter,
                trust_remote_code=self.loader.trust_remote_code,
            )
