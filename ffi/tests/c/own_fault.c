/* A fault of the program's own, with no handler, with one from before the first guarded block, and with a later one. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void handle(int signal, siginfo_t *info, void *context) {
    (void)context;
    _exit(signal == SIGSEGV && info->si_addr != NULL ? 42 : 1);
}

static void install(void) {
    struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
}

int main(int argc, char **argv) {
    (void)argc;
    if (strcmp(argv[1], "before") == 0)
        install();
    for (int i = 0; i < 10000; i++)
        free(malloc(100));
    if (strcmp(argv[1], "after") == 0)
        install();
    char *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *(volatile char *)page = 'x';
    return 0;
}
