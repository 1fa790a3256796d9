/* Frees everything of two sizes and writes to all of it: what was guarded faults, the rest is written unnoticed. */
#include <stdlib.h>

int main(void) {
    enum { COUNT = 2000 };
    static char *volatile blocks[COUNT];
    for (int i = 0; i < COUNT; i++)
        blocks[i] = malloc(1000 + i % 2 * 100);
    for (int i = 0; i < COUNT; i++)
        free(blocks[i]);
    for (int i = 0; i < COUNT; i++)
        blocks[i][1] = 'x';
    return 0;
}
