"""The engine for text classifiers on this machine: a checkpoint of transformers gives a text a logit for each of its labels.

It computes in float32 whatever the study's number format, on the study's device: such models are small, and a score should
not hang on how the measured models are computed. A text is read alone, as far as the model's positions reach.
"""

import importlib.util
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

from aftertune.core.keys import Key
from aftertune.core.protocols import Answer
from aftertune.core.records import (
    FREE,
    Attempt,
    Decoding,
    FinishReason,
    GenerateJob,
    Message,
    Response,
)
from aftertune.core.untrusted import marker_pattern, neutralised
from aftertune.errors import ModelError
from aftertune.models.batching import Capacity, capacity, in_batches
from aftertune.models.foreign import quiet, refused
from aftertune.models.loading import Head, Placement, check_weights, load_model
from aftertune.models.reference import Checkpoint, tokenizer_sha256, weights_sha256
from aftertune.models.remote import NoLikelihoods

ENGINE = "classifier"
"""The name of this engine in `identity`."""
DTYPE = "float32"
LONGEST = 512
"""Tokens that are read where neither configuration nor tokenizer knows a limit."""
_UNLIMITED = 10**9
"""A tokenizer without a limit says a number above this."""
_OFFSET = frozenset(
    {"camembert", "data2vec-text", "ibert", "longformer", "luke", "mpnet", "roberta", "roberta-prelayernorm", "xlm-roberta",
     "xlm-roberta-xl", "xmod"}
)  # fmt: skip
"""The types of models that count positions from behind the padding token's number, so that they read fewer tokens than they have positions."""
_MULTI, _REGRESSION = "multi_label_classification", "regression"
_DETOXIFY = ({"toxic", "severe_toxic"}, {"toxicity", "severe_toxicity"})
"""Labels of which one includes the other. Detoxify's heads have them, and not all of its configurations say that labels are
independent."""
_SENTENCEPIECE = ("sentencepiece.bpe.model", "spiece.model")
"""The tokenizers of XLM-R and ALBERT, where no tokenizer.json stands beside them."""
_WINDOW = 8192
"""Texts that are sorted by length together."""
NOTHING_READ = Response(
    text="", finish_reason=FinishReason.STOP, prompt_tokens=0, completion_tokens=0
)
"""The reply to a text without a token."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A text with its tokens, as far as they are read."""

    key: Key
    tokens: list[int]
    whole: int
    """Tokens of the whole text."""

    @property
    def length(self) -> int:
        """Number of tokens that are read."""
        return len(self.tokens)


class ClassifierModel(NoLikelihoods):
    """A sequence classifier; see `aftertune.core.protocols.TextClassifier`.

    Args:
        checkpoint: its files.
        device: where it computes, in torch's names.
        threads: CPU threads for torch; None leaves torch's own choice.

    Attributes:
        name: for messages and tables.
        identity: engine, hashes of weights and tokenizer, number format, tokens that are read.
        labels: the names of its labels.
        independent: whether a label has a probability of its own.

    Raises:
        ModelError: it is no text classifier, or a file cannot be used.
    """

    remote = served = by_batch = moderates = folds_system = begins_turn = continues_answers = False
    price = FREE
    price_source = destination = refusals = ""
    served_by = "a text classifier"

    def __init__(self, checkpoint: Checkpoint, device: str, threads: int | None) -> None:
        self.name, self._folder = checkpoint.name, checkpoint.folder
        self._placement, self._threads = Placement(device, DTYPE), threads
        config = _config(checkpoint)
        self.labels = tuple(str(config.id2label[place]) for place in sorted(config.id2label))
        self.independent = _independent(self.name, config, self.labels)
        self._tokenizer = _tokenizer(self.name, self._folder)
        self._vocabulary = int(config.vocab_size)
        self._longest = _longest(config, self._tokenizer)
        self._markers = marker_pattern(self._tokenizer.all_special_tokens)
        self.identity: Mapping[str, object] = {
            "engine": ENGINE,
            "weights": weights_sha256(self._folder),
            "tokenizer": tokenizer_sha256(self._folder),
            "dtype": DTYPE,
            "longest": self._longest,
        }
        self._model: Any = None
        self._capacity: Capacity | None = None

    def altered(self, job: GenerateJob) -> Mapping[str, object]:  # noqa: ARG002 - the Protocol's names
        """Return nothing: no job is changed."""
        return {}

    def check_ready(self) -> None:
        """See that the weights fit the configuration; reads no weights.

        Raises:
            ModelError: they do not.
        """
        check_weights(self.name, self._folder, head=Head.CLASSIFIER)

    def input_tokens(self, jobs: Sequence[GenerateJob]) -> list[int]:
        """Return how many tokens of each text are read; loads no weights."""
        return [row.length for row in self._rows(jobs)]

    def generate(self, jobs: Iterable[GenerateJob]) -> Iterator[tuple[Key, Answer]]:
        """Give each text (`Question.classified`) its logits, longest first; texts longer than the model reads are cut.

        The reply's text is the label with the largest logit. A text of no token, an empty one for a tokenizer that adds
        none, has a reply without logits. A text that does not fit in memory alone gives the attempt ``out_of_memory``,
        one whose logits are no numbers ``broken_reply``.

        Raises:
            ModelError: the weights cannot be loaded, or transformers cannot compute with them.
        """
        jobs = iter(jobs)
        while window := list(islice(jobs, _WINDOW)):
            model, room = self._loaded()
            rows = self._rows(window)
            yield from ((row.key, NOTHING_READ) for row in rows if not row.length)
            read = [row for row in rows if row.length]
            for row, logits in in_batches(read, room, partial(self._logits, model)):
                yield row.key, self._answer(row, logits)

    def interrupt(self) -> None:
        """Do nothing: only remote engines are asked in threads."""

    def close(self) -> None:
        """Free the weights; they load again at the next call that needs them."""
        self._model = self._capacity = None

    def keys(
        self,
        conversations: Sequence[Sequence[Message]],  # noqa: ARG002 - the Protocol's names
        decoding: Decoding,  # noqa: ARG002
        sample: int,  # noqa: ARG002
    ) -> NoReturn:
        """Raise: a classifier answers no conversation."""
        self._cannot("answer prompts")

    def unknown_share(self, texts: Sequence[str]) -> NoReturn:  # noqa: ARG002 - the Protocol's names
        """Raise: it is asked of models that answer prompts."""
        self._cannot("answer prompts")

    def _loaded(self) -> tuple[Any, Capacity]:
        if self._model is None or self._capacity is None:
            import torch

            if self._threads is not None:
                torch.set_num_threads(self._threads)
            model = load_model(self.name, self._folder, self._placement, head=Head.CLASSIFIER)
            self._model = model.eval()
            with self._computing():
                self._capacity = capacity(model, self._placement.device, DTYPE)
        return self._model, self._capacity

    def _computing(self) -> AbstractContextManager[None]:
        return refused(
            f"text classifier {self.name!r}: transformers cannot compute with it",
            "; look at its config.json",
        )

    def _rows(self, jobs: Sequence[GenerateJob]) -> list[_Row]:
        texts = [
            # half a surrogate pair is no text for a tokenizer
            neutralised(_text_of(job), self._markers).encode("utf-8", "replace").decode("utf-8")
            for job in jobs
        ]
        used = refused(
            f"text classifier {self.name!r}: the tokenizer cannot be used",
            "; mend tokenizer_config.json or tokenizer.json, or copy the folder again",
        )
        with used:
            rows = []
            for job, text in zip(jobs, texts, strict=True):
                tokens = self._tokenizer(text)["input_ids"]
                whole = len(tokens)
                if whole > self._longest:
                    cut = self._tokenizer(text, truncation=True, max_length=self._longest)
                    tokens = cut["input_ids"]
                rows.append(_Row(job.key, tokens, whole))
        largest = max((max(row.tokens) for row in rows if row.tokens), default=0)
        if largest >= self._vocabulary:
            raise ModelError(
                f"text classifier {self.name!r}: its tokenizer gives token {largest}, but its config.json knows "
                f"{self._vocabulary:,} tokens only; put the tokenizer that belongs to these weights into the folder"
            )
        return rows

    def _logits(self, model: Any, rows: Sequence[_Row]) -> list[list[float]]:
        """Return the logits of each row, padded on the right: classifiers read the first token, or look for the last."""
        import torch

        longest, pad = max(row.length for row in rows), self._tokenizer.pad_token_id or 0
        device = self._placement.device
        tokens = torch.tensor(
            [row.tokens + [pad] * (longest - row.length) for row in rows], device=device
        )
        mask = torch.tensor(
            [[1] * row.length + [0] * (longest - row.length) for row in rows], device=device
        )
        with self._computing(), torch.inference_mode():
            logits = model(input_ids=tokens, attention_mask=mask).logits.float().cpu().tolist()
        return [list(map(float, row)) for row in logits]

    def _answer(self, row: _Row, logits: list[float] | None) -> Answer:
        if logits is None:
            return Attempt(reason="out_of_memory", detail=f"{row.length} tokens in a batch of one")
        if not all(map(math.isfinite, logits)):
            return Attempt(reason="broken_reply", detail="the logits are no numbers")
        cut = {"of_tokens": row.whole} if row.whole > row.length else {}
        return Response(
            text=self.labels[logits.index(max(logits))],
            finish_reason=FinishReason.STOP,
            prompt_tokens=row.length,
            completion_tokens=0,
            detail={"logits": logits, **cut},
        )


def _text_of(job: GenerateJob) -> str:
    """Return the text that a job is about."""
    assert job.question is not None
    assert job.question.classified is not None
    return job.question.classified


def _config(checkpoint: Checkpoint) -> Any:
    """Return a classifier's configuration.

    Raises:
        ModelError: it cannot be used, or is that of another kind of model.
    """
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    )

    what = f"text classifier {checkpoint.name!r}: config.json cannot be used"
    with refused(what, "; mend the file, or copy the folder again"), quiet():
        config: Any = AutoConfig.from_pretrained(checkpoint.folder, local_files_only=True)
        architectures = list(config.architectures or ())
    if not set(architectures) & set(MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES.values()):
        kind = f"a {architectures[0]}" if architectures else "of no kind that its config.json names"
        raise ModelError(
            f"model {checkpoint.name!r} is {kind}, no text classifier; name a checkpoint with a head for sequence "
            "classification, for instance unitary/toxic-bert"
        )
    return config


def _independent(name: str, config: Any, labels: Sequence[str]) -> bool:
    """Return whether labels are independent: by ``problem_type``; without it, for one label and for Detoxify's heads.

    Raises:
        ModelError: the head gives no probabilities.
    """
    if config.problem_type == _REGRESSION:
        raise ModelError(
            f"text classifier {name!r}: its head is trained for regression (problem_type in config.json) and gives no "
            "probability; name a classifier"
        )
    nested = any(pair <= set(labels) for pair in _DETOXIFY)
    return config.problem_type == _MULTI or len(labels) == 1 or (not config.problem_type and nested)


def _tokenizer(name: str, folder: Path) -> Any:
    """Return the tokenizer of a folder.

    Raises:
        ModelError: it cannot be loaded, or a package for it is missing.
    """
    from transformers import AutoTokenizer

    packed = next((file for file in _SENTENCEPIECE if (folder / file).is_file()), None)
    converted = (folder / "tokenizer.json").is_file()
    if packed is not None and not converted and importlib.util.find_spec("sentencepiece") is None:
        raise ModelError(
            f"text classifier {name!r}: its tokenizer {packed} is read by the package sentencepiece; install it: pip install "
            "sentencepiece"
        )
    loaded = refused(
        f"text classifier {name!r}: the tokenizer cannot be loaded",
        "; mend tokenizer_config.json or tokenizer.json, or copy the folder again",
    )
    with loaded, quiet():
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        # Texts are cut here; the tokenizer's own warning would only repeat it.
        tokenizer.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = (
            True
        )
    return tokenizer


def _longest(config: Any, tokenizer: Any) -> int:
    """Return how many tokens of a text the model reads, special tokens included."""
    positions = getattr(config, "max_position_embeddings", None)
    if isinstance(positions, int) and config.model_type in _OFFSET:
        positions -= int(config.pad_token_id or 0) + 1
    limits = [
        limit
        for limit in (positions, tokenizer.model_max_length)
        if isinstance(limit, int) and 0 < limit < _UNLIMITED
    ]
    return min(limits, default=LONGEST)
