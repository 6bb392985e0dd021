#!/usr/bin/env bash
# Trains on a lent machine: one without network, where each call ends after some minutes and the next copy of this folder
# replaces the last. PyTorch, NumPy, Numba or CuPy, and OpenCV or PyAV are all that has to be there.
#
#   rehearsal.sh check                  compares the op on this machine with its definition, gradients included
#   rehearsal.sh keep train DIR...      puts videos aside for training, as many times as there are copies to bring them
#   rehearsal.sh keep held-out DIR...   likewise, to watch progress on
#   rehearsal.sh train [OPTIONS...]     begins in the background, or goes on where it stopped; options are train.py's
#   rehearsal.sh watch SECONDS          waits, no longer than the training runs; then shows the end of the log
#   rehearsal.sh stop                   ends the training with a checkpoint
#   rehearsal.sh take DIR               copies weights, log and picture into DIR; the weights in parts of 15 MiB, which
#                                       `cat DIR/*.safetensors.* > weights.safetensors` joins
#
# Everything is kept in $KEEP (/tmp/sepconv-training by default); $PYTHON (python3) runs it.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
keep=${KEEP:-/tmp/sepconv-training}
python=${PYTHON:-python3}
log=$keep/log.txt
mkdir -p "$keep"
touch "$log"

running() { [ -f "$keep/pid" ] && kill -0 "$(cat "$keep/pid")" 2> /dev/null; }

usage() { sed -n '2,16s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }

case "${1:-}" in
  check)
    cd "$here"
    "$python" - << 'END'
import torch
from sepconv import sepconv, sepconv_reference

device = "cuda" if torch.cuda.is_available() else "cpu"
generator = torch.Generator().manual_seed(0)
for size in ((2, 3, 11, 48), (1, 3, 40, 32)):
    batch, channels, height, width = size
    shapes = ((batch, channels, height + 50, width + 50), (batch, 51, height, width), (batch, 51, height, width))
    inputs = [torch.randn(shape, generator=generator).to(device).requires_grad_() for shape in shapes]
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    grad_out = torch.randn(size, generator=generator).to(device)
    out, truth = sepconv(*inputs), sepconv_reference(*exact)
    results = [out, *torch.autograd.grad(out, inputs, grad_out)]
    truths = [truth, *torch.autograd.grad(truth, exact, grad_out.double())]
    errors = [((a - b).norm() / b.norm()).item() for a, b in zip(results, truths, strict=True)]
    print(f"{device}, PyTorch {torch.__version__}, {size}: errors", *(f"{error:.0e}" for error in errors))
    if max(errors) > 1e-5:
        raise SystemExit("the op is wrong on this machine")
END
    ;;
  keep)
    what=${2:-}
    [ "$what" = train ] || [ "$what" = held-out ] || usage
    shift 2
    mkdir -p "$keep/$what"
    for folder in "$@"; do cp -r "$folder" "$keep/$what/"; done
    du -sh "$keep"/{train,held-out} 2> /dev/null || true
    ;;
  train)
    shift
    if running; then echo "it is running already" >&2; exit 1; fi
    mkdir -p "$keep/code/weights"  # what runs must not change with the next copy
    cp "$here"/*.py "$keep/code/"
    cp "$here"/*.cu "$keep/code/" 2> /dev/null || true
    cp "$here"/weights/*.safetensors "$keep/code/weights/" 2> /dev/null || true
    held_out=()
    if [ -d "$keep/held-out" ]; then held_out=(--held-out "$keep/held-out"); fi
    cd "$keep"
    setsid nohup "$python" code/train.py --data train "${held_out[@]}" --out run --resume auto "$@" >> "$log" 2>&1 < /dev/null &
    echo $! > pid
    before=$(grep -c samples/s "$log" || true)
    for _ in $(seq 60); do  # until the first report, or an error
      sleep 1
      if ! running || [ "$(grep -c samples/s "$log" || true)" -gt "$before" ]; then break; fi
    done
    tail -n 20 "$log"
    ;;
  watch)
    for _ in $(seq "${2:?seconds}"); do running || break; sleep 1; done
    tail -n 30 "$log"
    ;;
  stop)
    if running; then kill -TERM "$(cat "$keep/pid")"; fi
    while running; do sleep 1; done
    tail -n 5 "$log"
    ;;
  take)
    mkdir -p "${2:?folder}"
    cp "$keep"/run/*.csv "$keep"/run/*.png "$log" "$2/" 2> /dev/null || true
    for weights in "$keep"/run/*.safetensors; do split -b 15M "$weights" "$2/$(basename "$weights")."; done
    ls -l "$2"
    ;;
  *) usage ;;
esac
