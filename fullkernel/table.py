"""docs/kernels.md: what each of the three kernels can do, by `markway doctor --kernel --json` in each."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fullkernel import cache, debian, uml
from fullkernel.guest import JOB, run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fullkernel.guest import Kernel

PAGE = Path(__file__).parent.parent / "docs" / "kernels.md"
_DOCTOR = [sys.executable, "-m", "markway", "doctor", "--kernel", "--json"]

_HEAD = """# What three kernels can do

Made by `python -m fullkernel table`, from `markway doctor --kernel --json` in each kernel. "ignored" means that the
kernel accepts it and then does nothing. Each probe of `markway.kernel.capabilities` sends packets through a network of
its own and looks at what became of them.

"""


def write(env: Mapping[str, str], results: Path) -> int:
    """Probe this machine's kernel and both full ones, and write the page."""
    found = {"this machine's": _here(), "user-mode Linux": _there(uml.UserMode(uml.binary()), env, results)}
    found["Debian's in qemu"] = _there(debian.kernel(), env, results)
    PAGE.write_text(_HEAD + _page(found), encoding="utf-8")
    cache.say(f"written: {PAGE.relative_to(Path.cwd())}")
    return 0


def _here() -> Any:
    return json.loads(subprocess.run(_DOCTOR, capture_output=True, text=True, check=True).stdout)


def _there(kernel: Kernel, env: Mapping[str, str], results: Path) -> Any:
    name = f"doctor-{kernel.name}.json"
    command = 'out=$1; shift; exec "$@" > "$out"'
    run(kernel, ["sh", "-c", command, "sh", f"{JOB}/results/{name}", *_DOCTOR], env, results)
    return json.loads((results / name).read_text())


def _page(found: Mapping[str, Any]) -> str:
    rows = [["feature", *(f"{name} ({said['release']})" for name, said in found.items()), "probe", "in its place"]]
    rows.append(["---"] * len(rows[0]))
    answers = [{one["name"]: one["answer"] for one in said["features"]} for said in found.values()]
    for one in next(iter(found.values()))["features"]:
        cells = (answer[one["name"]] for answer in answers)
        rows.append([f"`{one['name']}` {one['what']}", *cells, one["how"], one["instead"]])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
