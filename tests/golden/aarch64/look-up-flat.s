sub x8, x8, #1
add x6, x0, #10
add x7, x1, #320
ldrb w9, [x0]
uxtb w9, w9
ldr q2, [x2, x9, LSL #4]
ldr q4, [x1]
and v3.16b, v4.16b, v0.16b
tbl v3.16b, { v2.16b }, v3.16b
add v5.16b, v25.16b, v3.16b
ldrb w9, [x0, #1]
uxtb w9, w9
ldr q3, [x2, x9, LSL #4]
ushr v4.16b, v4.16b, #4
tbl v4.16b, { v3.16b }, v4.16b
add v5.16b, v5.16b, v4.16b
ldrb w9, [x0, #2]
uxtb w9, w9
ldr q4, [x2, x9, LSL #4]
ldr q6, [x1, #64]
and v7.16b, v6.16b, v0.16b
tbl v7.16b, { v4.16b }, v7.16b
add v7.16b, v5.16b, v7.16b
ldrb w9, [x0, #3]
uxtb w9, w9
ldr q5, [x2, x9, LSL #4]
ushr v6.16b, v6.16b, #4
tbl v6.16b, { v5.16b }, v6.16b
add v7.16b, v7.16b, v6.16b
ldrb w9, [x0, #4]
uxtb w9, w9
ldr q6, [x2, x9, LSL #4]
ldr q24, [x1, #128]
and v25.16b, v24.16b, v0.16b
tbl v25.16b, { v6.16b }, v25.16b
add v25.16b, v7.16b, v25.16b
ldrb w9, [x0, #5]
uxtb w9, w9
ldr q7, [x2, x9, LSL #4]
ushr v24.16b, v24.16b, #4
tbl v24.16b, { v7.16b }, v24.16b
add v25.16b, v25.16b, v24.16b
ldrb w9, [x0, #6]
uxtb w9, w9
ldr q24, [x2, x9, LSL #4]
ldr q30, [x1, #192]
and v29.16b, v30.16b, v0.16b
tbl v29.16b, { v24.16b }, v29.16b
add v25.16b, v25.16b, v29.16b
ldrb w9, [x0, #7]
uxtb w9, w9
ldr q29, [x2, x9, LSL #4]
ushr v30.16b, v30.16b, #4
tbl v30.16b, { v29.16b }, v30.16b
add v25.16b, v25.16b, v30.16b
ldrb w9, [x0, #8]
uxtb w9, w9
ldr q30, [x2, x9, LSL #4]
ldr q8, [x1, #256]
and v31.16b, v8.16b, v0.16b
tbl v31.16b, { v30.16b }, v31.16b
add v25.16b, v25.16b, v31.16b
ldrb w9, [x0, #9]
uxtb w9, w9
ldr q31, [x2, x9, LSL #4]
ushr v8.16b, v8.16b, #4
tbl v8.16b, { v31.16b }, v8.16b
add v25.16b, v25.16b, v8.16b
ldr q8, [x1, #16]
and v9.16b, v8.16b, v0.16b
tbl v9.16b, { v2.16b }, v9.16b
add v26.16b, v26.16b, v9.16b
ushr v8.16b, v8.16b, #4
tbl v8.16b, { v3.16b }, v8.16b
add v26.16b, v26.16b, v8.16b
ldr q8, [x1, #80]
and v9.16b, v8.16b, v0.16b
tbl v9.16b, { v4.16b }, v9.16b
add v26.16b, v26.16b, v9.16b
ushr v8.16b, v8.16b, #4
tbl v8.16b, { v5.16b }, v8.16b
add v26.16b, v26.16b, v8.16b
ldr q8, [x1, #144]
and v9.16b, v8.16b, v0.16b
tbl v9.16b, { v6.16b }, v9.16b
add v26.16b, v26.16b, v9.16b
ushr v8.16b, v8.16b, #4
tbl v8.16b, { v7.16b }, v8.16b
add v26.16b, v26.16b, v8.16b
ldr q8, [x1, #208]
and v9.16b, v8.16b, v0.16b
tbl v9.16b, { v24.16b }, v9.16b
add v26.16b, v26.16b, v9.16b
ushr v8.16b, v8.16b, #4
tbl v8.16b, { v29.16b }, v8.16b
add v26.16b, v26.16b, v8.16b
ldr q8, [x1, #272]
and v9.16b, v8.16b, v0.16b
tbl v9.16b, { v30.16b }, v9.16b
add v26.16b, v26.16b, v9.16b
ushr v8.16b, v8.16b, #4
tbl v8.16b, { v31.16b }, v8.16b
add v26.16b, v26.16b, v8.16b
ldr q8, [x1, #32]
and v9.16b, v8.16b, v0.16b
tbl v9.16b, { v2.16b }, v9.16b
add v27.16b, v27.16b, v9.16b
ushr v8.16b, v8.16b, #4
tbl v8.16b, { v3.16b }, v8.16b
add v27.16b, v27.16b, v8.16b
ldr q8, [x1, #96]
and v9.16b, v8.16b, v0.16b
tbl v9.16b, { v4.16b }, v9.16b
add v27.16b, v27.16b, v9.16b
ushr v8.16b, v8.16b, #4
tbl v8.16b, { v5.16b }, v8.16b
add v27.16b, v27.16b, v8.16b
ldr q8, [x1, #160]
and v9.16b, v8.16b, v0.16b
tbl v9.16b, { v6.16b }, v9.16b
add v27.16b, v27.16b, v9.16b
ushr v8.16b, v8.16b, #4
tbl v8.16b, { v7.16b }, v8.16b
add v27.16b, v27.16b, v8.16b
ldr q8, [x1, #224]
and v9.16b, v8.16b, v0.16b
tbl v9.16b, { v24.16b }, v9.16b
add v27.16b, v27.16b, v9.16b
ushr v8.16b, v8.16b, #4
tbl v8.16b, { v29.16b }, v8.16b
add v27.16b, v27.16b, v8.16b
ldr q8, [x1, #288]
and v9.16b, v8.16b, v0.16b
tbl v9.16b, { v30.16b }, v9.16b
add v27.16b, v27.16b, v9.16b
ushr v8.16b, v8.16b, #4
tbl v8.16b, { v31.16b }, v8.16b
add v27.16b, v27.16b, v8.16b
ldr q8, [x1, #48]
and v9.16b, v8.16b, v0.16b
tbl v2.16b, { v2.16b }, v9.16b
add v2.16b, v28.16b, v2.16b
ushr v28.16b, v8.16b, #4
tbl v3.16b, { v3.16b }, v28.16b
add v2.16b, v2.16b, v3.16b
ldr q3, [x1, #112]
and v28.16b, v3.16b, v0.16b
tbl v4.16b, { v4.16b }, v28.16b
add v2.16b, v2.16b, v4.16b
ushr v3.16b, v3.16b, #4
tbl v3.16b, { v5.16b }, v3.16b
add v2.16b, v2.16b, v3.16b
ldr q3, [x1, #176]
and v4.16b, v3.16b, v0.16b
tbl v4.16b, { v6.16b }, v4.16b
add v2.16b, v2.16b, v4.16b
ushr v3.16b, v3.16b, #4
tbl v3.16b, { v7.16b }, v3.16b
add v2.16b, v2.16b, v3.16b
ldr q3, [x1, #240]
and v4.16b, v3.16b, v0.16b
tbl v4.16b, { v24.16b }, v4.16b
add v2.16b, v2.16b, v4.16b
ushr v3.16b, v3.16b, #4
tbl v3.16b, { v29.16b }, v3.16b
add v2.16b, v2.16b, v3.16b
ldr q3, [x1, #304]
and v4.16b, v3.16b, v0.16b
tbl v4.16b, { v30.16b }, v4.16b
add v2.16b, v2.16b, v4.16b
ushr v3.16b, v3.16b, #4
tbl v3.16b, { v31.16b }, v3.16b
add v28.16b, v2.16b, v3.16b
cbnz x8, label3 ; b label4
