#include "crime.h"

int main(void) {
    char *p = block(LARGE);
    free(p);
    free(p);
    return 0;
}
