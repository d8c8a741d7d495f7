start_daemon --dev
check image_load coracle image load --quiet --input /payload/responder.tar
check create coracle service create --detach --name limited --limit-memory 32m --limit-pids 50 --limit-cpu 0.5 responder:1
eventually converged 240 running limited 1 || give_up /run/daemon.log
group=$(containers | head -n 1)
same memory_max "$(cat "$group/memory.max")" 33554432
same pids_max "$(cat "$group/pids.max")" 50
same cpu_max "$(cat "$group/cpu.max")" "50000 100000"

# What the container's first process sees, looked at from outside.
inside=$(head -n 1 "$group/cgroup.procs")
check first_process test -d "/proc/$inside/ns" || give_up /run/daemon.log
for kind in mnt pid net ipc uts cgroup; do
    differ "namespace_$kind" "$(readlink /proc/1/ns/$kind)" "$(readlink "/proc/$inside/ns/$kind")"
done
check overlay grep -q ' / / .* - overlay ' "/proc/$inside/mountinfo"
same seccomp "$(grep '^Seccomp:' "/proc/$inside/status" | cut -f2)" 2
same no_new_privileges "$(grep '^NoNewPrivs:' "/proc/$inside/status" | cut -f2)" 1

# Whoever is in the cgroup is bound by its device rules: a shell of the machine joins it, with all of root's rights.
mknod /run/kmsg c 1 11
mknod /run/null c 1 3
within() { sh -c 'echo $$ >"$0/cgroup.procs" && exec "$@"' "$group" "$@"; }
check devices_outside dd if=/run/kmsg of=/dev/null bs=8192 count=1
refused devices_denied within dd if=/run/kmsg of=/dev/null bs=8192 count=1
check devices_allowed within dd if=/run/null of=/dev/null count=1

# 64 MiB do not fit into 32.
check create_greedy coracle service create --detach --name greedy --limit-memory 32m --restart-condition none responder:1 allocate 64
eventually out_of_memory 240 task_says greedy 'memory' || show /run/daemon.log
check remove coracle service rm limited greedy
eventually no_cgroup_left 120 no_containers || show /run/daemon.log
check no_mount_left sh -c '! grep -q " - overlay " /proc/self/mountinfo'
same daemon_lives "$(kill -0 $daemon 2>&1)" ""
