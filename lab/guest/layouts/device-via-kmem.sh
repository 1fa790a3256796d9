# Hands the reserved range to the kernel as ordinary memory of its own node. Linux 6.12 binds kmem and onlines the blocks by
# itself; 6.1 does neither.
dax=/sys/bus/dax
i=0
while [ ! -e $dax/devices/dax0.0 ] && [ $i -lt 100 ]; do usleep 50000; i=$((i + 1)); done
driver=$(readlink $dax/devices/dax0.0/driver)
if [ "${driver##*/}" != kmem ]; then
    [ -n "$driver" ] && echo dax0.0 >$dax/devices/dax0.0/driver/unbind
    echo dax0.0 >$dax/drivers/kmem/new_id
fi
node=$(cat $dax/devices/dax0.0/target_node)
for block in /sys/devices/system/node/node$node/memory*; do
    [ -e $block/state ] || continue
    [ "$(cat $block/state)" = offline ] && echo online_movable >$block/state
done
[ -e /sys/devices/system/node/node$node/has_memory ] || grep -q MemTotal /sys/devices/system/node/node$node/meminfo
