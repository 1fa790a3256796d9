#include "crime.h"

/* So many blocks of its size come and go between the frees that without a quarantine one of them would be p again. */
int main(void) {
    char *p = block(SMALL);
    free(p);
    for (int i = 0; i < 5000; i++)
        free(malloc(SMALL));
    free(p);
    return 0;
}
