/* Counts loads and stores of user-mode instructions, per NUMA node, in one range of virtual addresses.
 *
 * Arguments: out=FILE  va=LO-HI  node=LO-HI for each node in order (the range of what qemu_plugin_hwaddr_phys_addr returns).
 * A mark instruction of the guest (guest/marks.h) writes a line "ID reads writes reads writes ...", nodes in order, last pair
 * for memory of no node, and starts from zero; the end of the machine writes one with the word "end".
 *
 * Every vCPU counts for itself, without atomics: a mark of one vCPU reads the counters of the others, which is exact when their
 * threads are quiet. What the kernel does for the program (faults, copies, migration) is not counted.
 */
#include "qemu.h"
#include "marks.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_CPUS 16
#define MAX_NODES 8

__attribute__((visibility("default"))) int qemu_plugin_version = API;

struct accesses {
    uint64_t reads, writes;
};

struct range {
    uint64_t low, high;
};

static struct {
    struct accesses node[MAX_NODES + 1]; /* the entry after the last node: memory of no node */
} __attribute__((aligned(128))) cpus[MAX_CPUS];

static struct range nodes[MAX_NODES];
static unsigned node_count;
static struct range watched;
static FILE *out;
static pthread_mutex_t writing = PTHREAD_MUTEX_INITIALIZER;

static inline bool inside(struct range range, uint64_t at)
{
    return at - range.low < range.high - range.low;
}

/* An atomic update is a load and a store. QEMU before 9 reports it once, as a store, when there are several vCPUs; its interface
 * has no function to tell, but the bits above the memory operation are the two flags of qemu_plugin_mem_rw. */
static inline bool is_load(qemu_plugin_meminfo_t info)
{
#if API == 1
    return info >> 16 & QEMU_PLUGIN_MEM_R;
#else
    return !qemu_plugin_mem_is_store(info);
#endif
}

static void on_access(unsigned cpu, qemu_plugin_meminfo_t info, uint64_t vaddr, void *unused)
{
    (void)unused;
    if (!inside(watched, vaddr) || cpu >= MAX_CPUS)
        return;
    unsigned node = node_count;
    struct qemu_plugin_hwaddr *where = qemu_plugin_get_hwaddr(info, vaddr);
    if (where) {
        uint64_t paddr = qemu_plugin_hwaddr_phys_addr(where);
        for (node = 0; node < node_count && !inside(nodes[node], paddr); node++)
            ;
    }
    if (qemu_plugin_mem_is_store(info))
        cpus[cpu].node[node].writes++;
    if (is_load(info))
        cpus[cpu].node[node].reads++;
}

/* Writes the sum over the vCPUs after the name and clears it. */
static void write_line(const char *name)
{
    pthread_mutex_lock(&writing);
    fputs(name, out);
    for (unsigned node = 0; node <= node_count; node++) {
        struct accesses sum = { 0, 0 };
        for (unsigned cpu = 0; cpu < MAX_CPUS; cpu++) {
            sum.reads += cpus[cpu].node[node].reads;
            sum.writes += cpus[cpu].node[node].writes;
            cpus[cpu].node[node] = (struct accesses){ 0, 0 };
        }
        fprintf(out, " %llu %llu", (unsigned long long)sum.reads, (unsigned long long)sum.writes);
    }
    fputc('\n', out);
    fflush(out);
    pthread_mutex_unlock(&writing);
}

static void on_mark(unsigned cpu, void *id)
{
    (void)cpu;
    char name[16];
    snprintf(name, sizeof name, "%u", (unsigned)(uintptr_t)id);
    write_line(name);
}

static void on_exit_of_machine(qemu_plugin_id_t plugin, void *unused)
{
    (void)plugin;
    (void)unused;
    write_line("end");
}

/* Whether the instruction is a mark, and which. */
static bool is_mark(const struct qemu_plugin_insn *insn, uintptr_t *id)
{
    static const unsigned char nop[3] = { 0x0f, 0x1f, 0x80 };
    unsigned char bytes[7];
    if (qemu_plugin_insn_size(insn) != sizeof bytes)
        return false;
#if API >= 3
    qemu_plugin_insn_data(insn, bytes, sizeof bytes);
#else
    memcpy(bytes, qemu_plugin_insn_data(insn), sizeof bytes);
#endif
    uint32_t displacement;
    memcpy(&displacement, bytes + 3, sizeof displacement);
    *id = displacement & 0xffff;
    return !memcmp(bytes, nop, sizeof nop) && (displacement & 0xffff0000) == LAB_MARK_MAGIC;
}

static void on_translate(qemu_plugin_id_t plugin, struct qemu_plugin_tb *block)
{
    (void)plugin;
    if (qemu_plugin_tb_vaddr(block) >> 63)
        return; /* the kernel's half of the address space */
    size_t count = qemu_plugin_tb_n_insns(block);
    for (size_t i = 0; i < count; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(block, i);
        uintptr_t id;
        if (is_mark(insn, &id))
            qemu_plugin_register_vcpu_insn_exec_cb(insn, on_mark, QEMU_PLUGIN_CB_NO_REGS, (void *)id);
        qemu_plugin_register_vcpu_mem_cb(insn, on_access, QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_MEM_RW, NULL);
    }
}

static bool parse_range(const char *text, struct range *range)
{
    char *end;
    range->low = strtoull(text, &end, 0);
    if (*end != '-')
        return false;
    range->high = strtoull(end + 1, &end, 0);
    return *end == '\0' && range->low < range->high;
}

static bool parse_argument(const char *argument)
{
    if (!strncmp(argument, "out=", 4))
        return (out = fopen(argument + 4, "w")) != NULL;
    if (!strncmp(argument, "va=", 3))
        return parse_range(argument + 3, &watched);
    if (!strncmp(argument, "node=", 5))
        return node_count < MAX_NODES && parse_range(argument + 5, &nodes[node_count++]);
    return false;
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t plugin, const qemu_info_t *info, int argc,
                                                               char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (!parse_argument(argv[i])) {
            fprintf(stderr, "memcount: bad argument %s\n", argv[i]);
            return 1;
        }
    }
    if (!out || !node_count || !watched.high) {
        fputs("memcount: out=, va= and node= are needed\n", stderr);
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(plugin, on_translate);
    qemu_plugin_register_atexit_cb(plugin, on_exit_of_machine, NULL);
    return 0;
}
