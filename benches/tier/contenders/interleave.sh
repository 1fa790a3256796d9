# Weighted interleaving (Linux 6.9 and later): pages alternate between the nodes in the ratio BUDGET : rest of the
# footprint, so that DRAM has its share of everything, hot or not. Made for bandwidth; here it is the policy that knows
# nothing and favours nothing. `policy` sets it for the program, as `numactl --weighted-interleave` of newer
# distributions does.
. "${0%/*}/counters.sh"

weights=/sys/kernel/mm/mempolicy/weighted_interleave
case $verb in
setup)
    # Balancing would undo the ratio.
    set_numa 0 false
    ratio
    echo "$near" > $weights/node0
    echo "$far" > $weights/node1
    start_counting
    ;;
run) exec "${POLICY:-${0%/*}/policy}" weighted-interleave 0,1 -- "$@" ;;
teardown)
    print_counters
    echo "weights=$(cat $weights/node0):$(cat $weights/node1)"
    # 0: the kernel's default again.
    echo 0 > $weights/node0
    echo 0 > $weights/node1
    machine_defaults
    ;;
esac
