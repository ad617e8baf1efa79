"""
The gateway as a Twisted application, set up by environment variables alone::

    twistd -ny tac/llama_gateway.tac
"""

from twisted.application import service

from twisted_llama.tap import Options, makeService

application = service.Application("llama-gateway")
makeService(Options()).setServiceParent(application)
