"""Broken inputs in this process, up to a thousand to a trial: each is read or refused in a line, and no verdict flips."""

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import yaml
from fuzz_files import CHECKPOINT, STUDY, TRAINING, kind_of
from gguf_files import write_gguf
from run import Outcome
from tiny_models import make_checkpoint

from aftertune.core.recipe import TrainingFile
from aftertune.core.records import FinishReason, Response
from aftertune.data.checks import Checker, estimated
from aftertune.data.files import read_records
from aftertune.data.rows import by_answer, read_rows, trainable
from aftertune.labels.files import read_rows as read_labels
from aftertune.models.endpoint.chat import read_reply, whole_of
from aftertune.models.endpoint.providers import address_of
from aftertune.models.gguf import dequantised, gguf_reference
from aftertune.models.reference import checkpoint, fetch, parse
from aftertune.score import replies
from aftertune.study import cells_of, expand_models, load_study
from fuzz import Mutator, ended

COUNT = 1000
STUDIES = 200
"""Broken studies in a trial: each that is read is expanded into its models and prompts."""
SLOW = 20
"""Inputs in a trial where each loads a library's parser of weights."""
ANSWER = "I cannot help with that."
REPLY = {
    "id": "x", "model": "m", "choices": [{"index": 0, "message": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2},
}  # fmt: skip
LABELS = "".join(
    json.dumps({"id": f"r-{n}", "task": "text", "prompt": "=a", "response": "b", "label": label})
    + "\n"
    for n, label in enumerate(("refused", "complied", "deflected", "incoherent", "undecided", ""))
).encode()
CASES: list[tuple[str, bool | None, Callable[[str], object]]] = [
    ("unsafe\nS1,S10", True, lambda text: ((codes := replies.llama_guard(text)) and bool(codes)) or None),
    ("safe", False, lambda text: None if replies.llama_guard(text) != () else False),
    ("yes", True, lambda text: replies.only_word(text, "yes", "no")),
    ("no", False, lambda text: replies.only_word(text, "yes", "no")),
    ("<score> yes </score>", True, replies.granite_guardian),
]  # fmt: skip
"""Replies of judges and guards: what they are read as, and the parser."""
OPPOSITE = {True: ("safe", "no"), False: ("unsafe", "yes")}
"""Words by which a mutated reply may really say the other thing."""


def studies(mutator: Mutator, number: int, folder: Path) -> None:
    """Load and expand a broken study."""
    path = folder / "study.yaml"
    if number % 2:
        text = json.dumps(mutator.value(yaml.safe_load(STUDY)))
        path.write_bytes(text.encode(errors="surrogatepass"))
    else:
        path.write_bytes(mutator.file(STUDY.encode(), "yaml"))
    study = load_study(path)
    models = expand_models(
        study, lambda reference: {"weights": reference}, folder=folder / "models",
        template_sha256=lambda base: f"template of {base}", bundled_sha256=lambda _: "",
    )  # fmt: skip
    for model in models:
        cells_of(study, model.name)


def rows(mutator: Mutator, number: int, folder: Path) -> None:
    """Check a broken training file, and learn from it."""
    name = list(TRAINING)[number % len(TRAINING)]
    path = folder / name
    path.write_bytes(mutator.file(TRAINING[name], kind_of(name)))
    checker = Checker(limit=50, measure=estimated)
    with closing(read_records(path, checker.unreadable)) as records:
        for where, record in records:
            checker.check(where, record)
    checker.report()
    trainable(read_rows(TrainingFile(path=str(path)), Path()), lambda _: None, path.name, by_answer)


def labels(mutator: Mutator, _: int, folder: Path) -> None:
    """Read a broken file of labels."""
    path = folder / "labels.jsonl"
    path.write_bytes(mutator.file(LABELS, "jsonl"))
    read_labels(path, "anna")


def server_replies(mutator: Mutator, number: int, _: Path) -> None:
    """Read a broken reply of a server; a final answer that was not in it is a fault."""
    data = mutator.file(json.dumps(REPLY).encode(), "json")
    try:
        value = whole_of(data)
    except ValueError:
        value = None
    status = (200, 200, 200, 400, 429, 500)[number % 6]
    reply = read_reply(address_of("http://127.0.0.1:9/v1#m"), status, value, "", 64)
    if isinstance(reply, Response) and reply.finish_reason is FinishReason.STOP:
        assert reply.text in data.decode(errors="replace") or "\\" in data.decode(errors="replace")


def judge_replies(mutator: Mutator, number: int, _: Path) -> None:
    """Read a broken reply of a judge or guard: the same verdict, none, or the other one only where its word is there."""
    text, verdict, parser = CASES[number % len(CASES)]
    mutated = mutator.text(text)
    read = parser(mutated)
    flipped = isinstance(read, bool) and read is not verdict
    assert not flipped or any(word in mutated.casefold() for word in OPPOSITE[bool(verdict)]), (
        mutated
    )


def checkpoints(mutator: Mutator, number: int, folder: Path) -> None:
    """Read the configuration of a broken checkpoint or adapter, as far as no weights are needed."""
    name = list(CHECKPOINT)[number % len(CHECKPOINT)]
    whole = (folder / "base" / name).read_bytes()
    try:
        (folder / "base" / name).write_bytes(mutator.file(whole, CHECKPOINT[name]))
        fetch(checkpoint("base", folder / "base"))
    finally:
        (folder / "base" / name).write_bytes(whole)


def adapters(mutator: Mutator, _: int, folder: Path) -> None:
    """Read the configuration of a broken adapter."""
    config = {
        "base_model_name_or_path": str(folder / "base"), "peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"],
    }  # fmt: skip
    path = folder / "adapter" / "adapter_config.json"
    path.write_bytes(mutator.file(json.dumps(config).encode(), "json"))
    fetch(parse(str(folder / "adapter")))


def gguf_headers(mutator: Mutator, number: int, folder: Path) -> None:
    """Undo the quantisation of a file with a broken header."""
    whole = (folder / "whole.gguf").read_bytes()
    head = mutator.data(whole[: min(len(whole), 4096)])
    path = folder / "broken.gguf"
    path.write_bytes(head + whole[4096:])
    model = gguf_reference(str(path))
    if model is not None:
        cache = folder / f"cache-{number}"
        try:
            dequantised(model, f"{number:064x}", cache)
        finally:
            shutil.rmtree(cache, ignore_errors=True)


TARGETS: list[tuple[Callable[[Mutator, int, Path], None], int]] = [
    (studies, STUDIES), (rows, COUNT), (labels, COUNT), (server_replies, COUNT), (judge_replies, COUNT), (checkpoints, COUNT),
    (adapters, COUNT), (gguf_headers, SLOW),
]  # fmt: skip


def numbers(trial_number: int, count: int) -> Iterator[int]:
    """Return the numbers of a trial's inputs; no two trials share one."""
    return iter(range(10_000_000 + trial_number * COUNT, 10_000_000 + trial_number * COUNT + count))


def trial(number: int, folder: Path, shared: Path) -> Outcome:
    """Read broken inputs of one kind."""
    logging.disable(logging.CRITICAL)
    make_checkpoint(folder / "base")
    (folder / "adapter").mkdir()
    shutil.copy(
        next((folder / "base").glob("*.safetensors")),
        folder / "adapter" / "adapter_model.safetensors",
    )
    write_gguf(folder / "whole.gguf")
    for name, line in (
        ("train", {"prompt": "a", "completion": "b"}),
        ("prompts", {"text": "a", "intent": "benign"}),
    ):
        (folder / f"{name}.jsonl").write_text(json.dumps(line) + "\n")
    target, count = TARGETS[number % len(TARGETS)]
    faults, hangs, note = 0, 0, ""
    for each in numbers(number, count):
        case = f"{target.__name__} {each}"
        try:
            ended(lambda each=each: target(Mutator(each), each, folder), case)
        except AssertionError as error:
            hang = "not done after" in str(error)
            hangs, faults = hangs + hang, faults + (not hang)
            note = note or str(error)[:300]
    return Outcome(tries=count, tracebacks=faults, hangs=hangs, note=note)
