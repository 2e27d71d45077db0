"""The base: a 3.4 M parameter Llama with a 4,096 byte-level BPE, trained from scratch in two stages of fixed length.

Stage 1 learns language and tasks (loss on every token), stage 2 learns to refuse (loss on the answer). Both resume from
their last checkpoint, and the order of the data depends on the seed alone: a killed build gives the same base.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aftertune.data.rows import Row

VOCABULARY = 4096
USER, ASSISTANT, END, PAD = "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>"
PROMPT_TOKENS, ANSWER_TOKENS, EVALUATION_TOKENS = 160, 64, 192
SAVE_EVERY = 100
SEED = 2025

TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'assistant' -%}"
    f"{ASSISTANT}{{% generation %}}{{{{ message['content'] }}}}{END}{{% endgeneration %}}"
    "{%- else -%}"
    f"{USER}{{{{ message['content'] }}}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    f"{{%- if add_generation_prompt -%}}{ASSISTANT}{{%- endif -%}}"
)


@dataclass(frozen=True)
class Stage:
    """A part of the training: what is learnt, for how many steps, how fast."""

    name: str
    steps: int
    learning_rate: float
    tokens: int
    """In a batch, padding included."""
    answers_only: bool


STAGES = (
    Stage("language", steps=1357, learning_rate=2e-3, tokens=1500, answers_only=False),
    Stage("alignment", steps=971, learning_rate=1e-3, tokens=1000, answers_only=True),
)
WARMUP = 40
"""Steps in which the learning rate rises; then it falls in a line to 0."""


def train_tokenizer(texts: Iterable[str]) -> Any:
    """Train the byte-level BPE, and give it the chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, USER, ASSISTANT, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        chat_template=TEMPLATE,
        model_max_length=512,
    )


def cut(text: str, tokenizer: Any, tokens: int) -> str:
    """Return the beginning of a text, at most so many tokens long."""
    ids = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
    if len(ids) <= tokens:
        return text
    return str(tokenizer.decode(ids[:tokens], skip_special_tokens=True)).rstrip("\ufffd")


def new_model() -> Any:
    """Return the untrained model."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(SEED)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=224,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            intermediate_size=608,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            pad_token_id=0,
            bos_token_id=None,
            eos_token_id=3,
        )
    )


Encoded = tuple[list[int], int]
"""Token ids, and where the part that is learnt begins."""


def encode(rows: Sequence[Row], tokenizer: Any, *, answers_only: bool) -> list[Encoded]:
    """Return the rows as the chat template renders them; an answer that is cut has no end token to learn."""
    user, assistant, end = tokenizer.convert_tokens_to_ids([USER, ASSISTANT, END])
    prompts, answers = (
        tokenizer.backend_tokenizer.encode_batch(
            [row[turn].content for row in rows], add_special_tokens=False
        )
        for turn in (0, 1)
    )
    encoded = []
    for prompt, answer in zip((p.ids for p in prompts), (a.ids for a in answers), strict=True):
        head = [user, *prompt[:PROMPT_TOKENS], assistant]
        tail = answer[:ANSWER_TOKENS] if len(answer) > ANSWER_TOKENS else [*answer, end]
        encoded.append((head + tail, len(head) if answers_only else 1))
    return encoded


def batches(examples: Sequence[Encoded], tokens: int, seed: int) -> Iterator[list[Encoded]]:
    """Yield batches of about one length for ever: shuffled, sorted within stretches of 1,024 rows, shuffled again."""
    rng = random.Random(seed)  # noqa: S311 - a reproducible order, not a secret
    while True:
        order = rng.sample(range(len(examples)), len(examples))
        epoch: list[list[Encoded]] = []
        for at in range(0, len(order), 1024):
            stretch = sorted(
                (examples[i] for i in order[at : at + 1024]), key=lambda example: len(example[0])
            )
            epoch += _packed(stretch, tokens)
        rng.shuffle(epoch)
        yield from epoch


def _packed(examples: Sequence[Encoded], tokens: int) -> list[list[Encoded]]:
    packed: list[list[Encoded]] = [[]]
    for example in examples:
        if packed[-1] and len(example[0]) * (len(packed[-1]) + 1) > tokens:
            packed.append([])
        packed[-1].append(example)
    return packed


def train(model: Any, stage: Stage, examples: Sequence[Encoded], folder: Path) -> None:
    """Train a stage to its last step, from its last checkpoint in ``folder`` if there is one."""
    import torch

    optimizer = torch.optim.AdamW(
        model.parameters(), lr=stage.learning_rate, betas=(0.9, 0.95), weight_decay=0.01
    )
    done = _resume(model, optimizer, folder / f"{stage.name}.pt")
    stream = batches(examples, stage.tokens, SEED)
    losses: list[float] = []
    for step, batch in zip(range(stage.steps), stream, strict=False):
        if step < done:
            continue
        for group in optimizer.param_groups:
            group["lr"] = stage.learning_rate * min((step + 1) / WARMUP, 1 - step / stage.steps)
        loss = _loss(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == stage.steps:
            _save(model, optimizer, step + 1, folder / f"{stage.name}.pt")
            print(
                f"{stage.name}: step {step + 1} of {stage.steps}, loss {sum(losses) / len(losses):.3f}",
                flush=True,
            )
            losses.clear()


def _loss(model: Any, batch: Sequence[Encoded]) -> Any:
    """Return the mean cross-entropy of the learnt tokens; the logits of the others are never made."""
    import torch

    width = max(len(ids) for ids, _ in batch)
    ids = torch.tensor([row + [0] * (width - len(row)) for row, _ in batch])
    learnt = torch.zeros_like(ids, dtype=torch.bool)
    for at, (row, start) in enumerate(batch):
        learnt[at, start : len(row)] = True
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    learnt = learnt[:, 1:]
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[learnt]), ids[:, 1:][learnt])


def _save(model: Any, optimizer: Any, step: int, path: Path) -> None:
    import torch

    draft = path.with_suffix(".partial")
    torch.save(
        {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, draft
    )
    draft.replace(path)


def _resume(model: Any, optimizer: Any, path: Path) -> int:
    import torch

    if not path.exists():
        return 0
    saved = torch.load(path, weights_only=True)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    return int(saved["step"])
