"""The status says how this kernel asks the queue worker.

client1 --[198.51.100.0/24]-- director --[192.168.1.0/24]-- a
"""

from __future__ import annotations

from tests.kernel.support import apply, run, status

from markway.kernel.capabilities.asking import asking

WEB = """
[service.web]
listen = "192.0.2.10:80/tcp"
schedule = "least-connections"
backend.a = { address = "192.168.1.11:8080" }
"""


def test_the_status_says_how_the_worker_is_asked(lab):
    net = lab(WEB)
    apply(net, WEB)
    assert status(net)["asking"] == asking().value
    assert f"The queue worker is asked by {asking()}." in run(net, "status")
    apply(net, WEB.replace("least-connections", "random"))
    assert status(net)["asking"] is None
