/* A program that says where its memory should live.
 *
 *     cc -O2 -I include -o hints hints.c -L target/release -lterrace -Wl,-rpath,$PWD/target/release && ./hints
 *
 * Keeps a hot index, a cold archive and a buffer in device memory, asks where their pages are, gives the archive a new
 * hint while it is in use, and ends with the statistics. On a machine without device memory every hint still works,
 * in DRAM; only a strict one says that it cannot. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "terrace.h"

enum { MIB = 1 << 20 };

static const char *kind_of(uint32_t kind)
{
    return kind == TERRACE_TIER_DEVICE ? "device" : "dram";
}

static void die(const char *what)
{
    fprintf(stderr, "hints: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* Prints the machine's tiers; the number of those that are devices. */
static int show_tiers(void)
{
    struct terrace_tier tiers[8];
    int count = terrace_tiers(tiers, 8), devices = 0;
    if (count < 0)
        die("terrace_tiers");
    for (int i = 0; i < count && i < 8; i++) {
        printf("tier %" PRIu32 ": %s, %" PRIu64 " MiB", tiers[i].index, kind_of(tiers[i].kind), tiers[i].capacity / MIB);
        if (tiers[i].latency_ns != 0)
            printf(", %" PRIu32 " ns", tiers[i].latency_ns);
        printf("\n");
        devices += tiers[i].kind == TERRACE_TIER_DEVICE;
    }
    return devices;
}

/* How many pages of a block are on a device, and how many anywhere. */
static void show_pages(const char *name, const unsigned char *block, size_t size)
{
    struct terrace_tier tiers[8];
    int count = terrace_tiers(tiers, 8);
    size_t pages = 0, on_device = 0;
    for (size_t at = 0; at < size; at += 4096) {
        int tier = terrace_tier_of(block + at);
        if (tier < 0)
            die("terrace_tier_of");
        pages++;
        on_device += tier < count && tier < 8 && tiers[tier].kind == TERRACE_TIER_DEVICE;
    }
    printf("%s: %zu of %zu pages on a device\n", name, on_device, pages);
}

/* A block with known bytes in it. */
static unsigned char *filled(size_t size, unsigned hint, const char *name)
{
    unsigned char *block = terrace_malloc(size, hint);
    if (block == NULL)
        die(name);
    for (size_t at = 0; at < size; at++)
        block[at] = (unsigned char)(at * 31 + at / 4096);
    return block;
}

static void check(const unsigned char *block, size_t size, const char *name)
{
    for (size_t at = 0; at < size; at++) {
        if (block[at] != (unsigned char)(at * 31 + at / 4096)) {
            fprintf(stderr, "hints: %s is damaged at byte %zu\n", name, at);
            exit(1);
        }
    }
}

int main(void)
{
    printf("terrace %s\n", terrace_version());
    int devices = show_tiers();

    /* Used all the time, used seldom, explicitly on the device from the first touch on. */
    unsigned char *index = filled(1 * MIB, TERRACE_HOT, "index");
    unsigned char *archive = filled(4 * MIB, TERRACE_COLD, "archive");
    unsigned char *buffer = filled(2 * MIB, TERRACE_DEVICE, "buffer");
    show_pages("hot index", index, 1 * MIB);
    show_pages("device buffer", buffer, 2 * MIB);

    /* Strict: fail rather than fall back. */
    void *strict = terrace_malloc(MIB, TERRACE_DEVICE | TERRACE_STRICT);
    if (strict != NULL)
        printf("strict device allocation: granted\n");
    else if (errno == ENOMEM)
        printf("strict device allocation: refused, %s\n", strerror(errno));
    else
        die("strict device allocation");
    if ((strict != NULL) != (devices > 0)) {
        fprintf(stderr, "hints: a strict device allocation and the list of tiers disagree\n");
        return 1;
    }

    /* A change of mind moves live memory; its address and its bytes stay. */
    if (terrace_advise(archive, 4 * MIB, TERRACE_DEVICE) != 0)
        die("terrace_advise to the device");
    show_pages("archive, sent to the device", archive, 4 * MIB);
    check(archive, 4 * MIB, "archive");
    if (terrace_advise(archive, 4 * MIB, TERRACE_DRAM) != 0)
        die("terrace_advise to DRAM");
    show_pages("archive, taken back", archive, 4 * MIB);
    check(archive, 4 * MIB, "archive");

    /* Mistakes are told apart. */
    if (terrace_malloc(100, 1u << 20) != NULL || errno != EINVAL)
        die("a hint that does not exist");
    if (terrace_advise(&devices, sizeof devices, TERRACE_HOT) != -1 || errno != EINVAL)
        die("advice about memory that is not the heap's");

    struct terrace_stats stats = {.size = sizeof stats};
    if (terrace_stats_get(&stats) != 0)
        die("terrace_stats_get");
    printf("live: at least 7 MiB %s\n", stats.live_bytes >= 7 * MIB ? "yes" : "no");

    /* Whatever allocated a block, any of the free functions frees it. */
    check(index, 1 * MIB, "index");
    check(buffer, 2 * MIB, "buffer");
    free(index);
    terrace_free(archive);
    free(buffer);
    free(strict);
    printf("every byte as it was\n");
    return 0;
}
