"""
What is wrong with a configuration, said so that its operator can mend it.

A value is quoted in a problem only where the one who made the problem knows
that the setting holds no secret.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from twisted_llama.errors import StartupError


@frozen
class Problem:
    """
    One thing that must be mended before the gateway starts.

    @ivar name: the setting's environment variable, such as C{MAX_QUEUE_SIZE}; or
        what its operator wrote, where that names no setting.
    @ivar origin: where it was written: C{environment}, C{file PATH: KEY},
        C{command line} or C{default}.
    @ivar wrong: what is wrong, without the full stop.
    @ivar cure: a sentence that says what to do.
    """

    name: str
    origin: str
    wrong: str
    cure: str

    def __str__(self) -> str:
        return f"{self.name} ({self.origin}): {self.wrong}. {self.cure}"


class SettingsError(StartupError):
    """
    The configuration cannot be used.

    @ivar problems: every reason, at least one.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(tuple(problems))
        self.problems = tuple(problems)

    def __str__(self) -> str:
        lines = [str(problem) for problem in self.problems]
        if len(lines) == 1:
            return lines[0]
        return "\n  ".join([f"{len(lines)} problems in the configuration:", *lines])
