/* A plugin of the emulator qemu (TCG plugins, version 1): counts how often each block of instructions is executed. For every
 * translated block a line `ADDRESS INSTRUCTIONS EXECUTIONS` goes to the file of the argument out=FILE when the program ends; the
 * instructions of a function are then those of the blocks between its address and the next symbol's. Exact for one thread.
 * cc -shared -fPIC instructions.c -o instructions.so; qemu-aarch64 -plugin instructions.so,out=FILE PROGRAM */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What of the emulator's interface is used, so that its header need not be there. */
struct qemu_plugin_tb;
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, void (*translated)(uint64_t id, struct qemu_plugin_tb *block));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *block, int operation, void *counter, uint64_t addend);
void qemu_plugin_register_atexit_cb(uint64_t id, void (*ended)(uint64_t id, void *data), void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *block);
enum { ADD_U64 };

#define EXPORT __attribute__((visibility("default")))
EXPORT int qemu_plugin_version = 1;
EXPORT int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv);

typedef struct block { struct block *next; uint64_t address, instructions, executions; } block;
static block *blocks;

static void translated(uint64_t id, struct qemu_plugin_tb *tb) {
    (void)id;
    block *b = calloc(1, sizeof *b); /* never moved or freed: the translated code counts in it */
    if (!b) abort();
    b->address = qemu_plugin_tb_vaddr(tb);
    b->instructions = qemu_plugin_tb_n_insns(tb);
    b->next = blocks;
    blocks = b;
    qemu_plugin_register_vcpu_tb_exec_inline(tb, ADD_U64, &b->executions, 1);
}

static void ended(uint64_t id, void *data) {
    (void)id;
    FILE *f = data;
    for (const block *b = blocks; b; b = b->next)
        fprintf(f, "%llx %llu %llu\n", (unsigned long long)b->address, (unsigned long long)b->instructions,
                (unsigned long long)b->executions);
    fclose(f);
}

int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv) {
    (void)info;
    if (argc != 1 || strncmp(argv[0], "out=", 4)) return 1;
    FILE *f = fopen(argv[0] + 4, "w");
    if (!f) return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, f);
    return 0;
}
