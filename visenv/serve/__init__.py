"""Experts on Ray Serve, and the client that asks them from any process.

``client`` and what it needs run on the standard library and the core alone; only ``deployments`` and ``running``, which
are the server, need Ray.
"""
