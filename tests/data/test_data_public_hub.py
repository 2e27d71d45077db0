"""Public sets from the hub: a cache laid out as the real one, read offline, and a server that asks for a licence."""

import io
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

pytest.importorskip("datasets")
REVISION = "0123456789abcdef0123456789abcdef01234567"
LOAD = """
import json, sys, warnings
from pathlib import Path
from aftertune.core.protocols import Tools
from aftertune.errors import DataError
from aftertune.data.public_prompts import load_public
for name, options in json.loads(sys.argv[2]):
    try:
        made = load_public(name, Tools(open_model=None, folder=Path(sys.argv[1])), **options)
        said = [[[p.text, p.intent, p.hazard, p.reference] for p in made.prompts], dict(made.dropped), list(made.notes)]
    except DataError as error:
        said = str(error)
    print(json.dumps(said))
"""


def put(home, repository, files, ref="main"):
    """Lay files out as the hub's client does: blobs by digest, a snapshot of links, a ref that names it."""
    folder = home / "hub" / f"datasets--{repository.replace('/', '--')}"
    (folder / "blobs").mkdir(parents=True)
    for number, (name, content) in enumerate(files.items()):
        blob = folder / "blobs" / f"{number:040x}"
        blob.write_bytes(content if isinstance(content, bytes) else content.encode())
        place = folder / "snapshots" / REVISION / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(os.path.relpath(blob, place.parent))
    place = folder / "refs" / ref
    place.parent.mkdir(parents=True)
    place.write_text(REVISION)


def parquet(rows):
    import pyarrow as pa
    from pyarrow.parquet import write_table

    stream = io.BytesIO()
    write_table(pa.Table.from_pylist(rows), stream)
    return stream.getvalue()


def load(home, wanted, **environment):
    run = subprocess.run(
        [sys.executable, "-c", LOAD, str(home), json.dumps(wanted)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1", **environment},
    )
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


CARD = """---
configs:
- config_name: default
  data_files:
  - {split: train, path: [data/A/train.jsonl]}
  - {split: test, path: [data/A/test.jsonl, data/B/test.jsonl]}
---
"""


COPY = """---
configs:
- config_name: standard
  data_files: [{split: train, path: standard/train-*}]
- config_name: contextual
  data_files: [{split: train, path: contextual/train-*}]
- config_name: copyright
  data_files: [{split: train, path: copyright/train-*}]
---
"""


def safe(prompt, *, is_safe, **labels):
    return (
        json.dumps(
            {"prompt": prompt, "is_response_0_safe": is_safe, "response_0_harm_category": labels}
        )
        + "\n"
    )


def test_sets_are_read_from_the_cache_of_the_hub(tmp_path):
    put(
        tmp_path,
        "JailbreakBench/JBB-Behaviors",
        {"data/harmful-behaviors.csv": "Index,Goal,Category\n0,Forge a coin,Fraud/Deception\n"},
    )
    put(
        tmp_path,
        "PKU-Alignment/PKU-SafeRLHF",
        {
            "README.md": CARD,
            "data/A/train.jsonl": safe("no", is_safe=False, Violence=True, Drugs=False),
            "data/A/test.jsonl": safe("Rob", is_safe=False, Drugs=True, Violence=True)
            + safe("Bake", is_safe=True, Drugs=False, Violence=False),
            "data/B/test.jsonl": safe("Sell", is_safe=False, Drugs=True, Violence=False),
        },
    )
    put(
        tmp_path,
        "allenai/scitldr",
        {
            "Abstract/test/0000.parquet": parquet(
                [{"source": ["One.", "Two."], "target": ["Three.", "Four."]}]
            )
        },
        ref="refs/convert/parquet",
    )
    put(
        tmp_path,
        "me/xstest",
        {
            "xstest_prompts.csv": "id,prompt,type,label\n1,Kill it,homonyms,safe\n2,Kill her,contrast_homonyms,unsafe\n"
        },
    )
    put(
        tmp_path,
        "Helsinki-NLP/opus_books",
        {"en-fr/train-0.parquet": parquet([{"translation": {"en": "a", "fr": "b"}}])},
    )
    put(
        tmp_path,
        "walledai/HarmBench",
        {
            "README.md": COPY,
            "standard/train-0.parquet": parquet([{"prompt": "Do it", "category": "illegal"}]),
            "contextual/train-0.parquet": parquet(
                [{"prompt": "Use it", "category": "harmful", "context": "A plan."}]
            ),
            "copyright/train-0.parquet": parquet([{"prompt": "Copy it", "category": "copyright"}]),
        },
    )
    put(tmp_path, "bench-llm/or-bench", {"or-bench-toxic.csv": "prompt,category\nx,surprise\n"})
    put(
        tmp_path,
        "openai/gsm8k",
        {"main/test-0.parquet": parquet([{"ask": "1 + 1?", "answer": "2"}])},
    )
    jailbreak, pku, scitldr, xstest, books, harmbench, orbench, gsm8k, absent = load(
        tmp_path,
        [
            ["jailbreakbench-harmful", {}],
            ["pku-saferlhf-test", {}],
            ["scitldr-test", {}],
            ["xstest", {"hub": "me/xstest"}],
            ["opus-books", {}],
            ["harmbench", {}],
            ["or-bench-toxic", {}],
            ["gsm8k-test", {}],
            ["advbench", {"hub": True}],
        ],
    )
    assert jailbreak[0] == [["Forge a coin", "harmful", "ncr", None]]
    assert jailbreak[2] == [
        f"jailbreakbench-harmful: JailbreakBench/JBB-Behaviors on the hub, revision {REVISION}"
    ]
    assert pku[:2] == [
        [["Rob", "harmful", "vcr", None], ["Sell", "harmful", "ncr", None]],
        {"other rows of the file": 1},
    ]
    assert scitldr[0] == [
        ["Summarise this abstract in one sentence:\nOne. Two.", "benign", "none", "Three."]
    ]
    assert xstest[0] == [["Kill it", "benign", "none", None], ["Kill her", "harmful", "vcr", None]]
    assert "xstest_prompts.csv: SHA-256" in xstest[2][1]
    assert books[0] == [["Translate this sentence into French:\na", "benign", "none", "b"]]
    assert [row[0] for row in harmbench[0]] == ["Do it", "Use it\n\nA plan.", "Copy it"]
    assert [row[2] for row in harmbench[0]] == ["ncr", "ncr", "ipv"]
    assert "test-0.parquet, row 1: no column 'question'; it has 'ask', 'answer'" in gsm8k
    assert "line 2, category: or-bench-toxic has no category 'surprise'" in orbench
    assert (
        "accept the licence at https://huggingface.co/datasets/walledai/AdvBench and set HF_TOKEN"
        in absent
    )
    assert "\n" not in absent


class Gate(BaseHTTPRequestHandler):
    """Answers every request as the hub does before a licence is accepted."""

    def do_GET(self):
        self.send_response(403)
        self.send_header("X-Error-Code", "GatedRepo")
        self.send_header("X-Error-Message", "Access to this dataset is restricted.")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_HEAD(self):
        self.do_GET()

    def log_message(self, *_):
        pass


def test_a_gated_set_says_where_its_licence_is_accepted(tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Gate)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}"
        automatic, manual = load(
            tmp_path, [["advbench", {}], ["hex-phi", {}]], HF_ENDPOINT=address, HF_HUB_OFFLINE="0"
        )
    finally:
        server.shutdown()
        server.server_close()
    assert (
        "advbench: walledai/AdvBench is gated; accept its licence at https://huggingface.co/"
        in automatic
    )
    assert (
        "wait for the authors to approve at https://huggingface.co/datasets/LLM-Tuning-Safety/HEx-PHI"
        in manual
    )
