#!/bin/sh
# ran-check.sh LOG...: says what ran and what was skipped, and why, by the logs of test runs (lines
# "RAN test" and "SKIP test: reason"). With several logs, such as the host's and the virtual
# machine's, fails if there is a test that ran in none of them.
set -eu

for log; do
    if [ ! -e "$log" ]; then
        echo "$log: not there: that run is still to come, so nothing to compare"
        missing=yes
        continue
    fi
    sort -u "$log" | awk -v log_name="$log" '
        /^RAN / { ran++ }
        /^SKIP / { skipped++; reasons = reasons "    " substr($0, 6) "\n" }
        END { printf "%s: %d ran, %d skipped\n%s", log_name, ran, skipped, reasons }'
done
if [ $# -lt 2 ] || [ -n "${missing:-}" ]; then exit 0; fi

awk '
    { name = $2; sub(/:$/, "", name) }
    $1 == "RAN" { ran[name] = 1 }
    $1 == "SKIP" { skipped[name] = 1 }
    END {
        for (name in skipped)
            if (!(name in ran)) { print "ran nowhere: " name; bad = 1 }
        exit bad
    }' "$@"
