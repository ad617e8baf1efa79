"""
Where Redis is: C{REDIS_URL} read, and the endpoint made from it.

    redis://[[user]:password@]host[:port][/db]
    rediss://…            the same over TLS; C{?ssl_ca_certs=FILE} names the CA to trust
                          where the system's are not the ones
    unix://[[user]:password@]/path/to/socket[?db=N]

Whatever is wrong with the address, its password appears in no message.
"""

from __future__ import annotations

from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from attrs import evolve, field, frozen
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import (
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorTime,
    IReactorUNIX,
    IStreamClientEndpoint,
)
from twisted.python.filepath import FilePath

from twisted_llama.errors import StartupError

CONNECT_SECONDS = 5.0
_FORM = "Write redis://[:password@]host[:port][/db], rediss://… for TLS, or unix:///path."


class IRedisReactor(IReactorTime, IReactorTCP, IReactorUNIX, IReactorPluggableNameResolver):
    """
    The part of a reactor that is needed to reach a Redis.
    """


@frozen
class RedisAddress:
    """
    One Redis and how to log in there.

    @ivar host: name or IP address; empty for a UNIX socket.
    @ivar path: of the UNIX socket; empty for TCP.
    @ivar tls: whether the connection is encrypted and the server's name is checked.
    @ivar ca_certs: a PEM file with the CA to trust instead of the system's.
    @ivar username: for servers with ACLs.
    @ivar password: never shown.
    @ivar db: the number of the database.
    """

    host: str = ""
    port: int = 6379
    path: str = ""
    tls: bool = False
    ca_certs: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    db: int = 0

    def __str__(self) -> str:
        """
        For logs: without the password.
        """
        if self.path:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rediss' if self.tls else 'redis'}://{host}:{self.port}/{self.db}"


def parse_redis_url(url: str) -> RedisAddress:
    """
    Read C{REDIS_URL}.

    @raise StartupError: if it is not of one of the forms above.
    """
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        raise _refused("it has a bad host or port") from None
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise _refused("it does not begin with redis://, rediss:// or unix://")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    path = unquote(parts.path)
    if parts.scheme == "unix":
        if not path.startswith("/") or path == "/" or parts.hostname:
            raise _refused("after unix:// it needs the absolute path of a socket")
        address = RedisAddress(path=path)
        db = options.pop("db", "")
    else:
        if not parts.hostname:
            raise _refused("it names no host")
        if port == 0:
            raise _refused("it has a bad host or port")
        if path.strip("/") and "db" in options:
            raise _refused("it names the database twice")
        address = RedisAddress(
            host=parts.hostname,
            port=port or 6379,
            tls=parts.scheme == "rediss",
            ca_certs=options.pop("ssl_ca_certs", None) if parts.scheme == "rediss" else None,
        )
        db = options.pop("db", "") or path.strip("/")
    if options:
        raise _refused(f"it has the unknown option {sorted(options)[0]!r}")
    return _with_login(address, parts, db)


def redis_endpoint(reactor: IRedisReactor, address: RedisAddress) -> IStreamClientEndpoint:
    """
    The endpoint that connects to this Redis.

    @raise StartupError: if TLS is asked for and cannot be had, or the CA file cannot be
        read.
    """
    if address.path:
        return UNIXClientEndpoint(reactor, address.path, timeout=CONNECT_SECONDS)
    plain = HostnameEndpoint(reactor, address.host, address.port, timeout=CONNECT_SECONDS)
    if not address.tls:
        return plain
    try:
        from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
    except ImportError:
        raise _refused("TLS needs two more packages: pip install 'twisted[tls]'") from None
    trust_root = None
    if address.ca_certs is not None:
        try:
            pem = FilePath(address.ca_certs).getContent()
            trust_root = trustRootFromCertificates([Certificate.loadPEM(pem)])
        except Exception as problem:
            # pyOpenSSL has an Error of its own that is no ValueError.
            raise _refused(
                f"the CA file {address.ca_certs} cannot be used ({type(problem).__name__})"
            ) from None
    return wrapClientTLS(optionsForClientTLS(address.host, trustRoot=trust_root), plain)


def _with_login(address: RedisAddress, parts: SplitResult, db: str) -> RedisAddress:
    """
    Add who logs in, and to which database.
    """
    # Digits of other scripts are digits to str.isdigit.
    if db and not (db.isascii() and db.isdigit()):
        raise _refused("its database is not a number")
    return evolve(
        address,
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        db=int(db or 0),
    )


def _refused(why: str) -> StartupError:
    return StartupError(f"REDIS_URL cannot be used: {why}. {_FORM}")
