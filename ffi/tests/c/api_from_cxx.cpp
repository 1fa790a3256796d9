// terrace.h in a C++ program: one block from each side, freed by the other.
#include "check.h"
#include <terrace.h>

int main() {
    char *p = static_cast<char *>(terrace_malloc(100, TERRACE_HOT | TERRACE_STRICT));
    CHECK(p != nullptr);
    ::operator delete(p);
    terrace_free(::operator new(100));
    void *live = terrace_malloc(7, TERRACE_DEFAULT);
    terrace_stats stats{};
    stats.size = sizeof stats;
    CHECK(terrace_stats_get(&stats) == 0 && stats.live_blocks > 0);
    free(live);
    return 0;
}
