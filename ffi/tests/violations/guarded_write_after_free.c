#include "crime.h"

int main(void) {
    char *volatile p = block(SMALL);
    free(p);
    p[10] = 'x';
    return 0;
}
