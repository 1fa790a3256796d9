/* The C allocation functions, one paragraph of their contracts a function here. */
#define _GNU_SOURCE
#include "check.h"
#include <malloc.h>
#include <stdint.h>
#include <string.h>

void cfree(void *);
void free_sized(void *, size_t);
void free_aligned_sized(void *, size_t, size_t);
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void __libc_free(void *);
void __libc_cfree(void *);
void *__libc_memalign(size_t, size_t);
void *__libc_valloc(size_t);
void *__libc_pvalloc(size_t);
struct mallinfo __libc_mallinfo(void);
int __libc_mallopt(int, int);
int __posix_memalign(void **, size_t, size_t);

/* Values the compiler must not know. */
static volatile size_t zero = 0;
static volatile size_t huge_size = (size_t)PTRDIFF_MAX + 1;
static volatile size_t max_size = SIZE_MAX;

static int is_aligned(const void *p, size_t align) { return ((uintptr_t)p & (align - 1)) == 0; }

static void zero_sizes_give_unique_pointers(void) {
    void *a = malloc(zero), *b = malloc(zero), *c = calloc(zero, 8), *d = realloc(NULL, zero);
    CHECK(a && b && c && d);
    CHECK(a != b && a != c && a != d && b != c && b != d && c != d);
    free(a), free(b), free(c), free(d);
}

static void too_large_is_enomem(void) {
    void *p = malloc(64);
    memset(p, 7, 64);
    errno = 0;
    CHECK(malloc(huge_size) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(malloc(max_size) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(calloc(max_size / 2, 3) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(calloc(huge_size, 1) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(realloc(p, huge_size) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(reallocarray(p, max_size / 2, 3) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(aligned_alloc(64, huge_size) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(aligned_alloc((size_t)1 << 62, (size_t)1 << 62) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(memalign(4096, max_size - 100) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(valloc(max_size - 10) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(pvalloc(max_size - 10) == NULL && errno == ENOMEM);
    for (int i = 0; i < 64; i++)
        CHECK(((char *)p)[i] == 7); /* a failed realloc leaves the block alone */
    free(p);
}

static void realloc_to_zero_frees(void) {
    void *p = malloc(100);
    errno = 5;
    CHECK(realloc(p, zero) == NULL && errno == 5);
    p = malloc(300000);
    CHECK(realloc(p, zero) == NULL && errno == 5);
}

static void posix_memalign_returns_its_error(void) {
    void *const untouched = (void *)0x1234;
    void *p = untouched;
    const size_t bad[] = {0, 1, 2, 4, 3, 24, 48, 4095};
    errno = 77;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK(posix_memalign(&p, bad[i], 64) == EINVAL && p == untouched && errno == 77);
    CHECK(posix_memalign(&p, 64, huge_size) == ENOMEM && p == untouched && errno == 77);
    CHECK(posix_memalign(&p, 8, zero) == 0 && p != NULL && p != untouched);
    free(p);
    for (size_t align = 8; align <= (size_t)64 << 20; align *= 2) {
        CHECK(posix_memalign(&p, align, 1000) == 0 && is_aligned(p, align));
        memset(p, 1, 1000);
        CHECK(malloc_usable_size(p) >= 1000);
        free(p);
        CHECK(__posix_memalign(&p, align, 10) == 0 && is_aligned(p, align));
        free(p);
    }
}

static void alignment_must_be_a_power_of_two(void) {
    const size_t bad[] = {0, 3, 24, 4097};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        errno = 0;
        CHECK(aligned_alloc(bad[i], 64) == NULL && errno == EINVAL);
        errno = 0;
        CHECK(memalign(bad[i], 64) == NULL && errno == EINVAL);
    }
    for (size_t align = 1; align <= (size_t)16 << 20; align *= 2) {
        char *p = aligned_alloc(align, 3 * align), *q = memalign(align, 5);
        CHECK(p && q && is_aligned(p, align) && is_aligned(q, align));
        p[0] = p[3 * align - 1] = 1;
        memset(q, 2, 5);
        free(p), free(q);
    }
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *v = valloc(10), *w = pvalloc(page + 1);
    CHECK(is_aligned(v, page) && is_aligned(w, page) && malloc_usable_size(w) >= 2 * page);
    memset(w, 3, 2 * page);
    free(v), free(w);
}

static void every_block_is_aligned_and_its_own(void) {
    enum { COUNT = 3000 };
    static unsigned char *blocks[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        size_t size = i < 2000 ? i : (i - 1999) * 777;
        blocks[i] = malloc(size);
        CHECK(blocks[i] != NULL && is_aligned(blocks[i], 16));
        CHECK(malloc_usable_size(blocks[i]) >= size);
        memset(blocks[i], (int)(i % 251), malloc_usable_size(blocks[i])); /* all usable bytes are ours */
    }
    for (size_t i = 0; i < COUNT; i++) {
        size_t usable = malloc_usable_size(blocks[i]);
        for (size_t at = 0; at < usable; at += 1 + at / 16)
            CHECK(blocks[i][at] == i % 251);
        CHECK(usable == 0 || blocks[i][usable - 1] == i % 251);
        errno = 42;
        free(blocks[i]);
        CHECK(errno == 42);
    }
}

static void calloc_zeroes_reused_memory(void) {
    for (size_t size = 1; size < (size_t)4 << 20; size = size * 2 + 1) {
        char *dirty = malloc(size);
        memset(dirty, 0xee, size);
        free(dirty);
        char *clean = calloc(1, size);
        for (size_t at = 0; at < size; at++)
            CHECK(clean[at] == 0);
        memset(clean, 0xdd, size);
        free(clean);
    }
}

static void realloc_keeps_the_prefix(void) {
    size_t size = 1;
    unsigned char *p = malloc(size);
    p[0] = 0;
    while (size < (size_t)40 << 20) {
        size_t grown = size + size / 2 + 1;
        p = realloc(p, grown);
        CHECK(p != NULL && is_aligned(p, 16) && malloc_usable_size(p) >= grown);
        for (size_t at = 0; at < size; at += 1 + at / 64)
            CHECK(p[at] == (unsigned char)(at * 31));
        for (size_t at = size; at < grown; at++)
            p[at] = (unsigned char)(at * 31);
        size = grown;
    }
    while (size > 3) {
        size = size / 2;
        p = realloc(p, size);
        CHECK(p != NULL);
        for (size_t at = 0; at < size; at += 1 + at / 64)
            CHECK(p[at] == (unsigned char)(at * 31));
    }
    p = reallocarray(p, 100, 10);
    CHECK(p != NULL && p[0] == 0 && p[1] == 31);
    free(p);
}

static void null_is_allowed(void) {
    errno = 42;
    free(NULL), cfree(NULL), free_sized(NULL, 10), free_aligned_sized(NULL, 16, 10);
    CHECK(malloc_usable_size(NULL) == 0 && errno == 42);
}

static void free_keeps_errno_also_where_it_calls_the_system(void) {
    for (size_t size = 1; size < (size_t)1 << 30; size *= 4) {
        char *p = malloc(size);
        CHECK(p != NULL);
        p[0] = p[size - 1] = 1;
        errno = 1234;
        free(p);
        CHECK(errno == 1234);
    }
}

static void sized_frees_and_other_names(void) {
    free_sized(malloc(100), 100);
    free_sized(malloc(1000000), 1000000);
    free_aligned_sized(aligned_alloc(256, 512), 256, 512);
    cfree(malloc(10));
    void *p = __libc_malloc(10), *q = __libc_calloc(10, 10), *r = __libc_memalign(64, 10);
    CHECK(p && q && r && is_aligned(r, 64));
    p = __libc_realloc(p, 10000);
    memset(p, 1, 10000);
    free(p), __libc_free(q), __libc_cfree(r);
    __libc_free(__libc_valloc(1)), __libc_free(__libc_pvalloc(1));
    __libc_free(malloc(10));
}

static void statistics_add_up(void) {
    enum { COUNT = 1000, SIZE = 4096, LARGE = 32 << 20 };
    static void *blocks[COUNT];
    struct mallinfo2 before = mallinfo2();
    for (int i = 0; i < COUNT; i++)
        blocks[i] = malloc(SIZE);
    void *large = malloc(LARGE);
    struct mallinfo2 during = mallinfo2();
    size_t grown = during.uordblks - before.uordblks;
    CHECK(grown >= (size_t)COUNT * SIZE + LARGE && grown < ((size_t)COUNT * SIZE + LARGE) * 5 / 4);
    CHECK(during.hblkhd >= before.hblkhd + LARGE);
    CHECK(during.arena + during.hblkhd >= during.uordblks);
    struct mallinfo small = __libc_mallinfo();
    CHECK(small.uordblks > 0 && (size_t)small.uordblks <= during.uordblks + 65536);
    for (int i = 0; i < COUNT; i++)
        free(blocks[i]);
    free(large);
    struct mallinfo2 after = mallinfo2();
    CHECK(after.uordblks <= before.uordblks + 65536);

    char *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);
    errno = 0;
    CHECK(malloc_info(1, stream) == -1 && errno == EINVAL);
    CHECK(malloc_info(0, stream) == 0);
    fclose(stream);
    CHECK(strncmp(text, "<malloc version=", 16) == 0 && strstr(text, "</malloc>\n") != NULL);
    free(text);
    malloc_stats();
    int trimmed = malloc_trim(0);
    CHECK(trimmed == 0 || trimmed == 1);
    CHECK(mallopt(M_MMAP_THRESHOLD, 1 << 20) == 1 && __libc_mallopt(M_ARENA_MAX, 2) == 1);
    CHECK(mallopt(M_PERTURB, 1) == 0 && mallopt(12345, 1) == 0);
}

int main(void) {
    null_is_allowed();
    zero_sizes_give_unique_pointers();
    too_large_is_enomem();
    realloc_to_zero_frees();
    posix_memalign_returns_its_error();
    alignment_must_be_a_power_of_two();
    every_block_is_aligned_and_its_own();
    calloc_zeroes_reused_memory();
    realloc_keeps_the_prefix();
    free_keeps_errno_also_where_it_calls_the_system();
    sized_frees_and_other_names();
    statistics_add_up();
    puts("abi: ok");
    return 0;
}
