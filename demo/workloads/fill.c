/* Fills memory by malloc and says where it lies, for the modes' tests.
 *
 * usage: fill MIB LEFT    allocate and touch blocks until MIB MiB are held, or until no more than LEFT MiB are free on
 *                         all nodes together, whichever comes first; then check every block.
 * Prints a line after every 8 MiB: "held M dram D device V", MiB and pages as the kernel counts them, so that the last
 * line tells even if the kernel kills us; at the end "failed N", "good N" and "wrong N" blocks. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 1 << 18, BLOCKS = 4, STEP = 8 << 20 };
static const size_t sizes[BLOCKS] = {700, 5000, 60000, 1 << 20};
static unsigned char *block[MOST];

static void count(unsigned long *dram, unsigned long *device) {
    static char line[4096];
    FILE *maps = fopen("/proc/self/numa_maps", "r");
    *dram = *device = 0;
    while (maps && fgets(line, sizeof line, maps)) {
        unsigned long start = strtoul(line, NULL, 16);
        if (start < 0x100000000000 || start >= 0x500000000000) continue;
        for (char *word = strtok(line, " \n"); word; word = strtok(NULL, " \n")) {
            if (strncmp(word, "N0=", 3) == 0) *dram += strtoul(word + 3, NULL, 10);
            if (strncmp(word, "N1=", 3) == 0) *device += strtoul(word + 3, NULL, 10);
        }
    }
    if (maps) fclose(maps);
}

static unsigned long free_mib(void) {
    unsigned long sum = 0, kib;
    for (int node = 0; node < 2; node++) {
        char path[64], line[256];
        snprintf(path, sizeof path, "/sys/devices/system/node/node%d/meminfo", node);
        FILE *info = fopen(path, "r");
        while (info && fgets(line, sizeof line, info))
            if (sscanf(line, "Node %*d MemFree: %lu", &kib) == 1) sum += kib >> 10;
        if (info) fclose(info);
    }
    return sum;
}

int main(int argc, char **argv) {
    size_t held = 0, said = 0, blocks = 0, failed = 0, wrong = 0;
    unsigned long dram, device;
    if (argc != 3) return 2;
    setvbuf(stdout, NULL, _IONBF, 0);
    while (held >> 20 < strtoul(argv[1], NULL, 10) && blocks < MOST) {
        size_t size = sizes[blocks % BLOCKS];
        block[blocks] = malloc(size);
        if (!block[blocks]) {
            failed++;
            break;
        }
        memset(block[blocks], (int)(blocks % 251), size);
        held += size, blocks++;
        if (held - said < STEP) continue;
        said = held;
        count(&dram, &device);
        printf("held %zu dram %lu device %lu\n", held >> 20, dram, device);
        if (free_mib() <= strtoul(argv[2], NULL, 10)) break;
    }
    for (size_t i = 0; i < blocks; i++) {
        size_t size = sizes[i % BLOCKS], at = 0;
        while (at < size && block[i][at] == i % 251) at++;
        wrong += at < size;
    }
    count(&dram, &device);
    printf("held %zu dram %lu device %lu\nfailed %zu\ngood %zu\nwrong %zu\n", held >> 20, dram, device, failed, blocks - wrong, wrong);
    return 0;
}
