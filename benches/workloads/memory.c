/* See memory.h. Nothing here may call malloc: it would disturb what is measured. */
#define _GNU_SOURCE
#include "memory.h"
#include "workload.h"
#include <fcntl.h>
#include <unistd.h>

static int open_or_end(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        perror(path);
        exit(3);
    }
    return fd;
}

/* The second and third words of /proc/self/statm: pages in memory, and those of them that files (or shared memory) back. */
static void resident_pages(uint64_t *all, uint64_t *of_files)
{
    char text[128];
    int fd = open_or_end("/proc/self/statm");
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    char *rest = strchr(text, ' ');
    *all = rest ? strtoull(rest, &rest, 10) : 0;
    *of_files = rest ? strtoull(rest, NULL, 10) : 0;
}

static uint64_t kib(uint64_t pages)
{
    return pages * (uint64_t)sysconf(_SC_PAGESIZE) / 1024;
}

uint64_t resident_kib(void)
{
    uint64_t all, of_files;
    resident_pages(&all, &of_files);
    return kib(all);
}

uint64_t anonymous_kib(void)
{
    uint64_t all, of_files;
    resident_pages(&all, &of_files);
    return kib(all - of_files);
}

uint64_t mapping_count(void)
{
    char text[4096];
    uint64_t lines = 0;
    ssize_t n;
    int fd = open_or_end("/proc/self/maps");
    while ((n = read(fd, text, sizeof text)) > 0)
        for (ssize_t i = 0; i < n; i++)
            lines += text[i] == '\n';
    close(fd);
    return lines;
}

void metric(const char *name, double value)
{
    char text[128];
    int n = snprintf(text, sizeof text, "metric %s %.3f\n", name, value);
    if (n < 0 || write(STDERR_FILENO, text, (size_t)n) != n)
        exit(3);
}
