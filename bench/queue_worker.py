"""The part of the daemon that looks after the queue worker, alone: `python -m bench.queue_worker FILE`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from markway.apply.place import state_folder
from markway.apply.store import Store
from markway.compiler import compile_config
from markway.config.load import Source, load
from markway.director.queueing import QueueWorker, queued_services

if TYPE_CHECKING:
    from markway.config.model import Config


async def serve(config: Config) -> None:
    compiled = compile_config(config, Store(state_folder()).registry())
    worker = QueueWorker()
    await worker.start()
    worker.publish(compiled.marks.mask, queued_services(compiled, {}))
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(load([Source("bench.toml", Path(sys.argv[1]).read_bytes())]).config))
