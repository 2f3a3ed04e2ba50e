#!/usr/bin/env bash
# A single-broker Apache Kafka (KRaft, no ZooKeeper) for tests, benchmarks and trying things out.
#
# Usage:
#   kafka.sh fetch                              download the broker once into the cache
#   kafka.sh start [DIR] [PORT] [CONTROLLER_PORT] start in the background, wait until ready, print the address
#   kafka.sh stop [DIR]                         stop what `start DIR` started
#   kafka.sh run DIR [PORT] [CONTROLLER_PORT]   run until standard input closes (so it never outlives its parent),
#                                               then remove its data
#   kafka.sh topic NAME [PARTITIONS]            create a topic if it does not exist
#   kafka.sh produce TOPIC                      write each line of standard input as a record
#   kafka.sh consume TOPIC [COUNT]              print that many committed records, one per line, waiting for them up to a
#                                               minute; without COUNT all that there are
#
# DIR holds the broker's data, log and pid; default: MILLSTREAM_KAFKA, else a folder in the cache. Ports default to 9092
# and 9093 on the loopback. topic, produce and consume use the broker at KAFKA_BROKERS (127.0.0.1:9092). KAFKA_JVM_OPTS
# adds options for Java; KAFKA_MAKES_TOPICS=true has the broker make topics that somebody asks for.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/env.sh"

version=$(sed -n 's:.*<kafka.version>\(.*\)</kafka.version>.*:\1:p' "$here/kafka/pom.xml")
lib=$MILLSTREAM_CACHE/kafka/$version
default_dir=${MILLSTREAM_KAFKA:-$MILLSTREAM_CACHE/broker}
brokers=${KAFKA_BROKERS:-127.0.0.1:9092}
ready_timeout_s=60
# A reader that gets no record for so long has read all there is.
idle_timeout_ms=3000

die() {
  echo "error: $*" >&2
  exit 1
}

fetch() {
  [ -f "$lib/kafka-tools-$version.jar" ] && return
  command -v mvn >/dev/null || die "mvn is missing; run scripts/setup.sh test, or: apt-get install maven"
  echo "fetching Apache Kafka $version from Maven Central into $lib" >&2
  local part
  part=$lib.part.$$
  mkdir -p "$lib"
  mvn -q -B -f "$here/kafka/pom.xml" dependency:copy-dependencies "-DoutputDirectory=$part" -DincludeScope=runtime >&2
  # The file that says that all are there comes last. Another fetch may have been quicker.
  mv "$part/kafka-tools-$version.jar" "$part.last"
  mv -n "$part"/* "$lib/"
  mv "$part.last" "$lib/kafka-tools-$version.jar"
  rm -rf "$part"
}

# Runs one of Kafka's own commands.
tool() {
  java -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData -Xshare:auto \
    -Dorg.slf4j.simpleLogger.defaultLogLevel=error -cp "$lib/*" "$@"
}

# Writes the configuration and formats the data folder once; leaves the command line in `broker`.
prepare() {
  local port=${2:-9092} controller=${3:-9093}
  command -v java >/dev/null || die "java is missing (17 or newer); run scripts/setup.sh test"
  mkdir -p "$1"
  dir=$(cd "$1" && pwd) address=127.0.0.1:$port
  cat >"$dir/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
listeners=PLAINTEXT://$address,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://$address
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs=$dir/data
num.partitions=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=${KAFKA_MAKES_TOPICS:-false}
message.max.bytes=20971520
replica.fetch.max.bytes=20971520
log.cleaner.dedupe.buffer.size=4194304
PROPERTIES
  local java_options=(-Xms128m "-Xmx${KAFKA_HEAP_MAX:-768m}" -XX:+UseSerialGC -XX:-UsePerfData -Xshare:auto
    -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info)
  # shellcheck disable=SC2206 # several options in one variable
  java_options+=(${KAFKA_JVM_OPTS:-})
  if [ ! -f "$dir/data/meta.properties" ]; then
    java "${java_options[@]}" -XX:TieredStopAtLevel=1 -cp "$lib/*" kafka.tools.StorageTool format \
      -t MillstreamTestClusterA -c "$dir/server.properties" >"$dir/format.log" 2>&1 ||
      { cat "$dir/format.log" >&2; die "cannot format $dir/data"; }
  fi
  broker=(java "${java_options[@]}" -cp "$lib/*" kafka.Kafka "$dir/server.properties")
}

# Waits until the broker says that it has started.
wait_ready() {
  local deadline=$((SECONDS + ready_timeout_s))
  until grep -q 'Kafka Server started' "$dir/broker.log" 2>/dev/null; do
    if ! kill -0 "$1" 2>/dev/null || [ $SECONDS -ge $deadline ]; then
      tail -n 20 "$dir/broker.log" >&2
      die "Kafka did not start on $address; the log above is $dir/broker.log"
    fi
    sleep 0.05
  done
}

case "${1:-}" in
  fetch) fetch ;;
  start)
    fetch
    prepare "${2:-$default_dir}" "${@:3}"
    if [ -f "$dir/pid" ] && kill -0 "$(cat "$dir/pid")" 2>/dev/null; then
      echo "$address"
      exit
    fi
    rm -f "$dir/broker.log"
    setsid "${broker[@]}" >"$dir/broker.log" 2>&1 </dev/null &
    echo $! >"$dir/pid"
    wait_ready "$(cat "$dir/pid")"
    echo "$address"
    ;;
  run)
    [ $# -ge 2 ] || die "which folder? usage: kafka.sh run DIR [PORT] [CONTROLLER_PORT]"
    fetch
    prepare "${@:2}"
    "${broker[@]}" >"$dir/broker.log" 2>&1 </dev/null &
    pid=$!
    echo $pid >"$dir/pid"
    last_word=
    trap 'disown $pid 2>/dev/null || true; kill -9 $pid 2>/dev/null || true; [ "$last_word" = keep ] || rm -rf "$dir/data"' EXIT
    wait_ready $pid
    echo "$address"
    last_word=$(cat)
    ;;
  stop)
    dir=${2:-$default_dir}
    [ -f "$dir/pid" ] || die "no broker was started in $dir"
    pid=$(cat "$dir/pid")
    kill "$pid" 2>/dev/null || true
    for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
    kill -9 "$pid" 2>/dev/null || true
    rm -f "$dir/pid"
    ;;
  topic)
    fetch
    tool org.apache.kafka.tools.TopicCommand --bootstrap-server "$brokers" --create --if-not-exists \
      --topic "${2:?which topic?}" --partitions "${3:-1}" --replication-factor 1
    ;;
  produce)
    fetch
    tool org.apache.kafka.tools.ConsoleProducer --bootstrap-server "$brokers" --topic "${2:?which topic?}" >/dev/null
    ;;
  consume)
    fetch
    limit=(--timeout-ms "$idle_timeout_ms")
    [ $# -le 2 ] || limit=(--timeout-ms 60000 --max-messages "$3")
    # It ends with an exception and exit code 1 when no record has come for a while: the end that is wanted here, unless
    # records are missing.
    if ! said=$(tool org.apache.kafka.tools.consumer.ConsoleConsumer --bootstrap-server "$brokers" \
      --topic "${2:?which topic?}" --from-beginning --isolation-level read_committed \
      "${limit[@]}" 2>&1 >&3) && { [ $# -gt 2 ] || ! grep -q TimeoutException <<<"$said"; }; then
      die "$said"
    fi 3>&1
    ;;
  *)
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" | grep -v '^set'
    exit 2
    ;;
esac
