"""
Runs works: starts their targets, puts them under load in turns, and keeps what
came out of every round.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import cast

from peers import Peer, Variant
from programs import BenchError, Program, build, start_engine
from works import Case, Work

Sample = dict[str, float]
_MARGIN_SECONDS = 150.0


def flatten(nested: Mapping[str, object], prefix: str = "") -> Sample:
    """
    Every number in nested mappings, under its dotted name.
    """
    flat: Sample = {}
    for name, value in nested.items():
        if isinstance(value, Mapping):
            flat.update(flatten(cast("Mapping[str, object]", value), f"{prefix}{name}."))
        elif isinstance(value, int | float):
            flat[prefix + name] = float(value)
    return flat


@dataclass
class Measured:
    """
    The samples of one work, one for each round, by the case's label.

    @ivar failures: why cases have fewer samples, or none.
    """

    work: Work
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


@dataclass
class Bench:
    """
    @ivar targets: those that are installed, by name.
    @ivar end: monotonic time after which nothing new is begun.
    @ivar say: told what is being done.
    @ivar pin: give the target one core and load and engine the other one.
    """

    targets: Mapping[str, Peer]
    directory: Path
    end: float
    say: Callable[[str], None]
    pin: bool = False

    def __post_init__(self) -> None:
        self._numbers = itertools.count()
        self._unusable: dict[tuple[str, Variant], str] = {}

    def measure(self, work: Work, rounds: int) -> Measured:
        """
        Measure every case as often in each round as the work says, beginning with
        another one each time.  Each round has its own processes.
        """
        cases = [case for case in work.cases if case.target in self.targets]
        measured = Measured(work, {case.label: [] for case in cases})
        if not cases:
            return measured
        folder = self.directory / work.name
        folder.mkdir(parents=True)
        engine = start_engine(folder, int(max(60.0, self.end - time.monotonic()) + 600))
        running: dict[str, Program] = {}
        # What a thread has started dies with that thread: so they last as long.
        with ThreadPoolExecutor(len(cases) if work.together else 1) as pool:
            try:
                for number in range(1 if work.idle else rounds * work.turns):
                    if number % work.turns == 0:
                        self._stop(running)
                    turn = number % len(cases)
                    if work.together:
                        # None is measured while another is still starting.
                        list(pool.map(partial(self._prepare, engine, running, folder), cases))
                    take = partial(self._take, measured, number, engine, running, folder)
                    list(pool.map(take, cases[turn:] + cases[:turn]))
            finally:
                self._stop(running)
                engine.stop()
                shutil.rmtree(folder, ignore_errors=True)
        return measured

    @staticmethod
    def _stop(running: dict[str, Program]) -> None:
        while running:
            _, program = running.popitem()
            program.stop()

    def _take(
        self,
        measured: Measured,
        number: int,
        engine: Program,
        running: dict[str, Program],
        folder: Path,
        case: Case,
    ) -> None:
        work = measured.work
        if case.label in measured.failures:
            return
        if time.monotonic() > self.end:
            measured.failures[case.label] = "the time was up"
            return
        self.say(f"{work.name}: round {number + 1}, {case.label}")
        try:
            sample = self._sample(work, case, engine, running, folder)
            measured.samples[case.label].append(sample)
        except BenchError as problem:
            measured.failures[case.label] = str(problem)
            self.say(f"{work.name}: {case.label} failed: {problem}")

    def _sample(
        self,
        work: Work,
        case: Case,
        engine: Program,
        running: dict[str, Program],
        folder: Path,
    ) -> Sample:
        target = self._target(case, engine, running, folder)
        try:
            if work.idle:
                time.sleep(2)
                return {"rss_kb": float(target.resident_kb())}
            beside = self._start_load(case.companion, target) if case.companion else None
            try:
                sample = self._load(case.load, target)
            finally:
                second = self._finish_load(beside) if beside else {}
            return sample | {f"beside.{name}": value for name, value in second.items()}
        finally:
            if work.fresh or target.process.poll() is not None:
                running.pop(case.label).stop()

    def _prepare(
        self,
        engine: Program,
        running: dict[str, Program],
        folder: Path,
        case: Case,
    ) -> None:
        # What cannot be started is said when it is to be measured.
        with contextlib.suppress(BenchError):
            self._target(case, engine, running, folder)

    def _target(
        self,
        case: Case,
        engine: Program,
        running: dict[str, Program],
        folder: Path,
    ) -> Program:
        """
        The program that this case measures, started if it is not running.
        """
        target = running.get(case.label)
        if target is None:
            place = folder / f"{case.target}-{next(self._numbers)}"
            target = running[case.label] = self._start(case, place, engine)
            self._pin(target, "0")
            if case.load:
                self._load(("--clients", "8", "--seconds", "0.3", "--warmup", "0"), target)
        return target

    def _start(self, case: Case, place: Path, engine: Program) -> Program:
        who = (case.target, case.variant)
        if who in self._unusable:
            raise BenchError(self._unusable[who])
        try:
            return self.targets[case.target].start(place, engine.port, case.variant)
        except BenchError as problem:
            self._unusable[who] = str(problem)
            raise

    def _pin(self, program: Program, core: str) -> None:
        if self.pin:
            for pid in program.pids():
                subprocess.run(
                    ["taskset", "-acp", core, str(pid)], capture_output=True, check=False
                )

    def _load(self, options: tuple[str, ...], target: Program) -> Sample:
        return self._finish_load(self._start_load(options, target))

    def _start_load(self, options: tuple[str, ...], target: Program) -> subprocess.Popen[bytes]:
        argv = [*(["taskset", "-c", "1"] if self.pin else []), str(build("load"))]
        argv += ["--port", str(target.port), *options]
        if target.keys_file:
            argv += ["--keys-file", str(target.keys_file)]
        for pid in target.pids():
            argv += ["--pid", str(pid)]
        return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def _finish_load(self, load: subprocess.Popen[bytes]) -> Sample:
        try:
            out, err = load.communicate(timeout=_MARGIN_SECONDS)
        except subprocess.TimeoutExpired as error:
            load.kill()
            load.communicate()
            raise BenchError("the load generator did not come to an end") from error
        if load.returncode:
            raise BenchError(f"the load generator failed: {err.decode('utf-8', 'replace').strip()}")
        return flatten(json.loads(out))
