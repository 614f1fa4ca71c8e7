"""The way to every registered meter: where it listens, with which secrets, under which counters.

    lines = Lines(rows, master, reader_title(deployment title))
    async with await lines.open("XMA0000007", UTILITY) as session: ...

What always holds: secrets are unwrapped in memory only and for one conversation; a meter whose keys are being changed is tried with the keys that
hold, then with those under way, and the first time that it takes the latter they hold: until then both are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from ..cosem.acse import Mechanism
from ..cosem.ciphering import Keys
from ..cosem.protection import Form
from ..errors import InputError
from ..store.contacts import PUSH_CLIENT, Contacts, MeterLine, WrappedKeys
from ..store.keys import MasterKey
from ..store.rows import Rows
from .session import PUBLIC, READER, CounterBook, Credentials, Denied, KeptCounters, MeterAddress, MeterSession, Patience, open_session


def reader_title(headend_title: bytes) -> bytes:
    """The system title under which meters are asked: another one than confirms pushes, because both count for themselves under one key."""
    return headend_title[:-1] + bytes((headend_title[-1] ^ 0x80,))


COUNTERS_IN_A_BLOCK = 1 << 16


class CountersInHand:
    """A `CounterBook` that takes counters from another one in large blocks and hands them out from memory: one synced write for each meter, not two
    for each conversation. What a process has not used when it dies is never used by anybody."""

    def __init__(self, book: CounterBook) -> None:
        self._book = book
        self._blocks: dict[tuple[str, bytes], tuple[int, int]] = {}  # (next, end), [next, end) is ours

    def next_counter(self, meter: str, title: bytes) -> int | None:
        block = self._blocks.get((meter, title))
        return self._book.next_counter(meter, title) if block is None else block[0]

    def reserve_counters(self, meter: str, title: bytes, count: int, at_least: int) -> int:
        first, end = self._blocks.get((meter, title), (0, 0))
        first = max(first, at_least)
        if first + count > end:
            block = max(count, COUNTERS_IN_A_BLOCK)
            first = self._book.reserve_counters(meter, title, block, first)
            end = first + block
        self._blocks[meter, title] = (first + count, end)
        return first

    def return_counters(self, meter: str, title: bytes, used_to: int, reserved_to: int) -> None:
        first, end = self._blocks.get((meter, title), (0, 0))
        if first == reserved_to and used_to < reserved_to:
            self._blocks[meter, title] = (used_to, end)

    def close(self) -> None:
        """Give back what was not used."""
        for (meter, title), (first, end) in self._blocks.items():
            self._book.return_counters(meter, title, first, end)
        self._blocks.clear()


class Lines:
    """Opens conversations. `patience`: their time limits. under_way: told of new keys before they leave; pushed_old_s: serial -> when a meter whose
    push keys are being changed last pushed under the old ones (the listener writes it)."""

    def __init__(self, rows: Rows, master: MasterKey, own_title: bytes, patience: Patience | None = None) -> None:
        self.contacts = Contacts(rows)
        self.patience = patience or Patience()
        self.under_way: Callable[[str, int, Keys], None] = lambda serial, client, keys: None
        self.pushed_old_s: dict[str, int] = {}
        self._master, self._title = master, own_title
        self._counters = CountersInHand(self.contacts)
        self._lines, self._wrapped = self.contacts.lines(), rows.wrapped_keys()
        self._models = {meter.serial: f"{meter.maker} {meter.model}" for meter in rows.meters()}

    def reload(self) -> None:
        """Lines that were added or changed since."""
        self._lines = self.contacts.lines()

    def close(self) -> None:
        """Give back what was taken in hand. Without it nothing goes wrong, but counters are left unused."""
        self._counters.close()

    def line(self, serial: str) -> MeterLine:
        """InputError where it is not known where a meter listens."""
        if serial not in self._lines:
            raise InputError(f"it is not known where meter {serial} listens; add its line (host, port, secrets) to the registry")
        return self._lines[serial]

    @property
    def serials(self) -> list[str]:
        """The meters that can be asked."""
        return list(self._lines)

    def cell(self, serial: str) -> str:
        return self._lines[serial].cell if serial in self._lines else ""

    def model(self, serial: str) -> str:
        """Maker and model: meters of one model show their profiles alike."""
        return self._models.get(serial, "")

    async def open(self, serial: str, client: int) -> MeterSession:
        """An association with a meter; SilentMeter, Denied or MeterError as `open_session`."""
        own, coming = self.contacts.association_keys(serial, client)
        try:
            return await self._open(serial, client, own)
        except Denied as error:
            if coming is None or error.code != "association":
                raise
        session = await self._open(serial, client, coming)
        self.contacts.keys_proved(serial, client)
        return session

    async def proves_new_keys(self, serial: str, client: int, order_id: str) -> bool:
        """Whether the meter takes the keys that `order_id` brought for `client`; from then on they hold. False = it refuses them.

        Nobody else may talk to the meter as this client meanwhile: its counters would be overtaken."""
        own, coming = self.contacts.association_keys(serial, client)
        if coming is None or coming.order_id != order_id:
            return own is not None and own.order_id == order_id
        try:
            session = await self._open(serial, client, coming)
        except Denied as error:
            if error.code != "association":
                raise
            return False
        await session.close()
        self.contacts.keys_proved(serial, client)
        return True

    def transfer_key(self, serial: str) -> bytes:
        """The key under which new keys travel to this meter."""
        wrapped = self.line(serial).transfer_key_wrapped
        if wrapped is None:
            raise InputError(f"meter {serial} has no key-transfer key in the registry; import it before its keys can be changed")
        return self._master.unwrap_secret(wrapped)

    def new_keys(self, serial: str, client: int, fresh: Keys, order_id: str) -> Keys:
        """Keys for a change, kept (wrapped) before they are sent: `fresh`, or those of this order that are kept already."""
        proposed = WrappedKeys(self._master.wrap(fresh.ek), self._master.wrap(fresh.ak))
        keys = self._unwrapped(self.contacts.propose_keys(serial, client, proposed, order_id))
        self.under_way(serial, client, keys)
        return keys

    def push_keys_used(self, serial: str, order_id: str, since_s: int) -> bool | None:
        """Whether a meter pushes under the push keys that `order_id` brought: False = it has pushed under the old ones later than `since_s`, None =
        it has not pushed since."""
        own, _ = self.contacts.association_keys(serial, PUSH_CLIENT)
        if own is not None and own.order_id == order_id:
            return True
        return False if self.pushed_old_s.get(serial, -1) > since_s else None

    async def _open(self, serial: str, client: int, wrapped: WrappedKeys | None) -> MeterSession:
        line = self.line(serial)
        credentials = self._credentials(line, client, wrapped)
        kept = KeptCounters(self._counters, serial)
        return await open_session(MeterAddress(line.host, line.port, line.hdlc), credentials, self.patience, kept=kept)

    def _credentials(self, line: MeterLine, client: int, wrapped: WrappedKeys | None) -> Credentials:
        if client == PUBLIC:
            return Credentials()
        secret = line.password_wrapped if client == READER else line.hls_secret_wrapped
        if secret is None:
            what = "password" if client == READER else "HLS secret"
            raise InputError(f"meter {line.serial} has no {what} in the registry; import it before client {client} can talk to it")
        if wrapped is None:
            if line.serial not in self._wrapped:
                raise InputError(f"meter {line.serial} has no keys in the registry; import them first")
            wrapped = WrappedKeys(*self._wrapped[line.serial])
        return Credentials(
            client,
            Mechanism.LLS if client == READER else Mechanism(line.mechanism),
            self._master.unwrap_secret(secret),
            self._unwrapped(wrapped),
            self._title,
            form=Form.GENERAL_GLO if line.general else Form.GLO,
        )

    def _unwrapped(self, wrapped: WrappedKeys) -> Keys:
        return Keys(self._master.unwrap(wrapped.ek), self._master.unwrap(wrapped.ak))


class Talk:
    """One client's conversation with one meter, opened when it is first needed. Use as a context: it is ended on leaving."""

    def __init__(self, lines: Lines, serial: str, client: int) -> None:
        self.lines, self.serial, self.client = lines, serial, client
        self._session: MeterSession | None = None

    async def session(self) -> MeterSession:
        """The association, opened if it is not; errors as `Lines.open`."""
        if self._session is None:
            self._session = await self.lines.open(self.serial, self.client)
        return self._session

    async def hang_up(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def __aenter__(self) -> Talk:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.hang_up()
