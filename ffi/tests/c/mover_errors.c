/* Pages that cannot be moved, while Terrace wants to move them.
 *
 *     mover_errors quiet|pinned|shared|full SECONDS
 *
 * Runs for SECONDS, or until the moves and the refusals it is about were seen, ten times as long at most.
 *
 * 96 MiB of blocks, a sixth of which is in use at a time, so that pages are to move both ways. Meanwhile, depending on the first word: some blocks
 * are registered with io_uring, which pins them; a child shares all pages; from half-time on another process takes all that the device has left. At
 * the end every block must be as it was written. Prints the pages moved and, by errno, those that could not be. */
#include "check.h"
#include <fcntl.h>
#include <linux/io_uring.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

enum { BLOCKS = 1536, BYTES = 64 << 10, WORDS = BYTES / 8, PINNED = 48, PARTS = 6 };

static uint64_t *blocks[BLOCKS];

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void register_with_io_uring(void)
{
    static struct io_uring_params parameters;
    static struct iovec pinned[PINNED];
    int ring = (int)syscall(SYS_io_uring_setup, 4, &parameters);
    CHECK(ring >= 0);
    for (int i = 0; i < PINNED; i++)
        pinned[i] = (struct iovec){blocks[i * (BLOCKS / PINNED)], BYTES};
    CHECK(syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, pinned, PINNED) == 0);
}

/* The process that takes what the device has left, and goes on taking what becomes free. */
static void fill_device(void)
{
    unsigned long mask = 1UL << 1;
    for (size_t taken = 0; taken < (size_t)512 << 20; taken += 1 << 20) {
        char *page = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(page != MAP_FAILED);
        /* Preferred: a full device is no reason to end this process. Then it gives back what it got elsewhere. */
        CHECK(syscall(SYS_mbind, page, 1 << 20, 1, &mask, 64UL, 0) == 0);
        memset(page, 1, 1 << 20);
        int node = -1;
        CHECK(syscall(SYS_get_mempolicy, &node, NULL, 0UL, page + (1 << 20) - 1, 3) == 0);
        if (node != 1) {
            CHECK(munmap(page, 1 << 20) == 0);
            usleep(10000);
        }
    }
}

/* The statistics page: three words of its own, then the snapshot (control/stats.rs). */
enum {
    FIRST = 3,
    TIERS = FIRST + 8,
    PROMOTED = TIERS + 4 * 7,
    DEMOTED,
    EVICTED,
    EBUSY_MOVES,
    EAGAIN_MOVES,
    EACCES_MOVES,
    OTHER_MOVES = EBUSY_MOVES + 5,
    END = OTHER_MOVES + 9,
    SHOWN = 512
};

static void read_statistics(uint64_t words[SHOWN])
{
    char name[64];
    snprintf(name, sizeof name, "/dev/shm/terrace-%d.stats", (int)getpid());
    int file = open(name, O_RDONLY);
    CHECK(file >= 0 && read(file, words, SHOWN * 8) == SHOWN * 8);
    CHECK(words[1] >> 32 == END - FIRST); /* the layout that is meant */
    close(file);
}

static int was_seen(const char *how)
{
    static uint64_t words[SHOWN];
    read_statistics(words);
    if (!strcmp(how, "pinned"))
        return words[EBUSY_MOVES] + words[EAGAIN_MOVES] > 0 && words[DEMOTED] > 1000;
    if (!strcmp(how, "shared"))
        return words[EACCES_MOVES] > 0;
    return !strcmp(how, "full") ? words[EVICTED] > 0 : words[DEMOTED] > 1000;
}

static void show_moves(void)
{
    static const char *const names[] = {"EBUSY", "EAGAIN", "EACCES", "ENOMEM", "ENOENT", "other"};
    static uint64_t words[SHOWN];
    read_statistics(words);
    printf("promoted %lu demoted %lu evicted %lu\n", (unsigned long)words[PROMOTED], (unsigned long)words[DEMOTED],
           (unsigned long)words[EVICTED]);
    for (int i = EBUSY_MOVES; i <= OTHER_MOVES; i++)
        printf("%s %lu\n", names[i - EBUSY_MOVES], (unsigned long)words[i]);
}

int main(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "rival")) {
        fill_device();
        pause();
    }
    CHECK(argc == 3);
    const char *how = argv[1];
    double seconds = atof(argv[2]);
    for (int b = 0; b < BLOCKS; b++) {
        CHECK(blocks[b] = malloc(BYTES));
        for (int w = 0; w < WORDS; w++)
            blocks[b][w] = (uint64_t)b << 32 | (uint64_t)w;
    }
    pid_t child = 0;
    if (!strcmp(how, "pinned"))
        register_with_io_uring();
    if (!strcmp(how, "shared")) {
        child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            pause();
            _exit(0);
        }
    }
    double begin = now();
    while (now() - begin < seconds || (!was_seen(how) && now() - begin < 10 * seconds)) {
        int part = (int)((now() - begin) * PARTS / seconds) % PARTS;
        if (!child && part == PARTS / 2 && !strcmp(how, "full"))
            CHECK(posix_spawn(&child, argv[0], NULL, NULL, (char *[]){argv[0], (char *)"rival", NULL}, environ) == 0);
        for (int b = part; b < BLOCKS; b += PARTS)
            for (int w = 0; w < WORDS; w += 512)
                blocks[b][w] += (uint64_t)1 << 48; /* the upper 16 bits count */
    }
    for (int b = 0; b < BLOCKS; b++)
        for (int w = 0; w < WORDS; w++)
            CHECK((blocks[b][w] & (((uint64_t)1 << 48) - 1)) == ((uint64_t)b << 32 | (uint64_t)w));
    show_moves();
    if (child) {
        kill(child, SIGKILL);
        CHECK(waitpid(child, NULL, 0) == child);
    }
    printf("mover errors: ok\n");
    return 0;
}
