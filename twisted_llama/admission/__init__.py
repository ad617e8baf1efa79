"""
Who may use the engine now, who waits, and who is refused.

L{twisted_llama.admission.queue} decides who is next, L{twisted_llama.admission.gate}
hands out tickets and keeps time.
"""
