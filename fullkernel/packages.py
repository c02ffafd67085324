"""What Debian's packages are here."""

from __future__ import annotations

import subprocess
from pathlib import Path

_NEED = Path(__file__).parent.parent / "scripts" / "need"


class PackageError(Exception):
    """A package, or what is made of one, cannot be had; the message says why."""


def need(purpose: str) -> None:
    """Install the packages of a purpose of scripts/need that are missing."""
    if subprocess.run([str(_NEED), purpose], check=False).returncode:
        raise PackageError(f"the packages for {purpose} could not be installed (scripts/need {purpose})")


def installed_version(package: str) -> str:
    """The version of an installed package; PackageError if it is not installed."""
    done = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True, check=False
    )
    if done.returncode or not done.stdout.strip():
        raise PackageError(f"the package {package} is not installed (scripts/need fullkernel)")
    return done.stdout.strip()
