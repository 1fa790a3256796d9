// A C++ program whose compilation is heavy on templates: builds, prints, parses and patches JSON documents.
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>

using nlohmann::json;

int main() {
    json document;
    for (int i = 0; i < 20000; i++)
        document["items"].push_back({{"id", i}, {"name", "item " + std::to_string(i)}, {"tags", {i % 3, i % 5, nullptr}}});
    const std::string text = document.dump();
    json parsed = json::parse(text);
    json changed = parsed;
    for (int i = 0; i < 20000; i += 1000)
        changed["items"][i]["name"] = std::string(100, 'x');
    const json difference = json::diff(parsed, changed);
    if (parsed.patch(difference) != changed)
        return 1;
    try {
        json::parse("{\"unfinished\": [1, 2");
        return 2;
    } catch (const json::parse_error &) {
    }
    std::printf("document %zu bytes, %zu changes, %zu bytes of CBOR\n", text.size(), difference.size(),
                json::to_cbor(changed).size());
    return 0;
}
