"""Greedy generation on this machine, beside what others offer: ``python bench/local.py [ROUNDS]``.

All answer the embedded model's prompts with the embedded model, 32 new tokens at most, on one thread of the CPU:
Aftertune's engine; `generate` of transformers, prompt by prompt; Inspect (``hf`` provider, batches of 128); lm-eval
(``hf``, batches of 64). The texts have to be the same. Every run is a process of its own, imports included; rounds
alternate. Tokens a second of CPU time are printed, since all give the same tokens; ratios go to ``bench/latest.json``.
The peers need ``make bench-peers``.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from latest import keep

ROUNDS, TOKENS = 3, 32
HERE = Path(__file__).parent
PEERS = HERE / ".venv" / "bin"
Texts = Mapping[str, str]
"""The answer to each prompt."""


def prompts_of(toy: Path) -> list[str]:
    """Return the prompts, each once."""
    lines = (toy / "prompts.jsonl").read_text(encoding="utf-8").splitlines()
    return list(dict.fromkeys(json.loads(line)["text"] for line in lines))


def aftertune(toy: Path) -> tuple[dict[str, str], int]:
    """Answer with the engine; return the texts and the number of new tokens."""
    from aftertune.core.records import Decoding, GenerateJob, Message, Response
    from aftertune.models.open import Engines

    decoding = Decoding(max_new_tokens=TOKENS)
    jobs = [
        GenerateJob(
            key=text.encode(), messages=(Message(role="user", content=text),), decoding=decoding
        )
        for text in prompts_of(toy)
    ]
    with Engines(threads=1, device="cpu") as engines:
        answers = dict(engines.open(str(toy / "base")).generate(jobs))
    replies = {
        key.decode(): answer for key, answer in answers.items() if isinstance(answer, Response)
    }
    return {key: reply.text for key, reply in replies.items()}, sum(
        one.completion_tokens for one in replies.values()
    )


def naive(toy: Path) -> tuple[dict[str, str], int]:
    """Answer with `generate`, prompt by prompt."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    tokenizer, model = (
        kind.from_pretrained(toy / "base") for kind in (AutoTokenizer, AutoModelForCausalLM)
    )
    found, count = {}, 0
    for text in prompts_of(toy):
        asked = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
        with torch.inference_mode():
            drawn = model.generate(**asked, max_new_tokens=TOKENS, do_sample=False)[
                0, asked["input_ids"].shape[1] :
            ]
        found[text] = tokenizer.decode(drawn, skip_special_tokens=True)
        count += len(drawn)
    return found, count


@dataclass(frozen=True)
class Side:
    """One way of generating."""

    name: str
    command: list[str]
    texts: Callable[[str], Texts]
    """Reads the answers, given what was printed."""
    environment: dict[str, str] = field(default_factory=dict)


def sides(toy: Path, folder: Path) -> list[Side]:
    """Return all ways; those of others only where they are installed."""
    own = [
        Side(
            name,
            [sys.executable, __file__, name, str(toy)],
            lambda printed: json.loads(printed)["texts"],
        )
        for name in ("aftertune", "naive")
    ]
    if not (PEERS / "python").is_file():
        print("inspect_hf, lm_eval_hf: not compared, they are not installed (make bench-peers)")
        return own
    return [*own, _inspect(toy, folder / "inspect"), _lm_eval(toy, folder / "lm_eval")]


def _inspect(toy: Path, folder: Path) -> Side:
    command = [
        str(PEERS / "inspect"), "eval", f"{HERE / 'peers' / 'inspect_local.py'}@answers", "-T", f"prompts={toy}",
        "--model", "hf/local", "-M", f"model_path={toy / 'base'}", "-M", "do_sample=false", "-M", "batch_size=128",
        "-M", "device=cpu", "--max-connections", "128", "--max-tokens", str(TOKENS), "--display", "none",
        "--no-log-realtime", "--log-format", "json", "--log-dir", str(folder),
    ]  # fmt: skip

    def texts(_printed: str) -> Texts:
        (log,) = folder.glob("*.json")
        samples = json.loads(log.read_text(encoding="utf-8"))["samples"]
        log.unlink()
        return {
            sample["input"]: sample["output"]["choices"][0]["message"]["content"]
            for sample in samples
        }

    return Side("inspect_hf", command, texts)


def _lm_eval(toy: Path, folder: Path) -> Side:
    folder.mkdir()
    rows = folder / "prompts.jsonl"
    rows.write_text(
        "".join(json.dumps({"text": text}) + "\n" for text in prompts_of(toy)), encoding="utf-8"
    )
    task = {
        "task": "answers", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(rows)}},
        "test_split": "test", "output_type": "generate_until", "doc_to_text": "{{text}}", "doc_to_target": "{{text}}",
        "generation_kwargs": {"until": ["<end>"], "max_gen_toks": TOKENS, "do_sample": False},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }  # fmt: skip
    (folder / "answers.yaml").write_text(json.dumps(task), encoding="utf-8")
    command = [
        str(PEERS / "lm_eval"), "run", "--model", "hf", "--tasks", "answers", "--apply_chat_template", "--log_samples",
        "--model_args", f"pretrained={toy / 'base'},dtype=float32,max_length=128", "--device", "cpu", "--batch_size", "64",
        "--include_path", str(folder), "--output_path", str(folder / "out.json"),
    ]  # fmt: skip

    def texts(_printed: str) -> Texts:
        (log,) = folder.glob("samples*.jsonl")
        samples = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        log.unlink()
        return {sample["doc"]["text"]: sample["resps"][0][0] for sample in samples}

    return Side("lm_eval_hf", command, texts, {"HF_HOME": str(folder)})


def measure(side: Side, expected: Texts | None) -> tuple[float, Texts, str]:
    """Run a side in a fresh process; return its CPU seconds, its texts and what it printed."""
    single = {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    before = os.times()
    done = subprocess.run(
        side.command,
        env=os.environ | single | side.environment,
        check=False,
        capture_output=True,
        text=True,
    )
    after = os.times()
    if done.returncode:
        raise SystemExit(f"{side.name} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    found = side.texts(done.stdout)
    if expected is not None and found != expected:
        other = [
            (text, expected[text], found.get(text))
            for text in expected
            if found.get(text) != expected[text]
        ]
        raise SystemExit(f"{side.name} gives {len(other)} other texts, first {other[:1]}")
    return (
        after.children_user - before.children_user + after.children_system - before.children_system,
        found,
        done.stdout,
    )


def main() -> None:
    """Alternate the sides, compare their texts, print medians and ratios."""
    if len(sys.argv) == 3:
        texts, tokens = {"aftertune": aftertune, "naive": naive}[sys.argv[1]](Path(sys.argv[2]))
        print(json.dumps({"texts": texts, "tokens": tokens}))
        return
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    with tempfile.TemporaryDirectory() as name:
        folder, toy = Path(name), Path(name) / "toy"
        make = [str(Path(sys.executable).with_name("aftertune")), "organism", str(toy)]
        subprocess.run(make, check=True, capture_output=True)
        asked = sides(toy, folder)
        found: dict[str, list[float]] = {side.name: [] for side in asked}
        expected, tokens = None, 0
        for _ in range(rounds):
            for side in asked:
                seconds, texts, printed = measure(side, expected)
                if expected is None:
                    expected, tokens = texts, json.loads(printed)["tokens"]
                found[side.name].append(seconds)
    report(found, len(expected or ()), tokens)


def report(found: dict[str, list[float]], prompts: int, tokens: int) -> None:
    """Print medians over rounds and keep ratios; each round has its own ratio, since the machine's load drifts."""
    print(f"{prompts:,} prompts, {tokens:,} new tokens, the same texts from all; start-up included")
    for side, runs in found.items():
        middle = statistics.median(runs)
        print(
            f"{side:<10} {tokens / middle:7.0f} tokens a CPU second ({middle:.1f} s, {min(runs):.1f}-{max(runs):.1f})"
        )
    figures = {}
    for side, runs in found.items():
        if side != "aftertune":
            ratio = statistics.median(
                run / my for my, run in zip(found["aftertune"], runs, strict=True)
            )
            print(f"aftertune / {side}: {ratio:.2f}")
            figures[f"local_vs_{side}"] = round(ratio, 3)
    keep(figures)


if __name__ == "__main__":
    main()
