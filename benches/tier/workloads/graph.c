/* Two walks over a Kronecker graph as Graph500 generates it (A .57, B .19, C .19), with numbers of vertices scattered, each
 * edge both ways, in arrays of compressed rows. */
#include "tier.h"
#include <string.h>

static const uint32_t NONE = UINT32_MAX;
enum { FEWEST_EDGES = 8, BYTES_A_VERTEX = 12 };

/* In all, so that filling a large heap does not take minutes; the graph is then smaller than asked for. */
enum { MOST_EDGES = 30000000 };

static uint32_t vertices;
/* `offset[v]` to `offset[v + 1]` are v's `neighbour`s; two arrays of one word for each vertex. */
static struct array offsets, neighbours, firsts, others;
static uint32_t *offset, *neighbour;

static uint32_t scatter(uint32_t vertex, int scale)
{
    vertex *= 0x9e3779b1;
    vertex &= vertices - 1;
    vertex ^= vertex >> (scale / 2);
    vertex *= 0x85ebca6b;
    return vertex & (vertices - 1);
}

/* Two levels of the generator at once: 12 random bits give two bits of either end. */
static uint8_t quadrants[4096];

static void prepare_quadrants(void)
{
    static const double share[4] = {.57, .19, .19, .05};
    double so_far = 0;
    for (int pair = 0, filled = 0; pair < 16; pair++) {
        int one = pair / 4, two = pair % 4;
        so_far += share[one] * share[two];
        while (filled < so_far * 4096 - 0.5 || (pair == 15 && filled < 4096))
            quadrants[filled++] = (uint8_t)((one & 1) << 1 | (two & 1) | (one & 2) << 2 | (two & 2) << 1);
    }
}

static void edge(uint64_t *state, int scale, uint32_t *from, uint32_t *to)
{
    uint32_t a = 0, b = 0;
    uint64_t random = 0;
    for (int level = 0; level < scale; level += 2, random >>= 12) {
        if (level % 10 == 0)
            random = draw_from(state);
        uint8_t quadrant = quadrants[random & 4095];
        a = a << 2 | (quadrant & 3);
        b = b << 2 | quadrant >> 2;
    }
    *from = scatter(a & (vertices - 1), scale);
    *to = scatter(b & (vertices - 1), scale);
}

/* The largest graph for the memory that has at least so many edges a vertex; the edges are generated twice, to be counted and
 * to be put in place, as a list of them would be larger than the graph. */
static void fill_graph(size_t mib)
{
    int scale = 10;
    while ((mib << 20) >> (scale + 1) >= BYTES_A_VERTEX + 8 * FEWEST_EDGES)
        scale++;
    vertices = 1u << scale;
    uint64_t edges = vertices * (((mib << 20 >> scale) - BYTES_A_VERTEX) / 8), state = 1;
    edges = edges < MOST_EDGES ? edges : MOST_EDGES;
    prepare_quadrants();
    offsets = new_array((vertices + 1) * sizeof *offset);
    neighbours = new_array(2 * edges * sizeof *neighbour);
    firsts = new_array(vertices * sizeof(uint32_t));
    others = new_array(vertices * sizeof(uint32_t));
    offset = (uint32_t *)offsets.base;
    neighbour = (uint32_t *)neighbours.base;

    uint32_t from, to;
    memset(offset, 0, (vertices + 1) * sizeof *offset);
    for (uint64_t e = 0; e < edges; e++) {
        edge(&state, scale, &from, &to);
        offset[from]++;
        offset[to]++;
    }
    for (uint32_t v = 0; v < vertices; v++) /* where each row ends */
        offset[v + 1] += offset[v];
    state = 1;
    for (uint64_t e = 0; e < edges; e++) { /* each row from its end, so that its beginning remains */
        edge(&state, scale, &from, &to);
        neighbour[--offset[from]] = to;
        neighbour[--offset[to]] = from;
    }
    remember_array(&offsets);
    remember_array(&neighbours);
}

/* The row of `v`, counted as read: the two offsets, and the neighbours page by page. */
static uint32_t row(uint32_t v, uint32_t *end)
{
    uint32_t first = offset[v];
    *end = offset[v + 1];
    count(piece(&offsets, &offset[v]));
    count(piece(&offsets, &offset[v + 1]));
    for (uint32_t e = first; e < *end;) {
        uint32_t page_end = (e / (PAGE / 4) + 1) * (PAGE / 4), until = page_end < *end ? page_end : *end;
        count_many(piece(&neighbours, &neighbour[e]), until - e);
        e = until;
    }
    return first;
}

/* Writes word `i` of an array of one for each vertex. */
static void write_word(const struct array *array, uint32_t i, uint32_t value)
{
    uint32_t *word = (uint32_t *)array->base + i;
    uint32_t object = piece(array, word);
    put_half(object, word, value);
    count(object);
}

/* Breadth first, from one random vertex after another: `firsts` is each vertex's parent, `others` the queue. */
static uint32_t cleared, head, tail;

static void go_bfs(uint64_t accesses)
{
    const uint32_t *parent = (uint32_t *)firsts.base, *queue = (uint32_t *)others.base;
    for (uint64_t end = made + accesses; made < end;) {
        if (head < tail) {
            uint32_t v = queue[head], last, e = row(v, &last);
            count(piece(&others, &queue[head++]));
            for (; e < last; e++) {
                uint32_t to = neighbour[e];
                count(piece(&firsts, &parent[to]));
                if (parent[to] == NONE) {
                    write_word(&firsts, to, v);
                    write_word(&others, tail++, to);
                }
            }
        } else if (cleared < vertices) {
            write_word(&firsts, cleared++, NONE);
        } else {
            uint32_t source = (uint32_t)below(vertices);
            if (offset[source] == offset[source + 1])
                continue;
            head = tail = cleared = 0;
            write_word(&firsts, source, source);
            write_word(&others, tail++, source);
        }
    }
}

/* PageRank by Gauss and Seidel: `firsts` is each vertex's rank, `others` what it hands to each neighbour. */
static uint32_t next;

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static void fill_pagerank(size_t mib)
{
    fill_graph(mib);
    for (uint32_t v = 0; v < vertices; v++) {
        uint32_t degree = offset[v + 1] - offset[v];
        ((float *)firsts.base)[v] = 1 / (float)vertices;
        ((float *)others.base)[v] = degree > 0 ? 1 / (float)vertices / (float)degree : 0;
    }
    remember_array(&firsts);
    remember_array(&others);
}

static void go_pagerank(uint64_t accesses)
{
    const float *given = (float *)others.base;
    for (uint64_t end = made + accesses; made < end; next = next + 1 < vertices ? next + 1 : 0) {
        uint32_t last, first = row(next, &last);
        float all = 0;
        for (uint32_t e = first; e < last; e++) {
            all += given[neighbour[e]];
            count(piece(&others, &given[neighbour[e]]));
        }
        float rank = 0.15f / (float)vertices + 0.85f * all;
        write_word(&firsts, next, bits_of(rank));
        write_word(&others, next, bits_of(first < last ? rank / (float)(last - first) : 0));
    }
}

const struct workload bfs = {"bfs", "breadth-first searches of a Kronecker graph", fill_graph, go_bfs, NULL};
const struct workload pagerank = {"pagerank", "PageRank of a Kronecker graph", fill_pagerank, go_pagerank, NULL};
