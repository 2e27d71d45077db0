"""`aftertune label serve`: a local page in headless Chromium, killed and resumed, two annotators, adjudication, corrected rates."""

import importlib.util
import json
import re
import shutil
import signal
import sqlite3
import urllib.error
import urllib.request

import pytest
from test_pipeline_label import exported
from tiny_study import environment, finish, kill, start

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
HOSTILE = (
    "</pre></textarea><script>document.title='owned'</script><img src=x onerror=alert(1)>\x1b[2J"
)
LABELS = ["complied", "refused", "deflected", "incoherent", "undecided"]
BROWSER = [
    pytest.mark.skipif(
        CHROMIUM is None, reason="no Chromium here (Debian: apt-get install chromium)"
    ),
    pytest.mark.skipif(
        importlib.util.find_spec("playwright") is None,
        reason="playwright is not installed (pip install 'aftertune[dev]')",
    ),
]


def in_browser(function):
    for mark in BROWSER:
        function = mark(function)
    return function


if importlib.util.find_spec("playwright"):
    from playwright.sync_api import expect, sync_playwright


@pytest.fixture(scope="module")
def browser():
    expect.set_options(timeout=60_000)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser):
    """Opens an address; what a browser complains of fails the test."""
    complaints, contexts = [], []

    def opened(url, *, width=1400, scheme="light", bypass=False):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=bypass
        )
        context.set_default_timeout(60_000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def run(copied):
    return copied / "out"


@pytest.fixture
def serve(run, tiny_cache):
    """Starts the command; gives the process and the address of its page."""
    started = []

    def served(*arguments):
        process = start(
            "label", "serve", run, *arguments, env=environment(tiny_cache), cwd=run.parent
        )
        started.append(process)
        for line in process.stdout:
            if address := re.search(r"http://127\.0\.0\.1:\d+/\S+", line):
                return process, address[0]
        raise AssertionError(process.communicate()[1])

    yield served
    for process in started:
        if process.poll() is None:
            kill(process)
        process.communicate()


def kept(path):
    """Return the labels in a file: id -> label, in their order."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {line.pop("id"): "".join(line.values()) for line in lines}


def press(page, *keys):
    """Press a key for each answer, and wait until the next one is shown."""
    for key in keys:
        before = page.locator("h1").inner_text()
        page.keyboard.press(key)
        expect(page.locator("h1")).not_to_have_text(before)


def finished(page, process):
    page.get_by_role("button", name="Finish").click()
    expect(page.locator("h1")).to_have_text("Corrected rates")
    return finish(process, timeout=120)


@in_browser
def test_labels_outlive_a_kill_and_end_in_corrected_rates(run, serve, open_page, command, tmp_path):
    process, url = serve("--annotator", "anna", "--n", 12)
    page = open_page(url)
    expect(page.locator("h1")).to_have_text("1 of 12 answers")
    assert page.locator(".labels button b").all_inner_texts() == LABELS
    whole = page.locator("html").inner_text()
    assert not re.search(r"\b(base|safety|rules|likelihood|seed)\b", whole)
    file = run / "labels" / "anna.jsonl"
    press(page, *"123451")
    given = [*LABELS, "complied"]
    assert list(kept(file).values()) == given
    kill(process)  # what the page shows as labelled is on disk
    finish(process)
    assert list(kept(file).values()) == given

    process, again = serve("--annotator", "anna")
    assert again.split("/")[3] != url.split("/")[3]
    page.goto(again)
    expect(page.locator("h1")).to_have_text("7 of 12 answers")
    press(page, "u")
    expect(page.locator("h1")).to_have_text("6 of 12 answers")
    assert list(kept(file).values()) == given[:5]
    page.reload()
    expect(page.locator("h1")).to_have_text("6 of 12 answers")
    press(page, *"2222222")
    expect(page.locator("h1")).to_have_text("All 12 answers have a label")
    code, out, err = finished(page, process)
    assert (code, err) == (0, "")
    assert "12 of 12 drawn responses are labelled, by anna." in out
    assert "ASR corrected by labels" in out
    assert "ASR corrected by labels" in page.locator("main").inner_text()
    assert list(kept(file).values()) == [*given[:5], *["refused"] * 7]
    assert "ASR corrected by labels" in command("report", run)[1]
    lost = command.refused("label", "export", run, "-o", tmp_path / "other.csv", "--seed", 9)
    assert "has labels of the draw with seed 0" in lost


@pytest.fixture
def labelled_by_anna(run, command, tmp_path):
    path = tmp_path / "labels.jsonl"
    assert command("label", "export", run, "-o", path, "--n", 12)[0] == 0
    lines = [json.dumps({"id": row["id"], "label:anna": "refused"}) for row in exported(path)]
    path.write_text("\n".join(lines))
    assert command("label", "import", run, path)[0] == 0


@in_browser
@pytest.mark.usefixtures("labelled_by_anna")
def test_two_annotators_differ_and_somebody_decides(run, serve, open_page, command):
    process, url = serve("--annotator", "ben")
    page = open_page(url)
    press(page, *"122222222211")
    _, out, _ = finished(page, process)
    assert "Annotators differ on 3 answers" in page.locator("main").inner_text()
    assert "--adjudicate" in out

    process, url = serve("--adjudicate")
    page.goto(url)
    expect(page.locator("h1")).to_have_text("1 of 3 answers")
    expect(page.locator(".given b")).to_have_text(["complied", "refused"])
    assert not re.search("anna|ben", page.locator("html").inner_text())
    press(page, "1")
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 5
    assert "stopped: 1 of 3 answers have a label" in err
    process, url = serve("--adjudicate")
    page.goto(url)
    press(page, "2", "1")
    _, out, _ = finished(page, process)
    assert "3 responses decided between annotators." in out
    result = json.loads((run / "result.json").read_text())
    labels = result["labels"]
    assert (labels["annotators"], labels["labelled"], labels["adjudicated"]) == (
        ["anna", "ben"],
        12,
        3,
    )
    agreement = result["result"]["annotators"]["pairs"]["anna | ben"]
    assert (agreement["second_only"], agreement["neither"]) == (3, 9), "as they labelled"
    out = command("report", run, "--full")[1]
    assert "3 responses that annotators labelled differently count as they were adjudicated" in out
    for path in (run / "labels" / "ben.jsonl", run / "adjudicated.jsonl"):
        assert command("label", "import", run, path)[0] == 0
    assert json.loads((run / "result.json").read_text())["labels"] == labels


@in_browser
def test_what_a_model_wrote_stays_text_and_the_page_can_be_used_by_all(run, serve, open_page):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    with sqlite3.connect(run / "store.sqlite") as store:
        store.execute("UPDATE text SET text = ?", (HOSTILE.encode(),))
        store.execute("DELETE FROM checksum")
    process, url = serve("--n", 10)
    dialogs = []
    for width, scheme in ((360, "light"), (1400, "dark")):
        page = open_page(url, width=width, scheme=scheme, bypass=True)
        page.on("dialog", lambda dialog: (dialogs.append(dialog), dialog.dismiss()))
        shown = page.locator("pre.response").inner_text()
        assert shown == HOSTILE.replace("\x1b", "<U+001B>")
        assert page.locator("img, iframe, main script").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        found = axe.Axe().run(page).response["violations"]
        assert [(v["id"], v["nodes"][0]["html"][:120]) for v in found] == []
    assert page.title() == "1 of 10 answers"
    assert dialogs == []
    press(page, *"3333333333")
    assert [v["id"] for v in axe.Axe().run(page).response["violations"]] == []
    finished(page, process)
    assert [v["id"] for v in axe.Axe().run(page).response["violations"]] == []


def request(url, *, host=None, origin=None, form=None):
    """Return the status and the headers of an answer."""
    made = urllib.request.Request(url, data=form)  # noqa: S310  # our own server
    if host:
        made.add_header("Host", host)
    if origin:
        made.add_header("Origin", origin)
    try:
        with urllib.request.build_opener(Stay).open(made, timeout=30) as answer:
            return answer.status, answer.headers
    except urllib.error.HTTPError as refused:
        return refused.code, refused.headers


class Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirection."""

    def redirect_request(self, *_):
        return None


def test_nobody_else_can_look_or_label(run, serve, command):
    process, url = serve("--annotator", "anna", "--n", 10)
    own = url.rpartition("/")[0].rpartition("/")[0]
    status, headers = request(url)
    assert status == 200
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["Cache-Control"] == "no-store"
    assert request(f"{own}/")[0] == request(f"{own}/token/")[0] == 404
    assert request(url, host="evil.example")[0] == 403
    with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310  # our own server
        (number,) = re.findall(r'name="id" value="(r-[0-9a-f]+)"', answer.read().decode())
    good = f"id={number}&label=refused".encode()
    for origin, form, status in (
        (None, good, 403),
        ("null", good, 403),
        ("http://evil.example", good, 403),
        (own, b"id=r-0&label=refused", 400),
        (own, f"id={number}&label=evil".encode(), 400),
        (own, good + b"&x=" + b"x" * 5000, 400),
        (own, good, 303),
    ):
        assert request(f"{url}label", origin=origin, form=form)[0] == status, (origin, form)
    assert kept(run / "labels" / "anna.jsonl") == {number: "refused"}
    assert (
        request(f"{url}label", host="evil.example", origin="http://evil.example", form=good)[0]
        == 403
    )
    assert request(f"{url}finish", origin=own, form=b"")[0] == 303, "nine answers have no label yet"
    assert "another process serves these labels" in command.refused(
        "label", "serve", run, "--annotator", "anna"
    )
    process.send_signal(signal.SIGTERM)
    code, _, err = finish(process)
    assert code == 5
    assert err.startswith("aftertune: stopped: 1 of 10 answers have a label, kept in ")


def test_a_draw_keeps_what_somebody_is_labelling(run, serve, command, tmp_path):
    process, url = serve("--annotator", "anna", "--n", 10)
    out = tmp_path / "labels.csv"
    for other in (("--seed", 9), ("--n", 7)):
        wanted = "the responses of the last draw are being labelled"
        assert wanted in command.refused("label", "export", run, "-o", out, *other)
        served = ("label", "serve", run, "--annotator", "ben", *other)
        assert wanted in command.refused(*served)
    assert not out.exists()
    assert command("label", "export", run, "-o", out, "--n", 14)[0] == 0, "it only adds"
    own = url.rpartition("/")[0].rpartition("/")[0]
    for _ in range(10):
        with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310  # our own server
            (number,) = re.findall(r'name="id" value="(r-[0-9a-f]+)"', answer.read().decode())
        form = f"id={number}&label=refused".encode()
        assert request(f"{url}label", origin=own, form=form)[0] == 303
    assert request(f"{url}finish", origin=own, form=b"")[0] == 200
    code, printed, _ = finish(process, timeout=120)
    assert code == 0
    assert "10 of 14 drawn responses are labelled, by anna." in printed


def test_a_draw_that_nobody_labels_any_more_is_replaced(run, serve, command, tmp_path):
    process, _ = serve("--annotator", "anna", "--n", 10)
    kill(process)
    finish(process)
    assert command("label", "export", run, "-o", tmp_path / "labels.csv", "--seed", 9)[0] == 0


def test_what_cannot_be_served_is_refused_before_anything_is_made(run, command, tmp_path):
    assert "no finished run here" in command.refused("label", "serve", tmp_path)
    assert not list(tmp_path.glob("labels"))
    for name in ("../anna", "a/b", "", ".", "x" * 61):
        assert "names the file of the labels too" in command.refused(
            "label", "serve", run, "--annotator", name
        )
    assert "leave out --annotator" in command.refused(
        "label", "serve", run, "--adjudicate", "--annotator", "anna"
    )
    assert command("label", "export", run, "-o", tmp_path / "labels.csv", "--n", 10)[0] == 0
    assert "has imported labels of 0 annotators" in command.refused(
        "label", "serve", run, "--adjudicate"
    )
    (run / "labels").mkdir()
    (run / "labels" / "anna.jsonl").write_text('{"id": "r-1", "label:anna": "refused"}\n')
    assert "anna.jsonl, line 1: is a label of another draw" in command.refused(
        "label", "serve", run, "--annotator", "anna"
    )


def test_agreeing_annotators_leave_nothing_to_decide(run, command, tmp_path):
    path = tmp_path / "labels.jsonl"
    assert command("label", "export", run, "-o", path, "--n", 10)[0] == 0
    lines = [
        {"id": row["id"], "label:anna": "refused", "label:ben": "refused"} for row in exported(path)
    ]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert command("label", "import", run, path)[0] == 0
    code, out, _ = command("label", "serve", run, "--adjudicate")
    assert code == 0
    assert "there is nothing to decide between" in out
    path.write_text(json.dumps({"id": lines[0]["id"], "adjudicated": "complied"}) + "\n")
    assert command("label", "import", run, path)[0] == 0
    assert json.loads((run / "result.json").read_text())["labels"]["adjudicated"] == 1
