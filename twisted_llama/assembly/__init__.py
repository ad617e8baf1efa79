"""
From settings to services: the only place that names concrete classes.

L{twisted_llama.assembly.graph} builds the object graph top to bottom;
L{twisted_llama.assembly.gateway} is the service that starts it and, the longer
part, ends it.
"""
