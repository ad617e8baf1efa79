"""
The console script C{llama-gateway}, one module per command.
"""
