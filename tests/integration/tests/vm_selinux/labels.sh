create() { check "create_$1" coracle service create --detach --restart-condition none --name "$@"; }

# says SERVICE TEXT: some task of it printed this line.
says() {
    grep -qxsF "$2" "/run/$1.log" || coracle service logs --raw "$1" >"/run/$1.log" 2>&1
    grep -qxF "$2" "/run/$1.log" || { cat "/run/$1.log"; false; }
}

# looked SERVICE: it has printed all that it does, or has ended without that.
looked() { says "$1" done || { running "$1" 0 >/dev/null && task_says "$1" ' Failed \| Rejected '; }; }

# label PID: of a process.
label() { tr -d '\0\n' <"/proc/$1/attr/current"; }

start_daemon --dev
check image_load coracle image load --quiet --input /payload/shell.tar
mount -t selinuxfs selinuxfs /sys/fs/selinux

# A kernel that confines nothing yet.
create early --security-opt label=type:container_t shell:1 true
eventually inactive_is_rejected 240 task_says early 'Rejected.*label=type:container_t: SELinux is not active on node vm' || give_up /run/daemon.log

# In one write, as the kernel wants it. The daemon is one of those whom the policy finds there.
check policy_loads dd if=/payload/policy of=/sys/fs/selinux/load bs=4M count=1 || give_up
echo 1 >/sys/fs/selinux/enforce
same enforcing "$(cat /sys/fs/selinux/enforce)" 1
same daemon_label "$(label $daemon)" system_u:system_r:base_t:s0-s0:c0.c1023

# shared FOLDER LABEL: a folder of the node with a file that has this label.
shared() { mkdir -p "$1" && mount -t tmpfs -o "context=\"system_u:object_r:$2\"" tmpfs "$1" && echo content >"$1/file"; }
check folder_of_level shared /srv/level container_file_t:s0:c1,c2
check folder_of_type shared /srv/type private_file_t:s0

echo canary | coracle secret create token - >/dev/null || failed secret "not created"
cat >/run/look <<'END'
tr -d '\0\n' </proc/1/attr/current; echo
try() { name=$1; shift; if "$@" >/dev/null 2>&1; then echo "$name allowed"; else echo "$name denied"; fi; }
try root sh -c 'echo x >/file && cat /file'
try etc sh -c 'echo x >>/etc/hosts'
try shm sh -c 'echo x >/dev/shm/file && cat /dev/shm/file'
try tmpfs sh -c 'echo x >/cache/file && cat /cache/file'
try volume sh -c 'echo x >/data/$HOSTNAME && cat /data/*'
try secret grep -qx canary /run/secrets/token
try level cat /level/file
try type cat /type/file
echo done
sleep 3600
END
common="--secret token --mount type=volume,source=data,target=/data --mount type=tmpfs,target=/cache
    --mount type=bind,source=/srv/level,target=/level --mount type=bind,source=/srv/type,target=/type"
same_label="tr -d '\\0\\n' </proc/self/attr/current | grep -qxF"
create mine $common --security-opt label=level:s0:c1,c2 --health-interval 1s --health-retries 1 \
    --health-cmd "$same_label system_u:system_r:container_t:s0:c1,c2" shell:1 "$(cat /run/look)"
create other $common --init --security-opt label=type:other_t shell:1 "$(cat /run/look)"
create bad --security-opt label=type:nonsense_t shell:1 true

eventually mine_looked 240 looked mine || give_up /run/daemon.log /run/mine.log
check mine_label says mine system_u:system_r:container_t:s0:c1,c2
for what in root etc shm tmpfs volume secret level type; do
    check "mine_may_$what" says mine "$what allowed"
done

# Its own level is another one: it shares the volume, and nothing else of the first.
eventually other_looked 60 looked other || give_up /run/daemon.log /run/other.log
for what in root etc shm tmpfs volume secret; do
    check "other_may_$what" says other "$what allowed"
done
check denied_by_level says other 'level denied'
check denied_by_type says other 'type denied'
other=$(for each in $(cat "/sys/fs/cgroup/coracle/$(coracle service ps --quiet --no-trunc other)/cgroup.procs"); do label "$each"; echo; done | grep -m 1 other_t)
check level_of_its_own sh -c "echo '$other' | grep -qxE 'system_u:system_r:other_t:s0:c[0-9]+,c[0-9]+'"
same volume_is_shared "$(grep -c . /var/lib/coracle/volumes/data/_data/* | wc -l)" 2

# A task runs when its check has succeeded.
eventually health_check_has_the_label 240 running mine 1 || show /run/daemon.log
eventually unknown_type_is_rejected 240 task_says bad 'Rejected.*nonsense_t.*does not have it' || show /run/daemon.log
