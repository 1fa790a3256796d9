#include "crime.h"

int main(void) {
    char *p = block(SMALL);
    free(p);
    p = realloc(p, 2 * LARGE);
    return p == NULL;
}
