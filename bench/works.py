"""
What is measured: each work is a few cases run in turns, and the figures read
off them with the ceiling that each has to stay under.
"""

from __future__ import annotations

from dataclasses import dataclass

from peers import Variant

#: Peers slower than this by far get fewer clients, or would only measure their queue.
FAST_PEERS = ("nginx", "haproxy", "caddy")
ALL = (*FAST_PEERS, "litellm", "smol")


PLAIN = Variant()


@dataclass(frozen=True)
class Case:
    """
    One target under one load.

    @ivar label: its column in the tables.
    @ivar target: C{gateway}, C{direct} or a peer's name.
    @ivar load: options of the load generator.
    @ivar companion: options of a second load that runs beside it, if any; what
        it measures is kept under C{beside.}.
    """

    label: str
    target: str
    load: tuple[str, ...]
    variant: Variant = PLAIN
    companion: tuple[str, ...] = ()


@dataclass(frozen=True)
class Figure:
    """
    One number to hold against a bound.

    @ivar metric: name in the results, dots for nesting.
    @ivar of: the case it is taken from.
    @ivar per: the case it is divided by, if it is a ratio.
    """

    text: str
    metric: str
    of: str
    bound: float
    per: str | None = None
    at_least: bool = False
    unit: str = ""


@dataclass(frozen=True)
class Work:
    """
    @ivar columns: metrics shown in the report's table.
    @ivar fresh: start the targets anew for each measurement, not for each round only:
        for memory, and because one process of the same code differs from the next.
    @ivar turns: how often each case has its turn in a round.  A gateway is held
        against itself for a difference of a few per cent, on machines whose speed
        changes by more within a minute (where they are idle most of the time, as with
        few tokens a second, by half): the shorter and more often, the truer.  And what
        wanders by half, as the slowest of a hundred first tokens, is looked at thrice.
    @ivar together: all cases at the same time instead of one after the other: what
        disturbs one disturbs the others as much.  For those that leave a core free:
        where they compete for it, each also costs more than it would alone.
    """

    name: str
    title: str
    cases: tuple[Case, ...]
    columns: tuple[str, ...]
    figures: tuple[Figure, ...] = ()
    fresh: bool = False
    idle: bool = False
    turns: int = 1
    together: bool = False


@dataclass(frozen=True)
class Scale:
    """
    How long and how big everything is.
    """

    seconds: float = 5.0
    warmup_seconds: float = 1.5
    held: int = 2000
    many_held: int = 5000
    many_keys: int = 1_000_000
    many_waiting: int = 10_000
    stalled: int = 100


QUICK = Scale(1.5, 0.5, 500, 1000, 100_000, 1000, 20)
PER_REQUEST = ("cpu_us_per_request", "requests_per_s", "total_ms.p50", "total_ms.p99", "all_bad")
PER_TOKEN = (
    "cpu_us_per_token",
    "tokens_per_s",
    "first_ms.p50",
    "first_ms.p99",
    "delay_ms.p99",
    "all_bad",
)
HELD = ("kb_per_stream", "cpu_us_per_token", "lost", "longest_silence_ms", "rss_start_kb")


def _beside(
    load: tuple[str, ...], peers: tuple[str, ...] = ALL, direct: bool = True
) -> tuple[Case, ...]:
    names = ("gateway", *peers, *(("direct",) if direct else ()))
    return tuple(Case(name, name, load) for name in names)


def _ratio(text: str, metric: str, per: str, bound: float, at_least: bool = False) -> Figure:
    return Figure(text, metric, "gateway", bound, per=per, at_least=at_least)


def make_works(scale: Scale) -> list[Work]:
    """
    Everything that is measured, each a few cases in turns.
    """
    window = ("--seconds", f"{scale.seconds:g}", "--warmup", f"{scale.warmup_seconds:g}")
    small = ("--clients", "32", *window)
    # A stream takes two seconds: what is measured begins when all have ended once.
    settled = ("--seconds", f"{scale.seconds:g}", "--warmup", f"{scale.warmup_seconds + 2:g}")
    paced = ("--clients", "200", "--stream", "--interval-us", "20000", "--tokens", "100", *settled)
    shortly = (*small, "--warmup", "0.5", "--seconds", f"{scale.seconds * 0.3:g}")
    half_paced = (*paced, "--clients", "100", "--seconds", f"{scale.seconds / 2:g}")
    rushed = ("--clients", "16", "--stream", "--interval-us", "0", "--tokens", "500", *window)
    a_second = ("--interval-us", "1000000", "--tokens", "100000")
    held = (*a_second, "--seconds", f"{scale.seconds:g}")
    return [
        Work(
            "idle",
            "Idle, nothing asked yet",
            _beside((), direct=False),
            ("rss_kb",),
            (Figure("resident memory", "rss_kb", "gateway", 65536, unit=" KB"),),
            idle=True,
        ),
        Work(
            "small",
            "32 keep-alive clients, small JSON completions",
            _beside(small),
            PER_REQUEST,
            (
                _ratio("CPU per request, to Caddy's", "cpu_us_per_request", "caddy", 0.6),
                _ratio("CPU per request, to nginx's", "cpu_us_per_request", "nginx", 5.0),
            ),
            turns=3,
        ),
        Work(
            "streams",
            "200 streams, a token every 20 ms",
            _beside(paced),
            PER_TOKEN,
            (
                _ratio("CPU per token, to Caddy's", "cpu_us_per_token", "caddy", 0.85),
                _ratio("CPU per token, to nginx's", "cpu_us_per_token", "nginx", 2.0),
                _ratio("time to first token p99, to Caddy's", "first_ms.p99", "caddy", 1.0),
            ),
            turns=3,
        ),
        Work(
            "rush",
            "16 streams as fast as they come",
            _beside(rushed),
            PER_TOKEN,
            (_ratio("tokens per second, to Caddy's", "tokens_per_s", "caddy", 0.9, at_least=True),),
            turns=3,
        ),
        Work(
            "hold",
            f"{scale.held:,} open streams, a token a second",
            _beside(
                ("--hold", "--clients", str(scale.held), "--ramp", "2", *held),
                FAST_PEERS,
                direct=False,
            ),
            HELD,
            (Figure("memory per stream", "kb_per_stream", "gateway", 10.0, unit=" KB"),),
            fresh=True,
        ),
        Work(
            "connect",
            "A new connection for each request, 32 clients",
            _beside((*small, "--new-connections")),
            PER_REQUEST,
            (_ratio("CPU per request, to Caddy's", "cpu_us_per_request", "caddy", 0.8),),
        ),
        Work(
            "prompt",
            "64 KB prompt body, 8 clients",
            _beside(("--clients", "8", "--body-bytes", "65536", *window)),
            PER_REQUEST,
            (_ratio("CPU per request, to Caddy's", "cpu_us_per_request", "caddy", 1.0),),
        ),
        Work(
            "width",
            "1,000 streams against 100, 5,000 tokens a second in all",
            tuple(
                Case(
                    f"{n} streams",
                    "gateway",
                    (
                        *("--hold", "--clients", str(n), "--tokens", "100000", "--ramp", "1"),
                        *("--interval-us", str(n * 200), "--seconds", f"{scale.seconds / 4:g}"),
                    ),
                )
                for n in (100, 1000)
            ),
            ("cpu_us_per_token", "tokens_per_s", "gap_ms.p50", "delay_ms.p99", "lost"),
            (
                Figure(
                    "CPU per token, 1,000 to 100",
                    "cpu_us_per_token",
                    "1000 streams",
                    1.2,
                    per="100 streams",
                ),
            ),
            turns=10,
        ),
        Work(
            "keys",
            f"{scale.many_keys:,} keys against 10",
            (
                Case("few keys", "gateway", shortly),
                Case("many keys", "gateway", shortly, Variant(keys=scale.many_keys)),
            ),
            (*PER_REQUEST, "rss_end_kb"),
            (
                Figure(
                    "CPU per request, many keys to few",
                    "cpu_us_per_request",
                    "many keys",
                    1.1,
                    per="few keys",
                ),
            ),
            turns=10,
        ),
        _queue_work(scale),
        Work(
            "observation",
            "The price of observation: completions",
            (
                Case("observed", "gateway", shortly),
                Case("unobserved", "gateway", shortly, Variant(unobserved=True)),
            ),
            PER_REQUEST,
            (
                Figure(
                    "CPU per request, observed to unobserved",
                    "cpu_us_per_request",
                    "observed",
                    1.15,
                    per="unobserved",
                ),
            ),
            turns=10,
        ),
        Work(
            "observation-streams",
            "The price of observation: streams, 100 on each at the same time",
            (
                Case("observed", "gateway", half_paced),
                Case("unobserved", "gateway", half_paced, Variant(unobserved=True)),
            ),
            PER_TOKEN,
            (
                Figure(
                    "CPU per token, observed to unobserved",
                    "cpu_us_per_token",
                    "observed",
                    1.05,
                    per="unobserved",
                ),
            ),
            turns=8,
            fresh=True,
            together=True,
        ),
        Work(
            "many",
            f"{scale.many_held:,} open streams, a token a second, status pages asked meanwhile",
            (
                Case(
                    "gateway",
                    "gateway",
                    (
                        *("--hold", "--clients", str(scale.many_held), "--ramp", "4", *a_second),
                        # All of them are open before the companion measures, and until after.
                        *("--seconds", f"{scale.seconds + 6:g}"),
                    ),
                    companion=(
                        *("--get", "--path", "/health", "--path", "/ready", "--path", "/metrics"),
                        *("--path", "/ping", "--clients", "2", "--pause-us", "20000"),
                        *("--warmup", "7.5", "--seconds", f"{scale.seconds:g}"),
                    ),
                ),
            ),
            (*HELD, "opened", "beside.total_ms.p50", "beside.total_ms.p99", "beside.all_bad"),
            (
                Figure("streams opened", "opened", "gateway", scale.many_held, at_least=True),
                Figure("streams lost", "lost", "gateway", 0),
                Figure("status pages' p99", "beside.total_ms.p99", "gateway", 50.0, unit=" ms"),
            ),
            fresh=True,
        ),
        Work(
            "stall",
            f"{scale.stalled} clients that read nothing of 10 MiB for 3 s, then all",
            _beside(
                ("--clients", str(scale.stalled), "--stall", "3", "--bytes", str(10 << 20)),
                FAST_PEERS,
                direct=False,
            ),
            ("grown_kb_per_client", "all_ok", "all_bad", "unfinished", "bytes", "read_seconds"),
            (
                Figure(
                    "memory grown per client", "grown_kb_per_client", "gateway", 256, unit=" KB"
                ),
                Figure(
                    "clients that got every byte", "all_ok", "gateway", scale.stalled, at_least=True
                ),
            ),
            fresh=True,
        ),
    ]


def _queue_work(scale: Scale) -> Work:
    """
    Closed loop: all clients but the eight being served are waiting. The engine
    takes 5 ms for each, so that 1,600 are admitted a second whoever waits.  Both gateways
    at the same time: what is looked for is what ten thousand cost more, and between two
    measurements one after the other the machine changes by as much.
    """
    served = 8
    variant = Variant((("MAX_CONCURRENT_REQUESTS", str(served)), ("MAX_QUEUE_SIZE", "0")))
    window = ("--seconds", f"{scale.seconds:g}", "--first-us", "5000", "--drain", "1")

    def case(label: str, waiting: int) -> Case:
        clients = ("--clients", str(waiting + served), "--ramp", "5", "--warmup", "3")
        return Case(label, "gateway", (*clients, *window), variant)

    return Work(
        "queue",
        f"{scale.many_waiting:,} requests waiting in the queue against 10, at the same time",
        (case("10 waiting", 10), case("many waiting", scale.many_waiting)),
        ("cpu_us_per_request", "requests_per_s", "total_ms.p50", "refused_connects", "bad"),
        (
            Figure(
                "CPU per admission, many to 10",
                "cpu_us_per_request",
                "many waiting",
                1.2,
                per="10 waiting",
            ),
        ),
        turns=2,
        together=True,
    )
