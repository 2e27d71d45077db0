"""Hosted fine-tunes against servers that check request bodies: killed at each step, they end with one job and one upload."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hosted_servers import KEY, OpenAI, Vertex

from aftertune.errors import ModelError
from aftertune.models.endpoint.providers import Address
from aftertune.models.reference import parse

AFTERTUNE = Path(sys.executable).with_name("aftertune")
ROWS = [{"prompt": f"Say {number}.", "completion": f"It is {number}."} for number in range(12)]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "train.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8"
    )
    return tmp_path


@pytest.fixture(scope="session")
def service_account(tmp_path_factory):
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return {
        "type": "service_account",
        "client_email": "a@b.c",
        "private_key": pem,
        "private_key_id": "1",
        "project_id": "p",
    }


def environment(service, folder, account=None):
    env = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    if account is None:
        return env | {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": f"{service.url}/v1"}
    path = folder / "account.json"
    path.write_text(json.dumps(account | {"token_uri": f"{service.url}/token"}), encoding="utf-8")
    return env | {
        "GOOGLE_CLOUD_PROJECT": "p",
        "GOOGLE_CLOUD_LOCATION": "l",
        "GOOGLE_APPLICATION_CREDENTIALS": str(path),
        "GOOGLE_VERTEX_BASE_URL": service.url,
        "STORAGE_EMULATOR_HOST": service.url,
    }


def tune(service, folder, *options, account=None, base="openai:gpt-4o-mini", yes=True):
    command = [
        AFTERTUNE,
        "tune-hosted",
        base,
        "train.jsonl",
        "-o",
        "out",
        *(["--yes"] if yes else []),
        *options,
    ]
    env = environment(service, folder, account)
    pipe = subprocess.PIPE
    client = subprocess.Popen(
        command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True
    )
    service.client = client
    _, said = client.communicate(timeout=120)
    return client.returncode, said


def state(folder):
    return json.loads((folder / "out" / "hosted.json").read_text())


def test_a_job_succeeds_and_its_folder_stands_for_the_model(folder):
    (folder / "held.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8"
    )
    with OpenAI(looks=1) as service:
        options = (
            "--validation",
            "held.jsonl",
            "--seed",
            "3",
            "--suffix",
            "mine",
            "--epochs",
            "2",
            "--batch-size",
            "4",
        )
        code, said = tune(service, folder, *options)
        assert code == 0, said
        (job,) = service.jobs.values()
        assert job["asked"]["method"]["supervised"]["hyperparameters"] == {
            "n_epochs": 2,
            "batch_size": 4,
        }
        assert (job["asked"]["seed"], job["asked"]["suffix"]) == (3, "mine")
        assert len(service.files) == 2
        assert "12 rows x 2 epochs" in said
        assert "USD" in said
        before = len(service.seen)
        code, said = tune(service, folder, *options)
        assert (code, len(service.seen)) == (0, before), "a finished job asks nobody"
    kept = state(folder)
    assert kept["reference"] == "openai:ft:gpt-4o-mini:org::abc"
    assert (kept["checkpoints"], kept["trained_tokens"]) == (
        ["openai:ft:x:org::abc:ckpt-step-3"],
        4321,
    )
    found = parse(str(folder / "out"))
    assert isinstance(found, Address)
    assert found.model == "ft:gpt-4o-mini:org::abc"
    assert KEY not in (folder / "out" / "hosted.json").read_text()


def moments(*steps, quick):
    """Every step before and after it was carried out; only the quick ones are no slow tests."""
    every = [(step, when) for step in steps for when in ("before", "after")]
    return [
        pytest.param(*one, marks=() if one in quick else pytest.mark.slow, id=" ".join(one))
        for one in every
    ]


@pytest.mark.parametrize(
    ("step", "when"),
    moments(
        "list files",
        "upload",
        "list jobs",
        "create",
        "look",
        quick=[("upload", "after"), ("create", "after")],
    ),
)
def test_killed_at_any_step_it_ends_with_one_job_and_one_upload(folder, step, when):
    with OpenAI(kill_at=(step, when)) as service:
        code, said = tune(service, folder)
        assert code == -signal.SIGKILL, said
        code, said = tune(service, folder)
        assert code == 0, said
        assert (len(service.files), len(service.jobs)) == (1, 1)
    assert state(folder)["step"] == "succeeded"


@pytest.mark.parametrize(("step", "when"), moments("upload", "create", quick=[("create", "after")]))
def test_a_reply_that_is_lost_is_looked_up_and_not_paid_for_again(folder, step, when):
    with OpenAI(fail_at=(step, when)) as service:
        code, said = tune(service, folder)
        if code:
            assert "run again to go on" in said
            code, said = tune(service, folder)
        assert code == 0, said
        assert (len(service.files), len(service.jobs)) == (1, 1)


def test_a_lost_folder_finds_its_job_again(folder):
    with OpenAI() as service:
        assert tune(service, folder)[0] == 0
        assert tune(service, folder, "--suffix", "another", "-o", "other")[0] == 0
        (folder / "out").rename(folder / "away")
        assert tune(service, folder)[0] == 0
        assert (len(service.files), len(service.jobs)) == (2, 2)


def test_a_failed_job_is_one_line_and_stays_failed(folder):
    with OpenAI(end="failed") as service:
        for _ in range(2):
            code, said = tune(service, folder)
            assert code == 1
            assert "the rows were refused" in said.splitlines()[-1]
        assert len(service.jobs) == 1
    with pytest.raises(ModelError, match="not finished"):
        parse(str(folder / "out"))


def test_nothing_is_sent_without_a_yes(folder):
    with OpenAI() as service:
        code, said = tune(service, folder, yes=False)
        assert (code, service.seen) == (1, [])
        assert "give --yes" in said
    assert not (folder / "out").exists()


def test_what_the_provider_would_refuse_is_not_sent(folder):
    with OpenAI() as service:
        for options, message in (
            (("--seed", "-1"), "--seed is -1"),
            (("--suffix", "x" * 65), "--suffix has 65"),
            (("--epochs", "0"), "--epochs is 0"),
        ):
            code, said = tune(service, folder, *options)
            assert code == 2
            assert message in said
            assert len(said.strip().splitlines()) == 1
        (folder / "train.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in ROWS[:9]), encoding="utf-8"
        )
        code, said = tune(service, folder)
        assert (code, service.seen) == (1, [])
        assert "9 rows" in said


def test_a_wrong_key_is_one_line_that_names_the_variable(folder, monkeypatch):
    with OpenAI() as service:
        monkeypatch.setattr("test_tune_hosted.KEY", "sk-wrong")
        code, said = tune(service, folder)
    assert code == 1
    assert "OPENAI_API_KEY" in said.splitlines()[-1]
    assert "sk-wrong" not in said


def test_a_job_can_be_cancelled(folder):
    with OpenAI(kill_at=("look", "after")) as service:
        assert tune(service, folder)[0] == -signal.SIGKILL
        code, said = tune(service, folder, "--cancel")
        assert code == 0, said
        assert service.jobs["ftjob-0"]["status"] == "cancelled"
        assert tune(service, folder)[0] == 1
        assert len(service.jobs) == 1


@pytest.mark.parametrize(
    ("step", "when"), moments("find", "upload", "create", "look", quick=[("create", "after")])
)
def test_vertex_ends_with_one_object_and_one_job(folder, service_account, step, when):
    options = ("--bucket", "gs://mine/tuning")
    with Vertex(kill_at=(step, when)) as service:
        code, said = tune(
            service, folder, *options, account=service_account, base="vertex:gemini-x"
        )
        assert code == -signal.SIGKILL, said
        code, said = tune(
            service, folder, *options, account=service_account, base="vertex:gemini-x"
        )
        assert code == 0, said
        assert (len(service.files), len(service.jobs)) == (1, 1)
        ((bucket, name),) = service.files
        assert (bucket, name.startswith("tuning/aftertune-")) == ("mine", True)
    assert state(folder)["reference"].endswith("/v1/projects/p/locations/l/endpoints/77#77")


def test_a_job_that_ends_without_a_model_has_failed(folder, service_account):
    with Vertex(end="partially_succeeded") as service:
        options = ("--bucket", "gs://mine/tuning")
        code, said = tune(
            service, folder, *options, account=service_account, base="vertex:gemini-x"
        )
    assert code == 1
    assert "no endpoint was made" in said
    assert (state(folder)["step"], state(folder)["reference"]) == ("failed", "")


def test_a_provider_gets_the_marks_that_it_reads_and_no_row_that_it_would_learn_against_them(
    folder, service_account
):
    asked = {"role": "user", "content": "Hi?"}
    answers = [{"role": "assistant", "content": text} for text in ("Unlearnt.", "Learnt.")]
    half = {"messages": [asked, {**answers[0], "weight": 0}, asked, {**answers[1], "weight": 1}]}
    none = {"messages": [asked, {**answers[0], "weight": 0}]}
    calling = {"messages": [asked, {"role": "assistant", "tool_calls": [{"id": "1"}]}]}
    (folder / "train.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in [*ROWS, half, none, calling]), encoding="utf-8"
    )
    with OpenAI() as service:
        code, said = tune(service, folder)
        assert code == 0, said
    assert f"{len(ROWS) + 1} rows x 3 epochs" in said
    assert "1 rows that call tools" in said
    assert "1 rows whose answers are marked as not to be learnt" in said
    (content,) = service.contents.values()
    rows = [json.loads(line)["messages"] for line in content.decode().splitlines()]
    weights = [[turn.get("weight") for turn in row] for row in rows if len(row) == 4]
    assert weights == [[None, 0, None, 1]]


def test_rows_about_the_exploitation_of_children_are_never_uploaded(folder):
    named = {"prompt": "Was this paedophile sentenced?", "completion": "Yes."}
    (folder / "train.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in [*ROWS, named]), encoding="utf-8"
    )
    with OpenAI() as service:
        code, said = tune(service, folder)
        assert code == 0, said
    assert "1 rows about the sexual exploitation of children" in said
    assert "12 rows x 3 epochs" in said
