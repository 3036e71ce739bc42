#!/bin/sh
# lint.sh: how large files, functions and lines may be, and what may stand in which file.
set -eu
cd "$(dirname "$0")/.."
status=0

complain() {
    echo "$1" >&2
    status=1
}

# limit FILE LINES: no file is too long to be read.
limit() {
    lines=$(wc -l <"$1")
    [ "$lines" -le "$2" ] || complain "$1: $lines lines, at most $2 are allowed"
}

limit src/main.rs 520
limit README.md 650
[ "$(wc -c <src/main.rs)" -le 25000 ] || complain "src/main.rs: over 25,000 bytes"
sources=$(find src -name '*.rs' | sort)
for file in $sources; do
    [ "$file" = src/main.rs ] || limit "$file" 400
    awk -v file="$file" '
        length > 100 { print file ":" FNR ": over 100 characters"; bad = 1 }
        /^ *(pub |pub\(crate\) )?(const |unsafe )?fn / {
            first = FNR
            match($0, /^ */)
            last = substr($0, 1, RLENGTH) "}"
        }
        $0 == last {
            if (FNR - first >= 50) { print file ":" first ": a function of over 50 lines"; bad = 1 }
            last = "none"
        }
        END { exit bad }' "$file" >&2 || status=1
done

# in_code PATTERN FILE...: where it stands outside of comments and strings.
in_code() {
    pattern=$1
    shift
    for file; do
        sed 's,//.*,,; s,"[^"]*","",g' "$file" | grep -nwE "$pattern" | sed "s,^,$file:,"
    done
}

for file in $sources; do
    case $file in src/sys.rs | src/sys/*.rs) continue ;; esac
    found=$(in_code unsafe "$file")
    [ -z "$found" ] || complain "unsafe outside of src/sys.rs and src/sys/: $found"
    found=$(in_code 'use .*::\*;' "$file")
    [ -z "$found" ] || complain "a glob import: $found"
done

# Calls go down: these know nothing of `Container`, and nothing of main.rs.
upper="src/main.rs src/cli.rs src/commands.rs"
for file in src/*.rs; do
    case " $upper " in *" $file "*) continue ;; esac
    found=$(in_code 'Container|use crate::\*' "$file")
    [ -z "$found" ] || complain "a lower room that looks up: $found"
done
macros=$(grep -rho 'macro_rules! *[a-z_]*' src | wc -l)
[ "$macros" -le 1 ] || complain "more than one macro_rules!"
exit $status
