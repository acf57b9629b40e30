# What the pretended Slurm's commands share. Only the shell's own words: each command takes 2 ms.
#
#   $FAKE_SLURM_DIR/jobs/<id>           "name first last uid visible": an accepted array; squeue
#                                       shows it from that time on (1/100 s since boot)
#   $FAKE_SLURM_DIR/plan.<command>      line i: how call i misbehaves; without one it does not
#   $FAKE_SLURM_DIR/calls/<command>.<i> made by call i

# Set $call to the number of this call (0, 1, ...) and $fault, $delay to its line of the plan.
next_call() {
  call=0
  set -C
  until { true > "$FAKE_SLURM_DIR/calls/$1.$call"; } 2>/dev/null; do call=$((call + 1)); done
  set +C
  fault=ok
  delay=0
  line=0
  [ -r "$FAKE_SLURM_DIR/plan.$1" ] || return 0
  while read -r f d; do
    if [ "$line" = "$call" ]; then
      fault=$f
      delay=$d
    fi
    line=$((line + 1))
  done < "$FAKE_SLURM_DIR/plan.$1"
}

# Set $now to the time since boot in 1/100 s.
now() {
  read -r now _ < /proc/uptime
  now=${now%.*}${now#*.}
}

# Read the options of squeue and sacct: $user, $names and $format.
parse_query() {
  user='' names='' format=''
  while [ $# -gt 0 ]; do
    case $1 in
      --user=*) user=${1#--user=} ;;
      -n) case ${2:-} in [a-z]*) names=$2; shift ;; esac ;;
      --name) names=$2; shift ;;
      -o) format=$2; shift ;;
      -t | -S) shift ;;
    esac
    shift
  done
}

# Call `show id name first last` for each array that the query asked for.
for_each_job() {
  now
  for file in "$FAKE_SLURM_DIR"/jobs/*; do
    [ -s "$file" ] && read -r name first last uid visible < "$file" || continue
    case ",$names," in *",$name,"*) ;; *) continue ;; esac
    [ -z "$user" ] || [ "$user" = "$uid" ] || continue
    [ "$visible" -le "$now" ] || continue
    show "${file##*/}" "$name" "$first" "$last"
  done
  # Whoever does not ask for one user's jobs is shown a stranger's of the same name.
  [ -n "$user" ] || show 1 "${names%%,*}" 0 0
}
