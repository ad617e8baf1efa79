"""
The resource tree on the gateway's port.

L{twisted_llama.api.tree} has the shape of it: status pages that anybody may
see, and a guard in front of everything else.
"""
