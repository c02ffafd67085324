"""`markway doctor`: what is this machine able to do?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from markway.cli.common import Json, fail, need_root
from markway.program.words import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markway.kernel.capabilities import Finding


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="""Examples:

markway doctor --kernel

markway doctor --kernel --feature cls_fw --feature sch_fq_codel

markway doctor --kernel --json

Each feature is tried with real packets in a network of namespaces that is removed afterwards. "ignored" means that \
the kernel accepts it and then does nothing. The kernel may load modules for what it is asked."""
    )(doctor)


def doctor(
    kernel: Annotated[bool, typer.Option("--kernel", help="Probe the running kernel.")] = False,
    feature: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this feature; may repeat.")] = None,
    as_json: Json = False,
) -> None:
    """Say what the running kernel can do, how that was found out, and what Markway uses instead."""
    from markway.kernel.capabilities import FEATURES, probed
    from markway.kernel.netns import NetnsError

    if not kernel:
        fail("say what to look at: markway doctor --kernel", 2)
    names = feature or list(FEATURES)
    unknown = [name for name in names if name not in FEATURES]
    if unknown:
        fail(f'no feature is called "{unknown[0]}"; there are {", ".join(FEATURES)}', 2)
    need_root("doctor")
    try:
        findings = list(probed(names))
    except NetnsError as error:
        fail(f"the kernel cannot be probed: {error}")
    if as_json:
        _print_json(findings)
    else:
        _print_table(findings)


def _print_json(findings: Sequence[Finding]) -> None:
    import json

    from markway.kernel.capabilities import release

    features = [
        {
            "name": finding.feature.name,
            "what": finding.feature.what,
            "how": finding.feature.how,
            "answer": finding.answer,
            "why": finding.why,
            "instead": finding.feature.instead,
        }
        for finding in findings
    ]
    print(json.dumps({"release": release(), "features": features}, indent=2))


def _print_table(findings: Sequence[Finding]) -> None:
    from collections import Counter

    from markway.kernel.capabilities import Answer, release

    width = max(len(finding.feature.name) for finding in findings)
    print(f"kernel {release()}\n")
    for finding in findings:
        feature, answer = finding.feature, finding.answer
        print(f"{feature.name:<{width}}  {answer:<7}  {feature.what}: {feature.how}")
        if answer is not Answer.YES:
            said = f"{finding.why}; " if finding.why else ""
            print(f"{'':<{width}}           {said}Markway uses: {feature.instead}")
    counts = Counter(finding.answer for finding in findings)
    shown = ", ".join(f"{counts[answer]} {answer}" for answer in Answer if counts[answer])
    print(f"\n{count(len(findings), 'feature')}: {shown}")
