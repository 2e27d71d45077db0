"""The steps of the GitHub Action (action.yml): the check, the comment on the pull request, the verdict.

Everything that a caller wrote comes as environment variables. Nothing but Python's own library is needed beside Aftertune.
"""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ONE = (
    "config", "margin", "task-margin", "over-refusal-margin", "over-refusal-task-margin", "max-asr", "judge-check",
    "verdict-by", "limit", "within", "scope", "max-new-tokens", "replicates",
)  # fmt: skip
"""Options of `aftertune check` with one value."""
MANY = ("prompts", "judge", "guard", "attack", "train", "score-margin", "also")
"""Options that may be repeated: an input has a line for each value."""
FLAGS = ("sequential",)
MEASURED = (0, 3, 4)
"""Exit codes of a check that came to a result."""
MESSAGES = {
    0: "PASS",
    1: "the check ended in an error",
    2: "the check's options could not be read",
    3: "FAIL: fine-tuning broke the model on a side that is checked",
    4: "NOT ENOUGH DATA: the check neither passes nor fails; ask more behaviors, or see the reasons in the job summary",
    5: "the check was stopped; run the job again to go on",
}
LONGEST = 60_000
"""Characters of a comment; GitHub takes 65,536."""
PER_PAGE = 100
BOT = "github-actions[bot]"
"""The author of what the job's own token writes."""


def given(name: str) -> str:
    """Return an input, empty where the caller wrote none."""
    return os.environ.get(f"INPUT_{name.upper().replace('-', '_')}", "").strip()


def lines(name: str) -> list[str]:
    """Return the lines of an input that are not empty."""
    return [line.strip() for line in given(name).splitlines() if line.strip()]


def options() -> Iterator[str]:
    """Yield the options of the check; a value stands behind ``=``, so that none is taken for an option."""
    yield from (f"--{name}={given(name)}" for name in ONE if given(name))
    yield from (f"--{name}={value}" for name in MANY for value in lines(name))
    yield from (f"--{name}" for name in FLAGS if given(name) == "true")


def check() -> int:
    """Run the check, write the outputs of the step and the Markdown of the summary; fails only where no summary is there.

    Raises:
        OSError: a file cannot be written.
    """
    out = Path(given("out")).absolute()
    out.mkdir(parents=True, exist_ok=True)
    junit, summary, result = out / "junit.xml", out / "summary.md", out / "result.json"
    for left in (summary, junit):  # of an earlier run, from a cache
        left.unlink(missing_ok=True)
    begun = time.time()
    command = [sys.executable, "-m", "aftertune", "check", *options()]
    command += [f"--out={out}", f"--junit={junit}", "--", given("base"), *lines("tuned")]
    code, last = followed(command)
    # A result of an earlier run, from a cache, is none of this one, nor is the page beside it.
    measured = code in MEASURED and result.is_file() and result.stat().st_mtime >= begun - 2
    if measured:
        export = [sys.executable, "-m", "aftertune", "export", "--to=markdown", f"--out={summary}"]
        followed([*export, "--", str(out)])
    if not summary.is_file():
        summary.write_text(f"## Aftertune: {MESSAGES.get(code, 'an error')}\n\n{block(last)}\n")
    outputs = {
        "exit-code": str(code),
        "out": str(out),
        "summary": str(summary),
    }
    if junit.is_file():
        outputs |= {"junit": str(junit)}
    if measured:
        page, answers = out / "report.html", out / "report-answers"
        outputs |= {"page": str(page), "answers": str(answers), "result": str(result)}
    with Path(os.environ["GITHUB_OUTPUT"]).open("a", encoding="utf-8") as stream:
        for name, value in outputs.items():
            end = uuid.uuid4().hex
            stream.write(f"{name}<<{end}\n{value}\n{end}\n")
    return 0


def followed(command: list[str]) -> tuple[int, str]:
    """Run a command whose lines are printed and never obeyed by the runner; return exit code and last line of errors."""
    token, last = uuid.uuid4().hex, ""
    print(f"::stop-commands::{token}", flush=True)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace") as process:
        assert process.stderr is not None
        for line in process.stderr:
            print(line, end="", flush=True)
            last = line.strip() or last
    print(f"::{token}::", flush=True)
    return process.returncode, last


def block(text: str) -> str:
    """Return a line as a block of code that holds no fence of its own."""
    return f"````text\n{text.replace('`', chr(39))}\n````"


def comment() -> int:
    """Write the summary as a comment on the pull request, or over the comment that an earlier run wrote."""
    number = pull_request()
    if number is None:
        print("no pull request, so no comment")
        return 0
    marker = marker_of(os.environ["CHECK_NAME"])
    run = "{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_ID}".format_map(
        {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_RUN_ID": ""} | dict(os.environ)
    )
    text = Path(os.environ["SUMMARY"]).read_text(encoding="utf-8")
    if len(text) > LONGEST:
        text = (
            f"{text[:LONGEST].partition('<details>')[0]}\n\n(shortened; the job summary has all)\n"
        )
    body = {
        "body": f"{marker}\n{text}\n[The page, with every figure and answer, is an artifact of this run.]({run})\n"
    }
    repository = f"/repos/{os.environ['GITHUB_REPOSITORY']}/issues"
    try:
        earlier = own_comment(f"{repository}/{number}/comments", marker)
        if earlier is None:
            request("POST", f"{repository}/{number}/comments", body)
        else:
            request("PATCH", f"{repository}/comments/{earlier}", body)
    except (OSError, ValueError) as error:
        # A pull request from a fork has a token that may only read.
        warn(f"no comment was written ({error}); the job needs the permission pull-requests: write")
        return 0
    print("the comment is written" if earlier is None else "the comment is renewed")
    return 0


def marker_of(name: str) -> str:
    """Return the HTML comment that marks the comment of a check; no name ends it, and two names have two markers."""
    text = json.dumps(name).replace("-", r"\u002d").replace(">", r"\u003e")
    return f"<!-- aftertune check: {text} -->"


def pull_request() -> int | None:
    """Return the number of the pull request that the event is about; None without one."""
    path = Path(os.environ.get("GITHUB_EVENT_PATH", ""))
    event: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if "pull_request" in event:
        return int(event["pull_request"]["number"])
    issue = event.get("issue") or {}
    return int(issue["number"]) if "pull_request" in issue else None


def own_comment(address: str, marker: str) -> int | None:
    """Return the id of the comment that an earlier run wrote; one of somebody else with the same beginning is none."""
    author = writer()
    page = 1
    while True:
        comments = request("GET", f"{address}?per_page={PER_PAGE}&page={page}")
        for entry in comments:
            # A comment of a deleted account has no user.
            login = (entry["user"] or {}).get("login")
            if login == author and (entry["body"] or "").startswith(marker):
                return int(entry["id"])
        if len(comments) < PER_PAGE:
            return None
        page += 1


def writer() -> str:
    """Return the name under which the token writes; the tokens of the job and of an App may not ask for it."""
    if name := given("author"):
        return name
    try:
        return str(request("GET", "/user")["login"])
    except urllib.error.HTTPError:
        return BOT


def request(method: str, address: str, body: dict[str, str] | None = None) -> Any:
    """Call GitHub's REST API and return what it answers.

    Raises:
        OSError: it cannot be reached, or refuses.
        ValueError: it answers no JSON.
    """
    api = os.environ.get("GITHUB_API_URL", "https://api.github.com")
    data = None if body is None else json.dumps(body).encode()
    headers = {
        "Accept": "application/vnd.github+json",
        "Authorization": f"Bearer {os.environ['GITHUB_TOKEN']}",
        "User-Agent": "aftertune",
        "X-GitHub-Api-Version": "2022-11-28",
        **({} if data is None else {"Content-Type": "application/json"}),
    }
    call = urllib.request.Request(f"{api}{address}", data, headers, method=method)  # noqa: S310  # GitHub's own address
    with urllib.request.urlopen(call, timeout=30) as answer:  # noqa: S310
        return json.load(answer)


def verdict() -> int:
    """Say the verdict where the job's reader looks, and end the job by it."""
    code = int(os.environ["EXIT_CODE"])
    message = MESSAGES.get(code, f"the check ended with exit code {code}")
    if code == 4 and os.environ["FAIL_ON_NOT_ENOUGH_DATA"] != "true":
        warn(message)
        return 0
    if code:
        print(f"::error title=Aftertune::{message}")
    else:
        print(message)
    return code


def warn(message: str) -> None:
    """Print a warning that GitHub shows on the job's page."""
    escaped = message.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    print(f"::warning title=Aftertune::{escaped}")


if __name__ == "__main__":
    sys.exit({"check": check, "comment": comment, "verdict": verdict}[sys.argv[1]]())
