start_daemon
check service_is_there coracle service inspect kept
eventually tasks_run 300 running kept 2 || show /run/daemon.log
eventually exactly_two 60 sh -c '[ "$(find /sys/fs/cgroup/coracle -mindepth 1 -maxdepth 1 -type d ! -name supervisors | wc -l)" = 2 ]'
