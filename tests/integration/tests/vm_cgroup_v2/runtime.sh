. /lib/library.sh
# How long one suite may take, in seconds: several times what it takes on a busy machine.
limit=400
# suite NAME: a test program of the project; each of its tests becomes a result.
suite() {
    rm -f /run/$1.status
    ("/payload/$1" --show-output --test-threads=2 >/run/$1.log 2>&1; echo $? >/run/$1.status) &
    until=$(($(seconds) + limit))
    while ! [ -s /run/$1.status ] && [ "$(seconds)" -lt $until ]; do sleep 0.2; done
    if ! [ -s /run/$1.status ]; then
        show_processes
        cat /run/$1.log
        failed "$1" "no end after $limit seconds; what its processes wait for stands above"
        give_up
    fi
    status=$(cat /run/$1.status)
    sed -n "s/^test \([^ ]*\) \.\.\. ok$/VM-RESULT $1::\1 ok/p; s/^test \([^ ]*\) \.\.\. FAILED$/VM-RESULT $1::\1 failed: see above/p" /run/$1.log >/run/$1.results
    grep -q FAILED /run/$1.log && cat /run/$1.log
    cat /run/$1.results
    same "$1" "$status" 0
    check "$1-not-skipped" sh -c "! grep -i 'skipped:' /run/$1.log"
}
suite isolation
suite lifecycle
suite exec
suite hooks
suite mounts
suite vocabulary
check no_mount_left sh -c '! grep " - overlay " /proc/self/mountinfo'
