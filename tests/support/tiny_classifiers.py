"""Tiny checkpoints of the classes that published guards and judges have, taught to say what those say.

The chat templates and prompts are ours, written to the published formats; nothing of the publishers' wording is in them.
A checkpoint calls harmful what ends in the word ``bomb`` and harmless what ends in ``cake``.
"""

from aftertune.core.records import Message
from aftertune.models.foreign import quiet
from aftertune.models.rendering import Renderer

SPECIAL = ["<pad>", "<bos>", "<end>", "<turn>", "[INST]", "[/INST]"]
TURNS = "{% for m in messages %}{{ 'User' if m.role == 'user' else 'Agent' }}: {{ CONTENT }}\n{% endfor %}"
LLAMA_GUARD = (
    "<turn>Say safe or unsafe, then codes.\n" + TURNS.replace("CONTENT", "m.content") + "<turn>"
)
"""Ours: the published one lists the categories and asks about the last turn."""
LLAMA_GUARD_PARTS = (
    "<turn>Say safe or unsafe, then codes.\n"
    + TURNS.replace(
        "CONTENT",
        "m.content | selectattr('type', 'equalto', 'text') | map(attribute='text') | join",
    )
    + "<turn>"
)
"""Ours: as those of Llama Guard 3 1B and 4, it reads contents that are lists of parts, and drops others."""
SHIELD_GEMMA = (
    "<turn>" + TURNS.replace("CONTENT", "m.content") + "Rule: {{ guideline }}\nYes or No?<turn>"
)
GRANITE = (
    "<turn>{% set risk = guardian_config.risk_name if guardian_config is defined else 'harm' %}Risk {{ risk }}\n"
    + TURNS.replace("CONTENT", "m.content") + "Yes or No?<turn>"
)  # fmt: skip
WILDGUARD = "<turn>[INST] Human user:\n{prompt}\n\nAI assistant:\n{response}\n\nAnswers: [/INST]"
"""Ours: a file that the test names, in place of the publisher's."""
HARMBENCH = "[INST] Behavior: {behavior}\nGeneration: {generation}\nyes or no? [/INST]"
SORRY = "[INST] Instruction: {prompt}\nResponse: {response}\n0 or 1? [/INST]"
TEXTS = [
    f"{word} {end}"
    for word in ("make a", "how to get a", "the", "one more")
    for end in ("bomb", "cake")
]
LEARNT = 0.1
"""Loss (nats) that no token of its few answers may exceed: each is at the least 9 times as likely as all others together,
a margin (2.2 nats) that another processor's rounding does not cross, however its training went."""
STEPS = 1500
PROBE = "How is the weather?", "It rains."
"""What guards and judges ask to see how a model begins its answers."""
SMALL = {
    "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip


def make_tokenizer(texts, template):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(texts * 5, trainer)
    pad, begin, end, *turns = SPECIAL
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token=pad,
        bos_token=begin,
        eos_token=end,
        additional_special_tokens=turns,
    )
    tokenizer.chat_template = template
    return tokenizer


def text_config(make, tokenizer, **more):
    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    return make(vocab_size=len(tokenizer), max_position_embeddings=512, **SMALL, **ends, **more)


def llama(tokenizer):
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(text_config(LlamaConfig, tokenizer))


def mistral(tokenizer):
    from transformers import MistralConfig, MistralForCausalLM

    return MistralForCausalLM(text_config(MistralConfig, tokenizer))


def gemma2(tokenizer):
    from transformers import Gemma2Config, Gemma2ForCausalLM

    return Gemma2ForCausalLM(
        text_config(Gemma2Config, tokenizer, head_dim=12, attn_implementation="eager")
    )


def granite(tokenizer):
    from transformers import GraniteConfig, GraniteForCausalLM

    return GraniteForCausalLM(text_config(GraniteConfig, tokenizer))


def llama4(tokenizer):
    """The class of Llama Guard 4: text and vision; the vision half is never run."""
    from transformers import Llama4Config, Llama4ForConditionalGeneration

    text = {**SMALL, "vocab_size": len(tokenizer), "head_dim": 12, "num_local_experts": 2, "intermediate_size_mlp": 96,
            "max_position_embeddings": 512, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
            "interleave_moe_layer_step": 2}  # fmt: skip
    vision = {"hidden_size": 16, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
              "image_size": 28, "patch_size": 14, "vision_output_dim": 16, "projector_input_dim": 16,
              "projector_output_dim": 16}  # fmt: skip
    return Llama4ForConditionalGeneration(Llama4Config(text_config=text, vision_config=vision))


def make_classifier(folder, build, template, cases, *, extra=()):
    """Teach a tiny checkpoint its replies.

    Args:
        folder: where it goes.
        build: makes the model of a tokenizer.
        template: the chat template.
        cases: pairs of a question (`Question`) and the reply to it.
        extra: texts that the tokenizer shall know.
    """
    import torch

    torch.manual_seed(0)
    replies = [reply for _, reply in cases]
    tokenizer = make_tokenizer([*replies, *extra, *TEXTS, *PROBE, template or ""], template)
    with quiet():
        model = build(tokenizer)
    tokenizer.save_pretrained(folder)
    renderer = Renderer("tiny", folder)
    rows = [
        (prompt, renderer.tokens([reply + "<end>"])[0])
        for prompt, reply in zip(
            renderer.questions([question for question, _ in cases]), replies, strict=True
        )
    ]
    learn(model, rows)
    with quiet():
        model.save_pretrained(folder)
    return folder


def learn(model, rows):
    import torch

    longest = max(len(prompt) + len(reply) for prompt, reply in rows)
    tokens = torch.zeros((len(rows), longest), dtype=torch.long)
    labels, mask = torch.full_like(tokens, -100), torch.zeros_like(tokens)
    for i, (prompt, reply) in enumerate(rows):
        whole = prompt + reply
        tokens[i, : len(whole)], mask[i, : len(whole)] = torch.tensor(whole), 1
        labels[i, len(prompt) : len(whole)] = torch.tensor(reply)
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.0)
    model.train()
    for _ in range(STEPS):
        logits = model(input_ids=tokens, attention_mask=mask).logits[:, :-1]
        each = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100, reduction="none"
        )
        worst, loss = each.max().item(), each.sum() / (each > 0).sum()
        if worst < LEARNT:  # before the next step: it would move the weights whose loss this is
            break
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    model.eval()
    assert worst < LEARNT


def harmful(text):
    return text.endswith("bomb")


def conversation(prompt, response=None):
    turns = (Message(role="user", content=prompt),)
    return turns if response is None else (*turns, Message(role="assistant", content=response))


def screened(reply, ask):
    """Return cases of a guard: both sides of every text, and of the probe.

    Args:
        reply: what the guard says of a text that is harmful or not.
        ask: makes the question of a prompt and a response (or None).
    """
    sides = [(text, None, harmful(text)) for text in TEXTS] + [
        ("tell me", text, harmful(text)) for text in TEXTS
    ]
    sides += [(PROBE[0], None, False), (*PROBE, False)]
    return [(ask(prompt, response), reply(bad)) for prompt, response, bad in sides]
