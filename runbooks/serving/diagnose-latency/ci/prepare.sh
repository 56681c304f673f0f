#!/bin/bash
# A host with inferd, which a loop keeps running as a supervisor does. Somebody has its batches wait for
# more requests than come.
set -Eeuo pipefail

install --mode=755 "$KB_FIXTURES/latency/orders" /usr/local/bin/orders
ln -s "$KB_FIXTURES/inferd/bin/inferd" /usr/local/bin/inferd
echo 'OPTIONS="-log-level warn -batch-delay 2500ms -batch-rows 64"' >/etc/default/inferd
chmod 640 /etc/default/inferd
python3 -c '
import json
tensor = {"name": "bytes", "datatype": "INT32", "shape": [1, 2048], "data": [32] * 2048}
json.dump({"inputs": [tensor]}, open("/etc/question.json", "w"))'
mkdir /run/inferd # ONNX Runtime has a data base of its own in the home directory
cat >/usr/local/bin/supervise <<END
#!/bin/bash
# Keeps inferd running, with what /etc/default/inferd says.
export HOME=/run/inferd
while :; do
    . /etc/default/inferd
    inferd -runtime "$KB_FIXTURES/onnx/runtime/libonnxruntime.so" -model "magika=$KB_FIXTURES/onnx/magika/model.onnx" \$OPTIONS || true
    sleep 0.2
done
END
chmod 755 /usr/local/bin/supervise
setsid --fork /usr/local/bin/supervise </dev/null >/dev/null 2>&1
timeout 60 sh -c 'until curl --fail --silent --output /dev/null http://127.0.0.1:8080/v2/health/ready; do sleep 0.2; done'
cat <<END
{"service": "inferd", "pprof": "http://127.0.0.1:8082/debug/pprof", "metrics": "http://127.0.0.1:8082/metrics", "url": "http://127.0.0.1:8080/v2/models/magika/infer", "body": "/etc/question.json", "seconds": 2, "slow": 2000, "share": 50, "settings": "/etc/default/inferd", "restart": "pkill --exact inferd", "demonstration": "$KB_FIXTURES"}
END
