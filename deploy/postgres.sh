#!/usr/bin/env bash
# One PostgreSQL server of Debian's on loopback, for trying out and for tests. Not for production: no TLS.
#
#   postgres.sh find             prints the newest folder of its programs
#   postgres.sh up    HOME DIR   starts a server that keeps its data in DIR; prints its address when it answers
#   postgres.sh down  DIR        stops the server of DIR, by its process id
#   postgres.sh run   HOME DIR   as up, but in the foreground: ends with its standard input or a signal, and stops the server
#
# HOME is the folder that `find` prints, or `-` for it. The password is in DIR/password. The port is a free one unless POSTGRES_PORT is set. A server started again on
# DIR keeps port, password and data; after a death it recovers first. PostgreSQL refuses to run as root: started by root it runs
# as the user postgres, or nobody without one, who then owns DIR and must be able to reach it.
set -euo pipefail

# Name of the database and of its owner.
name=shoal

fail() {
    echo "postgres.sh: $*" >&2
    exit 1
}

find_home() {
    local newest
    newest=$(printf '%s\n' /usr/lib/postgresql/*/bin/initdb | sort -V | tail -n 1)
    [ -x "$newest" ] || newest=$(command -v initdb || true)
    [ -x "$newest" ] || fail "initdb not found: apt-get install postgresql"
    dirname "$(readlink -f "$newest")"
}

# A port on which nobody listens, from the ephemeral range's lower neighbour; unlike for each process.
free_port() {
    local port
    for _ in $(seq 200); do
        port=$((20000 + (RANDOM * 32768 + RANDOM + $$) % 12000))
        if ! (: </dev/tcp/127.0.0.1/$port) 2>/dev/null; then
            echo "$port"
            return
        fi
    done
    fail "no free port between 20000 and 32000"
}

# Who the server runs as: us, unless we are root.
owner() {
    if [ "$(id -u)" != 0 ]; then
        id -un
    elif id -u postgres >/dev/null 2>&1; then
        echo postgres
    else
        echo nobody
    fi
}

# Puts the words that make a command run as $(owner) into $as; the process id stays that of the command.
as=()
become() {
    if [ "$(id -u)" = 0 ]; then
        as=(setpriv --reuid="$(owner)" --regid="$(id -g "$(owner)")" --clear-groups)
    fi
}

# Makes the cluster in DIR/data and the database, once.
prepare() {
    local home=$1 dir=$2 port password
    [ -x "$home/initdb" ] || fail "$home/initdb not found: apt-get install postgresql"
    [ ! -f "$dir/url" ] || return 0
    rm -rf "$dir/data"
    mkdir -p "$dir/data"
    if [ "$(id -u)" = 0 ]; then
        chown -R "$(owner):" "$dir"
        "${as[@]}" test -w "$dir/data" || fail "$dir cannot be reached by $(owner), who the server runs as: a folder above it is closed"
    fi
    port=${POSTGRES_PORT:-$(free_port)}
    password=$(head -c 18 /dev/urandom | base64 | tr '+/' '-_')
    (umask 077 && printf '%s\n' "$password" >"$dir/password")
    # Read by whoever makes the cluster; afterwards ours alone.
    [ "$(id -u)" != 0 ] || chown "$(owner):" "$dir/password"
    "${as[@]}" "$home/initdb" --pgdata "$dir/data" --username "$name" --pwfile "$dir/password" --auth scram-sha-256 \
        --encoding UTF8 --locale C >"$dir/initdb.log" 2>&1 || fail "the cluster could not be made: $(tail -n 3 "$dir/initdb.log")"
    cat >>"$dir/data/postgresql.conf" <<END
listen_addresses = '127.0.0.1'
port = $port
unix_socket_directories = ''
max_connections = 200
timezone = 'UTC'
log_timezone = 'UTC'
END
    echo "CREATE DATABASE $name;" | "${as[@]}" "$home/postgres" --single -D "$dir/data" postgres >>"$dir/initdb.log" 2>&1 ||
        fail "the database could not be made: $(tail -n 3 "$dir/initdb.log")"
    [ "$(id -u)" != 0 ] || chown root: "$dir/password"
    # Last: a folder with an address is whole.
    echo "postgres://$name@127.0.0.1:$port/$name" >"$dir/url"
}

# Starts the server of DIR in the background and waits until it answers.
start() {
    local home=$1 dir=$2 pid port
    [ "$home" != - ] || home=$(find_home)
    become
    prepare "$home" "$dir"
    if alive "$dir"; then
        fail "a server already runs on $dir, process $(cat "$dir/pid")"
    fi
    settle "$dir"
    # Its own session: a signal for the terminal's foreground does not reach it before `stop` does.
    (exec setsid "${as[@]}" "$home/postgres" -D "$dir/data") </dev/null >"$dir/out.log" 2>&1 &
    pid=$!
    echo "$pid" >"$dir/pid"
    port=$(sed -n 's/^port = //p' "$dir/data/postgresql.conf")
    for _ in $(seq 1200); do
        kill -0 "$pid" 2>/dev/null || fail "the server ended at once: $(tail -n 3 "$dir/out.log")"
        # Listening is not enough: while it recovers it turns everybody away.
        if "$home/pg_isready" --quiet --host 127.0.0.1 --port "$port" --dbname "$name"; then
            cat "$dir/url"
            return
        fi
        sleep 0.1
    done
    fail "the server does not answer on 127.0.0.1:$port after 120 s, see $dir/out.log"
}

# After a death of the server its children end by themselves. Once nobody works in the data folder any more its lock is stale: the
# server itself would be misled by a dead process that nobody has waited for yet, or by another one of the same number.
settle() {
    local data=$1/data process busy
    [ -f "$data/postmaster.pid" ] || return 0
    for _ in $(seq 600); do
        busy=0
        for process in /proc/[0-9]*; do
            [ "$(readlink "$process/cwd" 2>/dev/null)" != "$data" ] || busy=1
        done
        if [ "$busy" = 0 ]; then
            rm -f "$data/postmaster.pid"
            return
        fi
        sleep 0.1
    done
    fail "processes of an earlier server still work in $data after 60 s"
}

# True if the process of DIR/pid is a server of DIR.
alive() {
    local dir=$1 pid
    pid=$(cat "$dir/pid" 2>/dev/null) || return 1
    [ -r "/proc/$pid/cmdline" ] || return 1
    tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF "$dir/data"
}

# Fast: who is connected is cut off, what is committed is written.
stop() {
    local dir=$1 pid signal
    alive "$dir" || return 0
    pid=$(cat "$dir/pid")
    for signal in INT QUIT; do
        kill -s "$signal" "$pid"
        for _ in $(seq 300); do
            alive "$dir" || { rm -f "$dir/pid"; return 0; }
            sleep 0.1
        done
        echo "postgres.sh: process $pid does not end with SIG$signal" >&2
    done
    kill -9 "$pid"
    rm -f "$dir/pid"
}

full() {
    mkdir -p "$1"
    (cd "$1" && pwd -P)
}

case "${1:-}" in
find)
    [ $# = 1 ] || fail "usage: postgres.sh find"
    find_home
    ;;
up)
    [ $# = 3 ] || fail "usage: postgres.sh up HOME DIR"
    start "$2" "$(full "$3")"
    ;;
down)
    [ $# = 2 ] || fail "usage: postgres.sh down DIR"
    stop "$(full "$2")"
    ;;
run)
    [ $# = 3 ] || fail "usage: postgres.sh run HOME DIR"
    dir=$(full "$3")
    trap 'stop "$dir"' EXIT
    trap 'exit 0' INT TERM HUP
    start "$2" "$dir"
    # A builtin: unlike a program in the foreground it lets a signal through.
    while read -r _; do :; done
    ;;
*)
    fail "usage: postgres.sh find|up|down|run ..., see the head of this file"
    ;;
esac
