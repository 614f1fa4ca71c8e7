"""Who sends too much of what is refused: a byte budget for each address and for all together, so that nobody can fill the journal with rubbish.

An address may stand for one meter or for a gateway with thousands behind it. So no address is shut out: one that has used up its room has its
frames judged before they are stored, and only what would be taken in is kept. Room comes back with time, and genuine frames earn some: a gateway
whose refused frames are a small share of its good ones is never limited. What is not stored is counted by cause, and told in one log line for
each address and minute.

What always holds: a genuine frame is never left out; refused frames that are stored grow by no more than the settings say, and what gathers in
one batch at most; memory does not grow with the number of addresses; no clock of its own.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from ..store.deployment import Deployment

log = logging.getLogger("openami.headend")

ADDRESSES_MAX = 10_000
WINDOW_S = 60
REFILL_S = 3600.0
"""How long an empty budget takes to be whole again."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What may be stored of refused frames: `address_kib` an hour of one address, `all_kib` an hour of all together, and beyond both what an
    address's own genuine frames earn it, `percent` of their octets."""

    percent: int = 10
    address_kib: int = 4_096
    all_kib: int = 65_536

    @classmethod
    def of(cls, deployment: Deployment) -> Allowance:
        """As the folder sets it; what it does not set is as here."""
        given = {
            "percent": deployment.refused_percent,
            "address_kib": deployment.refused_address_kib,
            "all_kib": deployment.refused_all_kib,
        }
        return cls(**{name: value for name, value in given.items() if value is not None})


@dataclass(slots=True)
class Budget:
    """Octets that may still be stored; filled evenly, never beyond `whole`. What one batch takes too much is paid back."""

    whole: float
    left: float
    at_s: float

    def fill(self, now_s: float) -> None:
        self.left = min(self.whole, self.left + (now_s - self.at_s) * self.whole / REFILL_S)
        self.at_s = now_s


@dataclass(slots=True)
class Sender:
    """One address. name: as it is logged; earned: octets that its genuine frames have earned; the counts are of this minute."""

    name: str
    budget: Budget
    earned: float = 0.0
    taken: int = 0
    refused: int = 0
    not_stored: Counter[str] = field(default_factory=Counter)


class Gate:
    """The senders of the last hour. An IPv6 network of 64 bits counts as one: its owner may take any address in it."""

    def __init__(self, allowance: Allowance | None = None) -> None:
        self.allowance = allowance or Allowance()
        self._senders: OrderedDict[str, Sender] = OrderedDict()
        self._ends_s = self._now_s = 0.0
        self._all = Budget(self.allowance.all_kib * 1024.0, self.allowance.all_kib * 1024.0, 0.0)

    def sender(self, host: str) -> Sender:
        """The account of an address; where there are too many, that of the longest unseen is forgotten."""
        name = network_of(host)
        known = self._senders.get(name)
        if known is None:
            while len(self._senders) >= ADDRESSES_MAX:
                self._tell(self._senders.popitem(last=False)[1])
            whole = self.allowance.address_kib * 1024.0
            known = self._senders[name] = Sender(name, Budget(whole, whole, self._now_s))
        else:
            self._senders.move_to_end(name)
            known.budget.fill(self._now_s)
        return known

    def limited(self, sender: Sender) -> bool:
        """Whether this address has no room left for what is refused."""
        return sender.earned <= 0 and (sender.budget.left <= 0 or self._all.left <= 0)

    def earn(self, sender: Sender, frames: int, octets: int) -> None:
        """Frames that were taken in, and how much they weigh together."""
        sender.taken += frames
        sender.earned = min(sender.budget.whole, sender.earned + octets * self.allowance.percent / 100)

    def spend(self, sender: Sender, octets: int) -> None:
        """A frame that was stored and refused."""
        sender.refused += 1
        from_earned = min(max(0.0, sender.earned), octets)
        sender.earned -= from_earned
        sender.budget.left -= octets - from_earned
        self._all.left -= octets - from_earned

    def leave_out(self, sender: Sender, cause: str) -> None:
        """A frame that was not stored, and why it would have been refused."""
        sender.not_stored[cause] += 1

    def turn(self, now_s: float) -> bool:
        """It is now `now_s` (any clock that only grows); True where a new minute begins."""
        self._now_s = now_s
        self._all.fill(now_s)
        if now_s < self._ends_s:
            return False
        self._ends_s = now_s + WINDOW_S
        for one in list(self._senders.values()):
            self._tell(one)
            if now_s - one.budget.at_s > REFILL_S:
                del self._senders[one.name]
        return True

    def _tell(self, one: Sender) -> None:
        if one.not_stored:
            causes = ", ".join(f"{count} {cause}" for cause, count in sorted(one.not_stored.items()))
            log.warning(
                "from %s within a minute: %d frames taken in, %d refused; refused and not stored: %s",
                one.name,
                one.taken,
                one.refused,
                causes,
            )
        one.taken = one.refused = 0
        one.not_stored.clear()


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
