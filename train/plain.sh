#!/usr/bin/env bash
# The trial protocol in bash: any program in any language can be a trial.
# Try it: TRIAL_METRICS=/dev/stdout TRIAL_CHECKPOINT_DIR=/tmp bash train/plain.sh --rate=0.9
set -euo pipefail

told_to_stop=
trap 'told_to_stop=1' USR2 TERM  # a handler only remembers; the loop below acts

rate=0.9 steps=10 step_s=0
for argument in "$@"; do
    case $argument in
        --rate=*) rate=${argument#*=} ;;
        --steps=*) steps=${argument#*=} ;;
        --step_s=*) step_s=${argument#*=} ;;
        *) echo "plain.sh: unknown argument $argument" >&2; exit 2 ;;
    esac
done

checkpoint=${TRIAL_CHECKPOINT_DIR:-.}/plain.txt
step=0 loss=1
if [[ -f $checkpoint ]]; then
    read -r step loss < "$checkpoint"
fi

# Saving takes no time here, so it is done each step unless the sweep says how often.
every_s=${TRIAL_CHECKPOINT_INTERVAL_S:-0} saved_at=$SECONDS
while ((step < steps)); do
    loss=$(awk -v loss="$loss" -v rate="$rate" 'BEGIN { printf "%.9g", loss * rate }')
    step=$((step + 1))
    sleep "$step_s" & wait $! || true  # bash runs a trap during wait, not during sleep
    # Report and checkpoint in this order; the last value of a key counts, so a step that is
    # reported twice does no harm. One echo is one write: a line is never torn.
    echo "{\"step\": $step, \"loss\": $loss}" >> "${TRIAL_METRICS:-/dev/stdout}"
    stopping=$told_to_stop  # looked at once: what leaves has saved
    if [[ $stopping ]] || ((SECONDS - saved_at >= ${every_s%.*})); then
        echo "$step $loss" > "$checkpoint.tmp"
        sync "$checkpoint.tmp"
        mv "$checkpoint.tmp" "$checkpoint"  # whole or not at all
        saved_at=$SECONDS
    fi
    if [[ $stopping && $step -lt $steps ]]; then
        exit 75  # checkpointed: run me again
    fi
done
