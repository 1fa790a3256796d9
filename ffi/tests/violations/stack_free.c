#include "crime.h"

int main(void) {
    char array[256] __attribute__((aligned(64)));
    char *volatile p = array + 64;
    memset(array, 0, sizeof array);
    free(p);
    return 0;
}
