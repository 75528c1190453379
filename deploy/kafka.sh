#!/usr/bin/env bash
# One Apache Kafka broker in KRaft mode on loopback, for trying out and for tests. Not for production: one node, no TLS.
#
#   kafka.sh fetch HOME        collects the jars into HOME/libs with Maven
#   kafka.sh up    HOME DIR    starts a broker that keeps its data in DIR; prints its address when it answers
#   kafka.sh down  DIR         stops the broker of DIR, by its process id
#   kafka.sh run   HOME DIR    as up, but in the foreground: ends with its standard input or a signal, and stops the broker
#
# Ports are free ones unless KAFKA_PORT and KAFKA_CONTROLLER_PORT are set. A broker started again on DIR keeps its ports and its
# data. KAFKA_HEAP (default 512m) is the heap of the virtual machine.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
copy=org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies

fail() {
    echo "kafka.sh: $*" >&2
    exit 1
}

fetch() {
    local home=$1
    command -v mvn >/dev/null || fail "mvn not found: apt-get install maven"
    # Collected beside and moved: a folder called libs is whole.
    rm -rf "$home/libs.part"
    mkdir -p "$home"
    mvn --batch-mode --quiet -f "$here/kafka/pom.xml" "$copy" -DincludeScope=runtime -DoutputDirectory="$home/libs.part" >&2
    rm -rf "$home/libs"
    mv "$home/libs.part" "$home/libs"
    cp "$here/kafka/pom.xml" "$home/pom.xml"
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

# Writes DIR/server.properties and formats the data folder, once.
prepare() {
    local home=$1 dir=$2
    [ -d "$home/libs" ] || fail "$home/libs not found: kafka.sh fetch $home"
    command -v java >/dev/null || fail "java not found: apt-get install openjdk-17-jre-headless"
    [ -f "$dir/formatted" ] && return
    mkdir -p "$dir"
    local port=${KAFKA_PORT:-$(free_port)} controller=${KAFKA_CONTROLLER_PORT:-}
    while [ -z "$controller" ] || [ "$controller" = "$port" ]; do
        controller=$(free_port)
    done
    sed -e "s|@PORT@|$port|g" -e "s|@CONTROLLER@|$controller|g" -e "s|@DIR@|$dir|g" \
        "$here/kafka/server.properties" >"$dir/server.properties"
    echo "127.0.0.1:$port" >"$dir/address"
    local id
    id=$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=')
    virtual_machine "$home" "$dir" kafka.tools.StorageTool format --ignore-formatted -t "$id" -c "$dir/server.properties" \
        >"$dir/format.log" 2>&1 || fail "the data folder could not be formatted: $(tail -n 3 "$dir/format.log")"
    touch "$dir/formatted"
}

virtual_machine() {
    local home=$1 dir=$2
    shift 2
    exec_or_run java -Xmx"${KAFKA_HEAP:-512m}" -Xms64m -XX:+UseSerialGC -XX:TieredStopAtLevel="${KAFKA_TIER:-4}" -XX:+ExitOnOutOfMemoryError \
        -Dlog4j2.configurationFile="$here/kafka/log4j2.yaml" -Dkafka.logs.dir="$dir" -cp "$home/libs/*" "$@"
}

exec_or_run() {
    "$@"
}

# Starts the broker of DIR in the background and waits until it answers.
start() {
    local home=$1 dir=$2 pid
    prepare "$home" "$dir"
    if [ -f "$dir/pid" ] && alive "$dir"; then
        fail "a broker already runs on $dir, process $(cat "$dir/pid")"
    fi
    # Its own session: a signal for the terminal's foreground does not reach it before `stop` does.
    (
        exec_or_run() { exec setsid "$@"; }
        virtual_machine "$home" "$dir" kafka.Kafka "$dir/server.properties"
    ) </dev/null >"$dir/out.log" 2>&1 &
    pid=$!
    echo "$pid" >"$dir/pid"
    local address port
    address=$(cat "$dir/address")
    port=${address##*:}
    for _ in $(seq 1200); do
        kill -0 "$pid" 2>/dev/null || fail "the broker ended at once: $(tail -n 3 "$dir/out.log")"
        if (: </dev/tcp/127.0.0.1/"$port") 2>/dev/null; then
            echo "$address"
            return
        fi
        sleep 0.1
    done
    fail "the broker does not listen on $address after 120 s, see $dir/out.log"
}

# True if the process of DIR/pid is a broker of DIR.
alive() {
    local dir=$1 pid
    pid=$(cat "$dir/pid" 2>/dev/null) || return 1
    [ -r "/proc/$pid/cmdline" ] || return 1
    tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF "$dir/server.properties"
}

stop() {
    local dir=$1 pid
    alive "$dir" || return 0
    pid=$(cat "$dir/pid")
    kill "$pid"
    for _ in $(seq 300); do
        kill -0 "$pid" 2>/dev/null || { rm -f "$dir/pid"; return 0; }
        sleep 0.1
    done
    echo "kafka.sh: process $pid does not end, it is killed" >&2
    kill -9 "$pid"
    rm -f "$dir/pid"
}

full() {
    mkdir -p "$1"
    (cd "$1" && pwd)
}

case "${1:-}" in
fetch)
    [ $# = 2 ] || fail "usage: kafka.sh fetch HOME"
    fetch "$2"
    ;;
up)
    [ $# = 3 ] || fail "usage: kafka.sh up HOME DIR"
    start "$(full "$2")" "$(full "$3")"
    ;;
down)
    [ $# = 2 ] || fail "usage: kafka.sh down DIR"
    stop "$(full "$2")"
    ;;
run)
    [ $# = 3 ] || fail "usage: kafka.sh run HOME DIR"
    dir=$(full "$3")
    trap 'stop "$dir"' EXIT
    trap 'exit 0' INT TERM HUP
    start "$(full "$2")" "$dir"
    # A builtin: unlike a program in the foreground it lets a signal through.
    while read -r _; do :; done
    ;;
*)
    fail "usage: kafka.sh fetch|up|down|run ..., see the head of this file"
    ;;
esac
