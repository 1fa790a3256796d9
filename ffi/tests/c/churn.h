/* Churn: blocks of all sizes allocated, resized and freed in random order, each filled with a pattern of its own that is
 * checked before it goes. Any block handed out twice, moved wrongly or torn shows. */
#ifndef CHURN_H
#define CHURN_H
#include "check.h"
#include <malloc.h>
#include <stdint.h>
#include <string.h>

enum { CHURN_SLOTS = 512 };

struct churn {
    uint64_t random;
    struct {
        unsigned char *block;
        size_t size;
        unsigned char mark;
    } slot[CHURN_SLOTS];
};

static inline uint64_t churn_random(struct churn *c) {
    c->random ^= c->random << 13;
    c->random ^= c->random >> 7;
    c->random ^= c->random << 17;
    return c->random;
}

/* Mostly small, some of kilobytes, few large: the sizes of an ordinary program. */
static inline size_t churn_size(struct churn *c) {
    uint64_t kind = churn_random(c) % 1000;
    uint64_t r = churn_random(c);
    return kind < 800 ? r % 512 : kind < 970 ? r % 16384 : kind < 998 ? r % 262144 : r % (2 << 20);
}

static inline void churn_fill(struct churn *c, size_t i, size_t size) {
    c->slot[i].size = size;
    c->slot[i].mark = (unsigned char)churn_random(c);
    memset(c->slot[i].block, c->slot[i].mark, size);
}

/* All bytes of small blocks, a sample and both ends of large ones. */
static inline void churn_check(struct churn *c, size_t i, size_t size) {
    const unsigned char *block = c->slot[i].block;
    size_t step = size < 4096 ? 1 : 509;
    for (size_t at = 0; at < size; at += step)
        CHECK(block[at] == c->slot[i].mark);
    CHECK(size == 0 || block[size - 1] == c->slot[i].mark);
}

static inline void churn_step(struct churn *c) {
    size_t i = churn_random(c) % CHURN_SLOTS, size;
    if (c->slot[i].block == NULL) {
        size = churn_size(c);
        switch (churn_random(c) % 8) {
        case 0:
            c->slot[i].block = calloc(1, size);
            CHECK(c->slot[i].block != NULL);
            for (size_t at = 0; at < size; at += size < 4096 ? 1 : 509)
                CHECK(c->slot[i].block[at] == 0);
            break;
        case 1: {
            size_t align = (size_t)16 << churn_random(c) % 9;
            c->slot[i].block = memalign(align, size);
            CHECK(((uintptr_t)c->slot[i].block & (align - 1)) == 0);
            break;
        }
        default:
            c->slot[i].block = malloc(size);
        }
        CHECK(c->slot[i].block != NULL);
        churn_fill(c, i, size);
    } else if (churn_random(c) % 8 == 0) {
        size = churn_size(c) + 1;
        size_t kept = size < c->slot[i].size ? size : c->slot[i].size;
        c->slot[i].block = realloc(c->slot[i].block, size);
        CHECK(c->slot[i].block != NULL);
        churn_check(c, i, kept);
        churn_fill(c, i, size);
    } else {
        churn_check(c, i, c->slot[i].size);
        free(c->slot[i].block);
        c->slot[i].block = NULL;
    }
}

static inline void churn_end(struct churn *c) {
    for (size_t i = 0; i < CHURN_SLOTS; i++) {
        if (c->slot[i].block != NULL)
            churn_check(c, i, c->slot[i].size);
        free(c->slot[i].block);
        c->slot[i].block = NULL;
    }
}
#endif
