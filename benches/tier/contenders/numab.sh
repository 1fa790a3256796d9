# The kernel's own memory tiering: NUMA balancing in mode 2 promotes a device page when a program touches it within a
# second of the kernel's having marked it (Linux 5.18 and later), and reclaim on node 0 demotes what was not used lately.
#
# Set here: kernel.numa_balancing=2 and demotion_enabled=1, the two switches of the kernel's documentation. Everything
# else is the kernel's default:
#   kernel.numa_balancing_promote_rate_limit_MBps 65536, never reached here;
#   hot_threshold_ms 1000: the kernel lowers it by itself, but only when promotion reaches the rate limit;
#   a scan of 256 MiB of the program each second, at most;
#   multi-generation LRU on, as Debian has it.
# Lowering the rate limit makes the threshold adapt; an administrator may want that, the defaults do not have it.
#
# What to know of it on a small node: the kernel skips the threshold while DRAM has more than 1 GiB free, or 1/16 of the
# node if that is more. A node below 1 GiB never has, so that the threshold always counts, as on a big machine whose
# DRAM is full: the steady state this benchmark is about.
# It keeps free memory on node 0 between the watermarks `low` and `promo`, and the heap there is smaller by up to the
# difference (`hog` makes it small).
# The marking goes by the CPU time the program uses: one that mostly sleeps is hardly looked at.
# The marking is done by the program's own threads on their way back from the kernel, and promotion in their page
# faults: the CPU time of that is the program's. `cpu_ms` has demotion only.
. "${0%/*}/counters.sh"

case $verb in
setup)
    set_numa 2 true
    start_counting
    ;;
run) exec "$@" ;;
teardown)
    print_counters
    echo "candidates=$(grown pgpromote_candidate)"
    echo "hint_faults=$(grown numa_hint_faults)"
    machine_defaults
    ;;
esac
