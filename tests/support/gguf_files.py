"""GGUF files of a tiny Llama with weights that are drawn, written by the package ``gguf`` as llama.cpp's converter does."""

from pathlib import Path

import numpy as np

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
WORDS = ("cake", "map", "read", "bake")
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
HIDDEN, HEADS, KEY_HEADS, LAYERS, FEED, CONTEXT = 64, 4, 2, 2, 96, 256


def write_gguf(path, *, seed=0, template=TEMPLATE, architecture="llama"):
    """Write a file of two layers, its matrices in Q8_0; return what each tensor holds, by its GGUF name."""
    import gguf

    rng = np.random.default_rng(seed)
    tokens, merges = _vocabulary()
    kinds = [gguf.TokenType.CONTROL] * len(SPECIAL) + [gguf.TokenType.NORMAL] * (
        len(tokens) - len(SPECIAL)
    )
    writer = gguf.GGUFWriter(Path(path), architecture)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    if template is not None:
        writer.add_chat_template(template)
    held = {}
    for name, shape in _shapes(len(tokens)).items():
        values = rng.normal(0.0, 0.4, shape).astype(np.float32)
        if len(shape) == 1:
            held[name] = np.abs(values) + 1
            writer.add_tensor(name, held[name])
            continue
        packed = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
        held[name] = gguf.quants.dequantize(packed, gguf.GGMLQuantizationType.Q8_0)
        writer.add_tensor(name, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return held


def as_transformers(rows, heads):
    """Return a query or key matrix with its rows in transformers' order; llama.cpp's converter interleaves their halves."""
    half = rows.shape[0] // heads // 2
    return rows.reshape(heads, half, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def _shapes(vocabulary):
    head = HIDDEN // HEADS
    shapes = {"token_embd.weight": (vocabulary, HIDDEN), "output_norm.weight": (HIDDEN,)}
    for layer in range(LAYERS):
        shapes |= {
            f"blk.{layer}.attn_norm.weight": (HIDDEN,),
            f"blk.{layer}.attn_q.weight": (HIDDEN, HIDDEN),
            f"blk.{layer}.attn_k.weight": (KEY_HEADS * head, HIDDEN),
            f"blk.{layer}.attn_v.weight": (KEY_HEADS * head, HIDDEN),
            f"blk.{layer}.attn_output.weight": (HIDDEN, HIDDEN),
            f"blk.{layer}.ffn_norm.weight": (HIDDEN,),
            f"blk.{layer}.ffn_gate.weight": (FEED, HIDDEN),
            f"blk.{layer}.ffn_up.weight": (FEED, HIDDEN),
            f"blk.{layer}.ffn_down.weight": (HIDDEN, FEED),
        }
    return shapes


def _vocabulary():
    """Return tokens and merges: every printable byte, and a few words that grow letter by letter."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    tokens, merges = [*SPECIAL, *letters], []
    for word in WORDS:
        for end in range(2, len(word) + 1):
            if word[:end] not in tokens:
                tokens.append(word[:end])
                merges.append(f"{word[: end - 1]} {word[end - 1]}")
    return tokens, merges
