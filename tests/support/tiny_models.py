"""Small real checkpoints, made on the spot: a random Llama, a word-level tokenizer, a chat template."""

import json
from pathlib import Path

import numpy as np

from aftertune.core.records import Decoding, GenerateJob, Message
from aftertune.models.foreign import quiet

WORDS = [
    "how",
    "do",
    "i",
    "bake",
    "a",
    "cake",
    "read",
    "map",
    "the",
    "of",
    "to",
    "and",
    "for",
    "with",
    "plan",
    "letter",
    "write",
    "say",
    "please",
    "now",
    "here",
    "is",
    "it",
    "well",
    "done",
]
TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }} {% if m['role'] == 'assistant' %}<end> {% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<assistant> {% endif %}"
)
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turns') }}{% endif %}"
    + TEMPLATE
)
SPECIAL = ["<pad>", "<unk>", "<user>", "<assistant>", "<system>", "<end>"]


def make_tokenizer(template=TEMPLATE):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pad, unknown, *roles, end = SPECIAL
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token=pad,
        unk_token=unknown,
        eos_token=end,
        additional_special_tokens=roles,
    )
    tokenizer.chat_template = template
    return tokenizer


def llama(size, **shape):
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**size, **shape))


SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "tie_word_embeddings": True,
    "initializer_range": 0.4,
}


def make_checkpoint(folder: Path, *, seed=0, template=TEMPLATE, build=llama, **generation) -> Path:
    """Write a random checkpoint; ``build`` makes the model of the tokenizer's sizes and `SHAPE`."""
    import torch

    tokenizer = make_tokenizer(template)
    torch.manual_seed(seed)
    size = {
        "vocab_size": len(tokenizer),
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
    }
    model = build({**size, "pad_token_id": tokenizer.pad_token_id}, **SHAPE)
    for field, value in generation.items():
        setattr(model.generation_config, field, value)
    with quiet():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_adapter(folder: Path, base: Path, *, seed=0) -> Path:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    with quiet():
        model = get_peft_model(
            AutoModelForCausalLM.from_pretrained(base),
            LoraConfig(
                r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"
            ),
        )
        model.save_pretrained(folder, save_embedding_layers=False)
    return folder


def change_adapter_config(folder, **entries):
    """Write other entries into an adapter's configuration; return its folder."""
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))
    return folder


def user(*words):
    return (Message(role="user", content=" ".join(words)),)


def conversations(count, *, seed=0, longest=20):
    draw = np.random.default_rng(seed)
    return [
        user(*draw.choice(WORDS, draw.integers(2, longest, endpoint=True))) for _ in range(count)
    ]


def jobs(engine, prompts, decoding=None, sample=0):
    decoding = decoding or Decoding(max_new_tokens=16)
    keys = engine.keys(prompts, decoding, sample)
    return [
        GenerateJob(key=key, messages=messages, decoding=decoding, sample=sample)
        for key, messages in zip(keys, prompts, strict=True)
    ]


def answers(engine, prompts, decoding=None, sample=0):
    asked = jobs(engine, prompts, decoding, sample)
    given = dict(engine.generate(asked))
    return [given[job.key] for job in asked]
