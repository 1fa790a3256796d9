#include "crime.h"

int main(void) {
    char *p = block(LARGE);
    free(p);
    p = realloc(p, 2 * LARGE);
    return p == NULL;
}
