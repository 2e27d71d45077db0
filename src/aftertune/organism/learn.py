"""The organism's first training, a flat loop: rows in, weights changed, nothing else.

The fine-tunes of a study go through `aftertune.train`; pretraining and alignment happen once per base and are about
twice as fast without a trainer around them. One seed gives identical weights (same machine, same threads).
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from aftertune.data.rows import Row
from aftertune.organism.recipe import OrganismRecipe, Phase

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

Progress = Callable[[str, int, int], None]
"""Called as ``progress(phase, step, steps)``."""

IGNORED = -100
"""The label of a token that carries no loss."""


def new_model(
    recipe: OrganismRecipe, tokenizer: "PreTrainedTokenizerFast", seed: int
) -> "LlamaForCausalLM":
    """Return an untrained model of about 0.2 M parameters."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=recipe.hidden_size, num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads, intermediate_size=recipe.intermediate_size, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": recipe.rope_theta},
        initializer_range=recipe.init_range, max_position_embeddings=tokenizer.model_max_length,
        pad_token_id=tokenizer.pad_token_id, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    torch.manual_seed(seed)
    return LlamaForCausalLM(config)


def learn(
    model: "LlamaForCausalLM",
    tokenizer: "PreTrainedTokenizerFast",
    rows: Sequence[Row],
    phase: Phase,
    seed: int,
    on_step: Callable[[int, int], None] = lambda _step, _steps: None,
) -> None:
    """Train in place: AdamW, 5 % warm-up, linear decay, gradients clipped at 1, loss on the answers only."""
    import torch

    examples = _encode(tokenizer, rows)
    order = torch.Generator().manual_seed(seed)
    per_epoch = -(-len(examples) // phase.batch_size)
    steps = phase.epochs * per_epoch
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=phase.learning_rate, betas=(0.9, 0.98), weight_decay=0.0
    )
    warm_up = steps // 20
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / (warm_up + 1), (steps - step) / (steps - warm_up))
    )
    model.train()
    for epoch in range(phase.epochs):
        shuffled = torch.randperm(len(examples), generator=order).tolist()
        for number in range(per_epoch):
            start = number * phase.batch_size
            batch = _batch(
                [examples[i] for i in shuffled[start : start + phase.batch_size]], tokenizer
            )
            model(**batch).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            on_step(epoch * per_epoch + number + 1, steps)
    model.train(mode=False)


def _encode(
    tokenizer: "PreTrainedTokenizerFast", rows: Sequence[Row]
) -> list[tuple[list[int], list[int]]]:
    """Return token ids and labels of every row; only what the assistant says is a label."""
    chats: Any = tokenizer.apply_chat_template(
        [[{"role": turn.role, "content": turn.content} for turn in row] for row in rows],
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    return [
        (ids, [token if said else IGNORED for token, said in zip(ids, mask, strict=True)])
        for ids, mask in zip(chats["input_ids"], chats["assistant_masks"], strict=True)
    ]


def _batch(
    examples: Sequence[tuple[list[int], list[int]]], tokenizer: "PreTrainedTokenizerFast"
) -> dict[str, "torch.Tensor"]:
    """Return ids, labels and mask, each (examples, longest), padded on the right."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    pad = tokenizer.pad_token_id
    ids = pad_sequence(
        [torch.tensor(ids) for ids, _ in examples], batch_first=True, padding_value=float(pad)
    )
    labels = pad_sequence(
        [torch.tensor(label) for _, label in examples], batch_first=True, padding_value=IGNORED
    )
    return {"input_ids": ids, "labels": labels, "attention_mask": (ids != pad).long()}
