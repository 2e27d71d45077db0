"""The server of a labelling session: a page on this machine alone, behind a random token.

It listens on the loopback interface and answers only requests that name it as their host, so that a name of the internet
that is made to lead here reaches nothing; a label is taken only from its own page.
"""

import re
import secrets
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import cast
from urllib.parse import parse_qs

from aftertune.core.records import Intent
from aftertune.errors import AftertuneError
from aftertune.labels.draw import MEANINGS, DrawnItem, question
from aftertune.labels.files import LABEL_VALUES
from aftertune.labels.session import Session
from aftertune.report.label_page import (
    Conclusion,
    Labelling,
    Progress,
    conclusion_page,
    finish_page,
    label_policy,
    labelling_page,
)
from aftertune.score.rubric import shipped_rubric

LOOPBACK = "127.0.0.1"
LENGTH = re.compile(r"[0-9]{1,3}")
"""The length in bytes of a form that is taken."""
FORM = "application/x-www-form-urlencoded"
SILENCE = 30.0
"""Seconds after which a connection that says nothing is closed."""
LAST_PAGE = 10.0
"""Seconds that the last page has to reach its browser."""
HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Pages of others must not learn the token; forms of this page must name their origin.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


class LabelServer(ThreadingHTTPServer):
    """Serves a session until its labeller finishes."""

    daemon_threads = True

    def __init__(self, session: Session) -> None:
        self.session = session
        self.token = secrets.token_urlsafe(16)
        self.finishing = Event()
        """Set once the labeller has finished."""
        self.conclusion: Future[Conclusion] = Future()
        self.shown = Event()
        """Set once the last page has left."""
        super().__init__((LOOPBACK, 0), LabelHandler)

    @property
    def hosts(self) -> tuple[str, str]:
        """The hosts by which a request may call this server."""
        return f"{LOOPBACK}:{self.server_port}", f"localhost:{self.server_port}"

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://{self.hosts[0]}/{self.token}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """Be silent about connections that their browser closed."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # as it came

    def conclude(self, conclusion: Conclusion) -> None:
        """Show the last page, and return when it has left, or its browser does not take it."""
        self.conclusion.set_result(conclusion)
        self.shown.wait(LAST_PAGE)


@contextmanager
def serving(session: Session) -> Iterator[LabelServer]:
    """Serve a session while the block lasts."""
    with LabelServer(session) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            session.close()
            thread.join()


class LabelHandler(BaseHTTPRequestHandler):
    """Answers one request."""

    timeout = SILENCE
    server_version, sys_version = "aftertune", ""

    @property
    def _own(self) -> LabelServer:
        return cast(LabelServer, self.server)

    def do_GET(self) -> None:
        """Show what comes next: an answer, or the end."""
        if not self._host_is_own():
            return
        if self.path == f"/{self._own.token}/":
            self._send(HTTPStatus.OK, self._page())
        else:
            self._refuse(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        """Keep a label, take one back, or finish."""
        if not self._host_is_own():
            return
        actions = {
            f"/{self._own.token}/label": self._label,
            f"/{self._own.token}/undo": self._undo,
            f"/{self._own.token}/finish": self._finish,
        }
        if self.headers.get("Origin") not in {f"http://{host}" for host in self._own.hosts}:
            self._refuse(HTTPStatus.FORBIDDEN)
        elif self.path not in actions:
            self._refuse(HTTPStatus.NOT_FOUND)
        else:
            actions[self.path]()

    def _label(self) -> None:
        form = self._form()
        value, number = LABEL_VALUES.get(form.get("label", "")), form.get("id", "")
        if value is None:
            self._refuse(HTTPStatus.BAD_REQUEST)
            return
        try:
            self._own.session.label(number, value)
        except KeyError:
            self._refuse(HTTPStatus.BAD_REQUEST)
        except AftertuneError as error:
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, self._page(str(error)))
        else:
            self._go_on()

    def _undo(self) -> None:
        try:
            self._own.session.undo()
        except AftertuneError as error:
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, self._page(str(error)))
        else:
            self._go_on()

    def _finish(self) -> None:
        if not self._own.session.finished:
            self._go_on()
            return
        self._own.finishing.set()
        conclusion = self._own.conclusion.result()
        self._send(HTTPStatus.OK, conclusion_page(conclusion))
        self._own.shown.set()

    def _page(self, problem: str = "") -> str:
        session = self._own.session
        item = session.next()
        progress = Progress(done=session.done, total=session.total, undoable=session.undoable)
        if item is None:
            return finish_page(progress, problem)
        return labelling_page(_labelling(item, session), progress, problem)

    def _host_is_own(self) -> bool:
        if self.headers.get("Host") in self._own.hosts:
            return True
        self._refuse(HTTPStatus.FORBIDDEN)
        return False

    def _form(self) -> dict[str, str]:
        """Return the fields of the form that was sent; empty where it is none, or too large."""
        length = self.headers.get("Content-Length", "")
        if self.headers.get_content_type() != FORM or not LENGTH.fullmatch(length):
            return {}
        fields = parse_qs(self.rfile.read(int(length)).decode("ascii", errors="replace"))
        return {name: values[0] for name, values in fields.items()}

    def _go_on(self) -> None:
        self.send_response(HTTPStatus.SEE_OTHER)
        self.send_header("Location", f"/{self._own.token}/")
        self._end_headers()

    def _refuse(self, status: HTTPStatus) -> None:
        self._send(status, f"{status.value} {status.phrase}\n", "text/plain; charset=utf-8")

    def _send(
        self, status: HTTPStatus, content: str, kind: str = "text/html; charset=utf-8"
    ) -> None:
        body = content.encode(errors="backslashreplace")
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self._end_headers()
        with suppress(ConnectionError):
            self.wfile.write(body)

    def _end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Security-Policy", label_policy())
        with suppress(ConnectionError):
            self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Print nothing: an address holds the token."""


def _labelling(item: DrawnItem, session: Session) -> Labelling:
    intent, task = item.prompt.intent, item.prompt.task
    return Labelling(
        id=item.id,
        task=task,
        prompt=item.prompt.text,
        response=item.response,
        question=question(task, intent),
        meanings=MEANINGS[intent],
        # To a harmless prompt the question is whether it was refused, which no rubric of a task says.
        rubric=shipped_rubric(task) if intent is Intent.HARMFUL else "",
        given=session.work.given.get(item.id, ()),
    )
