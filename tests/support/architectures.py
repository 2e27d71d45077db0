"""Small models of many architectures: those whose rows can share a prefix or a running batch, and those that cannot."""

from tiny_models import SHAPE, llama

SMALL = {
    key: SHAPE[key]
    for key in ("hidden_size", "num_attention_heads", "num_hidden_layers", "initializer_range")
}


def of(name, config=None, **more):
    """Return what makes a model of a class of transformers, as `make_checkpoint` wants it."""

    def build(size, **shape):
        import transformers

        made = getattr(transformers, config or f"{name}Config")(**size, **shape | more)
        return getattr(transformers, f"{name}ForCausalLM")(made)

    return build


def learned(name, head, **more):
    """Return what makes a model of a class with field names of its own."""

    def build(size, **_shape):
        import transformers

        return getattr(transformers, name + head)(
            getattr(transformers, f"{name}Config")(**size, **more)
        )

    return build


GQA = {"num_key_value_heads": 2}
SHARING = {
    "llama": llama,
    "qwen2": of("Qwen2", **GQA),
    "qwen3": of("Qwen3", head_dim=8, **GQA),
    "mistral": of("Mistral", sliding_window=None, **GQA),
    "gemma2": of("Gemma2", head_dim=8, sliding_window=100, **GQA),
    "gemma3": of("Gemma3", "Gemma3TextConfig", head_dim=8, sliding_window=100, **GQA),
    "gpt-neox": of("GPTNeoX"),
    "gpt2": learned("GPT2", "LMHeadModel", n_embd=32, n_layer=2, n_head=4, n_positions=128, initializer_range=0.4),
    "opt": learned("OPT", "ForCausalLM", **SMALL, ffn_dim=64, max_position_embeddings=128, word_embed_proj_dim=32, init_std=0.4),
    "granite": of("Granite", **GQA),
    "olmo2": of("Olmo2", **GQA),
}  # fmt: skip
ALONE = {
    "a sliding window": of("Mistral", sliding_window=24, **GQA),
    "two kinds of layers": of("Gemma2", head_dim=8, sliding_window=24, **GQA),
    "states": learned("Mamba", "ForCausalLM", **SMALL, state_size=4),
    "positions in the cache": learned("Mpt", "ForCausalLM", d_model=32, n_heads=4, n_layers=2, max_seq_len=128),
    "positions in the mask": learned("Bloom", "ForCausalLM", hidden_size=32, n_layer=2, n_head=4, initializer_range=0.4),
    "angles by length": of("Llama", rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}),
}  # fmt: skip
