"""
Other ways to listen than a TCP port.
"""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.gateway.conftest import external
from tests.gateway.running import Gateway, make_secret, running
from tests.gateway.scripted_engine import ScriptedEngine
from tests.gateway.talking import CHAT, Client, Stream, ask, chat, request_bytes

MOCK = {"ENGINE": "mock", "EXTRA_ARGS": "--delay-ms 5 --tokens 30"}


def test_a_unix_socket(tmp_path: Path) -> None:
    """A stream through it; afterwards its file is gone."""
    path = tmp_path / "gw.sock"
    settings = {**MOCK, "GATEWAY_ENDPOINT": f"unix:{path}"}
    with running(Gateway(tmp_path, settings), ready=False) as gateway:
        gateway.printed("Engine is ready")
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            client = Client(connection)
            client.post(CHAT, chat(20, stream=True), gateway.key, "Connection: close\r\n")
            stream = Stream.of(client.rest())
            client.close()
        assert stream.whole
        assert stream.events[-1] == "[DONE]"
        assert ask(gateway.health_port, "GET", "/").status == 200
    assert not path.exists()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """
    A key and its self-signed certificate for 127.0.0.1.
    """
    directory = tmp_path_factory.mktemp("certificate")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway.test")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    key_path, certificate_path = directory / "key.pem", directory / "certificate.pem"
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    certificate_path.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    return key_path, certificate_path


def test_tls(tmp_path: Path, certificate: tuple[Path, Path], engine: ScriptedEngine) -> None:
    """Requests and a stream through it; the engine hears that it was https."""
    key_path, certificate_path = certificate
    endpoint = f"ssl:0:interface=127.0.0.1:privateKey={key_path}:certKey={certificate_path}"
    settings = external(engine, GATEWAY_ENDPOINT=endpoint)
    context = ssl.create_default_context(cafile=str(certificate_path))
    with (
        running(Gateway(tmp_path, settings), ready=False) as gateway,
        socket.create_connection(("127.0.0.1", gateway.port), 30) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        client = Client(connection)
        client.send(request_bytes("GET", "/v1/models", gateway.key))
        fields = dict(client.read("GET").json["fields"])
        assert fields["X-Forwarded-Proto"] == "https"
        client.post(CHAT, chat(), gateway.key)
        assert client.read().status == 200
        client.close()


def test_a_stream_through_tls(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    """Token by token, to its end."""
    key_path, certificate_path = certificate
    endpoint = f"ssl:0:interface=127.0.0.1:privateKey={key_path}:certKey={certificate_path}"
    context = ssl.create_default_context(cafile=str(certificate_path))
    settings = {**MOCK, "GATEWAY_ENDPOINT": endpoint}
    with running(Gateway(tmp_path, settings), ready=False) as gateway:
        gateway.printed("Engine is ready")
        with (
            socket.create_connection(("127.0.0.1", gateway.port), 30) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
        ):
            client = Client(connection)
            client.post(CHAT, chat(25, stream=True), gateway.key, "Connection: close\r\n")
            stream = Stream.of(client.rest())
            client.close()
    assert stream.whole
    assert len(stream.events) >= 25


def test_behind_haproxy(tmp_path: Path, engine: ScriptedEngine) -> None:
    """The address that the proxy tells is the client's."""
    settings = external(engine, GATEWAY_ENDPOINT="haproxy:tcp:0:interface=127.0.0.1")
    keys = {"user": make_secret()}
    with running(Gateway(tmp_path, settings, keys), ready=False) as gateway:
        for number in (7, 8):
            with Client.connected(gateway.port) as client:
                client.send(f"PROXY TCP4 203.0.113.{number} 127.0.0.1 5000 80\r\n".encode())
                client.send(request_bytes("GET", "/v1/models", gateway.key))
                fields = dict(client.read("GET").json["fields"])
            assert fields["X-Forwarded-For"] == f"203.0.113.{number}"
