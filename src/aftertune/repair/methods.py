"""The repairs by name: what each needs, what its strength means, and which strengths a sweep tries."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from aftertune.core.records import Prompt
from aftertune.errors import InputError, OptionError
from aftertune.models.open import Engines
from aftertune.models.reference import Checkpoint
from aftertune.repair.activations import prune_harmful, restore_direction
from aftertune.repair.data_free import Make, interpolate, reduce_intruders, safety_prompt, soup
from aftertune.repair.unaligned import add_safety_vector, extrapolate, project
from aftertune.repair.weights import FineTune

TENTHS = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
RISING = TENTHS[::-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Everything that a repair is made of."""

    tunes: tuple[FineTune, ...]
    """One fine-tune; several for a method that joins training seeds."""
    unaligned: Checkpoint | None
    """The pretrained model before its alignment."""
    prompts: tuple[Prompt, ...]
    """Prompts of the part for selection, for methods that read some."""
    engines: Engines

    @property
    def before(self) -> Checkpoint:
        """The un-aligned model of a method that needs one (`Method.check_sources`)."""
        assert self.unaligned is not None
        return self.unaligned


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A repair of finished weights."""

    name: str
    title: str
    """The field's name of it."""
    strength: str
    """The meaning of its strength."""
    sweep: tuple[float, ...]
    """The strengths that a sweep tries, gentlest first."""
    prepare: Callable[[Sources], Make]
    base_at: float | None = None
    """The strength that gives the base, which is never chosen; None where no strength does."""
    tuned_at: float | None = None
    """The strength that gives the fine-tune itself."""
    joins: bool = False
    """True where several fine-tunes become one model."""
    unaligned: bool = False
    """True where it needs the un-aligned pretrained model."""
    reads_prompts: bool = False
    """True where it reads prompts of the part for selection."""
    writes: bool = True
    """False for a recommendation without weights."""
    adapters: bool = True
    """True where it mends LoRA adapters."""

    def check_strength(self, strength: float) -> None:
        """See that a strength is one that may be the result.

        Raises:
            OptionError: it lies outside, or gives the base or the fine-tune itself.
        """
        if strength == self.base_at:
            raise OptionError(
                f"--strength {strength:g} of {self.name} is the base itself, which is no repair; give a number between 0 and 1"
            )
        if strength == self.tuned_at:
            raise OptionError(
                f"--strength {strength:g} of {self.name} is the fine-tune as it is; give a number between 0 and 1"
            )
        if not 0 < strength <= 1:
            raise OptionError(
                f"--strength {strength:g} of {self.name} must lie between 0 and 1 ({self.strength})"
            )

    def check_sources(self, tunes: Sequence[FineTune], unaligned: str | None) -> None:
        """See that the method can mend these fine-tunes.

        Raises:
            InputError: it is made for other files, or needs more of them.
        """
        if self.unaligned and unaligned is None:
            raise InputError(
                f"--method {self.name} needs the pretrained model before its alignment; name it with --unaligned"
            )
        if not self.unaligned and unaligned is not None:
            raise InputError(
                f"--unaligned is not used by --method {self.name}; leave it out, or choose {' or '.join(name for name, method in METHODS.items() if method.unaligned)}"
            )
        if self.joins and len(tunes) < 2:
            raise InputError(
                f"--method {self.name} joins several training seeds of one recipe; name two fine-tunes or more"
            )
        for tune in tunes:
            if tune.adapter is not None and not self.adapters:
                raise InputError(
                    f"adapter {tune.reference!r}: --method {self.name} changes all weights, which no adapter holds; merge it into "
                    "its base first"
                )
        if self.joins and len({tune.adapter is None for tune in tunes}) > 1:
            raise InputError(
                f"--method {self.name} joins fine-tunes of one kind; these are adapters and full checkpoints"
            )


METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method(
            name="scaling",
            title="adapter scaling (WiSE-FT)",
            strength="the share of the fine-tune's change that stays",
            sweep=TENTHS,
            prepare=lambda sources: interpolate(sources.tunes[0]),
            base_at=0.0,
            tuned_at=1.0,
        ),
        Method(
            name="soup",
            title="soup over training seeds",
            strength="the share of the seeds' mean change that stays",
            sweep=(1.0, *TENTHS),
            prepare=lambda sources: soup(sources.tunes, sources.engines),
            base_at=0.0,
            joins=True,
        ),
        Method(
            name="intruders",
            title="intruder-dimension reduction",
            strength="the share of the intruder dimensions that is taken out",
            sweep=(*RISING, 1.0),
            prepare=lambda sources: reduce_intruders(sources.tunes[0], sources.engines),
            tuned_at=0.0,
        ),
        Method(
            name="ptst",
            title="safety prompt at inference (PTST)",
            strength="1: the prompt stands before every conversation",
            sweep=(1.0,),
            prepare=lambda sources: safety_prompt(sources.tunes[0], sources.engines),
            tuned_at=0.0,
            writes=False,
        ),
        Method(
            name="safe-lora",
            title="Safe LoRA",
            strength="the share of the modules, least aligned first, whose change is projected",
            sweep=(*RISING, 1.0),
            prepare=lambda sources: project(sources.tunes[0], sources.before),
            tuned_at=0.0,
            unaligned=True,
        ),
        Method(
            name="resta",
            title="RESTA (safety vector)",
            strength="the multiple of the safety vector that is added",
            sweep=(*RISING, 1.0),
            prepare=lambda sources: add_safety_vector(sources.tunes[0], sources.before),
            tuned_at=0.0,
            unaligned=True,
            adapters=False,
        ),
        Method(
            name="lox",
            title="LoX (low-rank extrapolation)",
            strength="the multiple of the alignment's leading directions that is added",
            sweep=(*RISING, 1.0),
            prepare=lambda sources: extrapolate(sources.tunes[0], sources.before),
            tuned_at=0.0,
            unaligned=True,
            adapters=False,
        ),
        Method(
            name="direction",
            title="refusal-direction restoration",
            strength="the share of the change along the refusal direction that is taken back",
            sweep=(*RISING, 1.0),
            prepare=lambda sources: restore_direction(
                sources.tunes[0], sources.prompts, sources.engines
            ),
            tuned_at=0.0,
            reads_prompts=True,
        ),
        Method(
            name="antidote",
            title="Antidote-like pruning",
            strength="the share of the changes, most harmful first, that is taken back",
            sweep=(0.01, 0.02, 0.05, *RISING),
            prepare=lambda sources: prune_harmful(
                sources.tunes[0], sources.prompts, sources.engines
            ),
            tuned_at=0.0,
            reads_prompts=True,
            adapters=False,
        ),
    )
}
"""Every repair by the name that ``--method`` takes."""
