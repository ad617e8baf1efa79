"""
How many requests a key may make a minute.

L{twisted_llama.limits.window} decides, L{twisted_llama.limits.memory} remembers for
one gateway, L{twisted_llama.limits.redis} for all gateways that name one Redis.
"""
