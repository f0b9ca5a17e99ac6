"""An evaluation with verifiers: a model behind any OpenAI-compatible endpoint plays episodes.

    pip install -e ".[verifiers]"
    python examples/verifiers_eval.py --model Qwen/Qwen3-VL-4B-Instruct --base-url http://127.0.0.1:8000/v1

The three names are all that verifiers needs of a module: with its folder on the path, its own commands find it, such as
`PYTHONPATH=examples vf-eval verifiers_eval -m MODEL --client.base-url URL -n 100 -r 4 --no-push`, and so does prime-rl.
"""

import argparse
import asyncio

from verifiers.v1.cli.eval.runner import run_eval
from verifiers.v1.configs.cli.eval import EvalConfig

from visenv.adapters.verifiers import VisionEnv, VisionHarness, VisionTaskset

__all__ = ["VisionEnv", "VisionHarness", "VisionTaskset"]


def main() -> None:
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", required=True, help="as the endpoint names it")
    parser.add_argument("--base-url", required=True, help="of the endpoint; its key is read from OPENAI_API_KEY")
    parser.add_argument("--env", default="VisHarness/RefSeg-v0")
    parser.add_argument("--experts", default="classical", help="who answers the tools; sam3 or visharness on a GPU")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--rollouts", type=int, default=1, help="how many a sample")
    parser.add_argument("--out", default="runs/verifiers")
    args = parser.parse_args()
    keywords = {"split": "val", "experts": args.experts}
    settings = {
        "model": args.model,
        "client": {"base_url": args.base_url, "api_key_var": "OPENAI_API_KEY"},
        "env": {"taskset": {"id": "verifiers_eval", "env": args.env, "keywords": keywords}},
        "select": {"limit": args.samples},
        "num_rollouts": args.rollouts,
        "output_dir": args.out,
        "push": False,
        "rich": None,
    }
    episodes = asyncio.run(run_eval(EvalConfig.model_validate(settings)))
    traces = [trace for episode in episodes for trace in episode.traces if trace.ok]
    reward = sum(trace.reward for trace in traces) / max(1, len(traces))
    print(f"{len(traces)} of {len(episodes)} episodes count, mean reward {reward:.2f}")


if __name__ == "__main__":
    main()
