/* Trains a compiled step from C through dorefac.h alone: STEPS steps on one batch.
 * Usage: train STEP.so INPUT.raw LABELS.raw STATE.raw BATCH STEPS; writes the state, then loss (f64), count (u64) and the
 * gradients of the parameters that one more step would take. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __aarch64__
#include <sys/auxv.h>
#endif
#include "dorefac.h"

static void fail(const char *what) {
    fprintf(stderr, "train: %s\n", what);
    exit(1);
}

static void *aligned(size_t n) {
    void *p = aligned_alloc(64, (n + 63) & ~(size_t)63);
    if (!p) fail("no memory");
    memset(p, 0xa5, (n + 63) & ~(size_t)63); /* its contents must not matter */
    return p;
}

static void *read_file(const char *path, size_t n) {
    void *p = aligned(n);
    FILE *f = fopen(path, "rb");
    if (!f || fread(p, 1, n, f) != n || fgetc(f) != EOF) fail("a file has another size");
    fclose(f);
    return p;
}

int main(int argc, char **argv) {
    if (argc != 7) fail("wrong arguments");
    void *so = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (!so) fail(dlerror());
    const dorefac_model *m = dlsym(so, "dorefac_model");
    if (!m || m->kind != DOREFAC_TRAIN_STEP || m->n_inputs != 1 || m->n_outputs != 1) fail("no training step");
    uint64_t batch = strtoull(argv[5], NULL, 10), steps = strtoull(argv[6], NULL, 10);
    const dorefac_tensor *in = DOREFAC_AT(m, inputs, const dorefac_tensor *), *out = DOREFAC_AT(m, outputs, const dorefac_tensor *);
    size_t n = 4 * batch;
    for (uint32_t k = 1; k < in->rank; k++) n *= (size_t)in->dims[k];
    const void *x = read_file(argv[2], n);
    void *scores = aligned(4 * batch * (size_t)out->dims[1]);

    dorefac_train t = {.size = sizeof t, .seed = {7, 8}, .lr = 1e-3, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-5,
                       .weight_decay = 1e-4, .bn_momentum = 0.9, .loss_scale = 1.0};
    t.labels = read_file(argv[3], 4 * batch);
    t.state = aligned(m->state_bytes);
    if (DOREFAC_AT(m, init_state, dorefac_init_state_fn)(t.state, t.seed)) fail("init_state");
    dorefac_call c = {.abi = DOREFAC_ABI, .size = sizeof c, .batch = batch, .workers = 1, .train = &t};
#ifdef __aarch64__
    c.features = DOREFAC_AT(m, cpu, dorefac_cpu_fn)(getauxval(16), getauxval(26));
#else
    c.features = DOREFAC_AT(m, cpu, dorefac_cpu_fn)(0, 0);
#endif
    c.inputs = &x;
    c.outputs = &scores;
    c.arena_size = dorefac_arena_bytes(m, batch, 1);
    c.arena = aligned(c.arena_size);
    dorefac_call wrong = c;
    wrong.train = NULL;
    if (dorefac_run(m, &wrong) != DOREFAC_E_KIND) fail("a call without a training structure was not refused");
    for (t.step = 1; t.step <= steps; t.step++)
        if (dorefac_run(m, &c)) fail("a step failed");
    FILE *f = fopen(argv[4], "wb");
    const dorefac_state *states = DOREFAC_AT(m, states, const dorefac_state *);
    for (uint32_t k = 0; f && k < m->n_states; k++)
        if (fwrite((char *)t.state + states[k].offset, 4, states[k].count, f) != states[k].count) fail("cannot write");
    if (!f || fwrite(&t.loss, 8, 1, f) != 1 || fwrite(&t.correct, 8, 1, f) != 1) fail("cannot write");
    char *before = aligned(m->state_bytes);
    memcpy(before, t.state, m->state_bytes);
    t.grads = aligned(m->state_bytes);
    t.flags = 2;
    if (dorefac_run(m, &c) != DOREFAC_E_KIND) fail("an evaluation that asks for gradients was not refused");
    t.flags = 1;
    if (dorefac_run(m, &c)) fail("gradients failed");
    if (memcmp(before, t.state, m->state_bytes)) fail("gradients changed the state");
    for (uint32_t k = 0; k < m->n_states; k++)
        if (!states[k].role && fwrite((char *)t.grads + states[k].offset, 4, states[k].count, f) != states[k].count) fail("cannot write");
    if (fclose(f)) fail("cannot write");
    return 0;
}
