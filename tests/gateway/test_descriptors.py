"""
A gateway that has no file descriptors left for more clients.
"""

from __future__ import annotations

import contextlib
import json
import re
import resource
import select
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import Require
from tests.gateway.running import Gateway, make_secret, running, until
from tests.gateway.talking import Answer, Client, ask, request_bytes
from twisted_llama.assembly.door import FOR_FILES, FOR_HEALTH

#: Requests to the engine at once.
AT_ONCE = 4
#: For how many clients there is room.
ROOM = 12
COMING = 40
_USED_UP = "file descriptors are used up"
_QUESTION = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 3}


@pytest.fixture
def short(tmp_path: Path, require: Require) -> Iterator[Gateway]:
    """
    A gateway whose limit is lowered, as C{prlimit} does it, when it is ready.
    """
    require(hasattr(resource, "prlimit"), "the limits of a running process cannot be set here")
    settings = {"ENGINE": "mock", "EXTRA_ARGS": f"-np {AT_ONCE}", "KEEPALIVE_TIMEOUT": 600}
    with running(Gateway(tmp_path, settings)) as gateway:
        process = psutil.Process(gateway.process.pid)
        limit = process.num_fds() + ROOM + AT_ONCE + FOR_FILES + FOR_HEALTH
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (limit, limit))
        yield gateway


def answer(client: Client, method: str, path: str, key: str | None, body: object = None) -> Answer:
    """
    Ask something on a connection that is open.
    """
    content = None if body is None else json.dumps(body).encode()
    client.send(request_bytes(method, path, key, content, ""))
    return client.read(method)


def inside(gateway: Gateway) -> int:
    """
    How many connections the gateway has accepted on its port.
    """
    connections = psutil.Process(gateway.process.pid).net_connections("tcp")
    return sum(
        connection.laddr.port == gateway.port and connection.status == psutil.CONN_ESTABLISHED
        for connection in connections
    )


def wait(clients: list[Client]) -> None:
    """
    Read an answer from each of them.
    """
    for client in clients:
        assert client.read("GET").status == 200


def test_accepting_pauses_and_resumes(short: Gateway) -> None:
    """
    Who is inside is served as always, the engine is started again if it must be, the health port
    answers, others wait without a reset; nothing spins, and there is one line in the log.
    """
    gateway, process = short, psutil.Process(short.process.pid)
    port, health_port = gateway.port, gateway.health_port
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client.connected(port)) for _ in range(COMING)]
        for client in clients:
            client.send(request_bytes("GET", "/ping", None, None, ""))
        gateway.printed(_USED_UP)
        let_in = inside(gateway)
        assert 0 < let_in < COMING
        wait(clients[:let_in])
        first, waiting = clients[0], clients[let_in:]

        # Those inside.
        for path in ("/ping", "/health", "/ready", "/metrics"):
            assert answer(first, "GET", path, None).status == 200
        for client in clients[:AT_ONCE]:
            client.post("/v1/chat/completions", _QUESTION, gateway.key)
        assert [client.read().status for client in clients[:AT_ONCE]] == [200] * AT_ONCE
        new_key = make_secret()
        gateway.secrets.add(new_key)
        gateway.write_keys(f"new:{new_key}")
        assert answer(first, "POST", "/reload", gateway.key, {}).json["keys_loaded"] == 2
        assert answer(first, "GET", "/v1/models", new_key).status == 200

        # The health port: several at once.
        with contextlib.ExitStack() as probes:
            for _ in range(FOR_HEALTH // 2):
                probe = probes.enter_context(Client.connected(health_port))
                assert answer(probe, "GET", "/", None).status == 200

        # An engine that dies is started again, with its pipes and its key file.
        def engine_pid() -> int:
            engine = answer(first, "GET", "/health", None).json["engine"]
            return int(engine["pid"] or 0) if engine["state"] == "ready" else 0

        dead = engine_pid()
        psutil.Process(dead).send_signal(signal.SIGKILL)
        until(lambda: engine_pid() not in (0, dead), "there is another engine")
        assert answer(first, "POST", "/v1/chat/completions", gateway.key, _QUESTION).status == 200

        # Those outside wait, and waiting costs nothing: what spins would take all of it.
        stretch_seconds = 2.0
        before = sum(process.cpu_times()[:2])
        threading.Event().wait(stretch_seconds)
        assert sum(process.cpu_times()[:2]) - before < stretch_seconds / 2
        assert inside(gateway) < COMING
        assert select.select([waiting[-1].connection], [], [], 0)[0] == []

        # They are served when others leave.
        for client in clients[:let_in]:
            client.close()
        for client in waiting:
            wait([client])
            client.close()
        assert ask(port, "GET", "/ping").status == 200
    assert gateway.output.count(_USED_UP) == 1
    for noise in ("EMFILE", "Could not accept", "Too many open files"):
        assert noise not in gateway.output


def test_every_client_may_have_a_request_under_way(tmp_path: Path, require: Require) -> None:
    """Where more are allowed at once than there are descriptors, and those who came later too."""
    require(hasattr(resource, "prlimit"), "the limits of a running process cannot be set here")
    limit = 400
    # Two descriptors for each, and what the gateway has open and keeps beside.
    room = limit // 3
    request = {**_QUESTION, "stream": True}
    settings = {"ENGINE": "mock", "EXTRA_ARGS": f"-np {10 * limit} --delay-ms 600000"}
    with running(Gateway(tmp_path, settings)) as gateway, contextlib.ExitStack() as stack:
        resource.prlimit(gateway.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
        clients = []
        for _ in range(room):
            clients.append(stack.enter_context(Client.connected(gateway.port)))
            clients[-1].post("/v1/chat/completions", request, gateway.key)
            assert clients[-1].begin().status == 200
        # Half of them leave, and others come who ask for nothing yet.
        for client in clients[room // 2 :]:
            client.close()
        waiting = [stack.enter_context(Client.connected(gateway.port)) for _ in range(room)]
        gateway.printed(_USED_UP)
        for client in waiting:
            client.post("/v1/chat/completions", request, gateway.key)
        let_in = inside(gateway) - room // 2
        assert let_in >= room // 2
        for client in waiting[:let_in]:
            assert client.begin().status == 200


def test_a_limit_below_max_connections_is_told(tmp_path: Path, require: Require) -> None:
    """At the start, with how many clients there is room for."""
    require(hasattr(resource, "prlimit"), "the limits of a running process cannot be set here")
    limit = 4096
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    require(hard > limit, f"the limit of open files is {hard} here: ulimit -Hn 8192")
    command = ("python", "-c", _LIMITED.format(limit=limit))
    with running(Gateway(tmp_path, {"ENGINE": "mock"}, command=command)) as gateway:
        said = gateway.printed(r"MAX_CONNECTIONS=10000, but (\d+) open files .* for (\d+) clients")
        assert (int(said[1]), int(said[2])) == (limit, limit - FOR_FILES - FOR_HEALTH - 1)


def test_the_table_of_descriptors_need_not_grow(tmp_path: Path, require: Require) -> None:
    """The kernel has room for many before the first client comes: growing would stop everybody."""
    status = Path("/proc/self/status")
    require(status.exists() and "FDSize:" in status.read_text(), "/proc does not tell the size")
    with running(Gateway(tmp_path, {"ENGINE": "mock"})) as gateway:
        process = psutil.Process(gateway.process.pid)
        limit, _ = process.rlimit(psutil.RLIMIT_NOFILE)
        table = re.search(r"FDSize:\s*(\d+)", Path(f"/proc/{process.pid}/status").read_text())
        assert table is not None
        assert int(table[1]) >= min(limit, 16384)
        assert process.num_fds() < 100


#: twistd with fewer open files than it may have by itself.
_LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))
from twisted.scripts.twistd import run
sys.argv[:] = ["twistd", "-n", "--pidfile=", "llama-gateway"]
run()
"""
