#!/bin/sh
# Boots systemd as process 1 of namespaces of its own: boot.sh TREE CGROUP. What it writes is gone with its end. CGROUP is
# an empty directory of cgroup v2.
set -e
tree=$1
if [ "$2" ]; then
	echo $$ >"$2/cgroup.procs"
	exec unshare --mount --uts --ipc --pid --cgroup --net --fork --kill-child sh "$0" "$tree"
fi
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o "lowerdir=$tree,upperdir=/mnt/upper,workdir=/mnt/work" overlay /mnt/root
cd /mnt/root
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
for dir in dev run tmp; do mount -t tmpfs -o mode=755 tmpfs $dir; done
chmod 1777 tmp
for node in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0 console:1:3; do
	mknod -m 666 dev/${node%%:*} c $(echo "${node#*:}" | tr : ' ')
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
mount -t tmpfs tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for unit in getty.target console-getty.service timers.target systemd-modules-load.service systemd-sysctl.service; do ln -sf /dev/null etc/systemd/system/$unit; done
hostname midair-test
ip link set lo up
mkdir old
pivot_root . old
umount -l old
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 container=lxc \
	/lib/systemd/systemd systemd.unit=multi-user.target systemd.log_target=journal
