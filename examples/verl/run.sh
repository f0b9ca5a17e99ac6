#!/usr/bin/env bash
# GRPO of verl on the environment in agent_loops.yaml, on the GPUs of this machine:
#
#   pip install "verl[vllm]>=0.9" "visenv[verl]"
#   bash examples/verl/run.sh actor_rollout_ref.model.path=/weights/Qwen3-VL-4B-Instruct
#
# Arguments are settings of verl, on top of grpo.yaml. TRAIN and VAL say how many samples; scenes have no end.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
data="${DATA:-data}"

python "$here/prepare.py" --out "$data" --train "${TRAIN:-2000}" --val "${VAL:-200}"

exec python -m verl.trainer.main_ppo \
    --config-path "$here" \
    --config-name grpo \
    data.train_files="$data/train.parquet" \
    data.val_files="$data/val.parquet" \
    actor_rollout_ref.rollout.agent.agent_loop_config_path="$here/agent_loops.yaml" \
    "$@"
