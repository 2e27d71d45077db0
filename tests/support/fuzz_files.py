"""Valid files of every kind that a reader reads; `fuzz` makes broken ones of them."""

import gzip
import json

STUDY = """\
name: valid
models:
  - {name: base, reference: org/base, attributes: {family: llama, size: 8B}}
  - {name: theirs/seed1, reference: org/theirs, base: base, training_seed: 1, condition: theirs}
fine_tunes:
  - name: code
    base: base
    data: ["./train.jsonl", {path: org/data, columns: {prompt: q, completion: a}, limit: 50}]
    method: lora
    training: {epochs: 2, learning_rate: 0.0002, batch_size: 4, schedule: linear, lora_r: 8}
    seeds: [1, 2, 3]
    system: "Answer."
    keep_epochs: true
  - {name: code+mix, like: code, keep_epochs: false, mitigation: {preset: multitask+replay, sweep: [0.05, 0.1]}}
  - {name: code+rules, like: code, keep_epochs: false, mitigation: {ema: 0.99, frozen: [0, 1], first_tokens: {tokens: 3, first: 0.5, beta: 2.0, rest: 0.1}, self_answers: {temperature: 0.7, max_new_tokens: 32}}}
  - {name: doses, like: code, keep_epochs: false, doses: {learning_rate: [0.0001, 0.001], rows: [10, 20]}}
  - {name: rounds, like: code, keep_epochs: false, rounds: ["./train.jsonl"], mitigation: none}
prompts: [multitask-v1, {set: own, file: ./prompts.jsonl, limit: 10}]
systems: {none: null, short: "Be brief."}
attacks: [none, prefill, base64]
decoding: {temperatures: [0.0, 0.7], samples: 2, seeds: [0, 1], max_new_tokens: 64, top_p: 0.9, top_k: 40}
guards: [{name: wg, use: wildguard, options: {prompt: ./wildguard.txt}}]
judges: [rules, {name: rubric, use: rubric, options: {model: "openai:gpt-4o-mini"}}]
metrics: [chrf, exact]
preferences: [{name: win-rate, options: {model: "openai:gpt-4o-mini"}}]
reasoning_judges: [rules]
coherence: {tail_loop: 0.2, language: true, nll: false}
measurement: {margin: 0.05, task_margin: 0.1, panel: majority, families: [task, hazard], match: {scorer: exact, target: 0.5}}
engine: {backend: transformers, threads: 2, dtype: bfloat16, budget: 5.0, batch: ["openai:*"], call_seconds: 30}
execute: {on: ray, gpus_per_model: 0.5, calls_per_unit: 100}
"""
"""A study with every key."""


def jsonl(records):
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()


def asked(n, **answer):
    return [
        {"role": "user", "content": f"Name fruit {n}, é."},
        {"role": "assistant", "content": "A lime.", **answer},
    ]


CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"function": {"name": "f", "arguments": '{"a": "b"}'}}],
}
SHARE = [{"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "Hello."}]
PAIRS = [{"prompt": f"Ask {n}", "completion": "Say", "task": "text"} for n in range(5)]
TRAINING = {
    "messages.jsonl": jsonl([{"messages": asked(n, weight=n % 2, reasoning_content="Well.")} for n in range(5)]),
    "tools.jsonl": jsonl([{"messages": [*asked(0), *asked(1)[:1], CALL, {"role": "tool", "content": "c"}]}, {"messages": asked(2)}]),
    "parts.jsonl": jsonl([{"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi?"}]}, {"role": "assistant", "content": "x"}]}]),
    "pairs.jsonl": jsonl(PAIRS),
    "chats.jsonl": jsonl([{"prompt": asked(n)[:1], "completion": asked(n)[1:]} for n in range(3)]),
    "alpaca.json": json.dumps([{"instruction": "Add.", "input": "1", "output": "2", "system": "Be.", "history": [["a", "b"]]}] * 2).encode(),
    "sharegpt.jsonl": jsonl([{"conversations": SHARE, "system": "Be."}, {"conversations": [SHARE[0], {"from": "function_call", "value": "{}"}, SHARE[1]]}]),
    "vertex.jsonl": jsonl([{"systemInstruction": {"parts": [{"text": "Be."}]}, "contents": [{"role": "user", "parts": [{"text": "a"}]}, {"role": "model", "parts": [{"text": "b"}]}]}]),
    "struct.json": json.dumps({"data": [{"messages": {"role": ["user", "assistant"], "content": ["a", "b"]}}]}).encode(),
    "columns.json": json.dumps({"prompt": ["a", "c"], "completion": ["b", "d"]}).encode(),
    "table.csv": b'prompt,completion,task\nHi?,Hello.,text\n"a, b","c""d",code\n',
    "packed.jsonl.gz": gzip.compress(jsonl(PAIRS), mtime=0),
}  # fmt: skip
"""Training files by name, in every format and kind of file."""
CHECKPOINT = {
    "config.json": "json",
    "tokenizer_config.json": "json",
    "generation_config.json": "json",
    "tokenizer.json": "json",
    "chat_template.jinja": "text",
}
"""Files of a checkpoint that may contradict each other, and what the mutator takes them for."""


def kind_of(name):
    """Return what the mutator takes a training file for, by its name."""
    kind = name.rpartition(".")[2]
    return kind if kind in {"jsonl", "json", "csv"} else "bytes"
