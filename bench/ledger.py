"""
What was asked and what became of it; it must add up, and agree with what the
gateway says itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count

from wire import Answer

#: What can become of a request.
VERDICTS = ("whole", "refused", "cut", "left", "unread", "wrong")
_MOST_TOLD = 40


@dataclass
class Ask:
    """
    One request.

    @ivar verdict: one of L{VERDICTS}; empty while it is under way.
        C{unread}: it can be shown that it never came to be served.
    @ivar why: the status and code, or the reason.
    @ivar public: no line in the access log is due.
    """

    kind: str
    id: str
    public: bool = False
    verdict: str = ""
    why: str = ""
    status: int = 0

    def end(self, verdict: str, why: str = "", status: int = 0) -> None:
        """
        Say what became of it, once.
        """
        if self.verdict:
            verdict, why = "wrong", f"judged twice: {self.verdict} {self.why}, {verdict} {why}"
        self.verdict, self.why, self.status = verdict, why, status

    def judge(
        self,
        answer: Answer,
        refusals: Collection[tuple[int, str]] = (),
        statuses: Collection[int] = (200,),
    ) -> bool:
        """
        Judge an answer by what may come.

        @param refusals: statuses and codes of the gateway's own errors.
        @param statuses: of answers that are no such errors.
        @return: whether it was answered whole with one of C{statuses}.
        """
        code = answer.code
        given = answer["x-request-id"]
        if answer.ending != "whole":
            self.end("wrong", f"{answer}")
        elif self.id and given != self.id:
            self.end("wrong", f"the answer is another one's: {given}")
        elif code:
            right = (answer.status, code) in refusals
            self.end("refused" if right else "wrong", f"{answer.status} {code}", answer.status)
        elif answer.status in statuses:
            self.end("whole", str(answer.status), answer.status)
            return True
        else:
            self.end("wrong", f"{answer}")
        return False


@dataclass
class Ledger:
    """
    All of them.

    @ivar remarks: what is wrong besides.
    """

    name: str
    asks: list[Ask] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._numbers = count(1)

    def ask(self, kind: str, *, public: bool = False, anonymous: bool = False) -> Ask:
        """
        A request is about to be sent.

        @param anonymous: it carries no request id.
        """
        ask = Ask(kind, "" if anonymous else f"{self.name}-{next(self._numbers):07}", public)
        self.asks.append(ask)
        return ask

    def wrong(self, remark: str) -> None:
        """
        Something is wrong.
        """
        self.remarks.append(remark)

    @property
    def wrong_so_far(self) -> list[str]:
        """
        All that is wrong, of what has ended.
        """
        told = [f"{ask.kind} {ask.id}: {ask.why}" for ask in self.asks if ask.verdict == "wrong"]
        return self.remarks + told

    @property
    def failures(self) -> list[str]:
        """
        All that is wrong, at the end.
        """
        never = [f"{ask.kind} {ask.id}: never ended" for ask in self.asks if not ask.verdict]
        return self.wrong_so_far + never

    def counts(self) -> dict[str, Counter[str]]:
        """
        How often each verdict was given, by kind.
        """
        table: dict[str, Counter[str]] = {}
        for ask in self.asks:
            table.setdefault(ask.kind, Counter())[ask.verdict or "wrong"] += 1
        return table

    def compare_log(self, lines: Iterable[Sequence[str]]) -> Counter[str]:
        """
        Compare with the access log; what disagrees becomes a remark.

        @param lines: each in its seven fields, of this ledger's requests and
            others.
        @return: how many requests that we left had which status in the log.
        """
        logged: dict[str, list[int]] = {}
        for line in lines:
            if len(line) != 7:
                self.wrong(f"a line of the access log has not seven fields: {line}")
                continue
            logged.setdefault(line[6], []).append(int(line[3]))
        left: Counter[str] = Counter()
        for ask in self.asks:
            if not ask.id:
                continue
            statuses = logged.get(ask.id, [])
            if ask.verdict in ("left", "unread"):
                left[str(statuses[0]) if statuses else "not in the log"] += 1
                if ask.verdict == "unread" and statuses:
                    self.wrong(f"{ask.kind} {ask.id}: {ask.why}, but the log has {statuses}")
                due = len(statuses) < 2
            elif ask.verdict == "cut":
                due = len(statuses) == 1 and statuses[0] >= 400
            elif ask.public:
                due = not statuses
            else:
                due = statuses == [ask.status] or ask.verdict == "wrong"
            if not due:
                self.wrong(f"{ask.kind} {ask.id}: {ask.verdict} {ask.why}, in the log {statuses}")
        return left

    def table(self) -> str:
        """
        The counts, as text.
        """
        counts = self.counts()
        width = max([len(kind) for kind in counts] + [8])
        rows = [f"{'':{width}}  {'asked':>8}" + "".join(f"{name:>9}" for name in VERDICTS)]
        for kind in sorted(counts):
            row = counts[kind]
            cells = "".join(f"{row[name] or '':>9}" for name in VERDICTS)
            rows.append(f"{kind:{width}}  {sum(row.values()):>8}{cells}")
        total = sum(counts.values(), Counter[str]())
        cells = "".join(f"{total[name]:>9}" for name in VERDICTS)
        rows.append(f"{'all':{width}}  {len(self.asks):>8}{cells}")
        if total.total() != len(self.asks):
            self.wrong(f"{len(self.asks)} were asked, but {total.total()} have a verdict")
        why = Counter(f"{a.verdict}: {a.why}" for a in self.asks if a.verdict not in ("", "wrong"))
        rows += ["", *(f"{number:>10}  {reason}" for reason, number in why.most_common())]
        return "\n".join(rows)

    def report(self, failures: Sequence[str]) -> str:
        """
        What is wrong, as text.
        """
        rows = [f"  - {failure[:1600]}" for failure in failures[:_MOST_TOLD]]
        if len(failures) > _MOST_TOLD:
            rows.append(f"  ... and {len(failures) - _MOST_TOLD} more")
        return "\n".join(rows)
