#!/bin/bash
# A model server that is watched: inferd, a client that asks it all the time, Prometheus as its Debian
# package lays it out, and an Alertmanager. There is no systemd here, so each is a process of
# its own. The last line is the parameters that the runbook is then given.
set -Eeuo pipefail

packages=$KB_FIXTURES/prometheus
ln -s "$packages/debian/usr/bin/prometheus" "$packages/promtool/usr/bin/promtool" \
    "$KB_FIXTURES/load/alertmanager/usr/bin/prometheus-alertmanager" /usr/bin
ln -s "$KB_FIXTURES/load/wrk/usr/bin/wrk" "$KB_FIXTURES/vegeta/bin/vegeta" "$KB_FIXTURES/inferd/bin/inferd" /usr/local/bin
cp "$KB_FIXTURES"/load/wrk/usr/lib/*/libluajit-5.1.so.2 "/usr/lib/$(uname --machine)-linux-gnu"
ldconfig
mkdir /usr/share/prometheus
ln -s "$KB_FIXTURES/load/alertmanager/usr/share/prometheus/alertmanager" /usr/share/prometheus
cp -r "$packages/debian/etc/prometheus" /etc
cat >/etc/prometheus/prometheus.yml <<'END'
global:
  scrape_interval: 1s
  scrape_timeout: 1s
  evaluation_interval: 1s
alerting:
  alertmanagers:
  - static_configs:
    - targets: ['127.0.0.1:9093']
scrape_configs:
- job_name: inferd
  static_configs:
  - targets: ['127.0.0.1:8082']
END
printf 'route: {receiver: nobody}\nreceivers: [{name: nobody}]\n' >/etc/prometheus/alertmanager.yml

# A request whose answer is nobody's concern here: a row of one number.
python3 -c '
import json
tensor = {"name": "bytes", "datatype": "INT32", "shape": [1, 2048], "data": [32] * 2048}
json.dump({"inputs": [tensor]}, open("/etc/question.json", "w"))'

# What they measure and say all the time is nobody's change to the host, and stays in /run. ONNX Runtime
# has a data base of its own in the home directory.
mkdir --parents /run/watched/{prometheus,alertmanager}
cd /run/watched
start() { # NAME COMMAND...: it goes on after this script, and its number is kept
    setsid "${@:2}" >"$1.log" 2>&1 </dev/null &
    echo $! >"$1.pid"
}
cat >/usr/local/bin/fault <<END
#!/bin/bash
# usage: fault on|off     the server runs with a time-out that no request can meet, or with its own
cd /run/watched
if server=\$(cat inferd.pid 2>/dev/null); then
    kill "\$server"
    while kill -0 "\$server" 2>/dev/null; do sleep 0.1; done
fi
[ "\$1" = on ] && limit=1ms || limit=1m
HOME=\$PWD setsid inferd -runtime "$KB_FIXTURES/onnx/runtime/libonnxruntime.so" -timeout \$limit -log-level error \\
    -model "magika=$KB_FIXTURES/onnx/magika/model.onnx" >inferd.log 2>&1 </dev/null &
echo \$! >inferd.pid
END
chmod 755 /usr/local/bin/fault
fault off
start alertmanager prometheus-alertmanager --config.file=/etc/prometheus/alertmanager.yml \
    --storage.path=alertmanager --cluster.listen-address= --web.listen-address=127.0.0.1:9093
start prometheus prometheus --config.file=/etc/prometheus/prometheus.yml \
    --storage.tsdb.path=prometheus --web.listen-address=127.0.0.1:9090
for url in http://127.0.0.1:8080/v2/health/ready http://127.0.0.1:9093/-/ready; do
    timeout 120 bash -c "until curl --fail --silent --output /dev/null $url; do sleep 0.1; done"
done
printf 'POST http://127.0.0.1:8080/v2/models/magika/infer\nContent-Type: application/json\n@/etc/question.json\n' >target
start client vegeta attack -targets target -rate 10 -duration 20m -max-body 0 -output /dev/null

asked='http://127.0.0.1:9090/api/v1/query?query=inferd_requests_total'
timeout 120 bash -c "until curl --fail --silent '$asked' | grep --quiet magika; do sleep 0.2; done"
files="\"binary\": \"/usr/local/bin/inferd\", \"runtime\": \"$KB_FIXTURES/onnx/runtime/libonnxruntime.so\", \"model\": \"$KB_FIXTURES/onnx/magika/model.onnx\""
trial='"hour": 60, "provoke": "fault on", "relieve": "fault off", "alertmanager_url": "http://127.0.0.1:9093"'
# shellcheck disable=SC2016 # the runbook's bash reads the number
echo "{$files, $trial, \"question\": \"/etc/question.json\", \"seconds\": 2, \"reload\": \"kill -HUP \$(cat /run/watched/prometheus.pid)\"}"
