#!/usr/bin/env bash
# Quantize MODEL with ModelOpt and put the checkpoint into /models/NAME, whole or not at all. Runs inside the container
# of ../compose.yaml, as the user who started it. What it takes from the environment: MODEL, NAME, RECIPE, MODELOPT, NEEDS_GB.
set -euo pipefail

say() { printf 'quantize: %s\n' "$*"; }
refuse() { say "$*" >&2; exit 2; }

models=${MODELS_DIR:-/models}
cache=${HF_HOME:-/cache/huggingface}
meminfo=${MEMINFO:-/proc/meminfo}

# ---- everything that can be refused is refused before anything is fetched or written

[[ $NAME =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ ]] || refuse "NAME is '$NAME': a folder's name, of letters, digits, dots and dashes."
if [[ -e $models/$NAME ]]; then
    [[ -e $models/$NAME/hf_quant_config.json ]] || refuse "$NAME is there already and is no quantized checkpoint: remove it, or choose another QUANTIZE_NAME."
    say "$NAME is there already, nothing to do. To make it anew, remove it first."
    exit 0
fi
for folder in "$models" "$cache"; do
    [[ -w $folder ]] || refuse "user $(id -u):$(id -g) can't write to $folder. On the host: export QUANTIZE_USER=\"\$(id -u):\$(id -g)\", and if root owns the folder: sudo chown -R \"\$QUANTIZE_USER\" FOLDER."
done
available=$(awk '/^MemAvailable:/ {print int($2 * 1024 / 1e9)}' "$meminfo")
(( available >= NEEDS_GB )) || refuse "$available GB of memory are available, $NEEDS_GB GB are needed: stop other engines (./course status, docker ps). A Spark that over-commits wedges instead of failing."

# ---- ModelOpt, at its version, into this container's own home

mkdir -p "$HOME"
work=$(mktemp -d "${TMPDIR:-/tmp}/modelopt.XXXXXX")
partial=$models/.$NAME.part
trap 'rm -rf "$work" "$partial"' EXIT
say "fetching ModelOpt $MODELOPT"
git clone --quiet --branch "$MODELOPT" --depth 1 https://github.com/NVIDIA/Model-Optimizer.git "$work/source"
# --user: the image's own packages belong to root. Its ModelOpt, an older one, is shadowed, not replaced.
PIP_BREAK_SYSTEM_PACKAGES=1 pip install --quiet --user --no-warn-script-location -e "$work/source[hf]"
python3 -c "import os, modelopt; assert modelopt.__version__.startswith(os.environ['MODELOPT']), modelopt.__version__"

# ---- quantize into a folder with another name, so that an interrupted run leaves nothing that looks whole

rm -rf "$partial"
say "quantizing $MODEL with $RECIPE"
cd "$work/source/examples/llm_ptq"
# --dataset: the default also takes a gated set. --batch_size: 0 would probe the memory, which a Spark answers wrongly.
# --skip_generate: no sample answers before and after; ./course inspect and the server tell more.
python3 hf_ptq.py --pyt_ckpt_path "$MODEL" --recipe "$RECIPE" --dataset cnn_dailymail --calib_size 512 --calib_seq 512 \
    --batch_size 4 --skip_generate --export_path "$partial"
[[ -e $partial/hf_quant_config.json && -n $(find "$partial" -name '*.safetensors' -print -quit) ]] \
    || { say "ModelOpt ended without an error and without a checkpoint; its output is above." >&2; exit 1; }
mv "$partial" "$models/$NAME"
say "done: $NAME. Look at it with ./course inspect .course/models/$NAME"
