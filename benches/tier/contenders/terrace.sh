# Terrace, with a DRAM budget of BUDGET. The machine is as it is when nobody sets anything: NUMA balancing in its
# default mode, no demotion. TERRACE_MODE of the caller makes it the contender that only spills (`spill`), never uses
# the device unasked (`isolate`), or only demotes (`assist`).
# Pages are moved by Terrace's own thread, with calls of its own: they count as `migrated`, and the CPU time is the
# program's. `terrace stat` tells them apart.
. "${0%/*}/counters.sh"

case $verb in
setup)
    # `assist` leaves promotion to the kernel, which does it in mode 2 only.
    [ "${TERRACE_MODE:-}" = assist ] && set_numa 2 false || machine_defaults
    start_counting
    ;;
run)
    export TERRACE_MODE="${TERRACE_MODE:-auto}"
    export TERRACE_DRAM="${budget}M"
    # The default waits for a heap of half the budget; tiny heaps are of no interest to users, but here they are.
    export TERRACE_START=1M
    # The tracker's share of one core. A system call costs some ten times in emulation what it costs on hardware, and
    # the default of 3 would let it look a tenth as often.
    export TERRACE_TRACKER_CPU=10
    export LD_PRELOAD="${TERRACE_LIB:-/terrace/libterrace.so}"
    unset TERRACE_LIB
    exec "$@"
    ;;
teardown)
    print_counters
    machine_defaults
    ;;
esac
