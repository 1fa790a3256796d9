#!/bin/busybox sh
# First process of the guest: mounts, modules, the layout's own steps, then the command, then power off.
# Talks to the host through three virtio ports: "out" (the command's output), "ctl" (where it stands), "res" (/out as tar).
export PATH=/usr/bin:/usr/sbin
mount -t devtmpfs dev /dev
exec >/dev/console 2>&1 </dev/console
mkdir -p /dev/shm /dev/pts
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs -o mode=1777 tmp /tmp
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t devpts pts /dev/pts
mount -t debugfs debug /sys/kernel/debug
mount -t tracefs trace /sys/kernel/tracing
mount -t cgroup2 cgroup /sys/fs/cgroup
chmod 755 /
hostname lab
ifconfig lo 127.0.0.1 up
ln -s /proc/self/fd /dev/fd
ln -s fd/0 /dev/stdin
ln -s fd/1 /dev/stdout
ln -s fd/2 /dev/stderr

for m in $(cat /lab/modules); do insmod $m || echo "lab: insmod $m failed"; done

port() { # NAME: prints the device of the virtio port of that name
    for p in /sys/class/virtio-ports/*; do
        [ "$(cat $p/name 2>/dev/null)" = "$1" ] && echo /dev/${p##*/} && return
    done
}
i=0
while [ -z "$(port res)" ] && [ $i -lt 200 ]; do usleep 50000; i=$((i + 1)); done
out=$(port out) ctl=$(port ctl) res=$(port res)
if [ -z "$out" ] || [ -z "$ctl" ] || [ -z "$res" ]; then
    echo "lab: no virtio ports"
    exec /lab/guest finish
fi

if ! sh -e /lab/layout.sh; then
    echo "lab: the layout's script failed"
    exec /lab/guest finish
fi
. /lab/run
mkdir -p /job /out
chmod 1777 /job /out
[ "$LAB_UID" = 0 ] || chown -R "$LAB_UID:$LAB_GID" /job /out
/lab/guest kick 100

exec 3>$ctl
echo started >&3
cd /job
/lab/guest as "$LAB_UID" "$LAB_GID" sh /lab/command >$out 2>&1 </dev/null 3>&-
status=$?
cd /
[ -n "$(ls -A /out)" ] && tar cf - -C /out . >$res
echo "status $status" >&3
exec /lab/guest finish
