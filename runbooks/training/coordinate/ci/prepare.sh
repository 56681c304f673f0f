#!/bin/bash
# A host with the first of three members of an etcd that nobody has set up for a job: it is full, and refuses
# writes. There is no systemd here, so each member is a process of its own, started anew when it ends; the two
# others stand for other hosts. What they write all the time is nobody's change to the host, and stays in /run.
set -Eeuo pipefail

packages=$KB_FIXTURES/etcd/debian
ln -s "$packages"/usr/bin/{etcd,etcdctl} /usr/bin
mkdir /run/etcd
cat >/usr/local/bin/etcd-member <<'END'
#!/bin/bash
# usage: etcd-member N     with the settings of /etc/default/etcd, or etcd-N, until /run/etcd/N.off is there
[ "$1" = 1 ] && settings=/etc/default/etcd || settings=/etc/default/etcd-$1
cd /run/etcd
while [ ! -e "$1.off" ]; do
    (
        set -o allexport
        . "$settings"
        exec etcd ${DAEMON_ARGS:-}
    ) &
    echo $! >"$1.pid"
    wait $!
done
END
chmod 755 /usr/local/bin/etcd-member
for n in 1 2 3; do
    [ "$n" = 1 ] && settings=/etc/default/etcd || settings=/etc/default/etcd-$n
    at=http://127.77.0.$n
    cp "$packages/etc/default/etcd" "$settings"
    cat >>"$settings" <<END
ETCD_NAME=m$n
ETCD_DATA_DIR=/run/etcd/m$n
ETCD_LISTEN_CLIENT_URLS=$at:2379
ETCD_ADVERTISE_CLIENT_URLS=$at:2379
ETCD_LISTEN_PEER_URLS=$at:2380
ETCD_INITIAL_ADVERTISE_PEER_URLS=$at:2380
ETCD_INITIAL_CLUSTER=m1=http://127.77.0.1:2380,m2=http://127.77.0.2:2380,m3=http://127.77.0.3:2380
ETCD_QUOTA_BACKEND_BYTES=4000000
END
    setsid etcd-member "$n" >"/run/etcd/$n.log" 2>&1 </dev/null &
done

export ETCDCTL_ENDPOINTS=http://127.77.0.1:2379
timeout 120 bash -c 'until etcdctl endpoint health --cluster >/dev/null 2>&1; do sleep 0.1; done'
etcdctl put /jobs/vision/epoch 7 >/dev/null # a job that is there
head -c 300000 /dev/zero | tr '\0' x >/run/etcd/value
until etcdctl alarm list 2>/dev/null | grep --quiet NOSPACE; do # one key again and again, as a job's status is written
    etcdctl put /job/status </run/etcd/value >/dev/null 2>&1 || true
done
# shellcheck disable=SC2016 # the runbook's bash reads the number
echo '{"endpoint": "http://127.77.0.1:2379", "quota": "64M", "restart": "kill $(cat /run/etcd/1.pid)", "demonstration": "/run/etcd"}'
