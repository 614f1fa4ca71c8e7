"""Undoing AES-128-GCM for many frames at once: a compiled loop that calls OpenSSL's libcrypto, or `cryptography`, with the same results.

A frame without a tag needs only GCM's keystream, which is AES-CTR from counter 2: a context of its own saves it the hash. libcrypto is
found through CPython's own `_hashlib`. The loop is given the addresses of its functions, so that it can be kept compiled on disk, and
releases the GIL: a thread needs two contexts and some scratch memory, and shares nothing. Where libcrypto or one of its functions is not
to be found (OpenSSL before 3.0, a static build), `AESGCM` does the same work a frame at a time.
"""

from __future__ import annotations

import ctypes
import hmac
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

TAG_BYTES = 12
GCM_SET_TAG = 0x11
"""EVP_CTRL_AEAD_SET_TAG of openssl/evp.h."""
_NAMES = (
    "EVP_CIPHER_fetch",
    "EVP_CIPHER_CTX_new",
    "EVP_CIPHER_CTX_free",
    "EVP_DecryptInit_ex2",
    "EVP_DecryptUpdate",
    "EVP_DecryptFinal_ex",
)

CHUNK = 64

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Libcrypto:
    """Addresses of the functions the loop calls, and the fetched ciphers. `loaded` is the library that has them."""

    loaded: Any
    init: int
    update: int
    control: int
    final: int
    gcm: int
    ctr: int

    def context(self, cipher: int) -> int:
        """A new context, set to the cipher. The caller gives it back with `release`."""
        made = int(self.loaded.EVP_CIPHER_CTX_new() or 0)
        if not made or self.loaded.EVP_DecryptInit_ex2(made, cipher, None, None, None) != 1:
            raise MemoryError("libcrypto gives no cipher context; the machine is out of memory")
        return made

    def release(self, context: int) -> None:
        self.loaded.EVP_CIPHER_CTX_free(context)


@lru_cache(maxsize=1)
def libcrypto() -> Libcrypto | None:
    """CPython's own libcrypto, or None where it or one of its functions cannot be found."""
    try:
        import _hashlib

        return bind(ctypes.CDLL(_hashlib.__file__))
    except (ImportError, OSError, AttributeError):
        return None


def bind(library: Any) -> Libcrypto | None:
    """The functions of a loaded library; None where its ciphers are not offered. AttributeError where a function is missing."""
    pointer, number = ctypes.c_void_p, ctypes.c_int
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "EVP_CIPHER_fetch": (pointer, [pointer, ctypes.c_char_p, pointer]),
        "EVP_CIPHER_CTX_new": (pointer, []),
        "EVP_CIPHER_CTX_free": (None, [pointer]),
        "EVP_DecryptInit_ex2": (number, [pointer] * 5),
        "EVP_DecryptUpdate": (number, [pointer, pointer, pointer, pointer, number]),
        "EVP_DecryptFinal_ex": (number, [pointer] * 3),
        "EVP_CIPHER_CTX_ctrl": (number, [pointer, number, number, pointer]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    gcm, ctr = (library.EVP_CIPHER_fetch(None, name, None) for name in (b"AES-128-GCM", b"AES-128-CTR"))
    if not gcm or not ctr:
        return None

    def address(name: str) -> int:
        return int(ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0)

    init, update, final = address("EVP_DecryptInit_ex2"), address("EVP_DecryptUpdate"), address("EVP_DecryptFinal_ex")
    return Libcrypto(library, init, update, address("EVP_CIPHER_CTX_ctrl"), final, int(gcm), int(ctr))


def _generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
    """Machine code that calls the C function at the address values[0]; it returns an int."""
    kind = ir.FunctionType(ir.IntType(32), [v.type for v in values[1:]])
    return builder.call(builder.inttoptr(values[0], kind.as_pointer()), values[1:])


@intrinsic
def _call3(typing, address, a, b, c):  # type: ignore[no-untyped-def]
    """Call the C function at `address`: int32 arguments are passed as int, int64 as pointers."""
    return types.int32(types.int64, a, b, c), _generate


@intrinsic
def _call4(typing, address, a, b, c, d):  # type: ignore[no-untyped-def]
    """As `_call3`."""
    return types.int32(types.int64, a, b, c, d), _generate


@intrinsic
def _call5(typing, address, a, b, c, d, e):  # type: ignore[no-untyped-def]
    """As `_call3`."""
    return types.int32(types.int64, a, b, c, d, e), _generate


@intrinsic
def _prefetch(typing, address):  # type: ignore[no-untyped-def]
    """Ask for the cache line at `address` (int64), and wait for nothing."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [pointer], kind)
        for_reading, as_long_as_possible, data = number(0), number(3), number(1)
        builder.call(function, [builder.inttoptr(values[0], pointer), for_reading, as_long_as_possible, data])
        return context.get_dummy_value()

    return types.void(types.int64), generate


def decipher_openssl(crypto: Libcrypto, job: tuple[Any, ...], first: int, last: int) -> None:
    """Decipher frames first..last-1; `job` as for `decipher_python`."""
    gcm, ctr = crypto.context(crypto.gcm), crypto.context(crypto.ctr)
    try:
        _decipher((gcm, ctr), (crypto.init, crypto.update, crypto.control, crypto.final), first, last, job)
    finally:
        crypto.release(gcm)
        crypto.release(ctr)


@nb.njit(nogil=True, cache=True)
def _decipher(contexts, functions, first, last, job):  # type: ignore[no-untyped-def]
    """In chunks: while one is deciphered, the keys of the next are on their way from memory, whatever order the meters come in."""
    buffer, header, meter, ek, ak, verdict = job[0], job[3], job[5], job[6], job[7], job[8]
    keys, aads = np.empty((CHUNK, 16), np.uint8), np.empty((CHUNK, 17), np.uint8)
    _ask_for(meter, first, min(first + CHUNK, last), ek, ak)
    for start in range(first, last, CHUNK):
        end = min(start + CHUNK, last)
        for k in range(start, end):
            if verdict[k] == 0:
                m = meter[k]
                for j in range(16):
                    keys[k - start, j] = ek[m, j]
                if buffer[header[k]] & 0x10:
                    for j in range(16):
                        aads[k - start, 1 + j] = ak[m, j]
        _ask_for(meter, end, min(end + CHUNK, last), ek, ak)
        _decipher_chunk(contexts, functions, start, end, job, keys, aads)


@nb.njit(nogil=True, cache=True)
def _ask_for(meter, first, last, ek, ak):  # type: ignore[no-untyped-def]
    """Prefetch the keys of the meters of frames first..last-1."""
    ek_at, ak_at = np.int64(ek.ctypes.data), np.int64(ak.ctypes.data)
    for k in range(first, last):
        m = np.int64(max(meter[k], 0))
        _prefetch(ek_at + 16 * m)
        _prefetch(ak_at + 16 * m)


@nb.njit(nogil=True, cache=True)
def _decipher_chunk(contexts, functions, first, last, job, keys, aads):  # type: ignore[no-untyped-def]
    gcm, ctr = contexts
    init, update, control, final = functions
    buffer, body, length, header, title, _, _, _, verdict, plain, refused = job
    nonce, out_length = np.zeros(16, np.uint8), np.empty(4, np.int32)
    nonce[15] = 2  # for the keystream alone; GCM reads the first 12 bytes only
    nonce_at, out_length_at = np.int64(nonce.ctypes.data), np.int64(out_length.ctypes.data)
    nothing, source, target = np.int64(0), np.int64(buffer.ctypes.data), np.int64(plain.ctypes.data)
    key_at, aad_at = np.int64(keys.ctypes.data), np.int64(aads.ctypes.data)
    for k in range(first, last):
        if verdict[k] != 0:
            continue
        for j in range(8):
            nonce[j] = buffer[title[k] + j]
        for j in range(4):
            nonce[8 + j] = buffer[header[k] + 1 + j]
        tagged = buffer[header[k]] & 0x10
        context = gcm if tagged else ctr
        done = _call5(init, context, nothing, key_at + 16 * (k - first), nonce_at, nothing)
        if tagged:
            aads[k - first, 0] = buffer[header[k]]
            done &= _call5(update, context, nothing, out_length_at, aad_at + 17 * (k - first), np.int32(17))
        done &= _call5(update, context, target + body[k], out_length_at, source + body[k], np.int32(length[k]))
        if tagged and done == 1:
            done = _call4(control, context, np.int32(GCM_SET_TAG), np.int32(TAG_BYTES), source + body[k] + length[k])
            done &= np.int32(1) if _call3(final, context, target + body[k] + length[k], out_length_at) == 1 else np.int32(0)
        if done != 1:
            verdict[k] = refused


def decipher_python(job: tuple[Any, ...], first: int, last: int) -> None:
    """The same without libcrypto's functions, frame by frame.

    job: (buffer, body, length, header, title, meter, ek, ak, verdict, plain, refused). buffer uint8: the frames; per frame, int64: body and
    length of the ciphertext, header = where the security header stands, title = where the system title stands, meter = row of the key table;
    ek, ak uint8 [meter, 16]; verdict uint8: frames other than 0 are passed over, and `refused` is written where a tag does not hold;
    plain uint8, as long as buffer: the plain bytes are written where the ciphertext stood."""
    buffer, body, length, header, title, meter, ek, ak, verdict, plain, refused = job
    for k in range(first, last):
        if verdict[k]:
            continue
        start, end, at = int(body[k]), int(body[k] + length[k]), int(header[k])
        nonce = buffer[title[k] : title[k] + 8].tobytes() + buffer[at + 1 : at + 5].tobytes()
        gcm = AESGCM(ek[meter[k]].tobytes())
        # GCM's keystream is AES-CTR from counter 2, so encrypting the ciphertext undoes it; encrypting again gives the whole tag to compare.
        opened = gcm.encrypt(nonce, buffer[start:end].tobytes(), None)[:-16]
        if buffer[at] & 0x10:
            tag = gcm.encrypt(nonce, opened, bytes((buffer[at],)) + ak[meter[k]].tobytes())[-16:-4]
            if not hmac.compare_digest(tag, buffer[end : end + TAG_BYTES].tobytes()):
                verdict[k] = refused
                continue
        plain[start:end] = np.frombuffer(opened, np.uint8)
