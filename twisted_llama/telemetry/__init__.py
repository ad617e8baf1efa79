"""
What is told about the gateway's work: access log, own log, metrics, boot report.
"""
