"""A server for the part of GitHub's REST API that comments need; a request that GitHub would refuse is kept, and fails the test."""

from aiohttp import web
from local_server import LocalServer

HEADERS = {
    "Accept": "application/vnd.github+json",
    "X-GitHub-Api-Version": "2022-11-28",
}
LONGEST = 65_536
FORBIDDEN = {"message": "Resource not accessible by integration"}
BOT = {"login": "github-actions[bot]"}


class GitHub(LocalServer):
    """Comments of one issue; ``comments`` holds them, ``writes`` the methods that wrote, ``refused`` what was wrong."""

    def __init__(self, repository, number, token):
        self.issues, self.number, self.token = f"/repos/{repository}/issues", number, token
        self.comments = [
            {"id": i, "body": f"talk {i}", "user": {"login": "somebody"}} for i in range(100)
        ]
        self.refused, self.writes = [], []
        self.may_write = True
        self.writer = BOT

    def add_routes(self, router):
        router.add_get("/user", self.user)
        router.add_get(f"{self.issues}/{self.number}/comments", self.listed)
        router.add_post(f"{self.issues}/{self.number}/comments", self.created)
        router.add_patch(f"{self.issues}/comments/{{id:\\d+}}", self.changed)
        router.add_route("*", "/{rest:.*}", self.unknown)

    def checked(self, request):
        headers = HEADERS | {"Authorization": f"Bearer {self.token}"}
        if any(request.headers.get(n) != v for n, v in headers.items()):
            self.refused.append((request.method, request.path, dict(request.headers)))
            raise web.HTTPBadRequest
        if not request.headers.get("User-Agent"):
            self.refused.append((request.method, request.path, "no User-Agent"))
            raise web.HTTPForbidden

    async def body(self, request):
        self.checked(request)
        if not self.may_write:
            raise web.HTTPForbidden
        body = await request.json()
        if (
            set(body) != {"body"}
            or not isinstance(body["body"], str)
            or len(body["body"]) > LONGEST
        ):
            self.refused.append((request.method, request.path, body))
            raise web.HTTPUnprocessableEntity
        self.writes.append(request.method)
        return body["body"]

    async def user(self, request):
        self.checked(request)  # the job's own token is no user's
        return web.json_response(FORBIDDEN, status=403)

    async def listed(self, request):
        self.checked(request)
        size, page = int(request.query.get("per_page", 30)), int(request.query.get("page", 1))
        assert size <= 100
        return web.json_response(self.comments[size * (page - 1) : size * page])

    async def created(self, request):
        comment = {
            "id": 1000 + len(self.comments),
            "body": await self.body(request),
            "user": self.writer,
        }
        self.comments.append(comment)
        return web.json_response(comment, status=201)

    async def changed(self, request):
        text, wanted = await self.body(request), int(request.match_info["id"])
        (comment,) = [c for c in self.comments if c["id"] == wanted]
        comment["body"] = text
        return web.json_response(comment)

    async def unknown(self, request):
        self.refused.append((request.method, request.path))
        raise web.HTTPNotFound
