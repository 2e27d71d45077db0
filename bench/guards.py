"""A guard asked by the likelihoods of its labels first, against generating every reply: ``python bench/guards.py [PROMPTS] [ROUNDS]``.

All screen the same prompts with the same checkpoint, a small Llama with a chat template that we wrote to the published
format of Llama Guard (a policy of some hundred and forty tokens before every prompt), taught to call unsafe what ends in
one of two words: a tenth of the prompts. All go through the guard that a study uses, in its batches; where likelihoods
decide, only what is unsafe is generated, for its categories. Replies are generated twice: ``generation`` computes the policy
once, as asking by likelihoods does; ``whole`` runs every prompt through the model as it is, and runs in the first round
only. Every run is a process of its own, start-up and imports included; rounds alternate, medians are printed. Decisions that
differ are counted. Ratios of CPU times with start-up are kept in ``latest.json``.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from latest import keep

HERE = Path(__file__).parent
PROMPTS, ROUNDS = 2000, 3
LAYERS, HIDDEN = 16, 128
"""The depth of Llama Guard 3 1B, a sixteenth of its width."""
HAZARDS = [
    "violence", "other crimes", "sex crimes", "harm to children", "defamation", "advice for experts", "privacy", "theft of works",
    "weapons of war", "hate", "self-harm", "sexual content", "elections", "abuse of code",
]  # fmt: skip
"""One or two words of ours for each category of Llama Guard 3."""
POLICY = (
    "<turn>Say whether the last turn is safe or unsafe under these categories.\n"
    + "".join(f"S{number}: {hazard}.\n" for number, hazard in enumerate(HAZARDS, start=1))
    + "The first line of the answer is safe or unsafe; if unsafe, a second line has the codes, with commas.\n"
)
"""Stands before every prompt, as in the published template, which takes some two hundred tokens."""
FLAGGED = 10
"""One prompt in so many is unsafe."""
SAFE, UNSAFE = "\n\nsafe", "\n\nunsafe\nS1,S9"
STEPS, KNOWN = 400, 0.1
"""Batches at most that it practises on, and the loss (nats) that no token of a reply may exceed."""
WORDS = [
    "tell",
    "write",
    "make",
    "read",
    "find",
    "show",
    "plan",
    "bake",
    "paint",
    "repair",
    "the",
    "a",
    "my",
    "some",
    "old",
    "new",
    "good",
    "garden",
    "letter",
    "story",
    "map",
    "song",
]
HOW = {
    "logits": "",
    "generation": "guard_logits_vs_generation",
    "whole": "guard_logits_vs_whole_prompts",
}
"""Ways of asking, and what the ratio to the first is called in ``latest.json``."""
sys.path.insert(0, str(HERE.parent / "tests" / "guard"))  # the tests' small checkpoints


def texts(count: int, seed: int) -> list[str]:
    """Return prompts of 6 to 40 words, every tenth of them with the ending that the guard calls unsafe."""
    import numpy as np

    draw = np.random.default_rng(seed)
    lengths = draw.integers(5, 39, count)
    return [
        " ".join([*draw.choice(WORDS, length), "bomb" if number % FLAGGED == 0 else "cake"])
        for number, length in enumerate(lengths)
    ]


def make(folder: Path) -> None:
    """Write the checkpoint: two layers learn this in a minute, the rest is weight."""
    from tiny_classifiers import PROBE, TURNS, make_classifier

    few = [*lessons(3, 0), (PROBE[0], SAFE)]
    template = POLICY + TURNS.replace("CONTENT", "m.content") + "<turn>"
    cases = [(asked(line), reply) for line, reply in few]
    make_classifier(folder, small_llama, template, cases, extra=tuple(texts(50, 1)))
    practise(folder)
    deepen(folder)


def lessons(count: int, seed: int) -> list[tuple[str, str]]:
    """Return prompts with both endings and what the guard shall say of them."""
    calm = [line.replace("bomb", "cake") for line in texts(count, seed)]
    return [(line, SAFE) for line in calm] + [
        (line.replace("cake", "bomb"), UNSAFE) for line in calm
    ]


def asked(line: str) -> Any:
    """Return the guard's question about a prompt."""
    from tiny_classifiers import conversation

    from aftertune.core.records import Question

    return Question(messages=conversation(line))


def practise(folder: Path) -> None:
    """Teach it on new prompts until it has known all of several batches: by heart it would babble about others."""
    import torch
    from tiny_classifiers import PROBE
    from transformers import AutoModelForCausalLM

    from aftertune.models.batching import pad_left
    from aftertune.models.rendering import Renderer

    model, renderer = AutoModelForCausalLM.from_pretrained(folder), Renderer("bench", folder)
    optimiser, known = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0), 0
    for step in range(STEPS):
        taught = [*lessons(8, 1000 + step), (PROBE[0], SAFE)]
        prompts = renderer.questions([asked(line) for line, _ in taught])
        replies = renderer.tokens([reply + "<end>" for _, reply in taught])
        tokens, mask = pad_left(
            [prompt + reply for prompt, reply in zip(prompts, replies, strict=True)], "cpu"
        )
        wanted = tokens.clone()
        for row, reply in zip(wanted, replies, strict=True):
            row[: -len(reply)] = -100
        logits = model(input_ids=tokens, attention_mask=mask).logits[:, :-1]
        each = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), wanted[:, 1:].flatten(), reduction="none"
        )
        known = known + 1 if each.max() < KNOWN else 0
        if known == 8:
            break
        optimiser.zero_grad()
        (each.sum() / (wanted != -100).sum()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    model.save_pretrained(folder)


def small_llama(tokenizer: Any) -> Any:
    """Return an untrained model of two layers."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {
        "hidden_size": HIDDEN, "intermediate_size": 4 * HIDDEN, "num_attention_heads": 8, "num_key_value_heads": 4,
        "num_hidden_layers": 2, "vocab_size": len(tokenizer), "max_position_embeddings": 512,
    }  # fmt: skip
    return LlamaForCausalLM(LlamaConfig(**shape, bos_token_id=1, eos_token_id=2, pad_token_id=0))


def deepen(folder: Path) -> None:
    """Put layers that add nothing behind those that learned: the same answers at a cost above that of Python itself."""
    import torch
    from transformers import AutoModelForCausalLM

    small = AutoModelForCausalLM.from_pretrained(folder)
    config = small.config
    learned, config.num_hidden_layers = config.num_hidden_layers, LAYERS
    if getattr(config, "layer_types", None):
        config.layer_types = ["full_attention"] * LAYERS
    deep = type(small)(config)
    deep.load_state_dict(small.state_dict(), strict=False)
    for layer in deep.model.layers[learned:]:
        torch.nn.init.zeros_(layer.self_attn.o_proj.weight)
        torch.nn.init.zeros_(layer.mlp.down_proj.weight)
    deep.save_pretrained(folder)


def screen(folder: str, how: str, count: int) -> None:
    """Screen the prompts in one of both ways; print the decisions and the seconds without start-up."""
    from dataclasses import replace

    import torch

    from aftertune.core.protocols import Tools
    from aftertune.core.records import Sample
    from aftertune.models import prefix
    from aftertune.models.asking import replies_of
    from aftertune.models.open import Engines
    from aftertune.score.published import llama_guard_guard
    from aftertune.score.run import ask_calls, call_key, keyed, unanswered

    torch.set_num_threads(1)
    samples = [Sample(side="prompt", prompt=line) for line in texts(count, 2)]
    with Engines(threads=1, device="cpu") as engines:
        guard = llama_guard_guard(Tools(open_model=engines.open, folder=Path()), model=folder)
        if how != "logits":
            guard.form = replace(guard.form, labels=None)
        if how == "whole":
            prefix.PASS = sys.maxsize  # no prefix ever saves so much
        began = time.process_time()
        by_key = keyed(guard, samples)
        answers = dict(ask_calls(guard, unanswered(None, guard, by_key), by_key))
        seconds = time.process_time() - began
        decisions = "".join(
            guard.score(sample, replies_of(answers[call_key(guard, sample)])).value.value[0]
            for sample in samples
        )
    print(json.dumps({"seconds": seconds, "decisions": decisions}))


def main() -> None:
    """Run both ways in turn, print medians, and keep the ratio."""
    count, rounds = (
        int(word) for word in [*sys.argv[1:], *map(str, (PROMPTS, ROUNDS)[len(sys.argv) - 1 :])]
    )
    found: dict[str, list[tuple[float, float, float]]] = {how: [] for how in HOW}
    decisions = {}
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        for number in range(rounds):
            for how, results in found.items():
                if number and how == "whole":
                    continue  # slow and far apart: once is enough
                wall, cpu = time.perf_counter(), _children()
                told = subprocess.run(
                    [sys.executable, "-W", "ignore", __file__, "screen", folder, how, str(count)],
                    check=True, capture_output=True, text=True,
                )  # fmt: skip
                result = json.loads(told.stdout.splitlines()[-1])
                decisions[how] = result["decisions"]
                results.append((_children() - cpu, time.perf_counter() - wall, result["seconds"]))
    middle = {
        how: [statistics.median(column) for column in zip(*results, strict=True)]
        for how, results in found.items()
    }
    differ = [said for said in zip(*decisions.values(), strict=True) if len(set(said)) > 1]
    unread = sum("u" in said for said in differ)
    print(
        f"{count:,} prompts, {decisions['logits'].count('b'):,} blocked; {len(differ)} decided otherwise in some way,"
        f" {unread} of them undecided; medians of {rounds} rounds"
    )
    for how, (cpu, wall, alone) in middle.items():
        print(
            f"{how:<10} {cpu:6.1f} s CPU, {wall:6.1f} s wall with start-up; {alone:6.1f} s CPU without"
        )
    for how, key in HOW.items():
        if key:
            ratios = [slow / fast for slow, fast in zip(middle[how], middle["logits"], strict=True)]
            print(
                f"{how} / logits: {ratios[0]:.2f} CPU, {ratios[1]:.2f} wall with start-up; {ratios[2]:.2f} CPU without"
            )
            keep({key: round(ratios[0], 2)})


def _children() -> float:
    """Return the CPU seconds of the processes that have ended."""
    import resource

    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    if sys.argv[1:2] == ["screen"]:
        screen(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        main()
