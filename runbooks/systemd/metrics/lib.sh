# shellcheck shell=bash
# What the cells of metrics.ipynb share. The parameters come from the environment.
# shellcheck disable=SC2154
go_limit=$((memory_max * go_share / 100)) # MiB
mebibyte=1048576

mib() { # BYTES: so many MiB; a word, such as max, as it is
    [[ $1 =~ ^[0-9]+$ ]] && echo "$(($1 / mebibyte))" || echo "$1"
}

# The service.

limits() { # the drop-in for these parameters
    cat <<END
# Written by the runbook systemd/metrics.
[Service]
# Above this the kernel ends the service. Swap would only put it off, and slow the collector down.
MemoryMax=${memory_max}M
MemorySwapMax=0
# The collector works harder as the program nears this. MiB to Go is M to systemd.
Environment=GOMEMLIMIT=${go_limit}MiB
END
    if [ "$high_share" -gt 0 ]; then
        echo "# Above this the kernel slows the service down and takes memory back."
        echo "MemoryHigh=$((memory_max * high_share / 100))M"
    fi
    if [ "$cpu_quota" -gt 0 ]; then
        echo "# When it is used up, the service stands still until the next tenth of a second."
        echo "CPUQuota=$cpu_quota%"
    fi
    [ "$gomaxprocs" -eq 0 ] || echo "Environment=GOMAXPROCS=$gomaxprocs"
    [ -z "$service_lines" ] || tr ';' '\n' <<<"$service_lines"
}

started() { # when the service's process was started, in microseconds
    local moment
    moment=$(systemctl show --property ExecMainStartTimestamp --value --timestamp=us+utc "$service")
    [ -n "$moment" ] && date --date "$moment" +%s%6N
}

written() { # FILE: when it was, in microseconds
    stat --format=%.6Y "$1" | tr -d .
}

ready() { # SECONDS: the service runs, as its unit is now, and shows its metrics within so long
    local deadline=$((SECONDS + $1))
    while ((SECONDS < deadline)); do
        if systemctl --quiet is-active "$service" && curl --fail --silent --max-time 5 --output /dev/null "$metrics"; then
            return 0
        fi
        ! systemctl --quiet is-failed "$service" || return 1 # systemd has given it up
        sleep 0.5
    done
    return 1
}

restart() { # as much of ready_within as is needed for systemd to call it started
    timeout "$ready_within" systemctl restart "$service" || true # whether it is ready is asked afterwards
}

control_group() { # the directory of the service's control group
    echo "/sys/fs/cgroup$(systemctl show --property ControlGroup --value "$service")"
}

shown() { # what the service shows, fetched once in a cell
    [ -s "$TMPDIR/shown" ] || curl --fail --silent --show-error --max-time 10 --output "$TMPDIR/shown" "$metrics"
    cat "$TMPDIR/shown"
}

value() { # METRIC: its value, without an exponent, in what the service shows
    shown | awk -v name="$1" '$1 == name {printf "%.0f\n", $2; found = 1} END {exit !found}'
}

# Prometheus.

seconds() { # DURATION: 15s, 5m or 1h
    case $1 in
        *s) echo "${1%s}" ;;
        *m) echo "$((${1%m} * 60))" ;;
        *h) echo "$((${1%h} * 3600))" ;;
    esac
}

percent() { # NUMBER: 90 is 0.9
    awk -v number="$1" 'BEGIN {print number / 100}'
}

scrape() { # the job
    local place=${metrics#*://}
    cat <<END
# Written by the runbook systemd/metrics.
scrape_configs:
- job_name: $service
  scheme: ${metrics%%://*}
  metrics_path: /${place#*/}
  scrape_interval: $scrape_interval
END
    [ -z "$scrape_lines" ] || tr ';' '\n' <<<"$scrape_lines" | sed 's/^ */  /'
    printf "  static_configs:\n  - targets: ['%s']\n" "${place%%/*}"
}

alert() { # NAME EXPRESSION FOR SUMMARY
    cat <<END
  - alert: $1
    expr: $2
    for: $3
    annotations:
      summary: '$4'
END
}

alerts() { # the rules; those on series that the service does not have would never fire, and are left out
    if [ -n "$rules" ]; then
        cat "$rules"
        return
    fi
    local job="{job=\"$service\"}" share
    share=$(percent "$alert_share")
    cat <<END
# Written by the runbook systemd/metrics.
groups:
- name: $service
  interval: $scrape_interval
  rules:
END
    alert ServiceDown "up$job == 0" "$alert_for" \
        "$service does not answer at $metrics"
    alert ServiceRestarted "changes(process_start_time_seconds${job}[$window]) > 0" 0s \
        "$service was started again; oom_kill in memory.events of its control group says if memory was the reason"
    alert ServiceNearMemoryMax "process_resident_memory_bytes$job > $share * $memory_max * $mebibyte" "$alert_for" \
        "$service uses {{ \$value | humanize1024 }}B; the kernel ends it at $memory_max MiB"
    if [[ $(shown) == *$'\n'"go_gc_heap_live_bytes "* ]]; then
        alert ServiceHeapNearLimit "go_gc_heap_live_bytes$job > $share * go_gc_gomemlimit_bytes$job" "$alert_for" \
            "the heap of $service is full of what is still in use, and the collector works without end"
    fi
    if [ "$cpu_quota" -gt 0 ]; then
        alert ServiceNearCpuQuota "rate(process_cpu_seconds_total${job}[$window]) > $share * $(percent "$cpu_quota")" "$alert_for" \
            "$service computes on {{ \$value | humanize }} CPUs; its quota is $(percent "$cpu_quota")"
    fi
}

tests() { # FILE WITH RULES: for each alert in it, series that must make it fire, and none before that
    local every good bad name
    every=$(seconds "$scrape_interval")
    good=$((($(seconds "$window") + $(seconds "$alert_for")) / every + 10)) bad=$good # numbers of samples
    local series=",job=\"$service\",instance=\"test\"}"
    cat <<END
rule_files: [$1]
evaluation_interval: ${every}s
tests:
- interval: ${every}s
  input_series:
  - {series: 'up{${series:1}', values: '1x$good 0x$bad'}
  - {series: 'process_start_time_seconds{${series:1}', values: '1000x$((good + bad - 2)) 2000x3'}
  - {series: 'process_resident_memory_bytes{${series:1}', values: '1000x$good $((memory_max * mebibyte))x$bad'}
  - {series: 'go_gc_gomemlimit_bytes{${series:1}', values: '$((go_limit * mebibyte))x$((good + bad))'}
  - {series: 'go_gc_heap_live_bytes{${series:1}', values: '1000x$good $((go_limit * mebibyte))x$bad'}
  - {series: 'process_cpu_seconds_total{${series:1}', values: '0x$good 0+$(awk -v quota="$cpu_quota" -v every="$every" 'BEGIN {print quota * every / 100}')x$bad'}
  promql_expr_test:
END
    sed -n 's/^ *- alert: //p' "$1" | while read -r name; do
        cat <<END
  - {expr: 'count(ALERTS{alertname="$name"})', eval_time: $((good * every))s, exp_samples: []}
  - {expr: 'count(ALERTS{alertname="$name", alertstate="firing"})', eval_time: $(((good + bad) * every))s, exp_samples: [{labels: '{}', value: 1}]}
END
    done
}

listed() { # KEY ENTRY: the settings on standard input, with the entry in that list
    awk -v key="$1" -v entry="$2" '
        { line[NR] = $0 }
        $0 ~ "^" key ":" { at = NR; inline = $0 ~ "^" key ":[ \t]*[^ \t#]"; next }
        at && !ended && /^[^ \t#-]/ { ended = 1 }
        at && !ended && /^ *- / { # an item, not a comment
            if (indent == "") { match($0, /^ */); indent = substr($0, 1, RLENGTH) "- " }
            item = $0
            gsub(/^ *- *|["\047]|[ \t]*(#.*)?$/, "", item)
            if (item == entry) there = 1
        }
        END {
            if (inline) { print key > "/dev/stderr"; exit 1 }
            for (n = 1; n <= NR; n++) {
                print line[n]
                if (n == at && !there) print (indent == "" ? "  - " : indent) entry
            }
            if (!at) print "\n" key ":\n  - " entry
        }'
}

named() { # FILE: prometheus.yml with the two directories named in it
    local key
    if ! key=$({ listed scrape_config_files 'scrape.d/*.yml' | listed rule_files 'rules.d/*.yml'; } \
        <"$prometheus_dir/prometheus.yml" 2>&1 >"$1"); then
        kb-refuse "$prometheus_dir/prometheus.yml has $key on one line: write it as a list, one entry a line"
    fi
}

stage() { # a copy of Prometheus's settings with the new ones, $TMPDIR/prometheus
    local staged=$TMPDIR/prometheus
    cp --archive "$prometheus_dir" "$staged"
    mkdir -p "$staged/scrape.d" "$staged/rules.d"
    scrape >"$staged/scrape.d/$service.yml"
    alerts >"$staged/rules.d/$service.yml"
    named "$staged/prometheus.yml"
}

loaded() { # when Prometheus last took its settings, in microseconds; 0: it does not answer
    { curl --fail --silent --max-time 10 "$prometheus_url/metrics" || true; } |
        awk '$1 == "prometheus_config_last_reload_success_timestamp_seconds" {at = $2} END {printf "%.0f\n", at * 1000000}'
}

reload() { # Prometheus takes its settings, and says that it has
    local before deadline=$((SECONDS + 60))
    before=$(loaded)
    systemctl reload "$prometheus"
    until [ "$(loaded)" -gt "$before" ]; do
        if ((SECONDS > deadline)); then
            journalctl --unit "$prometheus" --lines 3 --output cat --no-pager
            kb-refuse "$prometheus did not take its settings within a minute: see the lines above; it goes on with the earlier ones"
        fi
        sleep 0.5
    done
}

query() { # EXPRESSION: Prometheus's answer, a line for each series: its name, labels and value
    curl --fail --silent --show-error --max-time 10 --get "$prometheus_url/api/v1/query" --data-urlencode "query=$1" |
        python3 -c '
import json, sys
for row in json.load(sys.stdin)["data"]["result"]:
    print(*(value if name == "__name__" else f"{name}={value}" for name, value in sorted(row["metric"].items())), row["value"][1])'
}

within() { # SECONDS EXPRESSION: Prometheus has an answer to it within so long
    local deadline=$((SECONDS + $1))
    until [ -n "$(query "$2" || true)" ]; do
        ((SECONDS < deadline)) || return 1
        sleep 2
    done
}
