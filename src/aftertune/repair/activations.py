"""Repairs that read prompts: the base's refusal direction written back, and Antidote's pruning. Forward passes only.

The prompts come from the part for selection; nothing is generated and nothing is trained.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aftertune.core.records import Intent, Prompt, conversation
from aftertune.errors import DataError, ModelError
from aftertune.models.foreign import quiet
from aftertune.models.loading import load_model
from aftertune.models.open import Engines
from aftertune.models.reference import Checkpoint
from aftertune.repair.arithmetic import restored, reverted
from aftertune.repair.data_free import Make
from aftertune.repair.weights import Factors, FineTune, write_adapter, write_full

if TYPE_CHECKING:
    from torch import Tensor

MOST_PROMPTS = 256
"""Most prompts of an intent that are read: a mean over so many hardly moves any more."""
LEAST_SIZE = 1e-6
"""The least length of a difference of means that is a direction."""


def restore_direction(tune: FineTune, prompts: Sequence[Prompt], engines: Engines) -> Make:
    """Return what writes the fine-tune with the refusal direction written as the base writes it (`arithmetic.restored`).

    In every matrix that writes into the hidden state, what the fine-tune changed along the direction of its layer is taken
    back (`refusal_directions`). Of an adapter that is B alone.

    Raises:
        DataError: there are no harmful or no benign prompts.
        ModelError: no layer of the base tells harmful prompts from benign ones.
    """
    directions = refusal_directions(tune.base, prompts, engines)

    def write(strength: float, out: Path) -> None:
        def of_weight(name: str, base: "Tensor", tuned: "Tensor") -> "Tensor":
            along = directions.get(name.removesuffix(".weight"))
            return tuned if along is None else base + restored(tuned - base, along, strength)

        def of_factors(factors: Factors) -> tuple["Tensor", "Tensor"]:
            along = directions.get(factors.module)
            up = factors.up if along is None else restored(factors.up, along, strength)
            return factors.down, up

        if tune.adapter is None:
            write_full(tune, out, of_weight)
        else:
            write_adapter(tune, out, of_factors)

    return write


def prune_harmful(tune: FineTune, prompts: Sequence[Prompt], engines: Engines) -> Make:
    """Return what writes the fine-tune with the changes that matter most to harmful prompts taken back (`arithmetic.reverted`).

    Only matrices inside the layers are looked at, each by itself.

    Raises:
        DataError: there are no harmful prompts.
    """
    own = Checkpoint(tune.reference, tune.folder)
    norms = input_norms(own, of_intent(prompts, Intent.HARMFUL), engines)

    def write(share: float, out: Path) -> None:
        def of_weight(name: str, base: "Tensor", tuned: "Tensor") -> "Tensor":
            inputs = norms.get(name.removesuffix(".weight")) if tuned.dim() == 2 else None
            return tuned if inputs is None else reverted(base, tuned, inputs, share)

        write_full(tune, out, of_weight)

    return write


def refusal_directions(
    model: Checkpoint, prompts: Sequence[Prompt], engines: Engines
) -> Mapping[str, "Tensor"]:
    """Return the refusal direction of each matrix that writes into the hidden state, a unit vector by the module's name.

    The direction of a layer is the mean of its hidden states at the last token of harmful prompts minus that of benign
    ones. A layer's matrices that write are the last linear modules of its blocks (attention, feed-forward), in the order in
    which they compute.
    Source: Arditi et al., Refusal in Language Models Is Mediated by a Single Direction, NeurIPS 2024 (arXiv 2406.11717),
    section 2.3. They take the direction out of the weights; here what a fine-tune took out is put back.

    Raises:
        DataError: there are no harmful or no benign prompts.
        ModelError: no layer tells the two apart.
    """
    of_intents = [of_intent(prompts, intent) for intent in (Intent.HARMFUL, Intent.BENIGN)]
    with _loaded(model, engines) as loaded:
        layers = _layers(model, loaded)
        harmful, benign = (_last_states(model, loaded, chosen, engines) for chosen in of_intents)
        writers = _writers(model, loaded, layers, of_intents[0][:1], engines)
    directions = {}
    for name, number in writers.items():
        difference = harmful[number] - benign[number]
        if float(difference.norm()) > LEAST_SIZE:
            directions[name] = difference / difference.norm()
    if not directions:
        raise ModelError(
            f"model {model.name!r}: no layer tells harmful prompts from benign ones, so it has no refusal direction"
        )
    return directions


def _last_states(
    model: Checkpoint, loaded: Any, prompts: Sequence[Prompt], engines: Engines
) -> list[Any]:
    """Return the mean hidden state behind each layer at the last token of prompts."""
    sums: dict[Any, Any] = {}

    def hook(layer: Any, _inputs: Any, output: Any) -> None:
        states = output[0] if isinstance(output, tuple) else output
        sums[layer] = sums.get(layer, 0.0) + states[0, -1].float().cpu()

    layers = _layers(model, loaded)
    with _hooks() as add:
        for layer in layers:
            add(layer.register_forward_hook(hook))
        _read(model, loaded, prompts, engines)
    return [sums[layer] / len(prompts) for layer in layers]


def _writers(
    model: Checkpoint,
    loaded: Any,
    layers: Sequence[Any],
    prompts: Sequence[Prompt],
    engines: Engines,
) -> dict[str, int]:
    """Return the modules that write into the hidden state with the number of their layer: the last linear one of each block."""
    order: list[Any] = []

    def hook(module: Any, _inputs: Any, _output: Any) -> None:
        order.append(module)

    with _hooks() as add:
        for layer in layers:
            for linear in _linears(layer):
                add(linear.register_forward_hook(hook))
        _read(model, loaded, prompts, engines)
    names = {module: name for name, module in loaded.named_modules()}
    writers = {}
    for number, layer in enumerate(layers):
        for block in layer.children():
            inside = set(_linears(block))
            last = [module for module in order if module in inside][-1:]
            writers.update({names[module]: number for module in last})
    return writers


def input_norms(
    model: Checkpoint, prompts: Sequence[Prompt], engines: Engines
) -> Mapping[str, "Tensor"]:
    """Return ||x_j|| of each input j of every linear module inside the layers, over all tokens of the prompts, by name."""
    squares: dict[Any, Any] = {}

    def hook(module: Any, inputs: Any) -> None:
        states = inputs[0].float().reshape(-1, inputs[0].shape[-1])
        squares[module] = squares.get(module, 0.0) + (states**2).sum(dim=0).cpu()

    with _loaded(model, engines) as loaded:
        names = {module: name for name, module in loaded.named_modules()}
        with _hooks() as add:
            for layer in _layers(model, loaded):
                for linear in _linears(layer):
                    add(linear.register_forward_pre_hook(hook))
            _read(model, loaded, prompts, engines)
        return {names[module]: total.sqrt() for module, total in squares.items()}


def of_intent(prompts: Sequence[Prompt], intent: Intent) -> list[Prompt]:
    """Return the first prompts of an intent.

    Raises:
        DataError: there are none.
    """
    chosen = [prompt for prompt in prompts if prompt.intent is intent][:MOST_PROMPTS]
    if not chosen:
        raise DataError(
            f"no {intent.value} prompt is in the part for selection, and the method reads some; ask a set with benign twins"
        )
    return chosen


@contextmanager
def _loaded(model: Checkpoint, engines: Engines) -> Iterator[Any]:
    with quiet():
        yield load_model(
            model.name,
            model.folder,
            engines.placement,
            trust_remote_code=engines.trust_remote_code,
        ).eval()


@contextmanager
def _hooks() -> Iterator[Callable[[Any], None]]:
    """Collect hooks, and take them off again at the end."""
    handles: list[Any] = []
    try:
        yield handles.append
    finally:
        for handle in handles:
            handle.remove()


def _read(model: Checkpoint, loaded: Any, prompts: Sequence[Prompt], engines: Engines) -> None:
    """Put prompts through a model, one by one, so that no padding is read."""
    import torch

    renderer = engines.renderer(model)
    with torch.inference_mode():
        for tokens in renderer.prompts([conversation(prompt.text, None) for prompt in prompts]):
            loaded(input_ids=torch.tensor([tokens], device=loaded.device), use_cache=False)


def _layers(model: Checkpoint, loaded: Any) -> Sequence[Any]:
    """Return the layers of a model: its list of as many modules as the configuration has layers.

    Raises:
        ModelError: there is none.
    """
    import torch

    number = loaded.config.get_text_config().num_hidden_layers
    for module in loaded.modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == number:
            return list(module)
    raise ModelError(f"model {model.name!r}: its layers cannot be told from its modules")


def _linears(module: Any) -> list[Any]:
    import torch

    return [part for part in module.modules() if isinstance(part, torch.nn.Linear)]
