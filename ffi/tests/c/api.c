/* The C API: every promise of terrace.h, as far as the machine has the memory to keep it. */
#include "check.h"
#include <malloc.h>
#include <stdint.h>
#include <string.h>
#include <terrace.h>

static const unsigned places[] = {TERRACE_DEFAULT, TERRACE_HOT, TERRACE_COLD, TERRACE_DRAM, TERRACE_DEVICE,
                                  TERRACE_HOT | TERRACE_STRICT, TERRACE_DRAM | TERRACE_STRICT};
enum { PLACES = sizeof places / sizeof places[0] };
static volatile size_t huge_size = (size_t)PTRDIFF_MAX + 1;

static void hints_allocate(void) {
    static const size_t sizes[] = {0, 1, 100, 5000, 100000, 1 << 20, 9 << 20};
    for (size_t h = 0; h < PLACES; h++)
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            size_t size = sizes[i];
            unsigned char *a = terrace_malloc(size, places[h]), *b = terrace_calloc(1, size, places[h]),
                          *c = terrace_aligned_alloc(4096, size, places[h]);
            CHECK(a && b && c && a != b && b != c && ((uintptr_t)c & 4095) == 0 && ((uintptr_t)a & 15) == 0);
            CHECK(terrace_usable_size(a) >= size && malloc_usable_size(b) >= size);
            for (size_t at = 0; at < size; at++)
                CHECK(b[at] == 0);
            memset(a, 1, size), memset(b, 2, size), memset(c, 3, size);
            a = terrace_realloc(a, size * 2 + 1, places[h]);
            CHECK(a != NULL && (size == 0 || (a[0] == 1 && a[size - 1] == 1)));
            b = realloc(b, size + 100);
            CHECK(b != NULL && (size == 0 || b[0] == 2));
            free(a), terrace_free(b), terrace_free(c);
        }
    CHECK(terrace_realloc(malloc(10), 0, TERRACE_HOT) == NULL);
    void *p = terrace_realloc(NULL, 10, TERRACE_COLD);
    CHECK(p != NULL);
    errno = 11;
    free(p), terrace_free(NULL);
    CHECK(errno == 11 && terrace_usable_size(NULL) == 0);
}

static void bad_arguments_are_einval(void) {
    static const unsigned bad[] = {16, 3, 5, 9, 15, 512, TERRACE_STRICT, TERRACE_HOT | TERRACE_COLD | TERRACE_STRICT,
                                   1u << 31, ~0u};
    char *live = malloc(10);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        errno = 0;
        CHECK(terrace_malloc(10, bad[i]) == NULL && errno == EINVAL);
        errno = 0;
        CHECK(terrace_calloc(10, 10, bad[i]) == NULL && errno == EINVAL);
        errno = 0;
        CHECK(terrace_aligned_alloc(16, 10, bad[i]) == NULL && errno == EINVAL);
        errno = 0;
        CHECK(terrace_realloc(live, 100, bad[i]) == NULL && errno == EINVAL);
        errno = 0;
        CHECK(terrace_advise(live, 10, bad[i]) == -1 && errno == EINVAL);
    }
    errno = 0;
    CHECK(terrace_aligned_alloc(48, 10, TERRACE_HOT) == NULL && errno == EINVAL);
    errno = 0;
    CHECK(terrace_aligned_alloc(0, 10, TERRACE_HOT) == NULL && errno == EINVAL);
    free(live);
}

static void too_much_is_enomem(void) {
    for (size_t h = 0; h < PLACES; h++) {
        errno = 0;
        CHECK(terrace_malloc(huge_size, places[h]) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(terrace_calloc(huge_size, 4, places[h]) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(terrace_aligned_alloc(64, huge_size, places[h]) == NULL && errno == ENOMEM);
        char *p = malloc(10);
        errno = 0;
        CHECK(terrace_realloc(p, huge_size, places[h]) == NULL && errno == ENOMEM);
        free(p);
    }
}

enum { PAGE = 4096 };

static int all_on(const char *p, size_t size, int tier) {
    for (size_t at = 0; at < size; at += PAGE)
        if (terrace_tier_of(p + at) != tier)
            return 0;
    return 1;
}

/* Where there is device memory: allocations are where they were asked for from their first touch, advice moves live memory
 * both ways, and what is in it does not change. */
static void a_device(const struct terrace_tier *device) {
    enum { SIZE = 3 << 20 };
    CHECK(device->index == 1 && device->kind == TERRACE_TIER_DEVICE && device->capacity >= SIZE);
    static const struct {
        unsigned hint;
        int tier;
    } expected[] = {{TERRACE_DEVICE, 1}, {TERRACE_DEVICE | TERRACE_STRICT, 1}, {TERRACE_COLD | TERRACE_STRICT, 1},
                    {TERRACE_DRAM, 0},   {TERRACE_DRAM | TERRACE_STRICT, 0},   {TERRACE_HOT | TERRACE_STRICT, 0}};
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        char *large = terrace_malloc(SIZE, expected[i].hint), *small[64];
        CHECK(large != NULL);
        memset(large, 5, SIZE);
        CHECK(all_on(large, SIZE, expected[i].tier));
        for (int k = 0; k < 64; k++) {
            small[k] = terrace_calloc(1, 1000, expected[i].hint);
            CHECK(small[k] != NULL);
            memset(small[k], 6, 1000);
            CHECK(terrace_tier_of(small[k]) == expected[i].tier);
        }
        for (int k = 0; k < 64; k++)
            free(small[k]);
        large = terrace_realloc(large, 2 * SIZE, expected[i].hint);
        memset(large + SIZE, 7, SIZE);
        CHECK(large != NULL && all_on(large, 2 * SIZE, expected[i].tier) && large[SIZE - 1] == 5);
        free(large);
    }
    unsigned char *p = malloc(SIZE);
    for (size_t at = 0; at < SIZE; at++)
        p[at] = (unsigned char)(at * 7);
    CHECK(all_on((char *)p, SIZE, 0));
    for (int round = 0; round < 3; round++) {
        CHECK(terrace_advise(p, SIZE, TERRACE_DEVICE | TERRACE_STRICT) == 0 && all_on((char *)p, SIZE, 1));
        CHECK(terrace_advise(p, SIZE / 2, TERRACE_DRAM | TERRACE_STRICT) == 0 && all_on((char *)p, SIZE / 2, 0));
        CHECK(all_on((char *)p + SIZE / 2, SIZE / 2, 1));
        CHECK(terrace_advise(p, SIZE, TERRACE_HOT) == 0 && all_on((char *)p, SIZE, 0));
    }
    for (size_t at = 0; at < SIZE; at++)
        CHECK(p[at] == (unsigned char)(at * 7));
    free(p);
    puts("api: a device");
}

static void advice_and_questions(void) {
    struct terrace_tier tiers[4];
    int count = terrace_tiers(NULL, 0);
    CHECK(count >= 1 && count <= 4);
    CHECK(terrace_tiers(tiers, 4) == count);
    CHECK(tiers[0].index == 0 && tiers[0].kind == TERRACE_TIER_DRAM && tiers[0].nodes[0] != 0);
    CHECK(tiers[0].capacity >= tiers[0].free);
    errno = 0;
    CHECK(terrace_tiers(NULL, 1) == -1 && errno == EINVAL);

    enum { SIZE = 1 << 20 };
    char *p = malloc(SIZE);
    memset(p, 1, SIZE / 2);
    CHECK(terrace_tier_of(p) >= 0 && terrace_tier_of(p) < count);
    errno = 0;
    CHECK(terrace_tier_of(p + SIZE - 4096) == -1 && errno == ENOENT); /* never touched */
    errno = 0;
    CHECK(terrace_tier_of(&errno) == -1 && errno == EINVAL);
    errno = 0;
    CHECK(terrace_tier_of(NULL) == -1 && errno == EINVAL);
    for (size_t h = 0; h < PLACES; h++)
        CHECK(terrace_advise(p, SIZE, places[h]) == 0);
    CHECK(terrace_advise(p + 100, 10, TERRACE_COLD) == 0 && terrace_advise(p, 0, TERRACE_COLD) == 0);
    errno = 0;
    CHECK(terrace_advise(tiers, sizeof tiers, TERRACE_COLD) == -1 && errno == EINVAL);
    errno = 0;
    CHECK(terrace_advise(p, huge_size, TERRACE_COLD) == -1 && errno == EINVAL);
    errno = 0;
    CHECK(terrace_advise(p, SIZE_MAX, TERRACE_COLD) == -1 && errno == EINVAL);
    for (int at = 0; at < SIZE / 2; at++)
        CHECK(p[at] == 1);

    if (count == 1) { /* no device: strict hints for one fail, others fall back */
        errno = 0;
        CHECK(terrace_malloc(10, TERRACE_DEVICE | TERRACE_STRICT) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(terrace_calloc(1, SIZE, TERRACE_COLD | TERRACE_STRICT) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(terrace_advise(p, SIZE, TERRACE_DEVICE | TERRACE_STRICT) == -1 && errno == ENOMEM);
    }
    free(p);
    if (count == 2)
        a_device(tiers + 1);
}

static char text[4096];
static size_t length;

static void append(void *context, const char *piece, size_t bytes) {
    CHECK(context == text && length + bytes < sizeof text);
    free(malloc(bytes)); /* it may allocate */
    memcpy(text + length, piece, bytes);
    length += bytes;
}

static void statistics(void) {
    struct terrace_stats before = {.size = sizeof before}, after = {.size = sizeof after};
    CHECK(terrace_stats_get(&before) == 0 && before.size == sizeof before);
    void *small = malloc(1000), *large = terrace_malloc(8 << 20, TERRACE_COLD);
    CHECK(terrace_stats_get(&after) == 0);
    CHECK(after.live_blocks == before.live_blocks + 2 && after.large_blocks == before.large_blocks + 1);
    CHECK(after.live_bytes >= before.live_bytes + 1000 + (8 << 20));
    CHECK(after.live_bytes <= before.live_bytes + 1125 + (8 << 20)); /* at most 12.5 % more than was asked for */
    CHECK(after.large_bytes == before.large_bytes + (8 << 20) && after.threads == 1);
    CHECK(after.reserved_bytes > 0 && after.metadata_bytes > 0 && after.tiering == 0 && after.promoted == 0);
    /* A program built with an older header, whose structure ended earlier. */
    struct {
        size_t size;
        uint64_t live_bytes, guard;
    } older = {.size = 16, .guard = 77};
    CHECK(terrace_stats_get((struct terrace_stats *)(void *)&older) == 0);
    CHECK(older.size == 16 && older.live_bytes > 0 && older.guard == 77);
    free(small), free(large);
    before.size = 3;
    errno = 0;
    CHECK(terrace_stats_get(&before) == -1 && errno == EINVAL);
    errno = 0;
    CHECK(terrace_stats_get(NULL) == -1 && errno == EINVAL);

    CHECK(terrace_stats_json(append, text) == 0);
    text[length] = '\0';
    CHECK(text[0] == '{' && strcmp(text + length - 2, "}\n") == 0);
    CHECK(strstr(text, "\"live_bytes\":") && strstr(text, "\"threads\":1"));
    errno = 0;
    CHECK(terrace_stats_json(NULL, NULL) == -1 && errno == EINVAL);
    CHECK(strchr(terrace_version(), '.') != NULL);
}

int main(void) {
    statistics();
    hints_allocate();
    bad_arguments_are_einval();
    too_much_is_enomem();
    advice_and_questions();
    puts("api: ok");
    return 0;
}
