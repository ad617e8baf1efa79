"""
Picks the checker that a description names, ours or another package's.

Another package brings its own by putting a module into C{twisted/plugins} that
holds an C{ICheckerFactory} whose C{credentialInterfaces} have L{IApiKey}.
"""

from __future__ import annotations

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.strcred import InvalidAuthType, findCheckerFactories, makeChecker

from twisted_llama.auth.credentials import IApiKey
from twisted_llama.errors import StartupError


def make_checker(description: str) -> ICredentialsChecker:
    """
    Make the checker for C{KIND} or C{KIND:ARGUMENT}.  Messages name the kind
    alone: the argument may hold a password.

    @param description: such as C{keyfile:/data/api_keys.txt}.
    @raise StartupError: when there is no such kind, it cannot check API keys,
        or it does not accept its argument.
    """
    kind = description.partition(":")[0]
    try:
        checker: object = makeChecker(description)
    except InvalidAuthType:
        raise StartupError(
            f"--auth {kind}: there is no such kind of checker. Known are: {known_kinds()}."
        ) from None
    except Exception as problem:
        # A plugin of another package may raise anything.
        reason = str(problem) or type(problem).__name__
        raise StartupError(f"--auth {kind}: {reason}") from problem
    if not ICredentialsChecker.providedBy(checker) or not _takes_api_keys(
        checker.credentialInterfaces
    ):
        raise StartupError(
            f"--auth {kind}: this checker cannot check API keys. "
            f"Those that can are: {known_kinds()}."
        )
    accepted: ICredentialsChecker = checker
    return accepted


def known_kinds() -> str:
    """
    The kinds of checkers that are installed and can check API keys.
    """
    kinds = {
        str(factory.authType)
        for factory in findCheckerFactories()
        if _takes_api_keys(factory.credentialInterfaces)
    }
    return ", ".join(sorted(kinds)) or "none (is the twisted/plugins directory installed?)"


def _takes_api_keys(interfaces: object) -> bool:
    """
    Whether a portal would hand L{IApiKey} credentials to a checker with these
    C{credentialInterfaces}.
    """
    return isinstance(interfaces, (list, tuple, set, frozenset)) and any(
        IApiKey.isOrExtends(interface) for interface in interfaces
    )
