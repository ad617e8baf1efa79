"""
Which models there are, and which engine runs each.
"""
