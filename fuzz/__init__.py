"""
Fuzzing: one C{check} for each target, and what runs them (see README.md).
"""
