#!/bin/busybox sh
# The first process, in the kernel's first root file system. Containers change their root with pivot_root(2), which the
# kernel refuses there, so everything moves to a tmpfs.
/bin/busybox mkdir -p /root
/bin/busybox mount -t tmpfs -o mode=0755,size=90% tmpfs /root
for each in /*; do
    case $each in
    # What switch_root looks for, and what the kernel made itself. Programs move last: they are needed until then.
    /init | /root | /dev | /proc | /sys | /bin) ;;
    *) /bin/busybox mv "$each" /root/ ;;
    esac
done
/bin/busybox cp -a /bin /root/
exec /bin/busybox switch_root /root /sbin/boot
