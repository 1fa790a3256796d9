#include "crime.h"
#include <malloc.h>

int main(void) {
    char *volatile p = block(SMALL);
    free(p);
    return malloc_usable_size(p) == 0;
}
