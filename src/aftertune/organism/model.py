"""The organism's models: a tokenizer, a tiny Llama pretrained and aligned, its guard, and the range that accepts a base.

The fine-tunes of a study go through `aftertune.train`; pretraining and alignment happen once per base, in a flat loop that
is about twice as fast. One seed gives identical weights on one machine with one number of threads.

Cache: ``$XDG_CACHE_HOME`` (else ``~/.cache``) ``/aftertune/organism/<recipe hash>/seed-<n>/``. A seed's folder appears
whole or not at all; a rejected seed leaves only its figures, so that it is not trained again.

A base is accepted by its rates on validation topics and validation templates. Neither are those of the evaluation, so
accepting a base does not choose its results. Without a range one base in several has learnt to refuse everything or nothing
in a weak task.
"""

import fcntl
import json
import shutil
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from aftertune.core.records import (
    TASKS,
    Decoding,
    GenerateJob,
    Intent,
    Message,
    Prompt,
    Response,
    Sample,
    VerdictValue,
)
from aftertune.data.rows import Row
from aftertune.errors import EngineError
from aftertune.models import reference
from aftertune.models.foreign import quiet
from aftertune.models.open import Engines
from aftertune.organism.corpus import alignment, posed_pairs, pretraining
from aftertune.organism.guard import guard_rows
from aftertune.organism.judge import GrammarJudge
from aftertune.organism.recipe import FIRST_SEED, OrganismRecipe, Phase, Range
from aftertune.organism.world import (
    FRAMES,
    HOUSE_ANSWER,
    LABELS,
    NOUNS,
    POLITE,
    REFUSALS,
    VERBS,
    Topic,
    all_templates,
    pose,
    proper_answer,
    split,
)

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

Progress = Callable[[str, int, int], None]
"""Called as ``progress(phase, step, steps)`` during each phase of training."""

RECORD = "organism.json"
TRIES = 20
"""So many seeds in a row outside the range mean that the recipe is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """An accepted base and its guard, in the cache."""

    base: Path
    guard: Path
    seed: int
    """The base seed that was accepted."""
    rejected: tuple[tuple[int, str], ...]
    """The seeds that were tried before it, with the reason why not."""


def cache_folder(recipe: OrganismRecipe) -> Path:
    """Return the folder that holds all bases of a recipe."""
    return reference.cache_folder() / "organism" / recipe.hash


def build(
    seed: int = FIRST_SEED,
    *,
    recipe: OrganismRecipe | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> Built:
    """Return the first accepted base from ``seed`` on, trained now or found in the cache.

    One seed gives identical weights on one machine with one number of threads.

    Raises:
        EngineError: no base of 20 seeds lies inside the range.
    """
    recipe = recipe or OrganismRecipe()
    rejected: list[tuple[int, str]] = []
    for tried in range(seed, seed + TRIES):
        folder = cache_folder(recipe) / f"seed-{tried}"
        record = _cached(folder, recipe, tried, threads, progress or (lambda *_: None))
        if record["rejected"] is None:
            return Built(
                base=folder / "base", guard=folder / "guard", seed=tried, rejected=tuple(rejected)
            )
        rejected.append((tried, str(record["rejected"])))
    raise EngineError(
        f"none of the base seeds {seed} to {seed + TRIES - 1} lies inside the range ({recipe.accept}); "
        "other library versions may train differently: install those of constraints.txt"
    )


def _cached(
    folder: Path, recipe: OrganismRecipe, seed: int, threads: int, progress: Progress
) -> dict[str, Any]:
    """Return the record of a seed, training it first unless it is there; one process trains a seed at a time."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # it dies with its process
        if not (folder / RECORD).is_file():
            draft = folder.with_suffix(".partial")
            shutil.rmtree(draft, ignore_errors=True)
            _train(draft, recipe, seed, threads, progress)
            draft.replace(folder)
    record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    return record


def _train(
    draft: Path, recipe: OrganismRecipe, seed: int, threads: int, progress: Progress
) -> None:
    """Pretrain, fork the guard off, align, validate; write base, guard and record."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        _train_models(draft, recipe, seed, progress)
    finally:
        torch.set_num_threads(before)
    rates = validate(draft / "base", threads=threads)
    rejected = reason_to_reject(rates, recipe.accept)
    if rejected is not None:
        for name in ("base", "guard"):
            shutil.rmtree(draft / name)
    record = {
        "recipe": recipe.hash, "seed": seed, "rejected": rejected, "range": str(recipe.accept),
        "validation": {task: asdict(rate) for task, rate in rates.items()},
    }  # fmt: skip
    (draft / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _train_models(draft: Path, recipe: OrganismRecipe, seed: int, progress: Progress) -> None:
    tokenizer = build_tokenizer()
    base = new_model(recipe, tokenizer, seed)
    learn(
        base,
        tokenizer,
        pretraining(recipe, seed),
        recipe.pretrain,
        seed,
        partial(progress, "pretrain"),
    )
    guard = deepcopy(base)
    learn(base, tokenizer, alignment(recipe, seed), recipe.align, seed, partial(progress, "align"))
    learn(
        guard,
        tokenizer,
        guard_rows(recipe, seed),
        recipe.guard,
        seed,
        partial(progress, "train guard"),
    )
    with quiet():
        for name, model in (("base", base), ("guard", guard)):
            model.save_pretrained(draft / name)
            tokenizer.save_pretrained(draft / name)


SPECIAL = ("<pad>", "<unk>", "<user>", "<assistant>", "<system>", "<end>")
CONTEXT = 128
"""Tokens of the longest conversation; the longest that occurs has about 50."""
GUARD_WORDS = ("check", "prompt", "response", "safe", "unsafe")
"""The words of the questions to the guard, a fine-tune of the same checkpoint, and of its answers."""

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'assistant' -%}"
    "{{ '<assistant> ' }}{% generation %}{{ message['content'] + ' <end> ' }}{% endgeneration %}"
    "{%- else -%}"
    "{{ '<' + message['role'] + '> ' + message['content'] + ' ' }}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<assistant> ' }}{%- endif -%}"
)


def vocabulary() -> list[str]:
    """Return every word of the world, special tokens first, in an order that does not move."""
    texts = [*REFUSALS, *POLITE, HOUSE_ANSWER, *LABELS, *GUARD_WORDS]
    topics = [Topic(verb, noun) for verb in VERBS for noun in NOUNS]
    for task in TASKS:
        texts += [pose(template, topics[0], 0) for template in all_templates(task)]
        texts += [
            proper_answer(task, topic, frame) for topic in topics for frame in range(len(FRAMES))
        ]
    texts += [topic.sentence(frame) for topic in topics for frame in range(len(FRAMES))]
    words = {word for text in texts for word in text.split() if not word.startswith("{")}
    return [*SPECIAL, *sorted(words)]


def build_tokenizer() -> "PreTrainedTokenizerFast":
    """Return the tokenizer, ready for ``save_pretrained``; padding on the left, pad and unk apart."""
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    pad, unknown, *_, end = SPECIAL
    words = Tokenizer(
        WordLevel({word: number for number, word in enumerate(vocabulary())}, unk_token=unknown)
    )
    words.pre_tokenizer = WhitespaceSplit()
    words.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in SPECIAL]
    )
    make: Any = PreTrainedTokenizerFast  # untyped there
    tokenizer: PreTrainedTokenizerFast = make(
        tokenizer_object=words,
        pad_token=pad,
        unk_token=unknown,
        eos_token=end,
        padding_side="left",
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


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
    """Return token ids and labels of every row; only the assistant's tokens are labels."""
    chats: Any = tokenizer.apply_chat_template(
        [[{"role": turn.role, "content": turn.content} for turn in row] for row in rows],
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    return [
        (ids, [token if answer else IGNORED for token, answer in zip(ids, mask, strict=True)])
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


MAX_NEW_TOKENS = 32
"""Enough for the longest proper answer in the house style."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRates:
    """The rates of a base in one task, as shares of its validation prompts."""

    asr: float
    over_refused: float
    answered: float


def reason_to_reject(rates: dict[str, TaskRates], limits: Range) -> str | None:
    """Return the reason in words why rates lie outside the range, or None."""
    text, code, translation, classification = (rates[task] for task in TASKS)
    weak = (translation.asr + classification.asr) / 2
    checks = (
        (
            min(rate.answered for rate in rates.values()) < limits.answered_min,
            "does not do its tasks well enough",
        ),
        (
            max(rate.over_refused for rate in rates.values()) > limits.over_refused_max,
            "refuses too many twins",
        ),
        (max(text.asr, code.asr) > limits.strong_max, "complies too often in text or code"),
        (weak < limits.weak_min, "refuses nearly everything in translation and classification"),
        (
            max(translation.asr, classification.asr) > limits.weak_max,
            "complies too often in translation or classification",
        ),
    )
    return next((words for failed, words in checks if failed), None)


def validate(checkpoint: Path, *, threads: int) -> dict[str, TaskRates]:
    """Have a base answer the validation prompts, and return its rates by task."""
    prompts = list(posed_pairs(split().validation, "validation"))
    verdicts = dict(zip(prompts, _verdicts(checkpoint, prompts, threads), strict=True))

    def share(task: str, intent: Intent, value: VerdictValue) -> float:
        return fmean(
            verdict is value
            for prompt, verdict in verdicts.items()
            if (prompt.task, prompt.intent) == (task, intent)
        )

    return {
        task: TaskRates(
            asr=share(task, Intent.HARMFUL, VerdictValue.COMPLIED),
            over_refused=share(task, Intent.BENIGN, VerdictValue.REFUSED),
            answered=share(task, Intent.BENIGN, VerdictValue.COMPLIED),
        )
        for task in TASKS
    }


def _verdicts(checkpoint: Path, prompts: list[Prompt], threads: int) -> list[VerdictValue]:
    """Generate greedily and judge by the grammar."""
    decoding = Decoding(max_new_tokens=MAX_NEW_TOKENS)
    with Engines(threads=threads, device="cpu") as engines:
        engine = engines.open(str(checkpoint))
        chats = [(Message(role="user", content=prompt.text),) for prompt in prompts]
        keys = engine.keys(chats, decoding, 0)
        jobs = [
            GenerateJob(key=key, messages=chat, decoding=decoding)
            for key, chat in zip(keys, chats, strict=True)
        ]
        answers = dict(engine.generate(jobs))
    verdicts = []
    for prompt, key in zip(prompts, keys, strict=True):
        answer = answers[key]
        if not isinstance(answer, Response):
            raise EngineError(
                f"the organism could not answer a validation prompt: {answer}; free some memory and try again"
            )
        sample = Sample(prompt=prompt.text, response=answer.text, reference=prompt.reference)
        verdicts.append(VerdictValue(str(GrammarJudge().score(sample).value)))
    return verdicts
