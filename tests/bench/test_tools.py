"""
The engine stand-in and the load generator against each other: nothing in
between, so every count must be exact.
"""

import http.client
import json
import os
import select
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_target import Directly
from measure import Bench
from peers import Variant, write_keys
from programs import BenchError, Program, build, free_port, start_engine
from works import Case, Work

pytestmark = pytest.mark.usefixtures("compiler")


@pytest.fixture
def engine(tmp_path: Path, compiler: None) -> Iterator[Program]:
    """A running engine stand-in."""
    program = start_engine(tmp_path / "engine", 60)
    yield program
    program.stop()


def load(engine: Program, *options: str) -> dict[str, object]:
    """Run the load generator to its end."""
    argv = [str(build("load")), "--port", str(engine.port), "--pid", str(engine.process.pid)]
    done = subprocess.run([*argv, *options], capture_output=True, timeout=60, check=True)
    return json.loads(done.stdout)


def test_completions_are_all_whole(engine: Program) -> None:
    """Closed loop on kept connections."""
    measured = load(engine, "--clients", "4", "--seconds", "0.2", "--warmup", "0.05")
    assert measured["all_bad"] == 0
    assert measured["ok"] > 0
    assert measured["cpu_s"] > 0
    assert measured["unfinished"] == 0
    assert set(measured["statuses"]) == {"200"}


def test_new_connections_are_counted_by_the_engine(engine: Program) -> None:
    """One connection for each request."""
    measured = load(engine, "--clients", "2", "--seconds", "0.2", "--new-connections")
    engine.process.terminate()
    engine.process.wait(5)
    counters = json.loads(engine.tail().splitlines()[-1])
    assert measured["all_bad"] == 0
    assert counters["connections"] == counters["requests"] == measured["all_ok"]


def test_streams_bring_the_tokens_asked_for(engine: Program) -> None:
    """The final chunk carries no token of its own but is an event as well."""
    measured = load(
        engine,
        *("--clients", "3", "--stream", "--tokens", "7", "--interval-us", "1000"),
        *("--warmup", "0", "--seconds", "0.2"),
    )
    assert measured["all_bad"] == 0
    assert measured["tokens"] >= 7
    assert measured["delay_ms"]["p50"] >= 0
    assert measured["first_ms"]["p50"] < measured["total_ms"]["p50"]


def test_held_streams_are_all_open_and_none_is_lost(engine: Program) -> None:
    """As in the test of five thousand."""
    measured = load(
        engine,
        *("--hold", "--clients", "50", "--interval-us", "10000", "--tokens", "100000"),
        *("--seconds", "0.3", "--settle", "0.1"),
    )
    assert (measured["opened"], measured["lost"]) == (50, 0)
    assert measured["tokens"] > 0


def test_stalled_readers_get_every_byte(engine: Program) -> None:
    """A body many times what sockets hold, checked against its pattern."""
    size = 3 << 20
    measured = load(engine, "--clients", "3", "--stall", "0.3", "--bytes", str(size))
    assert (measured["all_ok"], measured["all_bad"]) == (3, 0)
    assert measured["bytes"] == 3 * size


def test_a_server_that_is_not_there_is_counted_not_fatal(engine: Program) -> None:
    """Refused connections."""
    engine.port = free_port()
    measured = load(engine, "--clients", "2", "--seconds", "0.1", "--warmup", "0")
    assert measured["refused_connects"] > 0
    assert measured["all_ok"] == 0


def test_a_body_of_64_kilobytes_is_answered(engine: Program) -> None:
    """More than one read of the engine, one answer."""
    options = ("--clients", "2", "--body-bytes", "65536", "--seconds", "0.1", "--warmup", "0")
    assert load(engine, *options)["all_bad"] == 0


def test_engine_answers_like_an_openai_server(engine: Program) -> None:
    """The last chunk has usage and timings, for gateways that count tokens."""
    connection = http.client.HTTPConnection("127.0.0.1", engine.port, timeout=10)
    body = json.dumps({"stream": True, "max_tokens": 2, "interval_us": 0})
    connection.request("POST", "/v1/chat/completions", body)
    response = connection.getresponse()
    assert response.getheader("Content-Type") == "text/event-stream"
    *events, done = [e for e in response.read().decode().split("\n\n") if e]
    assert done == "data: [DONE]"
    last = json.loads(events[-1].removeprefix("data: "))
    assert last["usage"]["completion_tokens"] == last["timings"]["predicted_n"] == 2
    connection.request("GET", "/v1/models")
    assert json.loads(connection.getresponse().read())["data"][0]["id"] == "bench.gguf"
    connection.close()


def test_bench_measures_in_turns(tmp_path: Path) -> None:
    """Two rounds, one sample each; nothing is left running or lying about."""
    said: list[str] = []
    bench = Bench({"direct": Directly()}, tmp_path, time.monotonic() + 60, said.append)
    options = ("--clients", "2", "--seconds", "0.1", "--warmup", "0")
    work = Work("w", "W", (Case("direct", "direct", options, companion=options),), ("ok",))
    measured = bench.measure(work, 2)
    assert [sample["ok"] > 0 for sample in measured.samples["direct"]] == [True, True]
    assert measured.samples["direct"][0]["beside.all_bad"] == 0
    assert list(tmp_path.iterdir()) == []
    assert len(said) == 2


def test_each_round_has_its_own_processes(tmp_path: Path) -> None:
    """All turns of one are with the same process, those of the next with another."""

    class Counted(Directly):
        starts = 0

        def start(self, directory: Path, engine_port: int, variant: Variant) -> Program:
            self.starts += 1
            return super().start(directory, engine_port, variant)

    counted = Counted()
    bench = Bench({"direct": counted}, tmp_path, time.monotonic() + 60, lambda _: None)
    options = ("--clients", "2", "--seconds", "0.1", "--warmup", "0")
    work = Work("w", "W", (Case("direct", "direct", options),), ("ok",), turns=2)
    assert len(bench.measure(work, 2).samples["direct"]) == 4
    assert counted.starts == 2
    assert list(tmp_path.iterdir()) == []


def test_bench_measures_together_what_is_to_be_disturbed_alike(tmp_path: Path) -> None:
    """Each with a process of its own, which lasts for all turns."""
    bench = Bench({"direct": Directly()}, tmp_path, time.monotonic() + 60, lambda _: None)
    options = ("--clients", "2", "--seconds", "0.1", "--warmup", "0")
    cases = (
        Case("one", "direct", options),
        Case("other", "direct", options, Variant(keys=11)),
    )
    measured = bench.measure(Work("w", "W", cases, ("ok",), turns=2, together=True), 1)
    assert measured.failures == {}
    for samples in measured.samples.values():
        assert [sample["all_bad"] for sample in samples] == [0, 0]
    assert list(tmp_path.iterdir()) == []


def test_bench_begins_nothing_when_the_time_is_up(tmp_path: Path) -> None:
    """And says so."""
    bench = Bench({"direct": Directly()}, tmp_path, time.monotonic() - 1, lambda _: None)
    work = Work("w", "W", (Case("direct", "direct", ()),), ("ok",))
    assert bench.measure(work, 1).failures == {"direct": "the time was up"}


def test_a_program_that_ends_at_once_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    """Not a wait for the whole time allowed."""
    argv = ["/bin/sh", "-c", "echo no such thing; exit 3"]
    program = Program.start("peer", argv, tmp_path, port=free_port())
    with pytest.raises(BenchError, match="no such thing"):
        program.wait_until_answers("/", 30)


def test_stop_ends_what_the_program_started_too(tmp_path: Path) -> None:
    """The children of a program are its own."""
    program = Program.start("peer", ["/bin/sh", "-c", "sleep 60 & sleep 60"], tmp_path)
    while len(program.pids()) < 3:
        assert program.process.poll() is None
    children = [os.pidfd_open(pid) for pid in program.pids() if pid != program.process.pid]
    program.stop()
    for child in children:
        # A file of a process is readable as soon as that has ended.
        assert select.select([child], [], [], 10)[0]
        os.close(child)


def test_keys_come_as_a_key_file_and_bare(tmp_path: Path) -> None:
    """The gateway's grammar takes the one, the load generator the other."""
    from twisted_llama.auth.keyfile import parse_keyfile

    keyfile, bare = write_keys(tmp_path, 3)
    parsed = parse_keyfile(keyfile.read_text())
    assert (len(parsed.entries), parsed.problems) == (3, ())
    assert len(set(bare.read_text().split())) == 3
    assert Variant().keys == 10
