#include "crime.h"

__attribute__((noinline)) static char *make(void) { return block(SMALL); }
__attribute__((noinline)) static void drop(char *p) { free(p); }

int main(void) {
    char *volatile p = make();
    drop(p);
    return p[10] == 0;
}
