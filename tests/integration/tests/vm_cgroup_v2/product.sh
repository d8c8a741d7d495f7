. /lib/library.sh
# What scenarios with the product share.
export CORACLE_LOG=info

# start_daemon FLAGS...
start_daemon() {
    coracle daemon "$@" >/run/daemon.log 2>&1 &
    daemon=$!
    eventually daemon_ready 240 grep -q 'daemon is ready' /run/daemon.log || give_up /run/daemon.log
}

# The cgroups of all containers.
containers() { find /sys/fs/cgroup/coracle -mindepth 1 -maxdepth 1 -type d ! -name supervisors 2>/dev/null; }

# no_containers: succeeds when no container has a cgroup.
no_containers() { [ -z "$(containers)" ] || { containers; false; }; }

# running SERVICE COUNT: so many of its tasks are observed to run.
running() {
    told=$(coracle service ps --no-trunc "$1")
    [ "$(echo "$told" | grep -c ' Running  *Running ')" = "$2" ] || { echo "$told"; false; }
}

# task_says SERVICE TEXT: some task of it has this in its line.
task_says() { coracle service ps --no-trunc "$1" | grep -i "$2" || { coracle service ps --no-trunc "$1"; false; }; }
