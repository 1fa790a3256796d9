#include "crime.h"

/* A whole page, so that both of its ends are at a guard. */
int main(void) {
    char *volatile p = block(4096);
    return p[4096] == 0;
}
