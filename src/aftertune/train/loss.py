"""The training loss for large vocabularies where no GPU is: logits at labelled positions alone, and hardly any padding.

TRL's trainer computes the logits of all positions, prompts and padding included, wherever Triton does not run, and once
more in the backward pass. With the 49,152 words of SmolLM2 that is most of a step on a CPU. The trainer here takes the
rows of a batch apart into parts of similar length and shows the output layer nothing but positions with a label. Batches
and loss are the same, so that tensors differ by rounding.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

IGNORED = -100
"""The label of a token without loss, by PyTorch's convention."""
PART_OVERHEAD = 64
"""The positions whose work a further part of a batch costs, since every part reads all weights anew. Measured on SmolLM2."""


def labelled_trainer(*, in_parts: bool = True) -> type[Any]:
    """Return TRL's class of trainer with the loss of this file.

    Args:
        in_parts: take the rows of a batch apart by their length. Processes that hold shards of the weights must not: all
            compute a layer at the same time, and their parts would differ. accelerate puts no autocast around such a model, so
            the loss has its own.
    """
    from trl.trainer.sft_trainer import SFTTrainer

    class LabelledTrainer(SFTTrainer):
        """TRL's trainer, with logits at labelled positions alone."""

        def compute_loss(
            self,
            model: Any,
            inputs: dict[str, Any],
            return_outputs: bool = False,  # noqa: FBT001, FBT002  # the interface's
            num_items_in_batch: Any = None,
        ) -> Any:
            """Return the mean negative log-likelihood of the labelled tokens."""
            with nullcontext() if in_parts else self.accelerator.autocast():
                if return_outputs or self.aux_loss_enabled:  # TRL adds what balances the experts
                    return super().compute_loss(  # type: ignore[no-untyped-call]
                        model, inputs, return_outputs, num_items_in_batch
                    )
                lengths = inputs["attention_mask"].sum(dim=1).tolist()
                total = sum(
                    summed_nll(
                        model, **{name: tensor[rows, :longest] for name, tensor in inputs.items()}
                    )
                    for rows, longest in (parts(lengths) if in_parts else [(slice(None), None)])
                )
                return total / tokens_of(self, inputs["labels"], num_items_in_batch)

    return LabelledTrainer


def tokens_of(trainer: Any, labels: Any, num_items_in_batch: Any) -> Any:
    """Return the labelled tokens that a summed loss is divided by.

    Of several processes the trainer counts the tokens of all of them, and their gradients are averaged afterwards: so each
    takes its share of the count.

    Args:
        trainer: whose processes share the batch.
        labels: shape (rows, positions), `IGNORED` where there is none.
        num_items_in_batch: the count of the whole batch; None where the trainer has not counted it.
    """
    if num_items_in_batch is None:
        return (labels != IGNORED).sum()
    return num_items_in_batch / trainer.accelerator.num_processes


def parts(lengths: Sequence[int]) -> list[tuple[list[int], int]]:
    """Return the parts that a batch is computed in, by rows of similar length, so that the work is least.

    A part costs its rows times its longest row, and `PART_OVERHEAD`.

    Args:
        lengths: tokens of each row.

    Returns:
        The places of the rows of each part, and the length of its longest row, long rows first.
    """
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    # The least work for the first rows of the order, and where their last part begins.
    best = [(0, 0)]
    for end in range(1, len(order) + 1):
        best.append(
            min(
                (best[start][0] + (end - start) * lengths[order[start]] + PART_OVERHEAD, start)
                for start in range(end)
            )
        )
    split, end = [], len(order)
    while end:
        start = best[end][1]
        split.append((order[start:end], lengths[order[start]]))
        end = start
    return split[::-1]


def summed_nll(model: Any, *, labels: Any, **inputs: Any) -> Any:
    """Return the negative log-likelihood of the labelled tokens, summed, as a scalar tensor in float32.

    Args:
        model: a transformers or PEFT model.
        labels: shape (rows, positions); `IGNORED` where there is none. Position n is foretold by position n - 1.
        inputs: further arguments of the model.
    """
    return _cross_entropy(model, labels, inputs, "sum")


def labelled_logprobs(model: Any, *, labels: Any, **inputs: Any) -> Any:
    """Return the log-probability of each labelled token, shape (tokens,), row after row, in float32 and nats.

    Args:
        model: a transformers or PEFT model.
        labels: as for `summed_nll`.
        inputs: further arguments of the model.
    """
    return -_cross_entropy(model, labels, inputs, "none")


def _cross_entropy(model: Any, labels: Any, inputs: Mapping[str, Any], reduction: str) -> Any:
    from torch.nn.functional import cross_entropy
    from torch.nn.parallel import DistributedDataParallel

    labelled = labels[:, 1:] != IGNORED
    bare = model.module if isinstance(model, DistributedDataParallel) else model
    with _positions(bare.get_output_embeddings(), labelled):
        logits = model(**inputs, use_cache=False).logits
    if (
        logits.shape[:2] == labels.shape
    ):  # the model multiplies by the weights without its output layer
        logits = logits[:, :-1][labelled]
    return cross_entropy(
        logits.reshape(-1, logits.shape[-1]).float(), labels[:, 1:][labelled], reduction=reduction
    )


@contextmanager
def _positions(output_layer: Any, labelled: Any) -> Iterator[None]:
    """Show the output layer the chosen positions alone, as one row; what a model does to its logits, it does to these."""
    hook = output_layer.register_forward_pre_hook(
        lambda _layer, given: (given[0][:, :-1][labelled].unsqueeze(0), *given[1:])
    )
    try:
        yield
    finally:
        hook.remove()
