/* Runs a compiled model on raw files, as an application would through dorefac.h alone.
 * With -DMODEL=net_model it is linked with that object; without, the first argument is a .so to open.
 * Usage: run [MODEL.so] INPUT.raw OUTPUT.raw BATCH WORKERS; inputs and outputs stand one after another. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __aarch64__
#include <sys/auxv.h>
#endif
#include "dorefac.h"
#ifdef MODEL
extern const dorefac_model MODEL;
#endif

static void fail(const char *what) {
    fprintf(stderr, "run: %s\n", what);
    exit(1);
}

/* A parallel_for of the caller's own: WORKERS threads a loop, task i on thread i mod WORKERS. */
static uint32_t workers;
typedef struct { dorefac_task task; void *data; uint64_t n; uint32_t worker; } share;
static void *work(void *p) {
    share *s = p;
    for (uint64_t i = s->worker; i < s->n; i += workers) s->task(s->data, i, s->worker);
    return NULL;
}
static void parallel_for(void *pool, dorefac_task task, void *data, uint64_t n) {
    pthread_t threads[16];
    share shares[16];
    (void)pool;
    for (uint32_t k = 0; k < workers; k++) {
        shares[k] = (share){task, data, n, k};
        if (pthread_create(&threads[k], NULL, work, &shares[k])) fail("no thread");
    }
    for (uint32_t k = 0; k < workers; k++) pthread_join(threads[k], NULL);
}

static size_t bytes(const dorefac_tensor *t, uint64_t batch) {
    size_t n = t->dtype == DOREFAC_U8 || t->dtype == DOREFAC_I8 ? 1 : t->dtype == DOREFAC_I64 || t->dtype == DOREFAC_F64 ? 8 : 4;
    for (uint32_t k = 0; k < t->rank; k++) n *= t->dims[k] < 0 ? batch : (uint64_t)t->dims[k];
    return n;
}

int main(int argc, char **argv) {
#ifdef MODEL
    const dorefac_model *m = &MODEL;
#else
    if (argc < 2) fail("no model");
    void *so = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (!so) fail(dlerror());
    const dorefac_model *m = dlsym(so, "dorefac_model");
    if (!m) fail("no symbol dorefac_model");
    argv++, argc--;
#endif
    if (argc != 5) fail("wrong arguments");
    uint64_t batch = strtoull(argv[3], NULL, 10);
    workers = (uint32_t)strtoul(argv[4], NULL, 10);
    if (memcmp(m->magic, "DOREFAC", 8) || m->abi != DOREFAC_ABI || workers < 1 || workers > 16) fail("not that interface");

    void *in[8], *out[8];
    const dorefac_tensor *inputs = DOREFAC_AT(m, inputs, const dorefac_tensor *);
    const dorefac_tensor *outputs = DOREFAC_AT(m, outputs, const dorefac_tensor *);
    if (m->n_inputs > 8 || m->n_outputs > 8) fail("too many inputs or outputs");
    FILE *f = fopen(argv[1], "rb");
    for (uint32_t k = 0; f && k < m->n_inputs; k++) {
        size_t n = bytes(&inputs[k], batch);
        if (!(in[k] = malloc(n)) || fread(in[k], 1, n, f) != n) fail("input is too short");
    }
    if (!f || fgetc(f) != EOF) fail("input has another size");
    fclose(f);
    for (uint32_t k = 0; k < m->n_outputs; k++)
        if (!(out[k] = malloc(bytes(&outputs[k], batch)))) fail("no memory");

    dorefac_call c = {.abi = DOREFAC_ABI, .size = sizeof c, .batch = batch, .workers = workers};
#ifdef __aarch64__
    c.features = DOREFAC_AT(m, cpu, dorefac_cpu_fn)(getauxval(16), getauxval(26));
#else
    c.features = DOREFAC_AT(m, cpu, dorefac_cpu_fn)(0, 0);
#endif
    c.inputs = (const void *const *)in;
    c.outputs = out;
    c.arena_size = dorefac_arena_bytes(m, batch, workers);
    c.arena_size += -c.arena_size & 63;
    if (!(c.arena = aligned_alloc(64, c.arena_size))) fail("no memory");
    memset(c.arena, 0xa5, c.arena_size); /* its contents must not matter */
    if (workers > 1) c.parallel_for = parallel_for;

    dorefac_call wrong = c;
    wrong.arena_size = 0;
    if (dorefac_run(m, &wrong) != DOREFAC_E_ARENA) fail("an arena too small was not refused");
    wrong = c;
    wrong.abi = 77;
    if (dorefac_run(m, &wrong) != DOREFAC_E_ABI) fail("another interface was not refused");
    for (int again = 0; again < 2; again++) {
        int32_t code = dorefac_run(m, &c);
        if (code) {
            fprintf(stderr, "run: code %d\n", code);
            return 1;
        }
    }

    f = fopen(argv[2], "wb");
    for (uint32_t k = 0; f && k < m->n_outputs; k++) {
        size_t n = bytes(&outputs[k], batch);
        if (fwrite(out[k], 1, n, f) != n) fail("cannot write");
    }
    if (!f || fclose(f)) fail("cannot write");
    return 0;
}
