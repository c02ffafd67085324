"""The part of the daemon that looks after the queue worker, alone, on a lab's director.

Reads lines of JSON: `{"loads": {...}, "weights": {...}}` is published; every line is answered by the statistics.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markway.apply.place import state_folder
from markway.apply.store import Store
from markway.compiler import compile_config
from markway.config.load import Source, load
from markway.director.queueing import QueueWorker, queued_services

if TYPE_CHECKING:
    import subprocess

    from markway.config.model import Config
    from markway.lab.lab import Lab


class QueueDaemon:
    """It, as a test holds it; leave the `with` block to end it."""

    def __init__(self, lab: Lab, path: str, policies: str = "") -> None:
        program = [sys.executable, "-m", "tests.kernel.queue_daemon", path, policies or "/nonexistent"]
        self.process: subprocess.Popen[str] = lab.director.spawn(*program)

    def tell(self, **said: Any) -> dict[str, Any]:
        """Publish something, or nothing; the statistics."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(said) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        found: dict[str, Any] = json.loads(line)
        return found

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        with self.process:
            self.process.kill()


async def main(config: Config, policies: str) -> None:
    registry = Store(state_folder()).registry()
    worker = QueueWorker(policies=policies)
    await worker.start()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    said: dict[str, Any] = {}
    while True:
        compiled = compile_config(config, registry, weights=said.get("weights", {}))
        worker.publish(compiled.marks.mask, queued_services(compiled, said.get("loads", {})))
        line = await reader.readline()
        if not line:
            break
        said |= json.loads(line)
        print(json.dumps({"pid": worker.pid, **asdict(worker.stats)}), flush=True)  # noqa: T201
    await worker.aclose()


if __name__ == "__main__":
    logging.basicConfig()
    file = Path(sys.argv[1])
    asyncio.run(main(load([Source(file.name, file.read_bytes())]).config, sys.argv[2]))
