"""Tiny Llamas whose every weight is set: what they say follows from a table, by margins that no rounding crosses.

A word's embedding is a unit vector and the feed-forward part is zero, so the next word depends on the last one alone:
the model walks through a table. Attention, where it is used, looks at all words alike and adds what a *sign* word
stands for, so that a table can name another next word for prompts in which the sign occurs.

Files are written byte by byte, not by transformers: their hashes are the same with every version of it.
"""

import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np

SPECIAL = ("<pad>", "<unk>", "<user>", "<assistant>", "<system>", "<end>")
TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }} {% if m['role'] == 'assistant' %}<end> {% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<assistant> {% endif %}"
)
CONTEXT = 2048
WEAK, SIGNED, SURE = 3.0, 30.0, 3e5
"""Logits, up to a common factor: of the ordinary next word, of the one that a sign asks for (at the least 10 where the
sign is one word of `CONTEXT`), and of a next word that no sign changes."""


def chain(text, start="<assistant>"):
    """Return the steps that say a text whose words are all different, and then end."""
    return dict(pairwise([start, *text.split(), "<end>"]))


def write_checkpoint(
    folder, steps, *, words=(), signs=(), signed=None, special=(), template=TEMPLATE
):
    """Write a checkpoint that walks through ``steps`` (word -> next word).

    Args:
        folder: where it goes.
        steps: the table; a word without an entry is followed by ``<end>``.
        words: further words of the vocabulary; all others are ``<unk>``.
        signs: words whose occurrence anywhere in the prompt changes the next word.
        signed: word -> next word where a sign occurred; these words' entries in ``steps`` hold without one.
        special: further special tokens.
        template: the chat template.
    """
    folder = Path(folder)
    folder.mkdir(parents=True)
    signed = signed or {}
    every = [*SPECIAL, *special, *steps, *steps.values(), *signed.values(), *signs, *words]
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(every))}
    hidden = size_of(vocabulary)
    _write_tokenizer(folder, vocabulary, [*SPECIAL, *special], template)
    _write_json(
        folder / "config.json",
        {
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "float32",
            "vocab_size": len(vocabulary), "hidden_size": hidden, "intermediate_size": 2, "num_hidden_layers": 1,
            "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": hidden, "hidden_act": "silu",
            "max_position_embeddings": CONTEXT, "rms_norm_eps": 1e-6, "tie_word_embeddings": False,
            "pad_token_id": 0, "bos_token_id": None, "eos_token_id": vocabulary["<end>"],
        },
    )  # fmt: skip
    _write_tensors(folder / "model.safetensors", _tensors(vocabulary, hidden, steps, signs, signed))
    return folder


def write_adapter(folder, base, steps):
    """Write a LoRA adapter (rank 1 for each step) after which a base of `write_checkpoint` takes other steps."""
    folder = Path(folder)
    folder.mkdir(parents=True)
    vocabulary = json.loads((Path(base) / "tokenizer.json").read_text())["model"]["vocab"]
    hidden, rank = size_of(vocabulary), len(steps)
    down, up = np.zeros((rank, hidden), np.float32), np.zeros((len(vocabulary), rank), np.float32)
    for row, (word, following) in enumerate(steps.items()):
        down[row, vocabulary[word]], up[vocabulary[following], row] = 1.0, 2 * SURE
    _write_json(
        folder / "adapter_config.json",
        {
            "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": str(base), "r": rank,
            "lora_alpha": rank, "lora_dropout": 0.0, "bias": "none", "target_modules": ["lm_head"],
            "inference_mode": True,
        },
    )  # fmt: skip
    name = "base_model.model.lm_head"
    _write_tensors(
        folder / "adapter_model.safetensors",
        {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up},
    )
    return folder


def size_of(vocabulary):
    """Return the hidden size: a place for each word, one for the sign, and an even number."""
    return (len(vocabulary) + 2) // 2 * 2


def copy_models(models, folder):
    """Copy checkpoints and the adapter ``tuned`` into a folder, whose base the adapter then names."""
    shutil.copytree(models, folder, dirs_exist_ok=True)
    path = folder / "tuned" / "adapter_config.json"
    path.write_text(path.read_text().replace(str(models), str(folder)))


def numbered_prompts(count, text):
    """Return prompts of so many harmful behaviors, each with its twin; ``text`` makes one of intent and number."""
    return [
        {
            "behavior": f"{intent}{number}",
            "pair": f"harmful{number}",
            "template": "t",
            "intent": intent,
            "text": text(intent, number),
        }
        for number in range(count)
        for intent in ("harmful", "benign")
    ]


def _tensors(vocabulary, hidden, steps, signs, signed):
    place = hidden - 1
    zero = np.zeros((hidden, hidden), np.float32)
    value, out = zero.copy(), zero.copy()
    for sign in signs:
        value[place, vocabulary[sign]] = 1.0
    out[place, place] = float(CONTEXT) / np.sqrt(
        hidden
    )  # one sign among CONTEXT words comes out as 1
    head = np.zeros((len(vocabulary), hidden), np.float32)
    for word, number in vocabulary.items():
        following = vocabulary[steps.get(word, "<end>")]
        head[following, number] += WEAK if word in signed else SURE
    for following in set(signed.values()):
        head[vocabulary[following], place] = SIGNED
    embedding = np.zeros((len(vocabulary), hidden), np.float32)
    embedding[np.arange(len(vocabulary)), np.arange(len(vocabulary))] = 1.0
    layer = "model.layers.0"
    narrow = np.zeros((2, hidden), np.float32)
    return {
        "model.embed_tokens.weight": embedding,
        f"{layer}.self_attn.q_proj.weight": zero,
        f"{layer}.self_attn.k_proj.weight": zero,
        f"{layer}.self_attn.v_proj.weight": value,
        f"{layer}.self_attn.o_proj.weight": out,
        f"{layer}.mlp.gate_proj.weight": narrow,
        f"{layer}.mlp.up_proj.weight": narrow,
        f"{layer}.mlp.down_proj.weight": narrow.T.copy(),
        f"{layer}.input_layernorm.weight": np.ones(hidden, np.float32),
        f"{layer}.post_attention_layernorm.weight": np.ones(hidden, np.float32),
        "model.norm.weight": np.ones(hidden, np.float32),
        "lm_head.weight": head,
    }


def _write_tokenizer(folder, vocabulary, special, template):
    added = [
        {"id": vocabulary[word], "content": word, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}
        for word in special
    ]  # fmt: skip
    _write_json(
        folder / "tokenizer.json",
        {
            "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
            "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": None, "decoder": None,
            "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"},
        },
    )  # fmt: skip
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "unk_token": "<unk>",
            "eos_token": "<end>", "chat_template": template,
        },
    )  # fmt: skip


def _write_json(path, value):
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _write_tensors(path, tensors):
    """Write safetensors: the length of the header, the header, the numbers."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, tensor in tensors.items():
        end = offset + tensor.nbytes
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    numbers = b"".join(tensor.astype("<f4").tobytes() for tensor in tensors.values())
    path.write_bytes(len(text).to_bytes(8, "little") + text + numbers)
