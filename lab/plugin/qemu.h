/* The part of QEMU's plugin interface the counter uses, declared from its documentation: Debian ships no qemu-plugin.h.
 * API is the interface version: 1 for QEMU 4.2 to 8.2, 2 for 9.0, 3 from 9.1 on. */
#ifndef LAB_QEMU_H
#define LAB_QEMU_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint64_t qemu_plugin_id_t;
typedef uint32_t qemu_plugin_meminfo_t;
typedef struct qemu_info_t qemu_info_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_plugin_hwaddr;

enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };
enum qemu_plugin_mem_rw { QEMU_PLUGIN_MEM_R = 1, QEMU_PLUGIN_MEM_W, QEMU_PLUGIN_MEM_RW };

typedef void (*vcpu_fn)(qemu_plugin_id_t, unsigned vcpu);
typedef void (*translate_fn)(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void (*insn_fn)(unsigned vcpu, void *);
typedef void (*memory_fn)(unsigned vcpu, qemu_plugin_meminfo_t, uint64_t vaddr, void *);
typedef void (*exit_fn)(qemu_plugin_id_t, void *);

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, translate_fn);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, insn_fn, enum qemu_plugin_cb_flags, void *);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *, memory_fn, enum qemu_plugin_cb_flags, enum qemu_plugin_mem_rw,
                                      void *);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, exit_fn, void *);

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *);
#if API >= 3
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *, void *to, size_t len);
#else
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
#endif

bool qemu_plugin_mem_is_store(qemu_plugin_meminfo_t);
struct qemu_plugin_hwaddr *qemu_plugin_get_hwaddr(qemu_plugin_meminfo_t, uint64_t vaddr);
uint64_t qemu_plugin_hwaddr_phys_addr(const struct qemu_plugin_hwaddr *);
#endif
