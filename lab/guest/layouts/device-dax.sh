# The reserved range is /dev/dax0.0. Linux 6.12 leaves it without a driver (it expects kmem to take it), 6.1 binds it.
dax=/sys/bus/dax
i=0
while [ ! -e $dax/devices/dax0.0 ] && [ $i -lt 100 ]; do usleep 50000; i=$((i + 1)); done
[ -e $dax/devices/dax0.0/driver ] || echo dax0.0 >$dax/drivers/device_dax/new_id
i=0
while [ ! -c /dev/dax0.0 ] && [ $i -lt 100 ]; do usleep 50000; i=$((i + 1)); done
chmod 666 /dev/dax0.0
