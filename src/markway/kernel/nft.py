"""The nftables ruleset of this network namespace, written through libnftables(3)."""

from __future__ import annotations

import ctypes
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_DEFAULT = 0  # NFT_CTX_DEFAULT


class NftError(RuntimeError):
    """The kernel or nft refused a batch; nothing of it was applied. The text is nft's own."""


class NftMissingError(RuntimeError):
    """libnftables is not installed."""


def run(text: str, *, check: bool = False) -> None:
    """Apply a batch of nft commands, whole or not at all.

    Args:
        text: the batch, in nft(8) syntax.
        check: ask the kernel, but change nothing.

    Raises:
        NftError: nft or the kernel refused.
        NftMissingError: libnftables is not installed.
    """
    library = _load()
    with _context(library) as context:
        library.nft_ctx_set_dry_run(context, check)
        if library.nft_run_cmd_from_buffer(context, text.encode()):
            raise NftError(library.nft_ctx_get_error_buffer(context).decode(errors="replace").strip())


@contextmanager
def _context(library: ctypes.CDLL) -> Iterator[int]:
    context = library.nft_ctx_new(_DEFAULT)
    try:
        library.nft_ctx_buffer_output(context)
        library.nft_ctx_buffer_error(context)
        yield context
    finally:
        library.nft_ctx_free(context)


def _load() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libnftables.so.1")  # by its ABI: to search for it takes a process
    except OSError as error:
        raise NftMissingError("libnftables is missing: apt install nftables") from error
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
    for function in (
        library.nft_ctx_free,
        library.nft_ctx_buffer_output,
        library.nft_ctx_buffer_error,
        library.nft_ctx_get_error_buffer,
    ):
        function.argtypes = [ctypes.c_void_p]
    library.nft_ctx_set_dry_run.argtypes = [ctypes.c_void_p, ctypes.c_bool]
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    return library
