# What scenarios report with. Names are words; each is reported once or more.

# ok NAME
ok() { echo "VM-RESULT $1 ok"; }

# failed NAME TEXT...: the text becomes one line.
failed() {
    name=$1
    shift
    echo "VM-RESULT $name failed: $(echo "$*" | tr '\r\n' '  ')"
}

# check NAME COMMAND...: the command must succeed; what it prints is told if it does not. Fails with it.
check() {
    name=$1
    shift
    if output=$("$@" 2>&1); then
        ok "$name"
    else
        failed "$name" "$*: status $?: $output"
        return 1
    fi
}

# refused NAME COMMAND...: the command must not succeed.
refused() {
    name=$1
    shift
    if output=$("$@" 2>&1); then failed "$name" "$* succeeded: $output"; else ok "$name"; fi
}

# same NAME ACTUAL EXPECTED
same() { if [ "$2" = "$3" ]; then ok "$1"; else failed "$1" "\"$2\" instead of \"$3\""; fi; }

# differ NAME A B
differ() { if [ "$2" != "$3" ]; then ok "$1"; else failed "$1" "both are \"$2\""; fi; }

# eventually NAME SECONDS COMMAND...: the command must succeed within that time. Fails with it.
eventually() {
    name=$1
    until=$(($(seconds) + $2))
    shift 2
    while ! output=$("$@" 2>&1); do
        if [ "$(seconds)" -ge "$until" ]; then
            failed "$name" "$*: $output"
            return 1
        fi
        sleep 0.2
    done
    ok "$name"
}

# give_up FILE...: what follows makes no sense without what has failed. Shows the files and ends the scenario.
give_up() {
    show "$@"
    exit 1
}

# Shows what every process waits for, for whoever reads why something never ended.
show_processes() {
    for process in /proc/[0-9]*; do
        # Threads of the kernel have no command line.
        arguments=$(tr '\0' ' ' 2>/dev/null <"$process/cmdline")
        [ -n "$arguments" ] || continue
        echo "--- ${process#/proc/}, child of $(sed -n 's/^PPid:\t//p' "$process/status" 2>/dev/null): $arguments" | cut -c1-300
        for thread in "$process"/task/*; do
            echo "$(cat "$thread/comm") $(sed -n 's/^State:\t//p' "$thread/status"): $(tr '\n' ' ' <"$thread/stack")"
        done 2>/dev/null
    done
}

# Seconds since the start of the machine.
seconds() { cut -d. -f1 /proc/uptime; }

# Shows files on the console, for whoever reads why something failed.
show() {
    for file in "$@"; do
        echo "--- $file"
        tail -n 60 "$file"
    done
}
