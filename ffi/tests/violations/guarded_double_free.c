#include "crime.h"

int main(void) {
    char *p = block(SMALL);
    free(p);
    free(p);
    return 0;
}
