/* Takes strict device memory until there is no more: each refusal must be clean, and everything else go on.
 *
 * usage: strict BLOCK_KIB. Prints "granted MIB", "refused ERRNO", "on the device PAGES of PAGES", "then TIER" (the tier
 * of a device allocation that is not strict) and "plain ok". */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <terrace.h>

enum { MOST = 1 << 16, PAGE = 4096 };
static char *block[MOST];

int main(int argc, char **argv) {
    size_t size = argc == 2 ? strtoul(argv[1], NULL, 10) << 10 : 0, blocks = 0, pages = 0, there = 0;
    if (!size) return 2;
    errno = 0;
    while (blocks < MOST && (block[blocks] = terrace_malloc(size, TERRACE_DEVICE | TERRACE_STRICT))) {
        memset(block[blocks], 1, size);
        blocks++;
    }
    printf("granted %zu\nrefused %d\n", blocks * size >> 20, errno);
    for (size_t i = 0; i < blocks; i++)
        for (size_t at = 0; at < size; at += PAGE) pages++, there += terrace_tier_of(block[i] + at) == 1;
    printf("on the device %zu of %zu\n", there, pages);
    char *soft = terrace_malloc(size, TERRACE_DEVICE), *plain = malloc(size);
    if (!soft || !plain) return 3;
    memset(soft, 2, size);
    memset(plain, 3, size);
    printf("then %d\nplain %s\n", terrace_tier_of(soft), plain[size - 1] == 3 ? "ok" : "wrong");
    for (size_t i = 0; i < blocks; i++) {
        if (block[i][size - 1] != 1) return 4;
        free(block[i]);
    }
    /* A device that was full counts as full until the control thread has looked again: a tick, or some on a busy machine. */
    char *again = NULL;
    for (int i = 0; i < 100 && !again; i++) {
        again = terrace_malloc(size, TERRACE_DEVICE | TERRACE_STRICT);
        if (!again) usleep(100000);
    }
    printf("again %s\n", again ? "granted" : "refused");
    return 0;
}
