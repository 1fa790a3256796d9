/* Two ways to keep values by key. */
#include "tier.h"
#include <math.h>

/* A hash table: an array of buckets, each the beginning of a list of items. Keys are popular by Zipf's law, whichever their
 * bucket and whenever they were inserted. */
struct item {
    struct item *next;
    uint64_t key;
    uint32_t object, words;
    uint64_t value[];
};

enum { VALUE_LEAST = 100, VALUE_SPAN = 15, ITEM_MEAN = 544 }; /* of 100 to 1500 bytes: 517 on average, and the rest of the item */

static struct array buckets;
static struct item **bucket;
static uint32_t keys, bucket_bits;
static size_t kv_factor;

static uint64_t key_of(uint32_t i)
{
    uint64_t state = i;
    return draw_from(&state);
}
static uint64_t bucket_of(uint64_t key) { return key * 0x9e3779b97f4a7c15 >> (64 - bucket_bits); }

static struct item *new_item(uint64_t key, size_t *bytes)
{
    double value = VALUE_LEAST * exp(log(VALUE_SPAN) * (double)(draw() >> 11) * 0x1p-53);
    uint32_t words = (uint32_t)value * (uint32_t)kv_factor / 8 + 1;
    struct item *item = malloc(*bytes = sizeof *item + words * 8);
    if (!item)
        give_up("no memory");
    *item = (struct item){.key = key, .words = words};
    for (uint32_t w = 0; w < words; w++)
        item->value[w] = key + w;
    return item;
}

static void fill_kv(size_t mib)
{
    size_t filled, bytes;
    kv_factor = stretch(mib, ITEM_MEAN - 24); /* less, as buckets are objects too */
    for (bucket_bits = 10; (mib << 20) / ITEM_MEAN / kv_factor >> bucket_bits > 0;)
        bucket_bits++;
    buckets = new_array(sizeof *bucket << bucket_bits);
    bucket = (struct item **)buckets.base;
    for (size_t b = 0; b < 1ull << bucket_bits; b++)
        bucket[b] = NULL;
    for (filled = (size_t)buckets.pages * PAGE; filled < mib << 20; filled += bytes) {
        uint64_t key = key_of(keys++);
        struct item *item = new_item(key, &bytes), **link = &bucket[bucket_of(key)];
        item->object = enter(item, bytes);
        item->next = *link;
        *link = item;
        remember(item->object);
    }
    remember_array(&buckets);

    uint32_t *rank = scratch(keys * sizeof *rank);
    double *weight = scratch(keys * sizeof *weight);
    for (uint32_t i = 0; i < keys; i++)
        rank[i] = i;
    shuffle(rank, keys);
    for (uint32_t i = 0; i < keys; i++)
        weight[i] = pow(rank[i] + 1, -0.99);
    weigh(weight, keys);
    scratch_end(rank, keys * sizeof *rank);
    scratch_end(weight, keys * sizeof *weight);
}

/* An update in place writes the whole value; one of another size allocates an item first and then frees the old one. */
static void set(struct item *item, struct item **link, uint32_t holder, uint64_t random)
{
    uint32_t object = item->object;
    if (random & 1) {
        for (uint32_t w = 0; w < item->words; w++)
            put(object, &item->value[w], item->value[w] + 1);
    } else {
        size_t bytes;
        if (!is_intact(object))
            give_up("an item has changed");
        struct item *other = new_item(item->key, &bytes);
        other->object = object;
        other->next = item->next;
        put(holder, (uint64_t *)link, (uintptr_t)other);
        replace(object, other, bytes);
        remember(object);
        free(item);
    }
    count(object);
}

static void go_kv(uint64_t accesses)
{
    for (uint64_t end = made + accesses; made < end;) {
        uint64_t random = draw(), key = key_of(pick(random, keys));
        struct item **link = &bucket[bucket_of(key)], *item;
        uint32_t holder = piece(&buckets, link);
        count(holder);
        for (; (item = *link) && item->key != key; link = &item->next)
            count(holder = item->object);
        if (!item)
            give_up("a key is gone");
        count(item->object);
        if ((random >> 1) % 1024 < 51) { /* 5 % */
            set(item, link, holder, random);
        } else {
            for (uint32_t w = 0; w < item->words; w += 8) /* a word a cache line */
                (void)*(volatile uint64_t *)&item->value[w];
            count(item->object);
        }
    }
}

/* A B-tree of nodes that are two thirds to fully in use, in random places. Node and leaf are alike: `to[i]` leads to the keys
 * from `key[i]` on, or to the value of just that key. */
enum { NODE = 512, FEWEST = 24, MOST = 30, FAN = 31, VALUE = 128, KEY_STEP = 16, };
/* A prime, larger than there are keys. */
static const uint64_t SCATTER = 2654435761;

struct node {
    uint32_t object;
    uint16_t count, is_leaf;
    uint64_t key[FAN];
    void *to[FAN];
};
_Static_assert(sizeof(struct node) <= NODE, "a node fits its block");

struct value {
    uint64_t key;
    uint32_t object, words;
    uint64_t word[];
};

static struct node *root;
static uint32_t values, octaves;

/* One of `list` at random, and not again. */
static uint32_t take(uint32_t *list, uint32_t *left)
{
    uint32_t i = (uint32_t)below(*left), taken = list[i];
    list[i] = list[--*left];
    return taken;
}

/* How many children each node has, level by level from the leaves to the root; how many nodes. */
static uint32_t plan(uint8_t *children)
{
    uint32_t nodes = 0;
    for (uint32_t rest = values, level = 0; level == 0 || rest > 1; level++) {
        uint32_t before = nodes;
        for (uint32_t some; rest > 0; rest -= some) {
            some = FEWEST + (uint32_t)below(MOST - FEWEST + 1);
            children[nodes++] = (uint8_t)(some = some < rest ? some : rest);
        }
        rest = nodes - before;
    }
    return nodes;
}

static void fill_btree(size_t mib)
{
    size_t bytes = 0;
    do { /* larger values in a larger heap, as the table has room for so many, and for a node every 23 of them at most */
        bytes += VALUE;
        values = (uint32_t)((mib << 20) / (bytes + NODE / 26));
    } while (values + values / (FEWEST - 1) > MOST_OBJECTS);
    while (values >> octaves > 1)
        octaves++;
    size_t room = values * sizeof(uint64_t);
    uint8_t *children = scratch(room);
    uint32_t *value_at = scratch(room), *node_at = scratch(room), values_left = 0, nodes_left = 0, nodes = plan(children);
    for (uint32_t i = 0; i < values; i++) {
        value_at[values_left++] = enter_filled(malloc(bytes), bytes);
        while (nodes_left < (uint64_t)nodes * (i + 1) / values)
            node_at[nodes_left++] = enter_filled(malloc(NODE), NODE);
    }

    /* What the level below has, first the values: where, and from which key. The level is written over it. */
    void **to = scratch(room);
    uint64_t *key = scratch(room);
    for (uint32_t i = 0; i < values; i++) {
        uint32_t object = take(value_at, &values_left);
        struct value *value = to[i] = words_of(object);
        value->key = key[i] = (uint64_t)i * KEY_STEP;
        value->object = object;
        value->words = (uint32_t)(bytes - sizeof *value) / 8;
        remember(object);
    }
    uint32_t in = 0, out = 0, level = values, is_leaf = 1;
    for (uint32_t n = 0; n < nodes; n++) {
        uint32_t object = take(node_at, &nodes_left);
        struct node *node = (struct node *)words_of(object);
        *node = (struct node){.object = object, .count = children[n], .is_leaf = (uint16_t)is_leaf};
        for (uint32_t i = 0; i < node->count; i++, in++) {
            node->key[i] = key[in];
            node->to[i] = to[in];
        }
        remember(object);
        to[out] = root = node;
        key[out++] = node->key[0];
        if (in == level) {
            level = out;
            in = out = is_leaf = 0;
        }
    }
    scratch_end(children, room);
    scratch_end(value_at, room);
    scratch_end(node_at, room);
    scratch_end(to, room);
    scratch_end(key, room);
}

/* Half of the keys are drawn alike; the others by rank, each octave of ranks as often as another, which is close to Zipf's law,
 * and the ranks are scattered over the keys. */
static uint64_t some_key(uint64_t random)
{
    uint32_t rank;
    if (random & 1) {
        rank = (uint32_t)(((unsigned __int128)random * values) >> 64);
    } else {
        uint32_t octave = (uint32_t)((random >> 1 & 0xffff) * octaves >> 16);
        rank = 1u << octave | (uint32_t)(random >> 32 & ((1u << octave) - 1));
    }
    return (uint64_t)rank * SCATTER % values * KEY_STEP;
}

static void go_btree(uint64_t accesses)
{
    for (uint64_t end = made + accesses; made < end;) {
        uint64_t random = draw(), key = some_key(random);
        const struct node *node = root;
        for (;;) {
            uint32_t low = 0, high = node->count; /* node->key[low] <= key < node->key[high] */
            while (high - low > 1) {
                uint32_t middle = (low + high) / 2;
                if (node->key[middle] <= key)
                    low = middle;
                else
                    high = middle;
            }
            count(node->object);
            if (node->is_leaf) {
                struct value *value = node->to[low];
                if (value->key != key)
                    give_up("a key is gone");
                uint64_t *word = &value->word[(random >> 20) % value->words];
                if ((random >> 17) % 8 == 0)
                    put(value->object, word, *word + 1);
                else
                    (void)*(volatile uint64_t *)word;
                count(value->object);
                break;
            }
            node = node->to[low];
        }
    }
}

const struct workload kv = {"kv", "hash table of 100 to 1500 bytes an item, Zipf 0.99, 5 % set", fill_kv, go_kv, NULL};
const struct workload btree = {"btree", "B-tree, half of the keys alike and half near Zipf", fill_btree, go_btree, NULL};
