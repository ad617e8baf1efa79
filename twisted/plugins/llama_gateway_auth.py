"""
Makes C{--auth keyfile:PATH} known to L{twisted.cred.strcred}.
"""

from twisted_llama.auth.checker_factory import KeyfileCheckerFactory

keyfile = KeyfileCheckerFactory()
