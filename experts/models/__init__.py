"""How neural experts find their weights, where they run, and what they keep; one module a family stands beside this."""
