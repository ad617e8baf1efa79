"""
The C{twistd llama-gateway} command: names the module, imports nothing of it.
"""

from twisted.application.service import ServiceMaker

LlamaGateway = ServiceMaker(
    "llama-gateway",
    "twisted_llama.tap",
    "Gateway in front of llama.cpp's llama-server: API keys, limits, a fair queue, streaming.",
    "llama-gateway",
)
