#!/bin/bash
# usage: lone.sh FIXTURES ROWS DELAY
# An inferd with batches of so many rows at most and so long a delay is asked sixteen things at once; then one
# alone, which gives up after five seconds. Prints how often the model ran for the sixteen, and how each went.
set -Eeuo pipefail
work=$(mktemp --directory)
HOME=$work "$1/inferd/bin/inferd" -runtime "$1/onnx/runtime/libonnxruntime.so" -model "m=$1/onnx/magika/model.onnx" \
    -listen 127.0.0.1:18480 -listen-grpc 127.0.0.1:18481 -listen-private 127.0.0.1:18482 \
    -timeout 100s -log-level error -batch-rows "$2" -batch-delay "$3" &
server=$!
trap 'kill -KILL $server; rm -r "$work"' EXIT
timeout 60 bash -c 'until curl --fail --silent --output /dev/null http://127.0.0.1:18480/v2/health/ready; do sleep 0.1; done'
body() { # PARAMETERS: a request of one row
    python3 -c 'import json, sys
tensor = {"name": "bytes", "datatype": "INT32", "shape": [1, 2048], "data": [32] * 2048}
print(json.dumps({"parameters": json.loads(sys.argv[1]), "inputs": [tensor]}))' "$1" >"$work/body"
}
ask() {
    curl --silent --output /dev/null --write-out '%{http_code} %{time_total}\n' --data-binary @"$work/body" \
        http://127.0.0.1:18480/v2/models/m/infer
}
runs() { curl --silent http://127.0.0.1:18482/metrics | awk '/^inferd_batch_rows_count/ {n += $2} END {print n + 0}'; }
body '{}'
before=$(runs)
asking=()
for n in $(seq 16); do
    ask >"$work/$n" &
    asking+=($!)
done
wait "${asking[@]}"
echo "sixteen: $(cat "$work"/[0-9]* | grep -c '^200 ') answered, in $(($(runs) - before)) runs of the model"
body '{"timeout": 5000000}'
echo "alone: $(ask)"
