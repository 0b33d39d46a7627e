#!/usr/bin/env bash
# Everything about TensorRT that takes a GPU, in one go, on a machine with an NVIDIA GPU, its driver, and a tritonserver
# with the TensorRT backend (NVIDIA's container has it):
#
#     tests/gpu/run.sh [--models "yolov8n-640 resnet50"] [--precisions "fp32 fp16 bf16 int8 fp8"] [--weights random]
#
# It exports the models, builds their plans, lets them pass the precision gate, serves them by the given tritonserver,
# measures latency and throughput beside trtexec, and writes benchmarks/GPU.md with the machine's name. What fails stands
# in that file, and the script ends with 1.
set -euo pipefail
cd "$(dirname "$0")/../.."

python="${PYTHON:-python3}"
missing=()
command -v nvidia-smi >/dev/null || missing+=("nvidia-smi (NVIDIA's driver)")
command -v tritonserver >/dev/null || missing+=("tritonserver (with the TensorRT backend)")
"$python" -c "import tensorrt" 2>/dev/null || missing+=("the Python package tensorrt (extra trt10 or trt11)")
"$python" -c "import tritonvision" 2>/dev/null || missing+=("tritonvision itself (pip install -e '.[onnx-cu12,export,torch-cu128]')")
if ((${#missing[@]})); then
  printf 'Error: This machine lacks: %s\n' "$(IFS=';'; echo "${missing[*]}")" >&2
  echo "Hint: Run it where a GPU is; 'make test-tensorrt' is what can be shown without one." >&2
  exit 3
fi
exec "$python" benchmarks/gpu.py "$@"
