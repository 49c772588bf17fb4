#!/bin/busybox sh
# The first process of a test guest: mounts, loads modules, runs /command, reports its exit code, powers off.
/bin/busybox mkdir -p /bin /sbin /usr/bin /usr/sbin
/bin/busybox --install -s /bin
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root TERM=dumb RUST_BACKTRACE=1
export FLOWPROBE_BIN=/bin/flowprobe

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm /run/netns
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t tracefs tracefs /sys/kernel/tracing
mount -t debugfs debugfs /sys/kernel/debug

while read -r module; do
    insmod "/modules/$module" || echo "init: cannot load $module"
done < /modules/order

ip link set lo up
# Many sockets in one process, as on a server.
ulimit -n 65536

/command
code=$?
echo
echo "flowprobe-vm-exit-code: $code"
# The kernel ends what still runs.
poweroff -f
