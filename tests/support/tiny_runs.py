"""A small recipe and its rows; run as a script it trains them, and can be told to die while it writes a checkpoint."""

import hashlib
import json
import os
import signal
import sys
from pathlib import Path

import numpy as np

from aftertune.core.recipe import FirstTokens, Mitigation, Recipe, Training
from aftertune.core.records import Message

WORDS = ["bake", "cake", "map", "plan", "letter", "write", "well", "done"]


def make_rows(count=48):
    draw = np.random.default_rng(0)
    return [
        (
            Message(role="user", content=" ".join(draw.choice(WORDS, draw.integers(2, 9)))),
            Message(role="assistant", content=" ".join(draw.choice(WORDS, draw.integers(1, 7)))),
        )
        for _ in range(count)
    ]


def make_recipe(base, *, method="full", seed=0, name="tiny", **options):
    training = {
        "epochs": 2,
        "batch_size": 4,
        "learning_rate": 1e-2,
        "lora_r": 4,
        "lora_dropout": 0.1,
        "save_steps": 6,
    }
    system, identity = options.pop("system", None), options.pop("base_identity", {})
    rules = {
        "ema": Mitigation(ema=0.9),
        "frozen": Mitigation(frozen=(0,)),
        "first": Mitigation(first_tokens=FirstTokens()),
    }
    mitigation = rules.get(options.pop("rules", None))
    return Recipe(
        name=name,
        base=str(base),
        base_identity=identity,
        data=(),
        method=method,
        training=Training(**training | options),
        seed=seed,
        system=system,
        mitigation=mitigation,
    )


def tensors_sha256(folder):
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def die_while_saving(file, times):
    """Arrange for SIGKILL in the middle of writing ``file`` for the ``times``-th time."""
    import torch

    save, written = torch.save, []

    def save_or_die(value, path, *args, **options):
        written.append(Path(path).name)
        if written.count(file) == times:
            Path(path).write_bytes(b"half of it")
            os.kill(os.getpid(), signal.SIGKILL)
        save(value, path, *args, **options)

    torch.save = save_or_die


def record_norms(file):
    """Arrange for the norms of the gradients, which are what clipping goes by, to be written down."""
    from accelerate import Accelerator

    clip, norms = Accelerator.clip_grad_norm_, []

    def clip_and_record(self, *arguments, **options):
        norm = clip(self, *arguments, **options)
        norms.append(float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm))
        file.write_text(json.dumps(norms))
        return norm

    Accelerator.clip_grad_norm_ = clip_and_record


def at_step(step, act):
    """Return a progress callback that acts after ``step`` steps."""

    def progress(done, _):
        return act() if done == step else None

    return progress


def die():
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    from aftertune.models.open import Engines
    from aftertune.train.train import fine_tune

    base, out, method, moment, *rules = sys.argv[1:]
    # FILE@TIMES, step@STEP or stop@STEP, behind that the number of the process that does it, of several
    what, *when = moment.split("@")
    times, process = int(when[0]) if when else 0, when[1] if when[1:] else "all"
    acts = process in {"all", os.environ.get("RANK")}
    progress, options, kept = None, {}, {}
    if what == "epochs":
        options = {"epochs": 4, "lora_dropout": 0.0}
        kept = {epoch: Path(f"{out}-{epoch}") for epoch in (1, 2, 3)}
        record_norms(Path(f"{out}-norms-{os.environ.get('RANK', '0')}"))
    elif what in {"step", "stop"}:
        progress = at_step(times, die if what == "step" else lambda: True) if acts else None
    elif what != "never" and acts:
        die_while_saving(what, times)
    fine_tune(
        make_recipe(base, method=method, rules=next(iter(rules), None), **options),
        make_rows(),
        Path(out),
        epochs=kept,
        engines=Engines(threads=1, device="cpu"),
        progress=progress,
    )
