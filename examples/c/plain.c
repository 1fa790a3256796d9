/* An ordinary program that knows nothing of Terrace: a store of records with a skewed load.
 *
 *     cc -O2 -o plain plain.c && terrace run --dram 32M -- ./plain 128 4
 *
 * Fills a store with about MIB of records of mixed sizes, then reads, rewrites (realloc) and replaces (free, malloc)
 * records, most of the time in a hot tenth that shifts from round to round. A record's bytes follow from its number
 * and version, so each read checks them, and the checksum at the end is the same under every allocator. */

#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct record {
    uint32_t version;
    uint32_t length; /* 64-bit words */
    uint64_t *words;
};

/* Sebastiano Vigna's splitmix64: one step of a random sequence, and a good hash. */
static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* From 16 bytes to 16 KiB, small ones more often. */
static uint32_t length_of(size_t number, uint32_t version)
{
    uint64_t r = mix(number * 31 + version);
    return 2 + (uint32_t)(mix(r) % (1u << (4 + r % 8)));
}

static uint64_t word_of(size_t number, uint32_t version, uint32_t at)
{
    return mix(((uint64_t)number << 32 | version) ^ ((uint64_t)at << 20));
}

/* Gives the record the bytes of `version`; keeps the block if `grow`, else takes a new one. */
static void write_record(struct record *record, size_t number, uint32_t version, int grow)
{
    uint32_t length = length_of(number, version);
    if (!grow) {
        free(record->words);
        record->words = NULL;
    }
    uint64_t *words = realloc(record->words, length * sizeof *words);
    if (words == NULL) {
        fprintf(stderr, "plain: out of memory at record %zu: %s\n", number, strerror(errno));
        exit(1);
    }
    for (uint32_t i = 0; i < length; i++)
        words[i] = word_of(number, version, i);
    *record = (struct record){version, length, words};
}

/* Reads every byte; a wrong one ends the program. */
static uint64_t read_record(const struct record *record, size_t number)
{
    uint64_t sum = record->length;
    for (uint32_t i = 0; i < record->length; i++) {
        if (record->words[i] != word_of(number, record->version, i)) {
            fprintf(stderr, "plain: record %zu is damaged at word %" PRIu32 "\n", number, i);
            exit(1);
        }
        sum = sum * 31 + record->words[i];
    }
    return sum;
}

static size_t argument(char **argv, int argc, int at, size_t otherwise)
{
    if (at >= argc)
        return otherwise;
    char *end;
    unsigned long value = strtoul(argv[at], &end, 10);
    if (*argv[at] == '\0' || *end != '\0' || value == 0 || value > 1u << 20) {
        fprintf(stderr, "usage: plain [MIB [ROUNDS]]\n");
        exit(2);
    }
    return value;
}

int main(int argc, char **argv)
{
    size_t target = argument(argv, argc, 1, 64) << 20;
    size_t rounds = argument(argv, argc, 2, 3);

    size_t count = 0, room = 0, bytes = 0;
    struct record *records = NULL;
    while (bytes < target) {
        if (count == room) {
            room = room ? room * 2 : 1024;
            records = realloc(records, room * sizeof *records);
            if (records == NULL) {
                fprintf(stderr, "plain: out of memory for the index: %s\n", strerror(errno));
                return 1;
            }
        }
        records[count] = (struct record){0, 0, NULL};
        write_record(&records[count], count, 0, 1);
        bytes += records[count].length * sizeof(uint64_t);
        count++;
    }

    uint64_t checksum = 0;
    size_t hot = count / 10 ? count / 10 : 1;
    for (size_t round = 0; round < rounds; round++) {
        size_t base = round * hot;
        for (size_t i = 0; i < count; i++) {
            uint64_t r = mix(round << 40 | i);
            size_t number = r % 10 != 0 ? (base + r / 16 % hot) % count : r / 16 % count;
            struct record *record = &records[number];
            switch (r >> 60) {
            case 0: /* replace */
                write_record(record, number, record->version + 1, 0);
                break;
            case 1:
            case 2: /* rewrite */
                write_record(record, number, record->version + 1, 1);
                break;
            default:
                checksum = checksum * 31 + read_record(record, number);
            }
        }
    }
    for (size_t number = 0; number < count; number++) {
        checksum = checksum * 31 + read_record(&records[number], number);
        free(records[number].words);
    }
    free(records);
    printf("records %zu rounds %zu checksum %016" PRIx64 "\n", count, rounds, checksum);
    return 0;
}
