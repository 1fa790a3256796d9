#include "crime.h"

/* In the block's own page, which begins well before it in three of four cases: so several are tried. */
int main(void) {
    for (int i = 0; i < 50; i++) {
        char *volatile p = block(SMALL);
        if ((uintptr_t)p % 4096 == 0)
            continue;
        p[-1] = 'x';
        free(p);
    }
    return 0;
}
