"""The processes of a training that ``accelerate launch`` or ``torchrun`` started: how they share the work, and who writes.

Every process computes a share of each batch and averages the gradients with the others. All of them hold the same weights
(DDP), or each holds a shard of every weight, and a layer is put together while it computes (FSDP 2, `torch.distributed.fsdp`).
The first one alone writes tokens, the result, and what the user reads.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

from aftertune.core.recipe import Training
from aftertune.errors import EngineError, InputError

T = TypeVar("T")
LONGEST_JOIN = timedelta(minutes=5)
"""The longest time that processes wait until all of them have started; where the first one is missing, torch takes up to twice that."""
LONGEST_WAIT = timedelta(hours=12)
"""The longest time that processes wait for the first one, which renders all rows; a process that dies is seen at once."""
FSDP = "ACCELERATE_USE_FSDP"
"""The variable by which ``accelerate launch --use_fsdp`` asks for sharded weights."""
OTHER_LAYOUTS = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism configuration",
}
"""Variables by which ``accelerate launch`` asks for weights that are spread in other ways, and their names."""


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes of a training, as one of them sees them."""

    number: int
    """The number of this one, from 0."""
    count: int
    sharded: bool = False
    """True where each process holds a shard of every weight (FSDP), False where each holds all weights."""

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

    def join(self) -> None:
        """Return when all processes have started.

        Raises:
            EngineError: not all of them came in time.
        """
        if self.count > 1:
            _store(self.number, self.count)

    def connect(self, *, cpu: bool) -> None:
        """Connect the processes; returns when all of them are there.

        Args:
            cpu: they compute on CPUs, and talk by gloo.
        """
        from accelerate import PartialState

        if self.count > 1:
            PartialState(
                cpu=cpu,
                timeout=LONGEST_WAIT,
                store=_store(self.number, self.count),
                rank=self.number,
                world_size=self.count,
            )

    def shard(self, arguments: Any) -> None:
        """Let the trainers that are made from now on shard their models, if that is wanted.

        The recipe decides the number format. What the launcher says of resting weights on the CPU and of their loading is
        obeyed.

        Args:
            arguments: the trainer's settings.
        """
        if not self.sharded:
            return
        from accelerate import (
            Accelerator,
            DistributedType,
            FullyShardedDataParallelPlugin,
            PartialState,
        )
        from torch.distributed.fsdp import MixedPrecisionPolicy

        cpu = arguments.use_cpu
        plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2,
            # Without a policy all layers would be put together at once, and no memory would be spared.
            auto_wrap_policy="transformer_based_wrap",
            # Each process writes its own part of a step checkpoint.
            state_dict_type="SHARDED_STATE_DICT",
            # As in one process, numbers are rounded by autocast and gradients are summed in the format of the weights.
            mixed_precision_policy=MixedPrecisionPolicy(),
            cpu_offload=False if cpu else None,  # None: the launcher decides
            # The trainer recomputes activations itself; FSDP's wrapper hides the layers of an adapter from PEFT.
            activation_checkpointing=False,
            activation_checkpointing_offload=False,
        )
        state = Accelerator(
            cpu=cpu, mixed_precision=arguments.mixed_precision, fsdp_plugin=plugin
        ).state
        # accelerate shards on GPUs only, and would silently train by DDP on CPUs. Both states hold for every later Accelerator.
        PartialState().distributed_type = state.distributed_type = DistributedType.FSDP
        state.fsdp_plugin = plugin

    def whole(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """Return sharded tensors put together, on the CPU of the first process; the others give their shards and get nothing."""
        from torch.distributed.tensor import DTensor

        put_together = {}
        for name, tensor in tensors.items():
            full: Any = tensor
            if isinstance(tensor, DTensor):  # to the GPU, if shards rest on the CPU
                full = full.to(tensor.device_mesh.device_type).full_tensor()
            if self.first:
                put_together[name] = full.detach().cpu()
        return put_together

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
        InputError: the launcher was asked to spread the weights over the processes in a way that is not supported.
    """
    for variable, name in OTHER_LAYOUTS.items():
        if _is_on(environment, variable):
            raise InputError(
                f"the launcher was asked for {name}, which cannot train here; launch with --multi_gpu, so that every process "
                "holds the model, or with --use_fsdp --fsdp_version 2, so that each holds a shard"
            )
    count, number = environment.get("WORLD_SIZE", "1"), environment.get("RANK", "0")
    alone = not (count.isdecimal() and number.isdecimal() and int(count) > 1)
    sharded = _is_on(environment, FSDP)
    if sharded and alone:
        raise InputError(
            f"{FSDP} asks for FSDP, and there is one process, which has nothing to share; launch several "
            "(--num_processes), or launch without --use_fsdp"
        )
    if sharded and environment.get("FSDP_VERSION", "1") != "2":
        raise InputError(
            "the launcher was asked for version 1 of FSDP; use version 2: accelerate launch --use_fsdp --fsdp_version 2 "
            "(FSDP_VERSION=2 under torchrun)"
        )
    if alone:
        return ALONE
    # DDP warns about weights that might have been left out of a step and were not.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    return Processes(int(number), int(count), sharded)


def _is_on(environment: Mapping[str, str], variable: str) -> bool:
    return environment.get(variable, "").lower() in {"1", "true"}


@contextmanager
def _no_stderr() -> Iterator[None]:
    """Keep torch from writing the frames of its C++ code to standard error; what it raises says the same."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@cache
def _store(number: int, count: int) -> Any:
    """Return the store of values that the processes share, when all of them have joined it.

    Waiting for each other here, and not in the process group, keeps this wait short and those of the training long.
    """
    from torch.distributed import DistError
    from torch.distributed.rendezvous import rendezvous

    try:
        with _no_stderr():
            store, _, _ = next(iter(rendezvous("env://", number, count, timeout=LONGEST_JOIN)))
            store.set(f"aftertune/{number}", "here")
            store.wait([f"aftertune/{other}" for other in range(count)], LONGEST_JOIN)
    except (DistError, ValueError) as error:  # the latter where a variable is not set
        address = ":".join(os.environ.get(name, "?") for name in ("MASTER_ADDR", "MASTER_PORT"))
        raise EngineError(
            f"the variables WORLD_SIZE={count} and RANK={number} say that {count} processes share this training, and not all "
            f"of them met at {address} (MASTER_ADDR, MASTER_PORT); unset these variables to train in one "
            "process, or start all with accelerate launch or torchrun"
        ) from error
    store.set_timeout(LONGEST_WAIT)
    return store
