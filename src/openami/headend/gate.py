"""Who sends too much of what is refused: counts by address and minute, so that nobody can fill the journal with rubbish.

An address may stand for one meter or for a gateway with thousands behind it. So no address is shut out: one whose refused frames of a minute are
more than `REFUSED_MAX` and more than its good ones has its frames judged before they are stored, and only what would be taken in is kept. What is
dropped is counted, and told in one log line for each address and minute.

What always holds: a genuine frame is never dropped; memory does not grow with the number of addresses; no clock of its own.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

log = logging.getLogger("openami.headend")

REFUSED_MAX = 1_000
"""Frames refused in a minute that are stored from any address, whatever it sends beside them."""
ADDRESSES_MAX = 10_000
WINDOW_S = 60


@dataclass(slots=True)
class Sender:
    """One address in one minute. name: as it is logged."""

    name: str
    taken: int = 0
    refused: int = 0
    dropped: int = 0

    @property
    def limited(self) -> bool:
        return self.refused >= REFUSED_MAX and self.refused > self.taken


class Gate:
    """The senders of this minute. An IPv6 network of 64 bits counts as one: its owner may take any address in it."""

    def __init__(self) -> None:
        self._senders: OrderedDict[str, Sender] = OrderedDict()
        self._ends_s = 0.0
        self.dropped = 0

    def sender(self, host: str) -> Sender:
        """The account of an address; where there are too many, that of the longest unseen is forgotten."""
        name = network_of(host)
        known = self._senders.get(name)
        if known is None:
            while len(self._senders) >= ADDRESSES_MAX:
                self._tell(self._senders.popitem(last=False)[1])
            known = self._senders[name] = Sender(name)
        else:
            self._senders.move_to_end(name)
        return known

    def drop(self, sender: Sender) -> None:
        sender.dropped += 1
        self.dropped += 1

    def turn(self, now_s: float) -> bool:
        """Begin a new minute if the last one is over; True if so. now_s: any clock that only grows."""
        if now_s < self._ends_s:
            return False
        self._ends_s = now_s + WINDOW_S
        for one in self._senders.values():
            self._tell(one)
        self._senders.clear()
        return True

    def _tell(self, one: Sender) -> None:
        if one.dropped:
            log.warning(
                "from %s: %d frames dropped, %d refused, %d taken in within a minute", one.name, one.dropped, one.refused, one.taken
            )


@lru_cache(maxsize=ADDRESSES_MAX)
def network_of(host: str) -> str:
    """The address that counts, as text: an IPv4 address, or the 64-bit network of an IPv6 one."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return f"{IPv6Address(int(address) >> 64 << 64)}/64"
    return str(address)
