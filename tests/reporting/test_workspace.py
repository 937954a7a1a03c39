"""Saving a W&B workspace, against a server on this machine that answers like W&B's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

VIEWER = {"id": "u", "entity": "e", "username": "e", "email": "", "flags": "{}"}
VIEWER |= {"teams": {"edges": []}}
SAVED = {"view": {"id": "v", "name": "nw-abc-v"}, "inserted": True}


class Answers(BaseHTTPRequestHandler):
    """GraphQL, as far as a client that saves a view asks."""

    saved: list[dict[str, Any]]  # variables of the mutations, set by the server's fixture

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        asked = json.loads(sent) if self.path == "/graphql" else {"query": ""}
        if "upsertView" in asked["query"]:
            self.saved.append(asked["variables"])
        answer = json.dumps({"data": {"viewer": VIEWER, "upsertView": SAVED}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *words: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    Answers.saved = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_workspace_is_saved_with_its_sections(
    server: ThreadingHTTPServer, tmp_path: Path
) -> None:
    pytest.importorskip("wandb_workspaces")
    address = f"http://127.0.0.1:{server.server_port}"
    login = {"WANDB_BASE_URL": address, "WANDB_API_KEY": "0" * 40, "WANDB_MODE": "online"}
    here = {"HOME": str(tmp_path), "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    words = ["wandb-workspace", "--project", "p", "--entity", "e"]
    words += ["--task", "colour", "--task", "shape"]
    done = subprocess.run(
        [sys.executable, "-m", "dnc_lightning.cli", *words],
        env={**os.environ, **login, **here},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.strip() == f"{address}/e/p?nw=abc"
    (view,) = Answers.saved
    assert (view["entityName"], view["projectName"]) == ("e", "p")
    sections = json.loads(view["spec"])["section"]["panelBankConfig"]["sections"]
    panels = {s["name"]: [p["config"].get("metrics") for p in s["panels"]] for s in sections}
    assert panels["Decision-axis collapse"] == [
        [f"probe/{task}/{metric}" for metric in ("directional_cdnv", "cdnv")]
        for task in ("colour", "shape")
    ]
