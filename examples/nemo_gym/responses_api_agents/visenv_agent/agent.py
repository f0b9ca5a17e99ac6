"""NeMo-Gym's agent, with the pictures of replies; NeMo-Gym starts this, as visenv.yaml says."""

from visenv.adapters.nemo_gym_agent import VisionAgent

if __name__ == "__main__":
    VisionAgent.run_webserver()
