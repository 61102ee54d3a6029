#!/bin/sh
# Builds windrow, makes a sample log and replays it: the main job in one command.
set -eu
cd "$(dirname "$0")/.."
cargo build --release --bin windrow --example generate
bin=target/release
log=target/sample.log
"$bin/examples/generate" log --lines 1000000 -o "$log"
set -x
"$bin/windrow" replay "$log" --key path --window 5m --slide 30s \
  --agg 'count, sum(bytes), count_if(status >= 500) as errors' -o target/sample.csv --stats
head -5 target/sample.csv
"$bin/windrow" replay "$log" --key status --window 6h --agg 'count, avg(bytes), max(bytes)' --output-format table
