"""The API of a lab's daemon, as a client on the director meets it."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families


class Api:
    """The API, over its Unix socket."""

    def __init__(self, lab):
        self.path = Path("/run/markway/netns") / lab.director.namespace / "api.sock"

    def connection(self):
        made = http.client.HTTPConnection("markway", timeout=20)
        made.sock = socket.socket(socket.AF_UNIX)
        made.sock.settimeout(20)
        made.sock.connect(str(self.path))
        return made

    def ask(self, method, path, body=None, headers=None, code=200):
        made = self.connection()
        text = body if body is None or isinstance(body, str) else json.dumps(body)
        made.request(method, path, text, headers or {"Content-Type": "application/json"})
        answer = made.getresponse()
        read = answer.read().decode()
        made.close()
        assert answer.status == code, read
        return json.loads(read) if answer.headers["Content-Type"] == "application/json" else read

    def get(self, path, **how):
        return self.ask("GET", path, **how)

    def post(self, path, body=None, **how):
        return self.ask("POST", path, body, **how)


def figures(api):
    """Every sample of the metrics, by name and labels."""
    families = text_string_to_metric_families(api.get("/metrics"))
    return {(s.name, *sorted(s.labels.values())): s.value for family in families for s in family.samples}
