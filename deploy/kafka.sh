#!/usr/bin/env bash
# Apache Kafka brokers in KRaft mode on loopback, for trying out and for tests. Not for production: no TLS, no password.
#
#   kafka.sh fetch HOME               collects the jars into HOME/libs with Maven
#   kafka.sh up    HOME DIR [COUNT]   starts a broker that keeps its data in DIR; prints its address when it answers
#   kafka.sh down  DIR                stops the broker, or the brokers, of DIR, by their process ids
#   kafka.sh run   HOME DIR [COUNT]   as up, but in the foreground: ends with its standard input or a signal, and stops what it started
#
# With a COUNT of 2 to 9 there are as many, each broker and controller, in DIR/1, DIR/2, ...; their addresses are printed with
# commas between. Each is a DIR of its own as well: `down DIR/2` stops one, `up HOME DIR/2` brings it back, DIR/2/pid can be paused.
# Of three, one may be away.
#
# Ports are free ones unless KAFKA_PORT and KAFKA_CONTROLLER_PORT are set (one broker only). A broker started again keeps its ports
# and its data. KAFKA_HEAP (default 512m) is the heap of each virtual machine.
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

# A port that free_port gives and that is none of those in $taken, to which it is added; the answer is in $port.
taken=" "
fresh_port() {
    port=$(free_port)
    while [[ "$taken" == *" $port "* ]]; do
        port=$(free_port)
    done
    taken+="$port "
}

# Chooses ports for COUNT brokers and writes and formats the folder of each, once.
prepare() {
    local home=$1 dir=$2 count=$3 node port id voters="" separator=""
    [ -d "$home/libs" ] || fail "$home/libs not found: kafka.sh fetch $home"
    command -v java >/dev/null || fail "java not found: apt-get install openjdk-17-jre-headless"
    local -a ports=() controllers=()
    for node in $(seq "$count"); do
        fresh_port
        [ "$count" = 1 ] && port=${KAFKA_PORT:-$port}
        ports+=("$port")
        fresh_port
        [ "$count" = 1 ] && port=${KAFKA_CONTROLLER_PORT:-$port}
        controllers+=("$port")
        voters+="$separator$node@127.0.0.1:$port"
        separator=,
    done
    # Kafka takes what begins with a dash for an option.
    id=$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=' | sed 's/^-/_/')
    for node in $(seq "$count"); do
        format "$home" "$(folder "$dir" "$count" "$node")" "$node" "${ports[node - 1]}" "${controllers[node - 1]}" "$voters" "$id" "$count"
    done
}

# Folder of one of COUNT brokers.
folder() {
    if [ "$2" = 1 ]; then
        echo "$1"
    else
        echo "$1/$3"
    fi
}

# Writes DIR/server.properties and formats the data folder.
format() {
    local home=$1 dir=$2 node=$3 port=$4 controller=$5 voters=$6 id=$7 count=$8
    local copies=$((count < 3 ? count : 3))
    mkdir -p "$dir"
    sed -e "s|@NODE@|$node|g" -e "s|@PORT@|$port|g" -e "s|@CONTROLLER@|$controller|g" -e "s|@VOTERS@|$voters|g" -e "s|@DIR@|$dir|g" \
        -e "s|@COPIES@|$copies|g" -e "s|@IN_SYNC@|$((copies > 2 ? copies - 1 : 1))|g" "$here/kafka/server.properties" >"$dir/server.properties"
    echo "127.0.0.1:$port" >"$dir/address"
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

# Folders of the brokers of DIR: itself, or those in it.
brokers() {
    local each
    if [ -f "$1/formatted" ]; then
        echo "$1"
        return
    fi
    for each in "$1"/[1-9]; do
        [ ! -f "$each/formatted" ] || echo "$each"
    done
}

# Starts the brokers of DIR in the background and waits until all answer.
start() {
    local home=$1 dir=$2 count=$3 each addresses=""
    [[ "$count" =~ ^[1-9]$ ]] || fail "COUNT: met $count, expected 1 to 9"
    local -a all
    mapfile -t all < <(brokers "$dir")
    if [ ${#all[@]} = 0 ]; then
        prepare "$home" "$dir" "$count"
        mapfile -t all < <(brokers "$dir")
    fi
    for each in "${all[@]}"; do
        alive "$each" && fail "a broker already runs on $each, process $(cat "$each/pid")"
    done
    for each in "${all[@]}"; do
        launch "$home" "$each"
    done
    for each in "${all[@]}"; do
        answers "$each"
        addresses+="${addresses:+,}$(cat "$each/address")"
    done
    echo "$addresses"
}

launch() {
    local home=$1 dir=$2 address
    # One that was killed lets its port go a moment after its process is gone; whoever waits for the new one must not meet the old.
    address=$(cat "$dir/address")
    for _ in $(seq 300); do
        (: </dev/tcp/127.0.0.1/"${address##*:}") 2>/dev/null || break
        sleep 0.1
    done
    # Its own session: a signal for the terminal's foreground does not reach it before `stop` does.
    (
        exec_or_run() { exec setsid "$@"; }
        virtual_machine "$home" "$dir" kafka.Kafka "$dir/server.properties"
    ) </dev/null >"$dir/out.log" 2>&1 &
    echo "$!" >"$dir/pid"
}

# Waits until the broker of DIR listens.
answers() {
    local dir=$1 pid address port
    pid=$(cat "$dir/pid")
    address=$(cat "$dir/address")
    port=${address##*:}
    for _ in $(seq 1200); do
        kill -0 "$pid" 2>/dev/null || fail "the broker ended at once: $(tail -n 3 "$dir/out.log")"
        if (: </dev/tcp/127.0.0.1/"$port") 2>/dev/null; then
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

# Asks all brokers of DIR to end, then waits for each: the last of several has nobody left to hand its partitions to, and is killed.
stop() {
    local dir=$1 each pid
    local -a running=()
    for each in $(brokers "$dir"); do
        if alive "$each"; then
            running+=("$each")
            kill "$(cat "$each/pid")"
        fi
    done
    for _ in $(seq 300); do
        gone=1
        for each in "${running[@]}"; do
            ! alive "$each" || gone=0
        done
        [ "$gone" = 0 ] || break
        sleep 0.1
    done
    for each in "${running[@]}"; do
        if alive "$each"; then
            pid=$(cat "$each/pid")
            echo "kafka.sh: process $pid does not end, it is killed" >&2
            kill -9 "$pid"
        fi
        rm -f "$each/pid"
    done
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
    [ $# = 3 ] || [ $# = 4 ] || fail "usage: kafka.sh up HOME DIR [COUNT]"
    start "$(full "$2")" "$(full "$3")" "${4:-1}"
    ;;
down)
    [ $# = 2 ] || fail "usage: kafka.sh down DIR"
    stop "$(full "$2")"
    ;;
run)
    [ $# = 3 ] || [ $# = 4 ] || fail "usage: kafka.sh run HOME DIR [COUNT]"
    dir=$(full "$3")
    trap 'stop "$dir"' EXIT
    trap 'exit 0' INT TERM HUP
    start "$(full "$2")" "$dir" "${4:-1}"
    # A builtin: unlike a program in the foreground it lets a signal through.
    while read -r _; do :; done
    ;;
*)
    fail "usage: kafka.sh fetch|up|down|run ..., see the head of this file"
    ;;
esac
