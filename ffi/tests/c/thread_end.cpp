// Threads that end: destructors of thread-local objects and of pthread keys still allocate and free, in every round the
// C library gives them; blocks outlive their thread; and thousands of threads that have come and gone leave nothing behind.
#include "check.h"
#include <atomic>
#include <cstring>
#include <fstream>
#include <malloc.h>
#include <memory>
#include <pthread.h>
#include <string>
#include <thread>
#include <vector>

namespace {

pthread_key_t keys[40]; // more than 32: the later ones make the C library allocate
std::atomic<int> key_destructors{0}, object_destructors{0};

// Called when a thread ends; sets its key again until the last of the rounds, allocating each time.
void at_end(void *value) {
    auto *round = static_cast<int *>(value);
    key_destructors++;
    std::vector<std::string> strings(50, std::string(200, 'x'));
    CHECK(strings[49] == std::string(200, 'x'));
    if (--*round > 0)
        CHECK(pthread_setspecific(keys[0], round) == 0);
    else
        delete round;
}

void free_at_end(void *value) { free(value); }

struct Object {
    std::unique_ptr<char[]> bytes = std::make_unique<char[]>(5000);
    ~Object() {
        object_destructors++;
        std::vector<char> more(100000, 'y');
        CHECK(more[99999] == 'y');
    }
};

thread_local Object object;

char *work(int seed, std::size_t size) {
    object.bytes[0] = 1;
    CHECK(pthread_setspecific(keys[0], new int(3)) == 0);
    for (int i = 1; i < 40; i++)
        CHECK(pthread_setspecific(keys[i], malloc(static_cast<std::size_t>(i) * 100)) == 0);
    std::vector<std::unique_ptr<std::string>> strings;
    for (int i = 0; i < 100; i++)
        strings.push_back(std::make_unique<std::string>(static_cast<std::size_t>(seed + i) % 3000, 'z'));
    char *survivor = static_cast<char *>(malloc(size));
    std::memset(survivor, seed, size);
    return survivor;
}

long resident_kib() {
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);)
        if (line.rfind("VmRSS:", 0) == 0)
            return std::stol(line.substr(6));
    CHECK(!"VmRSS is in /proc/self/status");
    return 0;
}

void generation(int threads, int first) {
    std::vector<char *> survivors(static_cast<std::size_t>(threads));
    std::vector<std::thread> running;
    for (int i = 0; i < threads; i++)
        running.emplace_back([&, i] { survivors[static_cast<std::size_t>(i)] = work(first + i, 700); });
    for (auto &thread : running)
        thread.join();
    for (int i = 0; i < threads; i++) {
        char *block = survivors[static_cast<std::size_t>(i)];
        CHECK(block[0] == static_cast<char>(first + i) && block[699] == static_cast<char>(first + i));
        free(block);
    }
}

} // namespace

int main() {
    CHECK(pthread_key_create(&keys[0], at_end) == 0);
    for (int i = 1; i < 40; i++)
        CHECK(pthread_key_create(&keys[i], free_at_end) == 0);
    enum { THREADS = 8, GENERATIONS = 400 };
    for (int g = 0; g < 40; g++)
        generation(THREADS, g);
    const long before = resident_kib();
    const std::size_t live = mallinfo2().uordblks;
    for (int g = 40; g < GENERATIONS; g++)
        generation(THREADS, g);
    CHECK(key_destructors == 3 * THREADS * GENERATIONS && object_destructors == THREADS * GENERATIONS);
    CHECK(mallinfo2().uordblks <= live + 100000);
    const long grown = resident_kib() - before;
    if (grown > 8192)
        std::fprintf(stderr, "%ld KiB more after %d threads\n", grown, THREADS * GENERATIONS);
    CHECK(grown <= 8192);
    std::puts("thread end: ok");
    return 0;
}
