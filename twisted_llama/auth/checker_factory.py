"""
Makes the checker for C{--auth keyfile:PATH}.

Every program that lists Twisted's plugins imports this module, so it imports
little itself; the checker comes when it is asked for.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from twisted.cred.strcred import ICheckerFactory, InvalidAuthArgumentString
from twisted.plugin import IPlugin
from zope.interface import implementer

from twisted_llama.auth.credentials import IApiKey

if TYPE_CHECKING:
    from twisted_llama.auth.checkers import KeyfileChecker

_HELP = """
Checks API keys against a text file with one key a line:

    key_id:api_key[:requests_per_minute][:expires]

'llama-gateway keys' makes and edits it. The file is read again when it
changes, on SIGHUP and on POST /reload.
"""


@implementer(ICheckerFactory, IPlugin)
class KeyfileCheckerFactory:
    """
    Makes a L{KeyfileChecker} from the path of its file.
    """

    authType = "keyfile"
    authHelp = _HELP
    argStringFormat = "Path of a file of API keys."
    credentialInterfaces = (IApiKey,)

    def generateChecker(self, argstring: str) -> KeyfileChecker:
        """
        @param argstring: the path; C{~} is expanded.
        @return: a checker that refuses every key until C{load()} is called.
        @raise InvalidAuthArgumentString: when there is no path.
        """
        from twisted_llama.auth.checkers import KeyfileChecker

        if not argstring.strip():
            raise InvalidAuthArgumentString(
                "keyfile needs a path, as in keyfile:/data/api_keys.txt"
            )
        return KeyfileChecker(Path(argstring).expanduser(), time.time)
