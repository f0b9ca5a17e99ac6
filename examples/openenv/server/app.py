"""The server of this package: 64 clients at once, one data set, one set of experts.

uvicorn server.app:app --port 8000
"""

from visenv.adapters.openenv import make_app

app = make_app("VisHarness/RefSeg-v0", split="val", experts="oracle", sessions=64)
