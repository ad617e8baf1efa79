"""
Fuzzes every target for a while: C{python -m fuzz.run [--seconds 60] [--only channel]}.

Says how many executions there were and what was found; exits 1 if anything was,
2 if atheris is not there.  What is found is kept in C{fuzz/findings/}; an input
there is tried again with C{python -m fuzz.run --only channel --input FILE}.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from attrs import frozen

from fuzz.corpus import HERE, TARGETS, check_of, corpus_of
from fuzz.seeds import seeds

FINDINGS = HERE / "findings"
#: Longer inputs make each execution slower and show hardly more: where most bytes
#: of one stand for a whole request, few are much.
MAX_INPUT_BYTES = {"channel": 80, "relay": 100}
MAX_TEXT_BYTES = 400
#: No execution may take longer, nor the process more memory.
TIMEOUT_SECONDS = 60
MEMORY_MEBIBYTES = 2048
_DICTIONARIES = {"settings": "settings", "keyfile": "keyfile"}
_EXECUTED = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_PER_SECOND = re.compile(r"stat::average_exec_per_sec:\s*(\d+)")
_COUNTED = re.compile(r"^#(\d+)\s", re.MULTILINE)


@frozen
class Outcome:
    """
    What came of one target.

    @ivar findings: the inputs that broke a promise.
    @ivar log: what libFuzzer has said.
    """

    executions: int
    per_second: int
    findings: list[Path]
    failed: bool
    log: str


def main(arguments: list[str] | None = None) -> int:
    """
    Fuzz.

    @return: the exit status.
    """
    asked = _parser().parse_args(arguments)
    if asked.input is not None:
        check_of(asked.only[0])(asked.input.read_bytes())
        print("No promise is broken.")
        return 0
    if find_spec("atheris") is None:
        print("atheris is not installed: pip install -e '.[fuzz]'", file=sys.stderr)
        return 2
    found = False
    print(f"{'target':<10}{'executions':>12}{'a second':>10}  findings")
    for target in asked.only:
        outcome = fuzz(target, asked.seconds, asked.keep)
        found = found or outcome.failed
        names = ", ".join(os.path.relpath(file) for file in outcome.findings)
        said = names or ("see below" if outcome.failed else "none")
        print(f"{target:<10}{outcome.executions:>12,}{outcome.per_second:>10,}  {said}", flush=True)
        if outcome.failed:
            print(_essence(outcome.log), flush=True)
    return 1 if found else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fuzz", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seconds", type=int, default=30, help="for each target (30)")
    parser.add_argument(
        "--only",
        type=lambda names: names.split(","),
        default=list(TARGETS),
        help=f"some of {','.join(TARGETS)}",
    )
    parser.add_argument(
        "--keep", action="store_true", help="keep in the corpus what reaches code that was new"
    )
    parser.add_argument("--input", type=Path, help="try this one input, without atheris")
    return parser


def fuzz(target: str, seconds: int, keep: bool) -> Outcome:
    """
    Fuzz one target.
    """
    FINDINGS.mkdir(exist_ok=True)
    before = set(FINDINGS.iterdir())
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        prefix="fuzz-run-", dir=memory if os.access(memory, os.W_OK) else None
    ) as work:
        found = Path(work, "found")
        by_hand = Path(work, "seeds")
        found.mkdir()
        by_hand.mkdir()
        for number, octets in enumerate(seeds(target)):
            (by_hand / str(number)).write_bytes(octets)
        dictionary = _DICTIONARIES.get(target, "http")
        status, log = _libfuzzer(
            target,
            work,
            f"-max_total_time={seconds}",
            f"-max_len={MAX_INPUT_BYTES.get(target, MAX_TEXT_BYTES)}",
            f"-timeout={TIMEOUT_SECONDS}",
            f"-rss_limit_mb={MEMORY_MEBIBYTES}",
            f"-dict={HERE / 'dictionaries' / dictionary}.dict",
            f"-artifact_prefix={FINDINGS / target}-",
            "-print_final_stats=1",
            str(found),
            str(corpus_of(target)),
            str(by_hand),
        )
        if keep and not status:
            _merge(target, work, found)
    findings = sorted(set(FINDINGS.iterdir()) - before)
    return Outcome(
        _last(_EXECUTED, log) or _last(_COUNTED, log),
        _last(_PER_SECOND, log),
        findings,
        status != 0,
        log,
    )


def _merge(target: str, work: str, found: Path) -> None:
    """
    Put together the smallest set of inputs that reaches as much.
    """
    merged = Path(work, "merged")
    merged.mkdir()
    status, log = _libfuzzer(
        target, work, "-merge=1", str(merged), str(corpus_of(target)), str(found)
    )
    if status or not any(merged.iterdir()):
        raise SystemExit(f"The corpus of {target} was left as it is:\n{log[-2000:]}")
    shutil.rmtree(corpus_of(target))
    shutil.copytree(merged, corpus_of(target))


def _libfuzzer(target: str, work: str, *options: str) -> tuple[int, str]:
    """
    @return: the exit status, and what was said.
    """
    done = subprocess.run(
        [sys.executable, "-m", "fuzz.one", target, *options],
        cwd=HERE.parent,
        env={**os.environ, "TMPDIR": work},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    return done.returncode, done.stdout


def _essence(log: str) -> str:
    """
    What went wrong, without what went before.
    """
    at = log.find(" === ")
    return log[at:][:6000] if at >= 0 else log[-3000:]


def _last(pattern: re.Pattern[str], log: str) -> int:
    found = pattern.findall(log)
    return int(found[-1]) if found else 0


if __name__ == "__main__":
    sys.exit(main())
