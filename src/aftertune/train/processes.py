"""The processes of a training that ``accelerate launch`` or ``torchrun`` started: how they share the work, and who writes.

Every process computes a share of each batch and averages the gradients with the others (DDP), so all of them hold the same
weights. The first one alone writes: tokens, step checkpoints, the result, and what the user reads.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from aftertune.core.recipe import Training
from aftertune.errors import InputError

T = TypeVar("T")
LONGEST_WAIT = timedelta(hours=12)
"""The longest time that processes wait for the first one, which renders all rows; a process that dies is seen at once."""
SPREAD = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism configuration",
}
"""Variables by which ``accelerate launch`` asks for weights that are spread over the processes, and their names."""


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes of a training, as one of them sees them."""

    number: int
    """The number of this one, from 0."""
    count: int

    @property
    def first(self) -> bool:
        """Return whether this process is the one that writes."""
        return self.number == 0

    def shares(self, training: Training) -> tuple[int, int]:
        """Return the rows of a batch and the accumulated batches of each process, so that an optimisation step has the same rows.

        Raises:
            InputError: neither number can be divided by the number of processes.
        """
        if training.batch_size % self.count == 0:
            return training.batch_size // self.count, training.gradient_accumulation
        if training.gradient_accumulation % self.count == 0:
            return training.batch_size, training.gradient_accumulation // self.count
        raise InputError(
            f"{training.batch_size} rows a step cannot be shared by {self.count} processes; give a --batch-size that "
            f"{self.count} divides: it counts the rows of all processes together"
        )

    def connect(self, *, cpu: bool) -> None:
        """Connect the processes; returns when all of them are there.

        Args:
            cpu: they compute on CPUs, and talk by gloo.
        """
        from accelerate import PartialState

        if self.count > 1:
            PartialState(cpu=cpu, timeout=LONGEST_WAIT)

    def wait(self) -> None:
        """Wait until every process has come here."""
        from accelerate import PartialState

        if self.count > 1:
            PartialState().wait_for_everyone()

    def any_of(self, *, flag: bool) -> bool:
        """Return whether any process gives True, to all of them alike."""
        import torch
        from accelerate import PartialState

        if self.count == 1:
            return flag
        flags = torch.tensor([int(flag)], device=PartialState().device)
        torch.distributed.all_reduce(flags, op=torch.distributed.ReduceOp.MAX)
        return bool(flags.item())

    def from_first(self, value: T) -> T:
        """Return what the first process gives, to all of them; whatever the others give is dropped."""
        from accelerate.utils import broadcast_object_list

        if self.count == 1:
            return value
        values: list[T] = broadcast_object_list([value])
        return values[0]


ALONE = Processes(number=0, count=1)
"""The process of a training that no launcher started."""


def launched(environment: Mapping[str, str] = os.environ) -> Processes:
    """Return the processes that a launcher started this one among; `ALONE` without one.

    Raises:
        InputError: the launcher was asked to spread the weights over the processes.
    """
    count, number = environment.get("WORLD_SIZE", "1"), environment.get("RANK", "0")
    if not (count.isdecimal() and number.isdecimal() and int(count) > 1):
        return ALONE
    for variable, name in SPREAD.items():
        if environment.get(variable, "").lower() in {"1", "true"}:
            raise InputError(
                f"the launcher was asked for {name}: weights that are spread over processes cannot be trained here; launch "
                "without it, so that every process holds the model (accelerate launch --multi_gpu)"
            )
    # DDP warns about weights that might have been left out of a step and were not.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    return Processes(int(number), int(count))
