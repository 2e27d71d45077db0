"""A guard asked by the likelihoods of its labels first, against generating every reply: ``python bench/guards.py [PROMPTS] [ROUNDS]``.

Both screen the same prompts with the same checkpoint, a small Llama with a chat template that we wrote to the published
format of Llama Guard, taught for a moment to call unsafe what ends in one of two words: a tenth of the prompts. Both go
through the guard that a study uses, in its batches; where likelihoods decide, only what is unsafe is generated, for its
categories. Every round is a process of its own, start-up and imports included; rounds alternate, medians are printed. Decisions
that differ are counted. The ratio of CPU times with start-up is kept in ``latest.json``.
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
FLAGGED = 10
"""One prompt in so many is unsafe."""
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
    """Write the checkpoint: two layers learn this in seconds, the rest is weight."""
    from tiny_classifiers import LLAMA_GUARD, PROBE, conversation, make_classifier

    from aftertune.core.records import Question

    lines = [*texts(12, 1), *(line.replace("cake", "bomb") for line in texts(12, 1)), PROBE[0]]
    cases = [
        (
            Question(messages=conversation(line)),
            "\n\nunsafe\nS1,S9" if line.endswith("bomb") else "\n\nsafe",
        )
        for line in lines
    ]
    make_classifier(folder, small_llama, LLAMA_GUARD, cases, extra=tuple(lines))
    deepen(folder)


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
    from aftertune.core.records import GuardJob
    from aftertune.engine.open import Engines
    from aftertune.guard.published import llama_guard_3

    torch.set_num_threads(1)
    jobs = [GuardJob(key=f"{i}".encode(), side="prompt", prompt=line) for i, line in enumerate(texts(count, 2))]
    with Engines(threads=1, device="cpu") as engines:
        guard = llama_guard_3(Tools(open_model=engines.open, folder=Path()), model=folder)
        if how == "generation":
            guard.kind = replace(guard.kind, labels=None)
        began = time.process_time()
        replies = dict(guard.ask(jobs))
        seconds = time.process_time() - began
        decisions = "".join(guard.read(job, replies[job.key]).value.value[0] for job in jobs)
    print(json.dumps({"seconds": seconds, "decisions": decisions}))


def main() -> None:
    """Run both ways in turn, print medians, and keep the ratio."""
    count, rounds = (int(word) for word in [*sys.argv[1:], *map(str, (PROMPTS, ROUNDS)[len(sys.argv) - 1 :])])
    found: dict[str, list[tuple[float, float, float]]] = {"logits": [], "generation": []}
    decisions = {}
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        for _ in range(rounds):
            for how, results in found.items():
                wall, cpu = time.perf_counter(), _children()
                told = subprocess.run(
                    [sys.executable, "-W", "ignore", __file__, "screen", folder, how, str(count)],
                    check=True, capture_output=True, text=True,
                )  # fmt: skip
                result = json.loads(told.stdout.splitlines()[-1])
                decisions[how] = result["decisions"]
                results.append((_children() - cpu, time.perf_counter() - wall, result["seconds"]))
    middle = {
        how: [statistics.median(column) for column in zip(*results, strict=True)] for how, results in found.items()
    }
    differ = [pair for pair in zip(*decisions.values(), strict=True) if pair[0] != pair[1]]
    unread = sum("u" in pair for pair in differ)
    print(
        f"{count:,} prompts, {decisions['logits'].count('b'):,} blocked, {len(differ)} decided otherwise ({unread} of them undecided in one way); "
        f"medians of {rounds} rounds"
    )
    for how, (cpu, wall, alone) in middle.items():
        print(f"{how:<11} {cpu:6.1f} s CPU, {wall:6.1f} s wall with start-up; {alone:6.1f} s CPU without")
    ratios = [slow / fast for slow, fast in zip(middle["generation"], middle["logits"], strict=True)]
    print(f"generation / logits: {ratios[0]:.2f} CPU, {ratios[1]:.2f} wall with start-up; {ratios[2]:.2f} CPU without")
    keep({"guard_logits_vs_generation": round(ratios[0], 2)})


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
