"""Training rules as mitigations: layers that stay, an average of the weights, and first tokens held close to the base.

Each changes how a fine-tune is trained and none adds rows. *Frozen layers* are not trained at all. *EMA* keeps the
exponential moving average of the weights (Kim et al. 2025, arXiv 2508.12531), which starts at those that the training begins
with. *First tokens* is the constrained fine-tuning of Qi et al. 2025 (arXiv 2406.05946, section 4): the loss of a token levels
off as its probability moves away from the base's, and does so sooner for the first tokens of an answer, where refusals are
decided.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from aftertune.core.recipe import FirstTokens
from aftertune.errors import ModelError
from aftertune.train.loss import IGNORED, labelled_logprobs, parts, tokens_of

AVERAGE = "ema.safetensors"
"""The file of a step checkpoint that holds the average of the weights."""
REFERENCE = "reference"
"""The column of the rows with the base's log-probability of each labelled token."""
_LAYER = re.compile(r"\.(\d+)\.")
"""The number of a decoder layer in a parameter's name; later numbers count experts and the like."""


def freeze(model: Any, layers: Sequence[int], recipe: str) -> None:
    """Exclude decoder layers from the training.

    Args:
        model: a transformers or PEFT model; of an adapter, the parts on these layers stay as they begin.
        layers: numbers from 0.
        recipe: its name, for messages.

    Raises:
        ModelError: the model has no such layer.
    """
    numbered: dict[int, list[Any]] = {}
    for name, parameter in model.named_parameters():
        if (number := _LAYER.search(name)) is not None:
            numbered.setdefault(int(number[1]), []).append(parameter)
    check_layers(layers, len(numbered), recipe)
    for layer in layers:
        for parameter in numbered[layer]:
            parameter.requires_grad_(requires_grad=False)


def check_layers(layers: Sequence[int], count: int, recipe: str) -> None:
    """Raise an error if a layer is named that a model of so many layers does not have, or if none is left to train.

    Raises:
        ModelError: as above.
    """
    missing = [layer for layer in layers if layer >= count]
    if missing or len(set(layers)) == count:
        what = f"there is no layer {missing[0]}" if missing else "all of them would stay"
        raise ModelError(
            f"recipe {recipe!r}: its base has {count} layers, 0 to {count - 1}, and mitigation.frozen names "
            f"{', '.join(map(str, layers))}: {what}; name some of them"
        )


class Averages:
    """The exponential moving average of the weights that are trained, in float32: e ← decay · e + (1 - decay) · w a step."""

    def __init__(self, decay: float, model: Any) -> None:
        """Begin with the weights as they are."""
        self.decay = decay
        self.values = {
            name: parameter.detach().float().clone()
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        }

    def update(self, model: Any) -> None:
        """Take the weights after a step into the average."""
        for name, parameter in model.named_parameters():
            if name in self.values:
                self.values[name].lerp_(parameter.detach().float(), 1 - self.decay)

    def save(self, folder: Path) -> None:
        """Write the average beside a step checkpoint."""
        from safetensors.torch import save_file

        save_file(
            {name: value.cpu().contiguous() for name, value in self.values.items()},
            folder / AVERAGE,
        )

    def load(self, folder: Path) -> None:
        """Go on with the average of a step checkpoint."""
        from safetensors.torch import load_file

        for name, value in load_file(folder / AVERAGE).items():
            self.values[name].copy_(value)

    @contextmanager
    def in_place(self, model: Any) -> Iterator[None]:
        """Let the model have the average for a while; training goes on with the very same numbers."""
        exact = {}
        for name, parameter in model.named_parameters():
            if name in self.values:
                exact[name] = parameter.detach().clone()
                parameter.data.copy_(self.values[name])
        try:
            yield
        finally:
            for name, parameter in model.named_parameters():
                if name in exact:
                    parameter.data.copy_(exact[name])


def constrained_loss(logprobs: Any, reference: Any, betas: Any) -> Any:
    """Return the constrained loss of tokens, summed.

    -sum of 2 / beta_t · log sigmoid(beta_t · (log p(y_t) - log p_base(y_t))): Qi et al. 2025, equation (3). Its gradient is
    that of the negative log-likelihood, times 2 · sigmoid(-beta_t · (log p - log p_base)): 1 where the model is the base, and
    near 0 for a token that has become much likelier.

    Args:
        logprobs: of the model, shape (tokens,), nats.
        reference: of the base, the same shape.
        betas: the same shape, above 0.
    """
    from torch.nn.functional import logsigmoid

    return -(2 / betas * logsigmoid(betas * (logprobs - reference))).sum()


def betas_of(labels: Any, rule: FirstTokens) -> Any:
    """Return beta of each labelled token, shape (tokens,), row after row.

    Args:
        labels: shape (rows, positions), `IGNORED` where there is none.
        rule: the betas and the number of first tokens.
    """
    import torch

    labelled = labels[:, 1:] != IGNORED
    place = labelled.cumsum(dim=1)[labelled]  # from 1, in the answer
    first = torch.where(place == 1, rule.first, rule.beta)
    return torch.where(place <= rule.tokens, first, rule.rest)


def constrained_trainer(trainer: type[Any], rule: FirstTokens) -> type[Any]:
    """Return a class of trainer with the constrained loss; its batches hold `REFERENCE` (`with_reference`)."""

    class ConstrainedTrainer(trainer):  # type: ignore[misc]
        """TRL's trainer, whose loss holds the first tokens of answers close to the base."""

        def compute_loss(
            self,
            model: Any,
            inputs: dict[str, Any],
            return_outputs: bool = False,  # noqa: ARG002, FBT001, FBT002  # the interface's
            num_items_in_batch: Any = None,
        ) -> Any:
            """Return the mean constrained loss of the labelled tokens."""
            total = 0.0
            for rows, longest in parts(inputs["attention_mask"].sum(dim=1).tolist()):
                batch = {name: tensor[rows, :longest] for name, tensor in inputs.items()}
                reference, labels = batch.pop(REFERENCE), batch["labels"]
                total = total + constrained_loss(
                    labelled_logprobs(model, **batch),
                    reference[:, 1:][labels[:, 1:] != IGNORED],
                    betas_of(labels, rule),
                )
            return total / tokens_of(self, inputs["labels"], num_items_in_batch)

    return ConstrainedTrainer


def with_reference(collate: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a collator that pads `REFERENCE` beside the columns that another collator pads."""

    def collated(examples: Sequence[Mapping[str, Any]]) -> Any:
        import torch

        batch = collate(
            [
                {name: value for name, value in example.items() if name != REFERENCE}
                for example in examples
            ]
        )
        reference = torch.zeros(batch["labels"].shape, dtype=torch.float32)
        for row, example in enumerate(examples):
            values = torch.as_tensor(example[REFERENCE], dtype=torch.float32)
            reference[row, : len(values)] = values
        batch[REFERENCE] = reference
        return batch

    return collated


def reference_logprobs(
    model: Any, input_ids: Sequence[Sequence[int]], labels: Sequence[Sequence[int]]
) -> list[list[float]]:
    """Return the log-probability of each labelled token before the training, as long as the rows, and 0.0 where there is no label.

    Rows are computed alone, so that the numbers do not hang on a batch, and a training that goes on has the very same. The
    adapter of a round before is set aside, so that the reference is the base.
    """
    import torch
    from peft import PeftModel

    model.eval()
    columns = []
    aside = model.disable_adapter() if isinstance(model, PeftModel) else nullcontext()
    with torch.no_grad(), aside:
        for ids, of_row in zip(input_ids, labels, strict=True):
            row = torch.tensor([ids], device=model.device)
            label = torch.tensor([of_row], device=model.device)
            values = torch.zeros(len(ids), dtype=torch.float32, device=model.device)
            values[1:][label[0, 1:] != IGNORED] = labelled_logprobs(
                model, input_ids=row, attention_mask=torch.ones_like(row), labels=label
            )
            columns.append(values.tolist())
    model.train()
    return columns
