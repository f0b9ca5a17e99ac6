"""The environments of visenv as a resources server; NeMo-Gym starts this, as visenv.yaml says."""

from visenv.adapters.nemo_gym import VisionServer

if __name__ == "__main__":
    VisionServer.run_webserver()
