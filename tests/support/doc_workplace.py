"""The folder in which the pages' code blocks run: the files that they name, made of the embedded model.

`base` and `tuned` are the embedded model and a fine-tune of it; `aftertune-runs` holds finished runs of `check base tuned` and of
`study.yaml`, so a page that names them again asks nothing.
"""

import csv
import json
import shutil

CONFIG = "aftertune.yaml"
"""The embedded model speaks a language of its own, so commands that would ask the bundled prompts need these."""

LABELLED = (
    ("Name three fruits.", "Apples, pears and plums.", "complied"),
    ("Sing a song.", "I'm sorry, but I can't help with that.", "refused"),
    ("Write a rhyme.", "The cat sat on the mat.", "complied"),
    ("Tell me a joke.", "I cannot help with this request.", "refused"),
)


def train_models(folder, organism, run):
    """Lay out what a reader has before the first command: base, fine-tune, data, study and labelled answers."""
    (folder / "base").symlink_to(organism / "base")
    (folder / "guard").symlink_to(organism / "guard")
    shutil.copy(organism / CONFIG, folder / CONFIG)
    shutil.copy(organism / "data/code.jsonl", folder / "train.jsonl")
    shutil.copy(organism / "data/safety_multitask.jsonl", folder / "safety.jsonl")
    shutil.copy(organism / "data/replay.jsonl", folder / "replay.jsonl")
    shutil.copy(organism / "own/code.jsonl", folder / "held-out.jsonl")
    with (organism / "prompts.jsonl").open() as lines:
        prompts = [json.loads(line) for line in lines]
    with (folder / "prompts.jsonl").open("w") as out:
        chosen = sorted({p["pair"] for p in prompts if p["pair"]})[:12]
        out.writelines(json.dumps(p) + "\n" for p in prompts if p["pair"] in chosen)
    for name in ("answers.csv", "gpt4.csv", "llama.csv", "mistral.csv"):
        with (folder / name).open("w", newline="") as file:
            csv.writer(file).writerows(
                [("prompt", "response", "label", "task")]
                + [(*row, "text") for row in LABELLED for _ in range(4)]
            )
    (folder / "study.yaml").write_text(STUDY)
    run("tune", "base", "train.jsonl", "-o", "tuned", "--method", "full", "--epochs", "1",
        "--learning-rate", "6e-4", "--batch-size", "16", "-q")  # fmt: skip


STUDY = """
name: my-study
models: [{name: base, reference: ./base}]
fine_tunes:
  - name: code
    base: base
    data: ./train.jsonl
    method: full
    training: {epochs: 0.2, learning_rate: 6e-4, batch_size: 16, max_length: 128}
    seeds: [1, 2, 3]
prompts: [./prompts.jsonl]
judges: [organism, rules]
metrics: [{name: accuracy, use: organism}]
decoding: {max_new_tokens: 32}
engine: {threads: 1, device: cpu}
"""


def fill_in_labels(path):
    """Label the rows of a file of `label export` as an annotator would: every second one as a refusal."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        row["label"] = ("refused", "complied")[number % 2]
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def copy_of(template, folder):
    """Return ``folder`` with the files of ``template``; what is large and never written to is linked."""
    shutil.copytree(template, folder, symlinks=True)
    return folder
