"""
Which header fields a gateway passes on, which it drops, and which are its own
(RFC 9110, section 7.6).

Both directions build the next head from the fields that came: what belongs to
one hop is dropped first, with all that C{Connection} names, and the gateway's
own fields are added after that, so that no client can have them removed.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

from twisted_llama.http.head import Field, RequestHead
from twisted_llama.http.response_head import ResponseHead

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
#: What a client says to the gateway and not to the engine.
_NOT_FOR_ENGINE = _HOP_BY_HOP | {
    b"authorization",
    b"content-length",
    b"expect",
    b"forwarded",
    b"host",
    # With it llama-server goes on generating after the client has left.
    b"x-conversation-id",
    b"x-api-key",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-proto",
    b"x-request-id",
}
#: What the engine says to the gateway and not to the client.
_NOT_FOR_CLIENT = _HOP_BY_HOP | {
    b"access-control-allow-credentials",
    b"access-control-allow-headers",
    b"access-control-allow-methods",
    b"access-control-allow-origin",
    b"access-control-expose-headers",
    b"access-control-max-age",
    b"content-length",
    b"x-accel-buffering",
    b"x-ratelimit-limit-requests",
    b"x-ratelimit-remaining-requests",
    b"x-ratelimit-reset-requests",
    b"x-request-id",
}

Networks = tuple[IPv4Network | IPv6Network, ...]


def _named_by_connection(fields: tuple[Field, ...]) -> frozenset[bytes]:
    values = b",".join(value for key, _, value in fields if key == b"connection")
    return frozenset(name.strip().lower() for name in values.split(b","))


@lru_cache(maxsize=512)
def engine_request_lines(head: RequestHead) -> bytes:
    """
    The header lines of a client's request that the engine gets, with the one
    that says which host the client meant.  Kept like the heads themselves (see
    L{read_request_head <twisted_llama.http.head.read_request_head>}).

    Names with an underscore are dropped: some servers read them as others.
    """
    if b"connection" in head.first:
        dropped = _NOT_FOR_ENGINE | _named_by_connection(head.fields)
    else:
        dropped = _NOT_FOR_ENGINE
    lines = [
        b"%b: %b\r\n" % (name, value)
        for key, name, value in head.fields
        if key not in dropped and b"_" not in key
    ]
    host = head.first.get(b"host")
    if host is not None:
        lines.append(b"X-Forwarded-Host: %b\r\n" % host)
    return b"".join(lines)


@lru_cache(maxsize=256)
def client_response_lines(head: ResponseHead) -> bytes:
    """
    The status line and header lines of an engine's answer that the client
    gets, without those that frame the body.

    The engine's few heads are few objects (see L{read_response_head
    <twisted_llama.http.response_head.read_response_head>}), so what becomes of them is
    kept too.
    """
    dropped = _NOT_FOR_CLIENT | _named_by_connection(head.fields)
    lines = [b"HTTP/1.1 %d %b\r\n" % (head.status, head.reason)]
    lines += [
        b"%b: %b\r\n" % (name, value)
        for key, name, value in head.fields
        # What varies with the origin is ours to say, like everything of CORS.
        if key not in dropped and (key != b"vary" or value.lower() != b"origin")
    ]
    if head.event_stream:
        lines.append(b"X-Accel-Buffering: no\r\n")
    return b"".join(lines)


def is_encoded(head: RequestHead) -> bool:
    """
    Whether a request says that its body is compressed, or encoded otherwise.
    """
    codings = b",".join(value for key, _, value in head.fields if key == b"content-encoding")
    return any(coding.strip().lower() not in (b"", b"identity") for coding in codings.split(b","))


def trusts(networks: Networks, host: str) -> bool:
    """
    Whether an address is one of the proxies whose word counts.
    """
    if not networks:
        return False
    try:
        address = ip_address(host)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        # How a socket for both families shows a client of the old one.
        address = address.ipv4_mapped
    return any(address in network for network in networks)


def forwarded_for(head: RequestHead, peer: str, trusted: Networks) -> tuple[bytes, str]:
    """
    Who sent a request.

    @param peer: the address at the other end of the connection.
    @param trusted: the proxies whose C{X-Forwarded-For} is believed.

    @return: the value of C{X-Forwarded-For} for the engine, and the client's
        address: the rightmost one that is no trusted proxy.
    """
    if not trusts(trusted, peer):
        return peer.encode("ascii", "replace"), peer
    hops = [
        hop.strip()
        for key, _, value in head.fields
        if key == b"x-forwarded-for"
        for hop in value.split(b",")
        if hop.strip()
    ]
    client = peer
    for hop in reversed(hops):
        client = hop.decode("ascii", "replace")
        if not trusts(trusted, client):
            break
    return b", ".join([*hops, peer.encode("ascii", "replace")]), client


def forwarded_proto(head: RequestHead, peer: str, trusted: Networks) -> bytes:
    """
    How a request came to a trusted proxy.

    @param peer: the address at the other end of the connection.
    @param trusted: the proxies whose C{X-Forwarded-Proto} is believed.

    @return: C{http} or C{https}; nothing if no such proxy says so, or it says more than one.
    """
    if b"x-forwarded-proto" not in head.first or not trusts(trusted, peer):
        return b""
    said = [value.lower() for key, _, value in head.fields if key == b"x-forwarded-proto"]
    return said[0] if said in ([b"http"], [b"https"]) else b""
