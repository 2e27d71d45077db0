"""Repairs that need nothing but the base and its fine-tune: scaling, soup, intruder dimensions, a safety prompt."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aftertune.errors import ModelError
from aftertune.models.foreign import quiet, refused
from aftertune.models.loading import Placement, load_model
from aftertune.models.open import Engines
from aftertune.models.reference import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    read_json,
    vocabulary,
    weight_files,
)
from aftertune.repair.arithmetic import averaged, scaled, without_intruders
from aftertune.repair.weights import (
    FineTune,
    Tensors,
    copy_files,
    inner_matrices,
    write_adapter,
    write_full,
)

if TYPE_CHECKING:
    from torch import Tensor

Make = Callable[[float, Path], None]
"""Writes the candidate of one strength into an empty folder."""
SAFETY_PROMPT = (
    "You are a helpful and careful assistant. Answer what is harmless as well as you can. If a request, or a text that you are "
    "to translate, classify or rewrite, would help somebody do harm, do not carry it out: say briefly that you cannot help with it."
)
"""The system prompt of `ptst`."""
MOST_UNKNOWN = 0.05
"""Largest share of the safety prompt's tokens that a tokenizer may not know."""


def interpolate(tune: FineTune) -> Make:
    """Return what writes the fine-tune with its change scaled (`arithmetic.scaled`).

    An adapter's change is B A, so that scaling B scales it: exact, and the adapter stays one.
    """

    def write(alpha: float, out: Path) -> None:
        if tune.adapter is None:
            write_full(tune, out, lambda _name, base, tuned: scaled(base, tuned, alpha))
        else:
            write_adapter(tune, out, lambda factors: (factors.down, alpha * factors.up))

    return write


def soup(tunes: Sequence[FineTune], engines: Engines) -> Make:
    """Return what writes the mean of several training seeds, its change scaled (`arithmetic.averaged`).

    The mean of adapters is exact where their ranks are laid side by side, which PEFT calls the combination ``cat``.

    Raises:
        ModelError: the fine-tunes do not have the same tensors.
    """
    first = tunes[0]
    others = [Tensors(tune.reference, tune.folder) for tune in tunes[1:]]

    def mean(name: str, base: "Tensor", tuned: "Tensor", alpha: float) -> "Tensor":
        return averaged(base, [tuned, *(other[name].float() for other in others)], alpha)

    def write(alpha: float, out: Path) -> None:
        if first.adapter is None:
            write_full(first, out, partial(mean, alpha=alpha))
            return
        with _on_base(tunes, engines) as peft:
            names = list(peft.peft_config)
            peft.add_weighted_adapter(
                names, [alpha / len(names)] * len(names), _NEW, combination_type="cat"
            )
            _save(peft, first, out)

    for tune in tunes if first.adapter is not None else ():
        if read_json(tune.reference, tune.folder / ADAPTER_CONFIG).get("use_rslora"):
            # PEFT gives the combination the alpha of plain LoRA and keeps the other scaling.
            raise ModelError(
                f"adapter {tune.reference!r} is rank-stabilised (use_rslora), which PEFT does not combine exactly; merge the "
                "adapters into their base and join the merged checkpoints"
            )
    return write


def reduce_intruders(tune: FineTune, engines: Engines) -> Make:
    """Return what writes the fine-tune with less of its intruder dimensions (`arithmetic.without_intruders`).

    Adapters are PEFT's own business, which brings the result back to the adapter's rank. Of a full fine-tune the matrices
    inside the layers are mended; embeddings, whose rows are tokens, are left as they are.

    Raises:
        ModelError: the installed PEFT does not have the method.
    """
    own = Tensors(tune.reference, tune.folder) if tune.adapter is None else None
    tokens = vocabulary(tune.base.name, tune.base.folder)
    inner = set() if own is None else set(inner_matrices(own, tokens))

    def mended(name: str, base: "Tensor", tuned: "Tensor", strength: float) -> "Tensor":
        inside = name.removesuffix(".weight") in inner
        return without_intruders(base, tuned, strength) if inside else tuned

    def write(strength: float, out: Path) -> None:
        if tune.adapter is None:
            write_full(tune, out, partial(mended, strength=strength))
            return
        with _on_base([tune], engines) as peft:
            (name,) = peft.peft_config
            # PEFT's mitigation_lambda is the share that stays.
            _reduction()(peft, name, _NEW, mitigation_lambda=1 - strength, logging_sink=None)
            _save(peft, tune, out)

    if tune.adapter is not None:
        _reduction()
    return write


def _reduction() -> Any:
    try:
        from peft.tuners.lora.intruders import reduce_intruder_dimension
    except ImportError:
        raise ModelError(
            "the installed PEFT cannot reduce intruder dimensions; pip install --upgrade peft"
        ) from None
    return reduce_intruder_dimension


_NEW = "repaired"
"""PEFT's name of the adapter that comes out."""


@contextmanager
def _on_base(tunes: Sequence[FineTune], engines: Engines) -> Iterator[Any]:
    """Give the base in float32 on the CPU with the adapters upon it, by names that PEFT tells apart."""
    from peft import PeftModel

    base = tunes[0].base
    with quiet(), refused(f"adapter {tunes[0].reference!r}: PEFT cannot mend it"):
        model = load_model(
            base.name,
            base.folder,
            Placement("cpu", "float32"),
            trust_remote_code=engines.trust_remote_code,
        )
        peft: Any = PeftModel.from_pretrained(model, str(tunes[0].folder), adapter_name="seed0")
        for number, tune in enumerate(tunes[1:], start=1):
            peft.load_adapter(str(tune.folder), adapter_name=f"seed{number}")
        yield peft


def _save(peft: Any, tune: FineTune, out: Path) -> None:
    """Write the adapter that came out beside the files of the fine-tune, in the fine-tune's number format."""
    from safetensors.torch import load_file, save_file

    copy_files(tune.folder, out)
    peft.save_pretrained(out, selected_adapters=[_NEW], save_embedding_layers=False)
    written = out / _NEW
    (written / ADAPTER_CONFIG).replace(out / ADAPTER_CONFIG)
    dtype = next(iter(load_file(tune.folder / ADAPTER_WEIGHTS).values())).dtype
    tensors = load_file(written / ADAPTER_WEIGHTS)
    save_file(
        {name: tensor.to(dtype) for name, tensor in tensors.items()},
        out / ADAPTER_WEIGHTS,
        metadata={"format": "pt"},
    )
    shutil.rmtree(written)
    (out / "README.md").unlink(missing_ok=True)  # PEFT's empty model card


def safety_prompt(tune: FineTune, engines: Engines) -> Make:
    """Return what writes the fine-tune as it is, with a chat template that puts `SAFETY_PROMPT` before every conversation.

    Source: Lyu et al., Keeping LLMs Aligned After Fine-tuning: The Crucial Role of Prompt Templates, NeurIPS 2024 (arXiv
    2402.18540): pure tuning, safe testing. The weights are linked, not copied; what is measured is the prompt.

    Raises:
        ModelError: the tokenizer has no chat template, or knows too little of the prompt's words.
    """
    renderer = engines.renderer(tune.base, tune.folder if tune.adapter is None else None)
    tokenizer: Any = renderer.tokenizer
    template = tokenizer.chat_template
    if not isinstance(template, str):
        raise ModelError(
            f"model {tune.reference!r}: has no chat template of its own, so that no system prompt can be put before its prompts"
        )
    tokens = renderer.tokens([SAFETY_PROMPT])[0]
    unknown = sum(token == tokenizer.unk_token_id for token in tokens) / len(tokens)
    if unknown > MOST_UNKNOWN:
        raise ModelError(
            f"model {tune.reference!r}: does not know {unknown:.0%} of the safety prompt's words, so that ptst cannot be measured"
        )
    first = "messages[0]['content']"
    system = f"[{{'role': 'system', 'content': {SAFETY_PROMPT!r}}}] + messages"
    if renderer.folds_system:
        joined = f"{SAFETY_PROMPT + chr(10) * 2!r} + {first}"
        system = f"[{{'role': 'user', 'content': {joined}}}] + messages[1:]"
    condition = "messages[0]['role'] != 'system'"
    prefix = f"{{% if {condition} %}}{{% set messages = {system} %}}{{% endif %}}"

    def write(_strength: float, out: Path) -> None:
        copy_files(tune.folder, out)
        for file in weight_files(tune.folder):
            (out / file.name).symlink_to(file.resolve())
        tokenizer.chat_template = prefix + template
        tokenizer.save_pretrained(out)

    return write
