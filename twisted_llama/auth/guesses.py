"""
Addresses that show one wrong key after the other.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

from attrs import define, field, frozen

#: This many different refused keys within a minute hold their address off.
BATCH: Final = 20
LONGEST_HOLD_SECONDS: Final = 60.0
_MINUTE: Final = 60.0
#: How many addresses are remembered; up to 3 KiB each.
_MOST_ADDRESSES: Final = 4096
#: How many wrong keys of each, and how much of their digests.
_MOST_SHOWN: Final = 20
_SHOWN_BYTES: Final = 8
#: What a proxy reports need not be an address, nor be short.
_LONGEST_NAME: Final = 64


@frozen
class Refusal:
    """
    What one more wrong key means for its address.

    @ivar address: who is counted together (see L{counted_as}).
    @ivar wait_seconds: how long it is held off from now on; 0 if it is not.
    @ivar untold: the refused keys that an operator should be told of now; 0 for most refusals,
        since that is once a minute for each address.
    """

    address: str
    wait_seconds: float
    untold: int


@define
class _Record:
    """
    @ivar began: when the first refusal of the batch came.
    @ivar count: the refusals of the batch so far.
    @ivar shown: the wrong keys shown lately, by the first bytes of their digests.
    @ivar hold_seconds: how long the last hold was; 0 if there was none.
    @ivar held_until: its end.
    @ivar told_at: when the operator was told last.
    @ivar untold: the refusals since then.
    """

    began: float
    count: int = 0
    shown: set[bytes] = field(factory=set)
    hold_seconds: float = 0.0
    held_until: float = 0.0
    told_at: float | None = None
    untold: int = 0

    def is_idle(self, now: float) -> bool:
        """
        Whether nothing of it matters any more.
        """
        return now - self.began >= _MINUTE and (
            not self.hold_seconds or now - self.held_until >= _MINUTE
        )


def counted_as(host: str) -> str:
    """
    Whose refusals are counted together: those of an address, or of the IPv6 network (C{/64})
    that one customer has, who can be any address in it.
    """
    address: IPv4Address | IPv6Address
    try:
        address = ip_address(host)
    except ValueError:
        return host[:_LONGEST_NAME]
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is None:
            return str(IPv6Network((int(address) >> 64 << 64, 64)))
        address = address.ipv4_mapped
    return str(address)


class Guesses:
    """
    Counts refused keys by address, and says which addresses are held off.

    Who shows one wrong key again and again (an old one, most likely) guesses nothing, so that
    only different ones count.  Twenty of them within a minute are answered as one is.  The
    twentieth begins a hold of one second; every further twenty within a minute, held off or
    not, one that is twice as long, up to a minute.  An address is forgotten a minute after
    its last batch and its hold.

    Nothing here is asked about a key that is valid, so that a guesser locks out nobody who has
    the same address.

    There is no periodic process: every refusal looks at the two addresses that were quiet for
    longest.
    """

    def __init__(
        self, monotonic: Callable[[], float], most_addresses: int = _MOST_ADDRESSES
    ) -> None:
        """
        @param monotonic: seconds that do not jump, C{time.monotonic}.
        @param most_addresses: beyond these the one that was quiet for longest is forgotten.
        """
        self._monotonic = monotonic
        self._most_addresses = most_addresses
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def __len__(self) -> int:
        """
        How many addresses are remembered.
        """
        return len(self._records)

    def refuse(self, host: str, digest: bytes) -> Refusal:
        """
        Count a key that was refused.

        @param host: the client's address; anything else is counted by its first letters.
        @param digest: the key's.
        """
        now = self._monotonic()
        address = counted_as(host)
        record = self._records.get(address)
        if record is None or record.is_idle(now):
            record = self._records[address] = _Record(now)
        self._records.move_to_end(address)
        if now - record.began < _MINUTE and digest[:_SHOWN_BYTES] in record.shown:
            return Refusal(address, 0.0, 0)
        held = record.held_until > now
        begins = _count(record, now)
        if len(record.shown) < _MOST_SHOWN:
            record.shown.add(digest[:_SHOWN_BYTES])
        # The one that begins a first hold is itself answered as those before it.
        wait_seconds = record.held_until - now if held else 0.0
        untold = _tell(record, now) if held or begins else 0
        self._forget(now)
        return Refusal(address, wait_seconds, untold)

    def _forget(self, now: float) -> None:
        # Two, so that idle addresses go faster than new ones can come.
        for _ in range(2):
            quiet = next(iter(self._records))
            if len(self._records) > self._most_addresses or self._records[quiet].is_idle(now):
                del self._records[quiet]
            else:
                break


def _count(record: _Record, now: float) -> bool:
    """
    Count a refusal.

    @return: whether it completes a batch, and with that begins a hold.
    """
    record.untold += 1
    if not record.count or now - record.began >= _MINUTE:
        if now - record.began >= _MINUTE:
            record.shown.clear()
        record.began, record.count = now, 0
    record.count += 1
    if record.count < BATCH:
        return False
    record.count = 0
    record.hold_seconds = min(LONGEST_HOLD_SECONDS, 2 * record.hold_seconds or 1.0)
    record.held_until = now + record.hold_seconds
    return True


def _tell(record: _Record, now: float) -> int:
    """
    The refusals to tell of, unless that was done within the last minute.
    """
    if record.told_at is not None and now - record.told_at < _MINUTE:
        return 0
    record.told_at = now
    untold, record.untold = record.untold, 0
    return untold
