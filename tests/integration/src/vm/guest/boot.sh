#!/bin/busybox sh
# The first process, after it has moved: a small system, then the scenario, then off.
/bin/busybox mkdir -p /bin /sbin /usr/bin /usr/sbin /proc /sys /dev /run /tmp /etc /root /var/lib/coracle
/bin/busybox --install -s /bin
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root TERM=dumb
mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm
mount -t devpts -o mode=0620,ptmxmode=0666 devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
mount -t tmpfs -o mode=0755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /tmp
for module in /lib/modules/*.ko; do
    insmod "$module" || echo "VM-RESULT module failed: $module does not load"
done
ip link set lo up
hostname vm
echo 'root:x:0:0:root:/root:/bin/sh' >/etc/passwd
echo 'root:x:0:' >/etc/group
echo '127.0.0.1 localhost vm' >/etc/hosts
if [ -b /dev/nvme0n1 ]; then
    mount -t ext4 /dev/nvme0n1 /var/lib/coracle || echo "VM-RESULT disk failed: it cannot be mounted"
fi
# A child, so that an error in it does not end the first process.
sh /scenario || echo "VM-RESULT scenario failed: its last command or its end had status $?"
sync
echo VM-DONE
poweroff -f
