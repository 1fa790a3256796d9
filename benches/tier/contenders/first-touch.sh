# First touch: a page is where there was room when it was first used, DRAM first, then the device, and stays there.
# This is what a program gets from the kernel without any tiering. NUMA balancing is off, because in the kernel's
# default mode it moves pages the program touches to the CPU's node, as far as there is room; and khugepaged, which puts
# all of a huge page where most of it was, sleeps.
. "${0%/*}/counters.sh"

case $verb in
setup)
    set_numa 0 false
    collapsing 86400
    start_counting
    ;;
run) exec "$@" ;;
teardown)
    print_counters
    machine_defaults
    ;;
esac
