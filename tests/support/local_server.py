"""A web server for tests, in a thread of its own on a real socket."""

import asyncio
import threading
import weakref

from aiohttp import web


async def _all_closed(transports):
    """Leave no socket open: a busy client may not have taken what was written to it, or its connection not be taken yet."""
    for transport in list(transports):
        transport.abort()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0.01)  # a transport closes its socket in the loop's next round


class LocalServer:
    """A context manager: ``with Server() as server: server.root``."""

    port = 0
    """The port to listen at; 0 takes a free one."""

    def __enter__(self):
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)), daemon=True)
        self._thread.start()
        assert ready.wait(10)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _serve(self, ready):
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        transports = weakref.WeakSet()

        @web.middleware
        async def remember(request, handler):
            transports.add(request.transport)
            return await handler(request)

        app = web.Application(client_max_size=2**28, middlewares=[remember])
        self.add_routes(app.router)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port)
        await site.start()
        self.root = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
        ready.set()
        await self._stop.wait()
        await runner.cleanup()
        await _all_closed(transports)

    def add_routes(self, router):
        """Say what is served."""
        raise NotImplementedError
