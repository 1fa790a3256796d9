// Containers and strings of the C++ standard library: operator new and delete, node by node.
#include "workload.h"
#include <list>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

namespace {

std::string word(uint64_t &rng)
{
    std::string s;
    size_t len = 3 + rng_below(&rng, 40);
    for (size_t i = 0; i < len; i++)
        s.push_back(static_cast<char>('a' + rng_below(&rng, 26)));
    return s;
}

uint64_t text_sum(const std::string &s)
{
    uint64_t h = s.size();
    for (char c : s)
        h = h * 31 + static_cast<unsigned char>(c);
    return mix(h);
}

// An index that is filled, looked up and thinned out, as a compiler's or a server's tables are.
uint64_t churn(uint64_t seed, uint64_t rounds)
{
    uint64_t rng = mix(seed) | 1, sum = 0;
    std::unordered_map<std::string, std::vector<uint32_t>> index;
    std::map<uint64_t, std::string> ordered;
    std::list<std::unique_ptr<std::string>> recent;
    for (uint64_t r = 0; r < rounds; r++) {
        for (int i = 0; i < 2000; i++) {
            std::string key = word(rng);
            index[key].push_back(static_cast<uint32_t>(r));
            index[key].push_back(static_cast<uint32_t>(i));
            ordered.emplace(rng_next(&rng) % 65536, key + "=" + key);
            recent.push_back(std::make_unique<std::string>(std::move(key)));
            if (recent.size() > 500) {
                sum += text_sum(*recent.front());
                recent.pop_front();
            }
        }
        for (int i = 0; i < 1500; i++) {
            auto it = ordered.lower_bound(rng_next(&rng) % 65536);
            if (it != ordered.end()) {
                sum += text_sum(it->second);
                ordered.erase(it);
            }
        }
        if (index.size() > 20000)
            index.clear();
    }
    return sum + index.size() + ordered.size();
}

} // namespace

uint64_t run_stl(uint64_t percent)
{
    return churn(1, scaled(150, percent));
}

uint64_t run_stl_threads(uint64_t percent)
{
    uint64_t sums[2] = {0, 0};
    std::thread other([&] { sums[0] = churn(2, scaled(75, percent)); });
    sums[1] = churn(3, scaled(75, percent));
    other.join();
    return sums[0] + sums[1];
}
