/* Loads the plugin named by its argument out of everybody else's sight, and lets it run out of memory. */
#define _GNU_SOURCE
#include "check.h"
#include <dlfcn.h>

int main(int argc, char **argv) {
    CHECK(argc == 2);
    CHECK(dlopen("libstdc++.so.6", RTLD_LAZY | RTLD_NOLOAD) == NULL);
    void *plugin = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    CHECK(plugin != NULL);
    int (*catches)(void) = (int (*)(void))dlsym(plugin, "plugin_catches");
    CHECK(catches != NULL && catches() == 1);
    puts("plugin: caught std::bad_alloc");
    return 0;
}
