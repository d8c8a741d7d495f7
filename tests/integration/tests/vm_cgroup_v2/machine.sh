. /lib/library.sh
same kernel "$(uname -r | cut -d. -f1,2)" 6.1
same first_process "$(cat /proc/1/comm)" boot
check loopback ping -c 1 -W 5 127.0.0.1
check root_is_a_tmpfs grep -q " / / .* - tmpfs " /proc/self/mountinfo
controllers() { for each in cpu memory pids; do grep -qw $each /sys/fs/cgroup/cgroup.controllers || exit 1; done; }
check controllers controllers
limited() {
    echo '+pids' >/sys/fs/cgroup/cgroup.subtree_control && mkdir /sys/fs/cgroup/try && echo 7 >/sys/fs/cgroup/try/pids.max &&
        grep -qx 7 /sys/fs/cgroup/try/pids.max && rmdir /sys/fs/cgroup/try
}
check limits limited
overlay() {
    mkdir -p /tmp/o/lower /tmp/o/upper /tmp/o/work /tmp/o/merged && echo below >/tmp/o/lower/file &&
        mount -t overlay -o lowerdir=/tmp/o/lower,upperdir=/tmp/o/upper,workdir=/tmp/o/work overlay /tmp/o/merged &&
        grep -qx below /tmp/o/merged/file && umount /tmp/o/merged
}
check overlay overlay
check disk grep -q '/var/lib/coracle ext4 rw' /proc/mounts
