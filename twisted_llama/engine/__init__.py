"""
The engine: what runs the model, and the supervisor that keeps it ready.

Everything that decides is pure (L{lifecycle}, L{commands}, L{diagnosis});
L{supervisor} wires it to a child process and L{external} to an engine that
somebody else runs.
"""
