"""
HTTP/1.1 over Twisted's transports, both sides.

Heads are read whole by llhttp (L{twisted_llama.http.head}), bodies are walked
by one strict reading of the framing that both sides share
(L{twisted_llama.http.framing}).  L{twisted_llama.http.channel} puts that under
C{twisted.web}'s C{Site}, C{Request} and resources;
L{twisted_llama.http.upstream} asks the engine, with connections from
L{twisted_llama.http.pool}; L{twisted_llama.http.relay}
passes its answer on.
"""
