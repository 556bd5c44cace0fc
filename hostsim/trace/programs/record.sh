#!/bin/sh
# Makes the traces of programs that come along: record.sh DIRECTORY [NAME...]. Each makes NAME.parquet there.
#
# Takes coldfleet, valgrind, and what is recorded: sqlite3, PostgreSQL 15's initdb and postgres, redis-server, gcc, and
# a python3 with numpy. Data is prepared first, and only the work on it is recorded. A window has 500,000 accesses.
set -eu
mkdir -p "$1"
out=$(cd "$1" && pwd)
shift
folder=$(mktemp -d)
client=
trap 'test -z "$client" || kill "$client" 2> /dev/null; rm -rf "$folder"' EXIT
cd "$folder"

as() {  # PostgreSQL won't run as root
    if [ "$(id -u)" = 0 ]; then unshare --user --map-user=1000 "$@"; else "$@"; fi
}

record() {  # NAME COMMAND...
    name=$1
    shift
    as coldfleet trace record --window 500000 --out "$out/$name.parquet" -- "$@" > /dev/null
}

draw() {  # COUNT numbers from 1 to OF, by Zipf's law: the page of a database that is used most is anywhere
    python3 - "$1" "$2" <<'PY'
import random, sys
count, of = map(int, sys.argv[1:])
random.seed(1)
ids = random.sample(range(1, of + 1), of)
print(*random.choices(ids, [rank ** -0.9 for rank in range(1, of + 1)], k=count), sep="\n")
PY
}

sqlite() {  # a table of 20 MB: 20,000 reads and 4,000 updates of rows by their keys, which are skewed
    draw 24000 50000 > keys
    sqlite3 rows.db "create table t (id integer primary key, n integer, filler text);
        with recursive c(i) as (select 1 union all select i + 1 from c where i < 50000)
        insert into t select i, 0, printf('%0400d', i) from c; create table k (id integer);" ".import keys k"
    cat > work.sql <<'SQL'
pragma cache_size = -65536;
pragma journal_mode = off;
select sum(length(t.filler)) from k join t on t.id = k.id where k.rowid <= 20000;
update t set n = n + 1 where id in (select id from k where rowid > 20000);
SQL
    record sqlite sqlite3 rows.db ".read work.sql"
}

postgresql() {  # the same of PostgreSQL: 12,000 reads by an index and 2,000 updates, in 32 MB of shared buffers
    bin=$(pg_config --bindir 2> /dev/null || echo /usr/lib/postgresql/15/bin)
    draw 14000 50000 > keys
    as "$bin/initdb" -D data -A trust -U me --no-sync > /dev/null
    cat > load.sql <<SQL
create table t (id integer primary key, n integer, filler text)
insert into t select i, 0, lpad(i::text, 400, '0') from generate_series(1, 50000) i
create table k (number serial, id integer)
copy k (id) from '$PWD/keys'
vacuum analyze
SQL
    cat > work.sql <<'SQL'
set enable_hashjoin = off
set enable_mergejoin = off
set enable_bitmapscan = off
set enable_memoize = off
select sum(length(t.filler)) from (select id from k where number <= 12000 offset 0) k join t on t.id = k.id
update t set n = n + 1 from (select distinct id from k where number > 12000) k where t.id = k.id
SQL
    as "$bin/postgres" --single -D data postgres < load.sql > /dev/null
    record postgresql "$bin/postgres" --single -D data -c shared_buffers=32MB -c jit=off postgres < work.sql
}

redis() {  # 30,000 values of 600 bytes are made; then 6,000 are read and 1,500 written by their keys, which are skewed
    draw 7500 30000 | awk '{ print (NR % 5 ? "get" : "append"), "key:" $1 - 1, (NR % 5 ? "" : "x") }' > work.redis
    (
        until redis-cli -s socket ping > /dev/null 2>&1; do sleep 1; done
        redis-cli -s socket debug populate 30000 key 600
        redis-cli -s socket < work.redis > /dev/null
        redis-cli -s socket shutdown nosave
    ) > /dev/null &
    client=$!
    record redis redis-server --port 0 --unixsocket socket --save "" --enable-debug-command yes --hz 1
    client=
}

cc1() {  # the compiler proper, with -O2, on 3 functions of 8 loops
    awk 'BEGIN { for (f = 0; f < 3; f++) { printf "int f%d(int *a, int n) { int s = n, t = 1;\n", f
        for (l = 0; l < 8; l++) printf "for (int i = %d; i < n; i++) { s += a[i] * %d; if (s & %d) t ^= s; }\n", l % 3, f + l, l + 1
        print "return s + t; }" } }' > work.c
    record cc1 "$(gcc -print-prog-name=cc1)" -quiet -O2 work.c -o work.s
}

python() {  # 12,000 records are made, counted, sorted and looked up, and written and read as JSON
    cat > work.py <<'PY'
import json, random
random.seed(1)
records = [{"id": i, "name": f"name {i * 7919 % 40009}", "tags": [i % 7, i % 11], "text": chr(97 + i % 26) * 800} for i in range(12000)]
by_name = {record["name"]: record for record in records}
names = random.choices(list(by_name), [rank**-0.9 for rank in range(1, len(by_name) + 1)], k=10000)
counts: dict = {}
for name in names:
    counts[name] = counts.get(name, 0) + len(by_name[name]["tags"])
ordered = sorted(records, key=lambda record: record["name"])
again = json.loads(json.dumps(ordered[:500]))
print(len(counts), sum(record["id"] for record in again))
PY
    record python "$(command -v python3)" work.py
}

numpy() {  # 100,000 numbers in three columns: statistics, a sort, a histogram, a regression, a spectrum
    cat > work.py <<'PY'
import numpy as np
random = np.random.default_rng(1)
x = random.standard_normal((100_000, 3))
y = x @ [1.0, -2.0, 0.5] + random.standard_normal(len(x))
print(x.mean(axis=0), x.std(axis=0), np.percentile(y, [5, 50, 95]))
order = np.argsort(y)
print(np.histogram(y[order], bins=50)[0].max(), np.linalg.lstsq(x, y, rcond=None)[0])
print(np.abs(np.fft.rfft(y[: 1 << 16])).argmax(), np.cumsum(x[order, 0])[-1])
PY
    OPENBLAS_NUM_THREADS=1 record numpy "$(command -v python3)" work.py
}

for program in ${*:-sqlite postgresql redis cc1 python numpy}; do
    mkdir "$folder/$program"
    cd "$folder/$program"
    $program
done
