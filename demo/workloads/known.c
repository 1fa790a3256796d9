/* A program whose accesses are known exactly: which object, how often, in what distribution.
 *
 * usage: known MIB MAPFILE, under demo/src/judge.rs, which asks and decides:
 *   next zipf|hot   begin a new distribution, unlike the one before; answered by "map" once MAPFILE describes it:
 *                   a line per object, its address, bytes, and its accesses out of TABLE
 *   measure N       make N accesses between two marks of the access counter; answered by "measured"
 *   end             check every object; answered by "verified GOOD WRONG"
 * In between it goes on accessing. Its own tables are static, so the heap holds the objects and nothing else. */
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "marks.h"

enum { MOST = 1 << 17, TABLE = 1 << 20, BLOCK = 512, HOT_PERCENT = 20 };

static uint64_t *object[MOST];
static uint32_t words[MOST];  /* of 8 bytes */
static uint64_t added[MOST];  /* increments made */
static uint32_t table[TABLE]; /* an access picks one entry, uniformly: an object */
static uint32_t rank_of[MOST];
static uint32_t objects;
static uint64_t state = 0x7e55ace0, kept;

static uint64_t draw(void) { /* SplitMix64 */
    uint64_t z = state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

static uint64_t pattern(uint32_t i, uint32_t w) { return (uint64_t)i * 0x9e3779b97f4a7c15 + w; }

static void fill(size_t bytes) {
    static const uint32_t sizes[] = {1024, 2048, 3072, 4096, 6144};
    size_t sum = 0;
    while (sum < bytes && objects < MOST) {
        uint32_t size = sizes[draw() % 5], i = objects++;
        object[i] = malloc(size);
        if (!object[i]) exit(3);
        words[i] = size / 8;
        for (uint32_t w = 0; w < words[i]; w++) object[i][w] = pattern(i, w);
        sum += size;
    }
    objects -= objects % BLOCK;
}

/* Shuffles blocks of neighbours, so that what is hot together lies together, but nowhere in particular. */
static void rank(void) {
    uint32_t blocks = objects / BLOCK, order[MOST / BLOCK];
    for (uint32_t b = 0; b < blocks; b++) order[b] = b;
    for (uint32_t b = blocks; b > 1; b--) {
        uint32_t other = draw() % b, kept_one = order[b - 1];
        order[b - 1] = order[other];
        order[other] = kept_one;
    }
    for (uint32_t r = 0; r < objects; r++) rank_of[r] = order[r / BLOCK] * BLOCK + r % BLOCK;
}

static double weight(int zipf, uint32_t r) {
    if (zipf) return pow(r + 1, -0.99);
    uint32_t hot = (uint64_t)objects * HOT_PERCENT / 100;
    return (r < hot ? 0.9 / hot : 0) + 0.1 / objects;
}

static void distribute(int zipf, const char *map) {
    double sum = 0, so_far = 0;
    uint32_t filled = 0;
    FILE *out = fopen(map, "w");
    if (!out) exit(4);
    rank();
    for (uint32_t r = 0; r < objects; r++) sum += weight(zipf, r);
    for (uint32_t r = 0; r < objects; r++) {
        uint32_t first = filled, i = rank_of[r];
        so_far += weight(zipf, r);
        while (filled < TABLE && filled < so_far / sum * TABLE) table[filled++] = i;
        fprintf(out, "%" PRIuPTR " %u %u\n", (uintptr_t)object[i], words[i] * 8, filled - first);
    }
    while (filled < TABLE) table[filled++] = rank_of[0]; /* rounding; the map is off by as little */
    fclose(out);
}

static void go(uint64_t accesses) {
    while (accesses--) {
        uint64_t r = draw();
        uint32_t i = table[r % TABLE];
        uint64_t *word = &object[i][(r >> 20) % words[i]];
        if (r >> 62) {
            kept += *(volatile uint64_t *)word;
        } else {
            *(volatile uint64_t *)word += 1;
            added[i]++;
        }
    }
}

static void verify(void) {
    uint32_t good = 0;
    for (uint32_t i = 0; i < objects; i++) {
        uint64_t sum = 0, expected = added[i];
        for (uint32_t w = 0; w < words[i]; w++) sum += object[i][w], expected += pattern(i, w);
        good += sum == expected;
    }
    printf("verified %u %u\n", good, objects - good);
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    setvbuf(stdout, NULL, _IONBF, 0);
    setvbuf(stdin, NULL, _IONBF, 0);
    fill((size_t)atoi(argv[1]) << 20);
    distribute(0, argv[2]);
    puts("ready");
    for (;;) {
        struct pollfd in = {.fd = 0, .events = POLLIN};
        char line[64];
        go(10000);
        if (poll(&in, 1, 0) == 0) continue;
        if (!fgets(line, sizeof line, stdin)) return 5;
        if (strncmp(line, "next ", 5) == 0) {
            distribute(line[5] == 'z', argv[2]);
            puts("map");
        } else if (strncmp(line, "measure ", 8) == 0) {
            uint64_t accesses = strtoull(line + 8, NULL, 10);
            LAB_MARK(1);
            go(accesses);
            LAB_MARK(2);
            puts("measured");
        } else {
            verify();
            return kept == 42; /* `kept` must not be optimised away; 42 it is never */
        }
    }
}
