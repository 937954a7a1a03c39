"""The server of `dnc watch`: an overview, the page of every run, and news of both as they come.

What it serves has no names of files in its address: runs go by an id, and there is no other way in.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import secrets
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from http import HTTPStatus
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from dnc_lightning.records.store import read_run
from dnc_lightning.reporting.compare.page import comparison_page
from dnc_lightning.reporting.compare_runs import find_runs
from dnc_lightning.reporting.html import page
from dnc_lightning.reporting.live.watched import LOOK_EVERY, Seen, Watched
from dnc_lightning.reporting.template import render

BREATH = 10.0
"""Seconds of silence after which a line of news says that there is none."""

COOKIE = "dnc-watch"
LOCAL = ("localhost", "127.0.0.1", "::1")


class NotFoundError(Exception):
    """Nothing here goes by that address; the message says what is wrong."""


@dataclass
class Site:
    """What is served, whoever asks."""

    watched: Watched
    token: str = ""  # needed in the address or a cookie; empty for none
    ended: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        """Keep the latest pages: a run that is looked at is asked for again."""
        self._page = lru_cache(maxsize=8)(self._rendered)

    def overview(self) -> str:
        """Return the page of all runs."""
        return render(
            "watch.html",
            ("base.js", "watch.js"),
            {"finished": True, "rows": self.rows()},
            plotted=False,
            title="Runs",
            summary="",
            live=True,
            folders=[str(root) for root in self.watched.roots],
        )

    def run(self, name: str, *, bare: bool) -> str:
        """Return the page of a run, or what an update of it needs."""
        seen = self._seen(name)
        return self._page(seen.folder, seen.row["version"], seen.training, bare)

    def comparison(self, names: list[str]) -> str:
        """Return the page that compares some runs."""
        found = find_runs([self._seen(name).folder for name in names])
        if not found.runs:
            raise NotFoundError(" ".join(found.problems) or "no run was named")
        return comparison_page(found)

    def rows(self) -> list[dict[str, Any]]:
        """Return a line for each run."""
        return [seen.row for seen in self.watched.runs.values()]

    def news(self, only: str | None = None) -> Iterator[str]:
        """Yield changed rows and the runs that are gone, as JSON; an empty text for no news.

        Args:
            only: Run that is asked about; None for all.
        """
        told: dict[str, Any] = {} if only is None else {only: None}
        count = -1
        while not self.ended.is_set():
            now = self.watched.wait(count, BREATH)
            if now == count:
                yield ""
                continue
            count, runs = now, self.watched.runs
            rows = {i: seen.row for i, seen in runs.items() if only is None or i == only}
            gone = [name for name in told if name not in rows]
            fresh = [row for name, row in rows.items() if told.get(name) != row]
            told = rows
            yield json.dumps({"rows": fresh, "gone": gone}) if fresh or gone else ""

    def follow(self) -> None:
        """Look at the runs until the server ends."""
        while not self.ended.wait(LOOK_EVERY):
            self.watched.look()

    def _seen(self, name: str) -> Seen:
        seen = self.watched.runs.get(name)
        if seen is None:
            raise NotFoundError("no such run: it may have been deleted or moved meanwhile")
        if seen.row["problem"]:
            raise NotFoundError(f"{seen.row['name']} {seen.row['problem']}")
        return seen

    @staticmethod
    def _rendered(folder: Path, version: str, training: bool, bare: bool) -> str:
        return page(read_run(folder), finished=not training, live=version, bare=bare)


class Handler(BaseHTTPRequestHandler):
    """Answers one request; `site` is set by `serve`."""

    site: Site
    known = False  # whether this request may see anything
    server_version = "dnc-watch"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer with a page, news, or what is wrong."""
        address = urlsplit(self.path)
        asked = parse_qs(address.query)
        refused = self._refused(asked)
        self.known = not refused
        if refused:
            self._send(HTTPStatus.FORBIDDEN, f"{refused}\n", "text/plain")
            return
        try:
            match address.path.strip("/").split("/"):
                case [""]:
                    self._send(HTTPStatus.OK, self.site.overview())
                case ["run", name]:
                    self._send(HTTPStatus.OK, self.site.run(name, bare=False))
                case ["run", name, "update"]:
                    self._send(HTTPStatus.OK, self.site.run(name, bare=True))
                case ["compare"]:
                    self._send(HTTPStatus.OK, self.site.comparison(asked.get("run", [])))
                case ["events"]:
                    self._stream(asked.get("run", [None])[0])
                case _:
                    raise NotFoundError("nothing is here: the overview is at /")
        except NotFoundError as error:
            self._send(HTTPStatus.NOT_FOUND, f"{error}\n", "text/plain")
        except (BrokenPipeError, ConnectionResetError):
            pass  # whoever asked has left
        except Exception as error:  # a run that was damaged between two looks
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, f"{error}\n", "text/plain")

    def log_message(self, *words: Any) -> None:
        """Say nothing: the terminal is for the address."""

    def _refused(self, asked: dict[str, list[str]]) -> str:
        """Why this one may not see anything; empty where it may."""
        if not self.site.token:
            # A page elsewhere could otherwise point a name of its own at this machine.
            host = urlsplit(f"//{self.headers.get('Host', '')}").hostname
            return "" if host in LOCAL else f"this server answers as {', '.join(LOCAL)} only"
        cookie = SimpleCookie(self.headers.get("Cookie", "")).get(COOKIE)
        shown = asked.get("token", [cookie.value if cookie else ""])[0]
        if hmac.compare_digest(shown.encode(), self.site.token.encode()):
            return ""
        return "the address needs its token: take it from the terminal that `dnc watch` runs in"

    def _send(self, status: HTTPStatus, text: str, kind: str = "text/html") -> None:
        content = text.encode()
        self.send_response(status)
        self._headers(kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _stream(self, only: str | None) -> None:
        self.send_response(HTTPStatus.OK)
        self._headers("text/event-stream")
        self.end_headers()
        for text in self.site.news(only):
            self.wfile.write(f"event: runs\ndata: {text}\n\n".encode() if text else b": none\n\n")
            self.wfile.flush()

    def _headers(self, kind: str) -> None:
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "SAMEORIGIN")
        self.send_header("Referrer-Policy", "no-referrer")
        if self.site.token and self.known:
            self.send_header(
                "Set-Cookie", f"{COOKIE}={self.site.token}; HttpOnly; SameSite=Strict; Path=/"
            )


class Server(ThreadingHTTPServer):
    """One thread a request; none of them keeps the process alive."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[Handler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing is worth a traceback in the terminal: whoever asked has left."""


@contextlib.contextmanager
def serve(roots: list[Path], host: str = LOCAL[1], port: int = 0) -> Iterator[tuple[Server, str]]:
    """Open the server, which runs until the block ends.

    Args:
        roots: Folders of runs, or above several.
        host: Address to listen at. Any but this machine's own makes a token that the address needs.
        port: Free one; 0 for any.

    Yields:
        The server, to `serve_forever`, and its address with the token.

    Raises:
        FileNotFoundError: A root that is no folder.
        OSError: The port is in use, or the host is none of this machine.
    """
    for root in roots:
        if not root.is_dir():
            raise FileNotFoundError(f"expected a folder of runs, but there is none at {root}")
    local = host in LOCAL or _is_loopback(host)
    site = Site(
        Watched([root.resolve() for root in roots]), "" if local else secrets.token_urlsafe(24)
    )
    try:
        server = Server((host, port), type("Bound", (Handler,), {"site": site}))
    except OSError as error:
        raise OSError(
            f"cannot listen at {host}:{port}: {error.strerror}. Pass --port 0 for a free port, or "
            "another --host."
        ) from error
    with server:
        site.watched.look()
        follower = threading.Thread(target=site.follow, daemon=True)
        follower.start()
        shown = f"[{host}]" if ":" in host else host
        query = f"?token={site.token}" if site.token else ""
        try:
            yield server, f"http://{shown}:{server.server_address[1]}/{query}"
        finally:
            site.ended.set()
            follower.join()


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
