/* Allocates until there is no more, twice with small and twice with large blocks; what was allocated stays intact, and
 * after some is freed there is room again. */
#define _GNU_SOURCE
#include "check.h"
#include <pthread.h>
#include <stdint.h>
#include <string.h>

struct node {
    struct node *next;
    unsigned char body[];
};

static struct node *fill(size_t size, size_t *count) {
    struct node *head = NULL;
    for (*count = 0;; ++*count) {
        errno = 0;
        struct node *n = malloc(size);
        if (n == NULL) {
            CHECK(errno == ENOMEM);
            return head;
        }
        n->next = head;
        memset(n->body, (unsigned char)*count, size - sizeof *n);
        head = n;
    }
}

static void empty(struct node *head, size_t size, size_t count) {
    while (head != NULL) {
        struct node *next = head->next;
        count--;
        for (size_t at = 0; at < size - sizeof *head; at += size < 4096 ? 1 : 997)
            CHECK(head->body[at] == (unsigned char)count);
        free(head);
        head = next;
    }
    CHECK(count == 0);
}

int main(void) {
    for (int round = 0; round < 2; round++) {
        static const size_t sizes[] = {200, 20000, 1 << 20, 5 << 20};
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            size_t count;
            struct node *head = fill(sizes[i], &count);
            /* At least half of a limit of 150 MiB must be usable, in every size, also in the second round. */
            if (count * sizes[i] < (size_t)60 << 20)
                fprintf(stderr, "round %d: only %zu blocks of %zu bytes\n", round, count, sizes[i]);
            CHECK(count * sizes[i] >= (size_t)60 << 20);
            errno = 0;
            CHECK(realloc(head, (size_t)1 << 40) == NULL && errno == ENOMEM);
            empty(head, sizes[i], count);
        }
    }
    puts("exhaustion: ok");
    return 0;
}
