"""Firmware image transfer (class 18): resumed where it broke, verified by the meter before it is activated.

wish: {"identifier": "...", "size": bytes, "sha256": "...", "version": "..."}; version: what the meter shows as its firmware afterwards, left out =
its status alone decides.

What always holds: a block that the meter has is not sent again; nothing is activated but an image that the meter has verified under the ordered
name and size; whatever breaks, the meter is asked how far it has come before anything else is sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from ..control.order import Event, Order, State
from ..cosem.apdu import Ref
from ..cosem.axdr import Data, Tag
from ..cosem.objects import members
from ..cosem.operations import ImageStatus
from ..errors import InputError, MeterError
from .lines import Talk
from .procedures import given
from .session import FIRMWARE, Denied, MeterSession
from .wishes import SHA256, read_wish

IMAGE, FIRMWARE_VERSION = "0.0.44.0.0.255", "1.0.0.2.0.255"
BLOCK_BYTES_MAX = 8192


def images_in(folder: Path) -> Callable[[str], bytes]:
    """The images of a folder whose files are named by their SHA-256, as `keep_image` puts them there."""

    def image(sha256: str) -> bytes:
        try:
            return (folder / sha256).read_bytes() if SHA256.fullmatch(sha256) else b""
        except OSError as error:
            raise InputError(
                f"no firmware image with SHA-256 {sha256} lies in {folder} ({error.strerror}); order it with --image FILE"
            ) from None

    return image


def keep_image(folder: Path, octets: bytes) -> str:
    """An image into the folder, whole or not at all; gives its SHA-256."""
    sha256 = hashlib.sha256(octets).hexdigest()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = folder / f"{sha256}.new"
    beside.write_bytes(octets)
    beside.replace(folder / sha256)
    return sha256


class ImageProcedure:
    """images: gives the image with a SHA-256 (hexadecimal)."""

    client, settle_s = FIRMWARE, 600

    def __init__(self, images: Callable[[str], bytes]) -> None:
        self._images = images

    async def read(self, talk: Talk, order: Order) -> tuple[Event | None, str]:
        """How far the meter is, by its status, its blocks and the image that it has verified; None = it is busy, or it stands as we know."""
        session = await talk.session()
        wish = read_wish(order.what, order.wish)
        blocks, status, known = await given(session, *(Ref(18, IMAGE, member) for member in (3, 6, 7)))
        ours = _is_ours(known, wish["identifier"].encode(), wish["size"])
        note = f"image transfer status {status.value}"
        if "version" in wish and (await _version(session)) == wish["version"]:
            return Event.READ_AS_ASKED, f"firmware {wish['version']} runs"
        if status.value in (ImageStatus.VERIFICATION_INITIATED, ImageStatus.ACTIVATION_INITIATED):
            return None, note
        if status.value == ImageStatus.ACTIVATION_SUCCESSFUL and ours and "version" not in wish and order.sent_before:
            return Event.READ_AS_ASKED, note
        if status.value == ImageStatus.VERIFICATION_SUCCESSFUL and ours:
            return Event.READ_VERIFIED, note
        if (
            status.value in (ImageStatus.VERIFICATION_FAILED, ImageStatus.ACTIVATION_FAILED)
            and order.sent_before
            and order.state is not State.ALLOWED
        ):
            return Event.GIVE_UP, f"the meter has refused the image: {note}"
        if status.value == ImageStatus.INITIATED and order.sent_before:
            whole = await self._count(session, wish["size"])
            if len(blocks.value) == whole:
                return (
                    (Event.READ_WHOLE, note)
                    if "0" not in blocks.value
                    else (Event.READ_PART, f"{blocks.value.count('1')} of {whole} blocks")
                )
        return Event.READ_OTHERWISE, note

    async def send(self, talk: Talk, order: Order) -> None:
        """All blocks that the meter does not have; announced first where it has none of this image."""
        session = await talk.session()
        image = self._image(order)
        wish = read_wish(order.what, order.wish)
        size = await self._block_bytes(session)
        whole = -(-len(image) // size)
        blocks, status = await given(session, Ref(18, IMAGE, 3), Ref(18, IMAGE, 6))
        have = blocks.value if status.value == ImageStatus.INITIATED and len(blocks.value) == whole and order.sent_before else ""
        if not have or (have.count("1") == 0):
            name = Data(Tag.OCTET_STRING, wish["identifier"].encode())
            await session.action(Ref(18, IMAGE, 1), Data(Tag.STRUCTURE, (name, Data(Tag.DOUBLE_LONG_UNSIGNED, len(image)))))
            have = "0" * whole
        for number in [k for k in range(whole) if have[k] == "0"]:
            octets = Data(Tag.OCTET_STRING, image[number * size : (number + 1) * size])
            await session.action(Ref(18, IMAGE, 2), Data(Tag.STRUCTURE, (Data(Tag.DOUBLE_LONG_UNSIGNED, number), octets)))

    async def verify(self, talk: Talk, order: Order) -> None:
        """The meter checks the image; it may say that it needs time. What came of it is read."""
        session = await talk.session()
        try:
            await session.action(Ref(18, IMAGE, 3), Data(Tag.INTEGER, 0))
        except Denied as error:
            if error.code not in ("temporary failure", "other reason"):
                raise

    async def activate(self, talk: Talk, order: Order) -> None:
        session = await talk.session()
        try:
            await session.action(Ref(18, IMAGE, 4), Data(Tag.INTEGER, 0))
        except Denied as error:
            if error.code != "temporary failure":  # which says that it has begun
                raise

    def _image(self, order: Order) -> bytes:
        wish = read_wish(order.what, order.wish)
        image = self._images(wish["sha256"])
        if len(image) != wish["size"] or hashlib.sha256(image).hexdigest() != wish["sha256"]:
            raise InputError(f"order {order.order_id}: the image at hand is not the one ordered; give that with SHA-256 {wish['sha256']}")
        return image

    async def _block_bytes(self, session: MeterSession) -> int:
        (size,) = await given(session, Ref(18, IMAGE, 2))
        if not isinstance(size.value, int) or not 1 <= size.value <= BLOCK_BYTES_MAX:
            raise MeterError(f"{session.address} takes image blocks of {size.value} bytes", "layout")
        return size.value

    async def _count(self, session: MeterSession, image_bytes: int) -> int:
        return -(-image_bytes // await self._block_bytes(session))


def _is_ours(known: Data, identifier: bytes, size: int) -> bool:
    """Whether attribute 7, the images that may be activated, has this one."""
    if known.tag is not Tag.ARRAY:
        return False
    shown = [members(one, Tag.DOUBLE_LONG_UNSIGNED, Tag.OCTET_STRING, Tag.OCTET_STRING) for one in known.value]
    return any(one is not None and one[:2] == (size, identifier) for one in shown)


async def _version(session: MeterSession) -> str:
    (shown,) = await given(session, Ref(1, FIRMWARE_VERSION, 2))
    return shown.value.decode("latin-1") if isinstance(shown.value, bytes) else str(shown.value)
