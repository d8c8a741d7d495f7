start_daemon
check service_is_there coracle service inspect kept || give_up /run/daemon.log
eventually tasks_run 300 running kept 2 || give_up /run/daemon.log
eventually exactly_two 60 sh -c '[ "$(find /sys/fs/cgroup/coracle -mindepth 1 -maxdepth 1 -type d ! -name supervisors | wc -l)" = 2 ]'
