/* Blocks freed by another thread than the one that allocated them: producers and consumers, and a pipeline.
 *
 * Batches travel through bounded queues under a mutex, so that waiting is sleeping and CPU time is the allocator's. */
#include "threads.h"
#include "workload.h"

enum { HAND_OVER = 512, QUEUE = 8 };

struct batch {
    void *blocks[HAND_OVER];
    uint32_t sizes[HAND_OVER];
};

struct channel {
    pthread_mutex_t lock;
    pthread_cond_t not_full, not_empty;
    struct batch ring[QUEUE];
    /* Batches that went in, came out, and are still to come. */
    uint64_t head, tail, left;
};

static void channel_open(struct channel *c, uint64_t total)
{
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->not_full, NULL);
    pthread_cond_init(&c->not_empty, NULL);
    c->left = total;
}

static void channel_put(struct channel *c, const struct batch *batch)
{
    pthread_mutex_lock(&c->lock);
    while (c->head - c->tail == QUEUE)
        pthread_cond_wait(&c->not_full, &c->lock);
    c->ring[c->head++ % QUEUE] = *batch;
    pthread_cond_signal(&c->not_empty);
    pthread_mutex_unlock(&c->lock);
}

/* False when everything has been taken. */
static int channel_take(struct channel *c, struct batch *batch)
{
    pthread_mutex_lock(&c->lock);
    while (c->head == c->tail && c->left > 0)
        pthread_cond_wait(&c->not_empty, &c->lock);
    int some = c->left > 0;
    if (some) {
        *batch = c->ring[c->tail++ % QUEUE];
        c->left--;
        pthread_cond_signal(&c->not_full);
        if (c->left == 0)
            pthread_cond_broadcast(&c->not_empty);
    }
    pthread_mutex_unlock(&c->lock);
    return some;
}

static uint64_t batch_free(const struct batch *batch, size_t n)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += stamp_check(batch->blocks[i], batch->sizes[i], i & 0xFF);
        free(batch->blocks[i]);
    }
    return sum;
}

struct party {
    struct channel *from, *to;
    uint64_t batches, rng, sum;
};

static void *produce(void *arg)
{
    struct party *p = arg;
    struct batch batch;
    for (uint64_t b = 0; b < p->batches; b++) {
        for (size_t i = 0; i < HAND_OVER; i++) {
            uint64_t draw = rng_next(&p->rng);
            /* Half of them 64 bytes, half of mixed sizes up to 2 KiB. */
            batch.sizes[i] = draw & 1 ? 64 : (uint32_t)(STAMP_MIN + ((draw >> 8) & 0x7FF));
            batch.blocks[i] = stamp_new(batch.sizes[i], i & 0xFF);
        }
        channel_put(p->to, &batch);
    }
    return NULL;
}

static void *consume(void *arg)
{
    struct party *p = arg;
    struct batch batch;
    while (channel_take(p->from, &batch))
        p->sum += batch_free(&batch, HAND_OVER);
    return NULL;
}

/* The batches are shared out evenly among the producers. */
static uint64_t exchange(uint64_t batches, unsigned producers, unsigned consumers)
{
    static struct channel channel;
    static struct party parties[MAX_THREADS];
    pthread_t threads[MAX_THREADS];
    uint64_t each = batches / producers ? batches / producers : 1, sum = 0;
    channel_open(&channel, each * producers);
    for (unsigned t = 0; t < producers + consumers; t++) {
        parties[t] = (struct party){&channel, &channel, each, mix(t + 1) | 1, 0};
        start(&threads[t], t < producers ? produce : consume, &parties[t]);
    }
    for (unsigned t = 0; t < producers + consumers; t++) {
        pthread_join(threads[t], NULL);
        sum += parties[t].sum;
    }
    return sum;
}

uint64_t run_producer_consumer(uint64_t percent) { return exchange(scaled(8000, percent), 1, 1); }
uint64_t run_producers_consumer(uint64_t percent) { return exchange(scaled(8000, percent), 4, 1); }
uint64_t run_producer_consumers(uint64_t percent) { return exchange(scaled(8000, percent), 1, 4); }

/* Asymmetric threads: a receiver that only allocates small requests, a worker that frees every request and answers each
 * fourth with a larger block, and a sender that only frees answers. No two threads have the same traffic. */
enum { PER_ANSWER = 4, ANSWERS = HAND_OVER / PER_ANSWER };

static void *receive(void *arg)
{
    struct party *p = arg;
    struct batch batch;
    for (uint64_t b = 0; b < p->batches; b++) {
        for (size_t i = 0; i < HAND_OVER; i++) {
            batch.sizes[i] = (uint32_t)(STAMP_MIN + rng_below(&p->rng, 240));
            batch.blocks[i] = stamp_new(batch.sizes[i], i & 0xFF);
        }
        channel_put(p->to, &batch);
    }
    return NULL;
}

static void *work(void *arg)
{
    struct party *p = arg;
    struct batch request, answer;
    while (channel_take(p->from, &request)) {
        p->sum += batch_free(&request, HAND_OVER);
        for (size_t i = 0; i < ANSWERS; i++) {
            answer.sizes[i] = (uint32_t)(512 + rng_below(&p->rng, 7680));
            answer.blocks[i] = stamp_new(answer.sizes[i], i & 0xFF);
        }
        channel_put(p->to, &answer);
    }
    return NULL;
}

static void *send(void *arg)
{
    struct party *p = arg;
    struct batch batch;
    while (channel_take(p->from, &batch))
        p->sum += batch_free(&batch, ANSWERS);
    return NULL;
}

uint64_t run_asymmetric(uint64_t percent)
{
    static struct channel requests, answers;
    static void *(*const bodies[3])(void *) = {receive, work, send};
    static struct party parties[3];
    pthread_t threads[3];
    uint64_t batches = scaled(12000, percent), sum = 0;
    channel_open(&requests, batches);
    channel_open(&answers, batches);
    parties[0] = (struct party){NULL, &requests, batches, mix(1) | 1, 0};
    parties[1] = (struct party){&requests, &answers, batches, mix(2) | 1, 0};
    parties[2] = (struct party){&answers, NULL, batches, mix(3) | 1, 0};
    for (unsigned t = 0; t < 3; t++)
        start(&threads[t], bodies[t], &parties[t]);
    for (unsigned t = 0; t < 3; t++) {
        pthread_join(threads[t], NULL);
        sum += parties[t].sum;
    }
    return sum;
}
