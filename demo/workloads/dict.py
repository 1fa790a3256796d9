"""A dictionary of records whose hot part is known, as known.c; the judge's protocol is described there.

usage: dict.py MIB MAPFILE, with PYTHONMALLOC=malloc so that every object comes from malloc.
"""

import os
import random
import select
import sys
import zlib

HOT_PERCENT = 20

mib, map_file = int(sys.argv[1]), sys.argv[2]
random.seed(20160101)
noise = os.urandom(1 << 20)

# A record: a counter, a payload, a text made for it. The payload holds most of the bytes.
records, sums, made = {}, [], 0
while made < mib << 20:
    i = len(records)
    size = 512 + i * 7919 % 1537
    start = i * 104729 % ((1 << 20) - size)
    payload = noise[start : start + size]
    records[i] = [0, payload, "record %d of many" % i]
    sums.append(zlib.crc32(payload))
    made += size + 200
count = len(records)
hits = [0] * count
hot = range(0, count * HOT_PERCENT // 100)


def choose():
    """A new hot block, elsewhere, and its map."""
    global hot
    size = count * HOT_PERCENT // 100
    start = (hot.start + size + random.randrange(count - 3 * size)) % (count - size)
    hot = range(start, start + size)
    with open(map_file, "w") as out:
        for i, record in records.items():
            weight = 10 * size + (90 * count if i in hot else 0)
            out.write("%d %d %d\n" % (id(record[1]), sys.getsizeof(record[1]), weight))


def go(accesses):
    """Nine of ten accesses to the hot block; each reads one byte of a payload and counts."""
    total = 0
    for _ in range(accesses):
        if random.random() < 0.9:
            i = hot.start + int(random.random() * len(hot))
        else:
            i = int(random.random() * count)
        record = records[i]
        record[0] += 1
        hits[i] += 1
        payload = record[1]
        total += payload[int(random.random() * len(payload))]
    return total


print("ready", flush=True)
while True:
    go(1000)
    if not select.select([sys.stdin], [], [], 0)[0]:
        continue
    words = sys.stdin.readline().split()
    if words and words[0] == "next":
        choose()
        print("map", flush=True)
    else:
        good = sum(
            record[0] == hits[i] and zlib.crc32(record[1]) == sums[i] and record[2] == "record %d of many" % i
            for i, record in records.items()
        )
        print("verified", good, count - good, flush=True)
        break
