#!/bin/sh
# The first program of every guest, under busybox: loads modules, finds the root, mounts what a
# Linux system has mounted, and hands over to stage2.sh in the final root.
PATH=/bin
fail() {
	echo "guest: $*" >/dev/console
	reboot -f
}

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
release=$(uname -r)
while read -r module; do
	insmod "/lib/modules/$release$module" || fail "could not load $module"
done </etc/boot-modules

root=
if [ -e /guest/disk ]; then
	tries=0
	until [ -b /dev/vda ] && [ -b /dev/vdb ]; do
		tries=$((tries + 1))
		[ $tries -lt 200 ] || fail "the disks did not appear"
		sleep 0.05
	done
	root=/root
	mount -t ext4 /dev/vda $root || fail "could not mount the userland"
	mount -t ext4 -o ro /dev/vdb $root/lib/modules || fail "could not mount the modules"
	for directory in proc sys dev; do
		mount --move /$directory $root/$directory
	done
fi

try() {
	[ -d "$root$2" ] || mkdir -p "$root$2" 2>/dev/null
	mount -t "$1" ${3:+-o "$3"} "$1" "$root$2" || echo "guest: no $1 on $2" >$root/dev/console
}
try tmpfs /run mode=755
try tmpfs /tmp mode=1777
try tmpfs /dev/shm mode=1777
try devpts /dev/pts ptmxmode=666
try tracefs /sys/kernel/tracing
try debugfs /sys/kernel/debug
try securityfs /sys/kernel/security
try bpf /sys/fs/bpf
try cgroup2 /sys/fs/cgroup
ln -s /proc/self/fd $root/dev/fd
ln -s fd/0 $root/dev/stdin
ln -s fd/1 $root/dev/stdout
ln -s fd/2 $root/dev/stderr

hostname guest
ip link set lo up
ulimit -l unlimited
echo 1 >$root/proc/sys/kernel/sysrq

mkdir $root/run/guest
mv /guest/* $root/run/guest/
cp /bin/busybox $root/run/guest/busybox
for program in $root/run/guest/bin/*; do
	[ -e "$program" ] && ln -sf "/run/guest/bin/${program##*/}" $root/usr/local/bin/
done
if [ -n "$root" ]; then
	exec switch_root $root /run/guest/busybox sh /run/guest/stage2.sh
fi
exec sh /run/guest/stage2.sh
fail "could not go on to stage 2"
