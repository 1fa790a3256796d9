#include "crime.h"

static char array[256] __attribute__((aligned(64)));

int main(void) {
    char *volatile p = array;
    free(p);
    return 0;
}
