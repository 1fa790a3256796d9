# Sourced by every contender: the settings all of them start from, and what the kernel moved.
#
# Each contender has three verbs:
#   sh NAME.sh setup BUDGET FOOTPRINT            as root, before the program
#   sh NAME.sh run BUDGET FOOTPRINT -- CMD...    as the program's user; becomes the program
#   sh NAME.sh teardown BUDGET FOOTPRINT         as root, after the program; prints key=value lines
# BUDGET and FOOTPRINT are MiB: what the program may have of node 0 (`hog` sees to that), and the heap it makes.

saved=${TMPDIR:-/tmp}/tier-counters

# set_numa BALANCING DEMOTION: kernel.numa_balancing, and whether reclaim on node 0 moves pages to node 1.
set_numa() {
    echo "$1" > /proc/sys/kernel/numa_balancing
    echo "$2" > /sys/kernel/mm/numa/demotion_enabled
}

# collapsing SECONDS: how often khugepaged looks for pages to make a huge one of. It puts that on the node that most of them are on, so
# it moves pages, too, and does not count them as migrated.
collapsing() { echo $(($1 * 1000)) > /sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs; }

# What the guest has when nobody sets anything: the kernel's own balancing, which on these nodes promotes a page when
# a program touches it twice, and no demotion.
machine_defaults() {
    set_numa 1 false
    collapsing 10
}

# CPU time so far of the kernel threads that move pages, in ms. kdamond threads end with their work: ask before that.
kernel_cpu_ms() {
    hz=$(getconf CLK_TCK 2>/dev/null || echo 100)
    for stat in /proc/[0-9]*/stat; do
        # A process may end between the listing and the reading.
        cat "$stat" 2>/dev/null
    done | awk -v hz="$hz" '$2 ~ /^\((kdamond\.[0-9]+|kswapd0)\)$/ { t += $14 + $15 } END { printf "%d\n", t * 1000 / hz }'
}

# After sixteen runs of reclaim on node 0 that found nothing, as an earlier contender without demotion can cause, the kernel
# gives up reclaim and promotion there until some reclaim succeeds. This makes one succeed: it demotes a file of its own.
revive_reclaim() {
    awk '/^Node 0,/ { n = 1 } /^Node 1,/ { n = 0 } n && /node_unreclaimable:/ && $2 { bad = 1 } END { exit !bad }' /proc/zoneinfo ||
        return 0
    group=/sys/fs/cgroup/tier-revive
    demotion=$(cat /sys/kernel/mm/numa/demotion_enabled)
    echo true > /sys/kernel/mm/numa/demotion_enabled
    echo +memory > /sys/fs/cgroup/cgroup.subtree_control
    mkdir -p $group
    sh -c "echo \$\$ > $group/cgroup.procs && dd if=/dev/zero of=$saved.file bs=1M count=4 2>/dev/null"
    echo 2M > $group/memory.reclaim 2>/dev/null
    rm -f "$saved.file"
    rmdir $group
    echo "$demotion" > /sys/kernel/mm/numa/demotion_enabled
}

# Remembers the counters as they are. Call it last in `setup`.
start_counting() {
    revive_reclaim
    { cat /proc/vmstat; echo "cpu_ms $(kernel_cpu_ms)"; } > "$saved"
}

# grown NAME...: by how much these counters of /proc/vmstat grew since, together.
grown() {
    { sed 's/^/was /' "$saved"; sed 's/^/is /' /proc/vmstat; } | awk -v names="$*" '
        BEGIN { split(names, n); for (i in n) wanted[n[i]] = 1 }
        $2 in wanted { sum += $1 == "is" ? $3 : -$3 }
        END { printf "%d\n", sum }'
}

# What every contender prints. `promoted` and `demoted` are what the kernel calls so itself; `migrated` is every page
# moved for any reason but khugepaged's: by the kernel, by a program's own call, and by compaction. `collapsed` is how many huge pages that made.
print_counters() {
    echo "promoted=$(grown pgpromote_success)"
    echo "demoted=$(grown pgdemote_kswapd pgdemote_direct pgdemote_khugepaged)"
    echo "migrated=$(grown pgmigrate_success)"
    echo "migrate_failed=$(grown pgmigrate_fail)"
    echo "collapsed=$(grown thp_collapse_alloc)"
    was=$(awk '$1 == "cpu_ms" { print $2 }' "$saved")
    echo "cpu_ms=$(($(kernel_cpu_ms) - was))"
}

verb=$1 budget=$2 footprint=$3
case $verb in
run)
    shift 3
    [ "$1" = -- ] && shift
    ;;
setup | teardown) ;;
*)
    echo "usage: $0 setup|run|teardown BUDGET_MIB FOOTPRINT_MIB [-- CMD...]" >&2
    exit 2
    ;;
esac
# The device's part of the heap; at least 1 so that a ratio can be made of it.
on_device=$((footprint > budget ? footprint - budget : 1))

# ratio: sets `near` and `far`, the smallest integers in the ratio BUDGET : FOOTPRINT-BUDGET, none above 255.
ratio() {
    near=$budget far=$on_device
    while [ $near -gt 255 ] || [ $far -gt 255 ]; do
        near=$(((near + 1) / 2)) far=$(((far + 1) / 2))
    done
    a=$near b=$far
    while [ $b -ne 0 ]; do
        t=$((a % b)) a=$b b=$t
    done
    near=$((near / a)) far=$((far / a))
}
