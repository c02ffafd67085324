"""What the running kernel can do, found out by letting it.

Kernels accept what they then ignore (`tc u32 match mark` without CONFIG_CLS_U32_MARK), so a probe
configures a feature in a network of its own, sends packets, and looks at what became of them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from markway.kernel.capabilities import devices, filtering, queueing, routing
from markway.kernel.capabilities.feature import Answer, Feature, Finding, UnknownError
from markway.kernel.capabilities.network import Network
from markway.kernel.netns import NetnsError
from markway.kernel.nft import NftError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["FEATURES", "Answer", "Feature", "Finding", "probe", "probed", "release"]

FEATURES: dict[str, Feature] = {
    feature.name: feature for feature in (*filtering.FEATURES, *queueing.FEATURES, *routing.FEATURES, *devices.FEATURES)
}


def probed(names: Iterable[str] = FEATURES) -> Iterator[Finding]:
    """Probe features by their names; what was found comes as it is found. Needs root."""
    for name in names:
        yield probe(FEATURES[name])


def probe(feature: Feature) -> Finding:
    """Try one feature in a throw-away network.

    Raises:
        NetnsError: not even the network could be made.
    """
    with Network() as network:
        try:
            works = feature.probe(network)
        except (NetnsError, NftError, OSError) as refusal:
            return Finding(feature, Answer.NO, _said(refusal))
        except UnknownError as missing:
            return Finding(feature, Answer.UNKNOWN, str(missing))
    return Finding(feature, Answer.YES if works else Answer.IGNORED)


def release() -> str:
    """The name of the running kernel, as `uname -r` says it."""
    return os.uname().release


def _said(refusal: Exception) -> str:
    """The kernel's own words in a message of nft, ip or tc."""
    if isinstance(refusal, OSError) and refusal.strerror:
        return refusal.strerror
    said = str(refusal).partition("\n")[0].removesuffix("; We have an error talking to the kernel")
    return said.rpartition(": ")[2].strip()
