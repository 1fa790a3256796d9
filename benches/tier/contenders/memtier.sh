# memkind's libmemtier (Debian package libmemkind0): malloc splits allocations between DRAM and the device by a fixed
# ratio of bytes, here BUDGET : rest of the footprint, when they are made. Nothing moves later. The other policy it has,
# by size, needs thresholds fitted to each program.
. "${0%/*}/counters.sh"

case $verb in
setup)
    # The kernel's balancing would move the device's part into DRAM as far as there is room, against the ratio.
    set_numa 0 false
    start_counting
    ;;
run)
    ratio
    # Without it memkind looks for nodes that a driver registered as memory; node 1 came from firmware.
    export MEMKIND_DAX_KMEM_NODES=1
    export MEMKIND_MEM_TIERS="KIND:DRAM,RATIO:$near;KIND:KMEM_DAX,RATIO:$far;POLICY:STATIC_RATIO"
    for dir in /usr/lib/x86_64-linux-gnu /usr/lib/aarch64-linux-gnu /usr/lib64 /usr/lib "${0%/*}" .; do
        [ -e "$dir/libmemtier.so.0" ] && : "${MEMTIER_LIB:=$dir/libmemtier.so.0}"
    done
    if [ -z "$MEMTIER_LIB" ]; then
        # Without this the loader would say one line and run the program on the system's malloc.
        echo "memtier.sh: no libmemtier.so.0; it is in Debian's libmemkind0" >&2
        exit 1
    fi
    export LD_PRELOAD="$MEMTIER_LIB"
    unset MEMTIER_LIB
    exec "$@"
    ;;
teardown)
    print_counters
    machine_defaults
    ;;
esac
